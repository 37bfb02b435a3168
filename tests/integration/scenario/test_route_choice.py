"""Route choice of the background traffic: at free flow, in equilibrium, and with SUMO's rerouting device."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relid_sumo.base import sumo
from relid_sumo.base.errors import InputError
from relid_sumo.env.play import job
from relid_sumo.env.policies import Policy
from relid_sumo.env.workers import Rollouts
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.traffic import demand, equilibrium
from relid_sumo.scenario.traffic.sumo_options import simulation_options

pytestmark = pytest.mark.sumo


def with_demand(ready: PreparedScenario, **changes: object) -> PreparedScenario:
    content = ready.scenario.demand.model_copy(update=changes)
    return prepare(ready.scenario.model_copy(update={"demand": content}))


def vehicles(file: Path) -> dict[str, tuple[str, str, str, str]]:
    """Return departure, first edge, last edge and whole route of each vehicle."""
    found = {}
    for vehicle in ET.parse(file).getroot().iter("vehicle"):
        edges = vehicle.findall("route")[-1].get("edges", "").split()
        found[str(vehicle.get("id"))] = (vehicle.get("depart", ""), edges[0], edges[-1], " ".join(edges))
    return found


def test_drivers_in_equilibrium_have_the_same_trips_and_learned_routes(
    town_ready: PreparedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = {"rate_vph": 3000.0}
    free, learned = with_demand(town_ready, **busy), with_demand(town_ready, **busy, route_choice="equilibrium")
    for seed in (0, 200):
        one, other = (vehicles(demand.routes(r.scenario, r.network, seed)) for r in (free, learned))
        assert {name: about[:3] for name, about in one.items()} == {name: about[:3] for name, about in other.items()}
        assert sum(one[name][3] != other[name][3] for name in one) > 0.1 * len(one)
    monkeypatch.setattr(sumo, "run", None)  # nothing is computed again
    equilibrium.settle(learned.scenario, learned.network)


def test_learned_routes_keep_away_from_closed_edges(town_ready: PreparedScenario) -> None:
    learned = with_demand(town_ready, route_choice="equilibrium")
    routes = [about[3].split() for about in vehicles(demand.routes(learned.scenario, learned.network, 0)).values()]
    shut = routes[0][len(routes[0]) // 2]
    edge = learned.network.graph.index[shut]
    around = vehicles(demand.routes(learned.scenario, learned.network, 0, frozenset({edge})))
    assert len(around) > 0.8 * len(routes)
    assert not any(shut in about[3].split() for about in around.values())


def test_drivers_stop_when_travel_times_are_stable() -> None:
    assert not equilibrium._stable([])
    assert not equilibrium._stable([100.0, 100.0])
    assert not equilibrium._stable([130.0, 101.0, 100.0])
    assert equilibrium._stable([130.0, 101.0, 100.0, 99.0])


def test_own_demand_has_its_own_routes(town_ready: PreparedScenario, tmp_path: Path) -> None:
    (tmp_path / "own.rou.xml").write_text("<routes/>", encoding="utf-8")
    own = town_ready.scenario.demand.model_copy(update={"route_file": "own.rou.xml", "route_choice": "equilibrium"})
    scenario = town_ready.scenario.model_copy(update={"demand": own, "folder": tmp_path})
    with pytest.raises(InputError, match=r"'equilibrium' is for generated demand.*set demand.rerouting"):
        prepare(scenario)


def test_a_share_of_the_background_reroutes(town_ready: PreparedScenario, tmp_path: Path) -> None:
    replaced = {}
    for share in (0.0, 0.3):
        ready = with_demand(town_ready, rate_vph=3000.0, rerouting=share)
        file, driven = demand.routes(ready.scenario, ready.network, 0), tmp_path / f"{share}.xml"
        options = [*simulation_options(ready.scenario, ready.network, file, 0), "--vehroute-output", str(driven)]
        sumo.run("sumo", [*options, "--end", "400", "--vehroute-output.write-unfinished"])
        every = list(ET.parse(driven).getroot().iter("vehicle"))
        replaced[share] = sum(one.find("routeDistribution") is not None for one in every) / len(every)
    assert replaced[0.0] == 0.0
    assert 0.05 < replaced[0.3] < 0.35


@pytest.mark.parametrize("simulator", ["micro", "meso"])
def test_episodes_with_rerouting_traffic_are_the_same_in_forks(town_ready: PreparedScenario, simulator: str) -> None:
    ready = with_demand(town_ready, rate_vph=1500.0, rerouting=0.3)
    jobs = [job(ready, 0, Policy(name), simulator) for name in ("reactive",)]  # type: ignore[arg-type]
    with Rollouts(ready.task, 1) as forks, Rollouts(ready.task, 1, fork=False) as loads:
        assert [one.digest for one in forks.run(jobs)] == [one.digest for one in loads.run(jobs)]
