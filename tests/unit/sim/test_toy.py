from __future__ import annotations

import pytest

from relid_sumo.sim.toy import ToyBridge, grid


def test_a_grid_has_two_way_streets_and_no_u_turns() -> None:
    graph = grid(3, block_m=50.0, speed=5.0)
    assert graph.n_edges == 2 * 12
    assert set(graph.free_flow_s) == {10.0}
    assert graph.strong_component().all()
    for edge, name in enumerate(graph.edge_ids):
        start, end = str(name).split(">")
        successors = {str(graph.edge_ids[e]) for e in graph.slots[edge] if e >= 0}
        assert successors == {str(e) for e in graph.edge_ids if str(e).startswith(f"{end}>")} - {f"{end}>{start}"}


def test_successors_are_ordered_left_to_right() -> None:
    graph = grid(3)
    turns = {str(graph.edge_ids[e]): graph.edge_ids[graph.slots[e]].tolist() for e in range(graph.n_edges)}
    assert turns["3>4"] == ["4>7", "4>5", "4>1"]  # eastwards: north, east, south
    assert turns["7>4"] == ["4>5", "4>1", "4>3"]  # southwards: east, south, west


def test_vehicles_delay_each_other() -> None:
    bridge = ToyBridge(grid(3), {grid(3).index["1>4"]: 2.0})
    bridge.add("one", ["0>1", "1>4"], 0.0)
    bridge.add("two", ["0>1", "1>2"], 5.5)
    seen: dict[str, float] = {}
    departed: dict[str, float] = {}
    for _ in range(60):
        now = bridge.step()
        departed |= dict.fromkeys(bridge.departed(), now)
        seen |= dict.fromkeys((name for name in departed if name not in seen and bridge.road(name) is None), now)
        assert bridge.running() == sum(name not in seen for name in departed)
    assert departed == {"one": 0.0, "two": 6.0}
    assert seen == {"one": 30.0, "two": 36.0}  # 10 + 2 x 10 s; 6 + 2 x 10 (one car ahead) + 10


def test_a_route_must_start_at_the_vehicles_edge() -> None:
    bridge = ToyBridge(grid(3))
    bridge.add("one", ["0>1", "1>4"], 0.0)
    bridge.step()
    bridge.set_route("one", ["0>1", "1>2", "2>5"])
    for route in (["1>2", "2>5"], ["0>1", "2>5"]):
        with pytest.raises(ValueError, match="does not start at the vehicle's edge"):
            bridge.set_route("one", route)
    assert bridge.road("one") == "0>1"
    assert bridge.road("nobody") is None


def test_the_fastest_route_considers_other_vehicles() -> None:
    bridge = ToyBridge(grid(3))
    free = bridge.fastest_route("0>1", "7>8")
    assert free == ["0>1", "1>4", "4>7", "7>8"]
    for i in range(3):
        bridge.add(f"c{i}", ["4>7", "7>8"], 0.0)
    bridge.step()
    assert bridge.travel_time("4>7", "one", smoothed=True) == 40.0
    assert "4>7" not in bridge.fastest_route("0>1", "7>8")
