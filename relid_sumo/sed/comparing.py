"""Compare SED runs of several models on the same scenario: valid programs, scores, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relid_sumo.base.errors import InputError
from relid_sumo.sed import run_folder, stored


@dataclass(frozen=True)
class ModelRun:
    """A run. Scores and travel times [s] are means over the best plans of the subsets; None without a valid plan."""

    folder: str
    model: str
    valid: int
    programs: int
    interval_95: tuple[float, float] | None
    score: float | None
    travel_time_s: float | None
    finished: bool
    usage: dict[str, float] | None


@dataclass(frozen=True)
class ModelComparison:
    """Runs on one scenario."""

    scenario: str
    runs: tuple[ModelRun, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return {"scenario": self.scenario, "runs": [asdict(run) for run in self.runs]}

    def words(self) -> Iterator[str]:
        """Yield a sentence for each pair: which run has more valid programs, and whether that is beyond chance."""
        from scipy.stats import fisher_exact  # noqa: PLC0415 - a second to import

        for i, one in enumerate(self.runs):
            for other in self.runs[i + 1 :]:
                if not (one.programs and other.programs):
                    continue
                table = [[run.valid, run.programs - run.valid] for run in (one, other)]
                p = float(fisher_exact(table).pvalue)
                better, worse = sorted((one, other), key=lambda run: -run.valid / run.programs)
                verdict = "beyond chance" if p < 0.05 else "within chance"
                shares = " and ".join(f"{run.valid / run.programs:.0%}" for run in (better, worse))
                names = f"{better.folder} and {worse.folder}"
                yield f"{names}: {shares} valid, {verdict} (Fisher's exact test, p = {p:.2g})"


def compare(folders: Sequence[Path]) -> ModelComparison:
    """Return the comparison of SED runs.

    Raises
    ------
    InputError
        There are fewer than two folders, one has no SED run, or they are runs of different problems.
    """
    if len(folders) < 2:
        raise InputError("name two or more run folders to compare: relid-sumo sed compare DIR DIR")
    found = [stored.find(folder) for folder in folders]
    contents = [stored.read_shown(folder) for folder in found]
    keys = [run_folder.read_json(folder / run_folder.SETTINGS).get("network_key") for folder in found]
    for folder, content, key in zip(folders, contents, keys, strict=True):
        if (content["scenario"], key) != (contents[0]["scenario"], keys[0]):
            raise InputError(
                f"{folder} is a run of '{content['scenario']}', and {folders[0]} is one of '{contents[0]['scenario']}' "
                "or has another network; compare runs of the same scenario"
            )
    runs = tuple(_run(*parts) for parts in zip(folders, found, contents, strict=True))
    return ModelComparison(contents[0]["scenario"], runs)


def _run(named: Path, folder: Path, content: dict[str, Any]) -> ModelRun:
    counted, last = content["programs"]["all"], content["rounds"][-1] if content["rounds"] else {}
    return ModelRun(
        folder=str(named),
        model=stored.model_of(folder),
        valid=counted["valid"],
        programs=counted["programs"],
        interval_95=None if counted["interval_95"] is None else tuple(counted["interval_95"]),
        score=last.get("score"),
        travel_time_s=last.get("travel_time_s"),
        finished=content["finished"],
        usage=stored.read_usage(folder),
    )
