"""Street names of edges, and the advice to use a wider area."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from relid_sumo.network import account, netconvert, streets

NET = """<net>
    <edge id=":j_0" function="internal"><lane id=":j_0_0"/></edge>
    <edge id="1#0" from="a" to="b" name="Rue de l&apos;&#201;glise" priority="1">
        <lane id="1#0_0" index="0" name="not a street"/>
    </edge>
    <edge id="-1#0" from="b" to="a" priority="1" name="Rue de l&apos;&#201;glise"/>
    <edge id="2" from="b" to="c" name="" priority="1"/>
    <edge id="3" from="b" to="c" priority="1" name="Kurze Gasse"/>
</net>
"""


@pytest.mark.parametrize("packed", [False, True])
def test_names_are_read_from_edges_only(tmp_path: Path, packed: bool) -> None:
    file = tmp_path / ("a.net.xml.gz" if packed else "a.net.xml")
    file.write_bytes(gzip.compress(NET.encode()) if packed else NET.encode())
    names = streets.read_names(file)
    assert names == {"1#0": "Rue de l'Église", "-1#0": "Rue de l'Église", "3": "Kurze Gasse"}
    assert streets.labelled("3", names) == "3 (Kurze Gasse)"
    assert streets.labelled("2", names) == "2"


def test_the_longest_streets_come_first_each_with_its_longest_edge() -> None:
    names = {"a": "Long", "b": "Long", "c": "Single", "d": "Short"}
    lengths = {"a": 40.0, "b": 70.0, "c": 100.0, "d": 5.0, "no name": 900.0}
    assert list(streets.longest(names, lengths, 2).items()) == [("Long", "b"), ("Single", "c")]


@pytest.mark.parametrize(("cut", "said"), [(1.9, False), (2.6, True)])
@pytest.mark.parametrize("bbox", [None, (114.16, 22.30, 114.17, 22.32)])
def test_a_wider_area_is_proposed_where_more_than_a_fifth_is_cut_off(
    cut: float, said: bool, bbox: tuple[float, ...] | None
) -> None:
    outcome = {netconvert.KEPT: {"ways": 9, "km": 10.0 - cut}, netconvert.CUT_OFF: {"ways": 1, "km": cut}}
    summary: dict[str, Any] = {"source": "a.osm", "remarks": [], "left_out": {}, "outcome": outcome, "missing_nodes": 0}
    found = account.warnings({**summary, "other_side": 0.0, "settings": {"bbox": bbox}})
    advice = [line for line in found if "wider" in line]
    assert len(advice) == said
    if said and bbox is None:
        assert "an extract that reaches at least 300 m further" in advice[0]
    if said and bbox is not None:
        west, south, east, north = map(float, advice[0].split("--bbox ")[1].split(","))
        assert south == pytest.approx(22.30 - 300 / 111_320, abs=1e-4)
        assert (north - south, east - west) == pytest.approx((0.0254, 0.0158), abs=2e-4)
