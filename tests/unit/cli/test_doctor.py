from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relid_sumo.base import cache, sumo, system
from relid_sumo.base.errors import SimulationError
from relid_sumo.cli import doctor
from relid_sumo.network import catalogue
from relid_sumo.sed.programs.layers import Layer

ROOT = Path(__file__).parents[3]


def executable(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.mark.sumo
def test_no_required_check_fails_on_the_machine_of_the_tests() -> None:
    found = doctor.checks()
    assert [check for check in found if check.status == "fail"] == []
    assert len({check.name for check in found}) == len(found)
    assert all(check.fix for check in found if check.status != "ok")
    by_name = {check.name: check for check in found}
    assert by_name["SUMO"].found.startswith(f"{sumo.version()}: sumo, netconvert, duarouter, sumo-gui")
    assert by_name["libsumo, traci, sumolib"].found == f"{sumo.version()}, loads"


def test_a_missing_library_is_reported_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert system.missing_libraries(lambda library: library != "libXrender.so.1") == ["libXrender.so.1"]
    monkeypatch.setattr(doctor, "missing_libraries", lambda: ["libXrender.so.1", "libGL.so.1"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    executable(tmp_path / "dnf", "")
    assert doctor.system_libraries().fix == "sudo dnf install -y libXrender libglvnd-glx"
    executable(tmp_path / "apt-get", "")
    check = doctor.system_libraries()
    assert (check.status, check.found) == ("fail", "missing: libXrender.so.1, libGL.so.1")
    assert check.fix == "sudo apt-get update && sudo apt-get install -y libxrender1 libgl1"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor.system_libraries().fix == "apt-get update && apt-get install -y libxrender1 libgl1"


def test_the_loader_finds_only_existing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(system, "LIBRARIES", {"libc.so.6": ("libc6", "glibc"), "libno-such.so.1": ("no", "no")})
    assert system.missing_libraries() == ["libno-such.so.1"]


def test_make_install_stops_if_a_library_is_missing(tmp_path: Path) -> None:
    """The script runs without installed packages (-I, -S), prints what to install and exits with 1."""
    copy = tmp_path / "relid_sumo" / "base" / "system.py"
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / "relid_sumo" / "base" / "system.py").read_text().replace("libGL.so.1", "libno-such.so.1"))
    (tmp_path / "tools").mkdir()
    script = shutil.copy(ROOT / "tools" / "check_system.py", tmp_path / "tools")
    command = [sys.executable, "-I", "-S", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Missing on this machine: libno-such.so.1" in done.stdout
    assert " install -y libgl" in done.stdout
    assert done.stderr == ""
    listed = subprocess.run([*command, "--apt"], capture_output=True, text=True, check=True)
    assert listed.stdout == "libgl1\n"


@pytest.mark.sumo
def test_programs_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sumo, "version", lambda: "0.1.0")
    check = doctor.sumo_programs()
    assert check.status == "fail"
    assert check.found.startswith("the wheel is 0.1.0, but sumo prints 'Eclipse SUMO sumo ")


def test_programs_that_do_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sumo, "binary", lambda program: str(tmp_path / program))
    check = doctor.sumo_programs()
    assert check.status == "fail"
    assert "No such file" in check.found
    executable(tmp_path / "sumo", "echo 'libGL.so.1: cannot open shared object file' >&2; exit 127")
    with pytest.raises(SimulationError):
        sumo.run("sumo", ["--version"])
    assert "libGL.so.1: cannot open" in doctor.sumo_programs().found
    for program in doctor.PROGRAMS:
        executable(tmp_path / program, "exit 0")
    assert doctor.sumo_programs().found == f"the wheel is {sumo.version()}, but sumo prints ''"


def test_packages_of_different_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda package: "1.27.0" if package == "traci" else "1.28.0")
    check = doctor.sumo_python()
    assert check.status == "fail"
    assert "traci 1.27.0" in check.found


def test_broken_libsumo_and_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libsumo.py").write_text("import os; os.abort()")
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: truncated')")
    monkeypatch.syspath_prepend(tmp_path)  # what PYTHONPATH does when Python starts
    assert doctor.sumo_python().status == "fail"
    assert "does not load: exit code -6" in doctor.sumo_python().found
    check = doctor.torch()
    assert (check.status, check.found) == ("fail", "does not load: ImportError: libtorch_cpu.so: truncated")


def test_no_screen_and_no_xvfb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor.display()
    assert (check.status, check.found) == ("warn", "no screen, no Xvfb: `view` cannot draw")
    assert "apt-get install -y xvfb" in check.fix
    assert "dnf install -y xorg-x11-server-Xvfb" in check.fix
    executable(tmp_path / "Xvfb", "")
    assert doctor.display().status == "ok"


def test_a_screen_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":987")
    check = doctor.display()
    assert check.status == "warn"
    assert check.found.startswith("DISPLAY=:987 does not answer")


@pytest.mark.gui
def test_a_screen_that_answers(xvfb: str) -> None:
    check = doctor.display()
    assert check.status == "ok"
    assert check.found.startswith(f"DISPLAY={xvfb};")


def test_the_sandbox_check_reports_what_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_isolation", lambda: "the kernel's Landlock is version 4")
    check = doctor.sandbox()
    assert check.status == "warn"
    assert "the kernel's Landlock is version 4; only programs written by a language model need it" in check.found


def test_sandbox_says_which_layers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    states: dict[Layer, str | None] = {"calls": None, "landlock": None, "bubblewrap": "bubblewrap is not installed"}
    monkeypatch.setattr(doctor, "missing_isolation", lambda: None)
    monkeypatch.setattr(doctor, "layer_states", lambda: states)
    check = doctor.sandbox()
    assert (check.status, check.found) == (
        "ok",
        "programs run isolated, in layers: permitted system calls (seccomp), permitted files (Landlock); "
        "not bubblewrap: bubblewrap is not installed",
    )
    assert "apt-get install -y bubblewrap" in check.fix
    states["bubblewrap"] = None
    assert doctor.sandbox().found.endswith("permitted files (Landlock), name spaces of its own (bubblewrap)")
    assert doctor.sandbox().fix == ""


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RELID_SUMO_CACHE", str(file / "cache"))
    check = doctor.cache()
    assert check.status == "fail"
    assert check.found == f"{file / 'cache'}: Not a directory"
    assert "RELID_SUMO_CACHE" in check.fix


def test_the_cache_check_makes_the_folder_and_leaves_it_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELID_SUMO_CACHE", str(tmp_path / "new" / "cache"))
    assert doctor.cache().status == "ok"
    assert list((tmp_path / "new" / "cache").iterdir()) == []


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    total, used, free = shutil.disk_usage(tmp_path)
    folder = tmp_path / "not" / "there" / "yet"
    for share, status in [(3.0, "ok"), (1.0, "warn"), (0.05, "fail")]:
        usage = type("Usage", (), {"total": total, "used": used, "free": share * doctor.GIB})
        monkeypatch.setattr(shutil, "disk_usage", lambda where, usage=usage: usage)
        assert doctor.disk("disk", folder).status == status
    assert doctor.disk("disk", folder).found == f"0.1 GiB free at {tmp_path}"
    assert free >= 0


def test_no_extracts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RELID_SUMO_OSM_PATH", raising=False)
    assert doctor.extracts().found == "RELID_SUMO_OSM_PATH is not set"
    monkeypatch.setenv("RELID_SUMO_OSM_PATH", os.pathsep.join([str(tmp_path), str(tmp_path / "no")]))
    assert doctor.extracts().found == f"no such folder: {tmp_path / 'no'}"


def test_extracts_that_are_absent_or_have_other_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = 'title = "A"\ndescription = "B"\n[extract]\nfile = "{0}.osm"\nsha256 = "{1}"\ndate = "2026-01-01"\n'
    content = b"<osm/>"
    files = {}
    (tmp_path / "right.osm").write_bytes(content)
    digest = cache.sha256(tmp_path / "right.osm")
    for name in ("right", "other", "absent"):
        files[name] = tmp_path / f"{name}.toml"
        files[name].write_text(entry.format(name, digest) + "area = [0.0, 0.0, 1.0, 1.0]\n")
    (tmp_path / "other.osm").write_bytes(content + b"\n")
    monkeypatch.setattr(catalogue, "known", lambda: files)
    monkeypatch.setenv("RELID_SUMO_OSM_PATH", str(tmp_path))
    check = doctor.extracts()
    assert check.status == "warn"
    assert check.found.split("; ") == [
        "right: found",
        f"other: {tmp_path / 'other.osm'} has other map data (its checksum differs)",
        "absent: absent.osm is in none of the folders",
    ]
    del files["other"], files["absent"]
    assert doctor.extracts() == doctor.Check("OSM extracts", "ok", "right: found")
    files["right"].write_text("titel = 1")
    assert str(files["right"]) in doctor.extracts().found


@pytest.mark.osm
def test_the_extracts_of_the_included_cities_are_found(osm_dir: Path) -> None:
    check = doctor.extracts()
    assert check.status == "ok", check
    assert "orlando: found" in check.found
    assert "hong_kong: found" in check.found
    assert osm_dir.is_dir()
