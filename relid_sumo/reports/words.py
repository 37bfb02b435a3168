"""The findings of a comparison as sentences: which policy is fastest, by how much, and whether that is beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relid_sumo.reports.compare import Comparison, Pair, Row

Verdict = Literal["beyond noise", "within noise", "not tested"]
SAME_S = 0.5  # s; smaller differences are shown as none


@dataclass(frozen=True)
class Headline:
    """One sentence on a scenario in two parts: the difference, and how certain it is."""

    fastest: str
    difference: str
    certainty: str
    verdict: Verdict

    @property
    def text(self) -> str:
        """The sentence."""
        return f"{self.difference}; {self.certainty}."


def headline(comparison: Comparison) -> Headline:
    """Return which policy is fastest, by how much, and whether that is beyond noise.

    The best trained policy is compared with the best baseline; where there are no baselines, with the next trained
    policy.
    """
    learned, baselines = (_by_time(comparison, learned=one) for one in (True, False))
    best = learned[0]
    rival = baselines[0] if baselines else learned[1] if len(learned) > 1 else None
    if rival is None:
        said = f"{best.name}: {_seconds(best)} per trip{_arrived(best)}"
        return Headline(best.name, said, "no other policy was evaluated to compare it with", "not tested")
    first, second = sorted((best, rival), key=lambda row: row.travel_time_s.mean)
    pair = _pair(comparison, first.name, second.name)
    gap = second.travel_time_s.mean - first.travel_time_s.mean
    verdict = _verdict(pair)
    role = f"the best {'trained policy' if second.learned else 'baseline'}" if baselines else "the next"
    if gap < SAME_S:
        said = f"{first.name} and {second.name} are equally fast: {_seconds(first)} per trip"
    else:
        share = gap / second.travel_time_s.mean
        said = (
            f"{first.name} is fastest: {_seconds(first)} per trip{_arrived(first)}, {gap:.0f} s ({share:.0%}) less "
            f"than {second.name}, {role}"
        )
    return Headline(first.name, said, _certainty(pair, comparison), verdict)


def details(comparison: Comparison) -> list[str]:
    """Return a sentence on the best trained policy and each other policy."""
    best = _by_time(comparison, learned=True)[0]
    sentences = []
    for pair in comparison.pairs:
        if best.name in {pair.first, pair.second}:
            other = pair.second if pair.first == best.name else pair.first
            gap = pair.difference_s.mean if pair.first == best.name else -pair.difference_s.mean
            how = f"{abs(gap):.0f} s {'slower' if gap > 0 else 'faster'} than" if abs(gap) >= SAME_S else "as fast as"
            sentences.append(f"{best.name} is {how} {other}: {_certainty(pair, comparison)}{_interval(pair)}.")
    return sentences


def _by_time(comparison: Comparison, *, learned: bool) -> list[Row]:
    rows = [row for row in comparison.rows if row.learned is learned]
    return sorted(rows, key=lambda row: row.travel_time_s.mean)


def _pair(comparison: Comparison, one: str, other: str) -> Pair | None:
    return next((pair for pair in comparison.pairs if {pair.first, pair.second} == {one, other}), None)


def _verdict(pair: Pair | None) -> Verdict:
    if pair is None or pair.p_holm is None:
        return "not tested"
    return "beyond noise" if pair.beyond_noise else "within noise"


def _certainty(pair: Pair | None, comparison: Comparison) -> str:
    if pair is None:
        return "not tested, because they have no training seed in common"
    if pair.p_holm is None:
        return "not tested, because more seeds are needed"
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.2g}"
    said = f"{'beyond' if pair.beyond_noise else 'within'} noise ({p})"
    if pair.seeds == 1:
        said += f" over {comparison.traffic_seeds} traffic seeds, for this one training"
    return said


def _interval(pair: Pair) -> str:
    low, high = pair.difference_s.low, pair.difference_s.high
    if low is None or high is None:
        return ""
    return f", 95 % interval of {pair.first} minus {pair.second} {low:+.0f} to {high:+.0f} s".replace("-", "\u2212")


def _seconds(row: Row) -> str:
    return f"{row.travel_time_s.mean:.0f} s"


def _arrived(row: Row) -> str:
    rate = row.arrival_rate.mean
    return "" if rate >= 0.995 else f" ({rate:.0%} of its agents arrive)"
