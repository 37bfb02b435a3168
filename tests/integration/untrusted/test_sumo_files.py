"""SUMO networks and additional files of strangers: the attacks work on SUMO itself, and on nothing that we run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.network import network
from relid_sumo.scenario.given import additional, source
from relid_sumo.scenario.given.source import Inputs

pytestmark = pytest.mark.sumo

# What SUMO writes to FILE where it is in an additional file, or in a network.
WRITES = {
    "a detector": '<inductionLoop id="d" lane="A0B0_0" pos="5" period="10" file="FILE"/>',
    "a detector of a stretch": '<laneAreaDetector id="d" lane="A0B0_0" pos="5" endPos="50" period="10" file="FILE"/>',
    "measurements of edges": '<edgeData id="m" file="FILE" period="10"/>',
    "a probe of routes": '<routeProbe id="p" edge="A0B0" period="10" file="FILE"/>',
    "an event": '<timedEvent type="SaveTLSStates" source="A0" dest="FILE"/>',
    "another file": '<include href="BESIDE"/>',
    "a calibrator": '<calibrator id="c" lane="A0B0_0" pos="2" period="10" output="FILE"/>',
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("grid") / "grid.net.xml"
    options = "--grid --grid.number 3 --default-junction-type traffic_light --tls.default-type actuated"
    sumo.run("netgenerate", [*options.split(), "-o", str(file)])
    return file.read_text()


def filled(folder: Path, text: str) -> str:
    """Return an attack on a new file in a folder."""
    beside = folder / "beside.xml"
    beside.write_text(f"<additional>{WRITES['a detector'].replace('FILE', str(folder / 'new.xml'))}</additional>")
    return text.replace("FILE", str(folder / "new.xml")).replace("BESIDE", str(beside))


def run(net: Path, *more: str, check: bool = True) -> None:
    command = [sumo.binary("sumo"), "-n", str(net), *more, "--end", "30", "--no-step-log", "--xml-validation", "never"]
    subprocess.run(command, check=check, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", WRITES)
def test_an_additional_file_makes_sumo_write_nothing(name: str, grid: str, tmp_path: Path) -> None:
    (tmp_path / "my.net.xml").write_text(grid)
    attack, new = tmp_path / "my.add.xml", tmp_path / "new.xml"
    attack.write_text(f"<additional>{filled(tmp_path, WRITES[name])}</additional>")
    run(tmp_path / "my.net.xml", "-a", str(attack))
    assert new.is_file(), "this is no attack: SUMO wrote nothing"
    new.unlink()
    try:
        run(tmp_path / "my.net.xml", "-a", str(additional.of_scenario(tmp_path, "my.add.xml")))
    except InputError as error:
        assert "not allowed in an additional file" in str(error)
    config = tmp_path / "my.sumocfg"
    config.write_text(
        '<configuration><net-file value="my.net.xml"/><additional-files value="my.add.xml"/>'
        '<route-files value="my.rou.xml"/></configuration>'
    )
    (tmp_path / "my.rou.xml").write_text('<routes><trip id="t" depart="1" from="A0B0" to="B0C0"/></routes>')
    demand = source.read(config, Inputs(), {}).settings["demand"]
    others = ["-a", demand["additional_file"]] if "additional_file" in demand else []
    run(tmp_path / "my.net.xml", "-r", demand["route_file"], *others)
    assert not new.exists()


@pytest.mark.parametrize("name", [name for name in WRITES if name != "an event"])  # it breaks SUMO in a network
def test_a_network_makes_sumo_write_nothing(name: str, grid: str, tmp_path: Path) -> None:
    attack, new = tmp_path / "my.net.xml", tmp_path / "new.xml"
    attack.write_text(grid.replace("</net>", f"{filled(tmp_path, WRITES[name])}</net>"))
    run(attack, check=False)  # some attacks break SUMO at its end, after the file is open
    assert new.is_file(), "this is no attack: SUMO wrote nothing"
    new.unlink()
    run(network.build(attack, name="grid").net_file)
    assert not new.exists()


def test_a_signal_program_makes_sumo_write_nothing(grid: str, tmp_path: Path) -> None:
    attack, new = tmp_path / "my.net.xml", tmp_path / "new.xml"
    output = f'<param key="file" value="{new}"/><param key="freq" value="10"/>'
    attack.write_text(grid.replace("<phase", f"{output}<phase"))
    run(attack)
    assert new.is_file(), "this is no attack: SUMO wrote nothing"
    new.unlink()
    run(network.build(attack, name="grid").net_file)
    assert not new.exists()


@pytest.mark.parametrize("text", ["<!DOCTYPE net [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>", "<!DOCTYPE net>"])
def test_a_document_type_is_refused(text: str, grid: str, tmp_path: Path) -> None:
    attack = tmp_path / "my.net.xml"
    attack.write_text(grid.replace("<net ", f"{text}<net ", 1))
    with pytest.raises(InputError, match="document type"):
        network.build(attack, name="grid")


def test_a_link_out_of_the_folder_is_refused(grid: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.net.xml").write_text(grid)
    (inside / "my.net.xml").symlink_to(tmp_path / "secret.net.xml")
    (inside / "my.sumocfg").write_text('<configuration><net-file value="my.net.xml"/></configuration>')
    with pytest.raises(InputError, match="leads out"):
        source.read(inside / "my.sumocfg", Inputs(), {})
