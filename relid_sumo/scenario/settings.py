"""The scenario: network, background demand, trips of the agents, reward, horizon and seeds, in one validated file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from relid_sumo.base.safe_paths import Name
from relid_sumo.base.settings import MOST_FACTOR, MOST_SEED, WEEK_S, Settings
from relid_sumo.network.catalogue import NetworkSettings
from relid_sumo.scenario.given import allowed as sumo_allowed
from relid_sumo.scenario.given.allowed import SumoValue
from relid_sumo.scenario.llm import LlmSettings

ID = r"^[A-Za-z0-9_.-]+$"
# A factor below 0, a seed below 0 and times out of order have messages of their own, below.
_ProfileTime = Annotated[float, Field(ge=-2 * WEEK_S, le=2 * WEEK_S)]
_ProfileFactor = Annotated[float, Field(le=1000)]
_Seed = Annotated[int, Field(le=MOST_SEED)]
MOST_AGENTS = 10_000  # of a fleet
_IncidentTime = Annotated[float, Field(ge=0, le=WEEK_S)]
_Slower = Annotated[float, Field(ge=0.01, lt=1)]
SEED_COUNTS = {"training": 16, "validation": 5, "evaluation": 20}


class Place(Settings):
    """A point on a road and the direction of travel, which is valid also after the network is rebuilt; or an edge."""

    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    bearing: Annotated[float, Field(ge=0, lt=360)] | None = None
    """Degrees clockwise from north."""
    edge: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """SUMO's name of the edge, instead of a point: for a SUMO network without a projection."""

    @model_validator(mode="after")
    def _point_or_edge(self) -> Self:
        point = {"lon": self.lon, "lat": self.lat, "bearing": self.bearing}
        missing = [key for key, value in point.items() if value is None]
        if self.edge is None and missing:
            raise ValueError(f"key '{missing[0]}' is missing; a place is {{ lon, lat, bearing }}, or {{ edge }}")
        if self.edge is not None and len(missing) < len(point):
            raise ValueError("a place is { lon, lat, bearing }, or { edge }; give one of them")
        return self

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        return {key: value for key, value in content.items() if value is not None}


class Trip(Settings):
    """One agent: origin, destination and departure."""

    id: Annotated[str, Field(pattern=ID)]
    origin: Place
    destination: Place
    depart_s: Annotated[float, Field(ge=0, le=WEEK_S)]
    """Scheduled departure after the warm-up, s."""


class Fleet(Settings):
    """Agents drawn from the demand: in each traffic seed, some of its vehicles are driven by agents instead.

    Nothing is added to the traffic, and no trip is the same in two traffic seeds. Agents are numbered by departure.
    Vehicles that may be drawn are cars (SUMO's class passenger) without stops that depart in the window, long enough,
    and can reach their destination before the horizon.
    """

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of these vehicles that become agents, such as 0.2; give this or `count`."""
    count: Annotated[int, Field(ge=1, le=MOST_AGENTS)] | None = None
    """Number of agents in each traffic seed, instead of a share."""
    begin_s: Annotated[float, Field(ge=0, le=WEEK_S)] = 0.0
    """Earliest departure, s after the warm-up."""
    end_s: Annotated[float, Field(gt=0, le=WEEK_S)] | None = None
    """Departures end before this time, s after the warm-up. If absent, it is half of the horizon."""
    min_distance_m: Annotated[float, Field(ge=0, le=1e7)] = 0.0
    """Shortest trip, straight line between the middles of its first and its last edge, m."""
    types: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Vehicle types of your own demand that may be drawn. If absent, all types of cars."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.share is None and self.count is None:
            raise ValueError("fleet: it has no size; give share, such as 0.2, or count, such as 50")
        if self.share is not None and self.count is not None:
            raise ValueError("fleet: both share and count are given; remove one")
        if self.end_s is not None and self.end_s <= self.begin_s:
            raise ValueError(f"fleet.end_s = {self.end_s:g}: not after begin_s = {self.begin_s:g}; set it higher")
        return self


class RandomIncidents(Settings):
    """Incidents that are drawn in each traffic seed."""

    count: Annotated[int, Field(ge=1, le=100)]
    """Number of incidents."""
    duration_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 900.0
    """Duration of each, s."""
    begin_s: tuple[_IncidentTime, _IncidentTime] | None = None
    """Earliest and latest begin, s after the warm-up. If absent: so that each ends within the horizon where it can."""
    where: Literal["busy", "anywhere"] = "busy"
    """Edges are drawn by their number of vehicles in training traffic (busy) or by length (anywhere)."""
    closed: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that an incident closes its edge."""
    lane: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that it closes one lane. All others slow their edge."""
    factor: tuple[_Slower, _Slower] = (0.1, 0.5)
    """Lowest and highest speed on a slowed edge, relative to its limit."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begin_s is not None and self.begin_s[0] > self.begin_s[1]:
            raise ValueError("random.begin_s: the earliest begin is after the latest; swap them")
        if self.factor[0] > self.factor[1]:
            raise ValueError("random.factor: the lowest factor is above the highest; swap them")
        if self.closed + self.lane > 1:
            raise ValueError("random: the probabilities closed and lane add up to more than 1; lower one of them")
        return self


class Incident(Settings):
    """An edge, or some of its lanes, closed or slowed for a time; or a number of such incidents drawn at random.

    Vehicles do not know of an incident before they see it.
    """

    edge: Annotated[str, Field(min_length=1)] | None = None
    """SUMO's name of the edge. Names change where the network is rebuilt with other options; `place` stays valid."""
    place: Place | None = None
    """A point on the edge and the direction of travel, instead of its name."""
    lanes: tuple[Annotated[int, Field(ge=0, le=100)], ...] = ()
    """Lanes by SUMO's numbers, from 0 at the kerb. Default: all."""
    begin_s: _IncidentTime | None = None
    end_s: _IncidentTime | None = None
    """Begin, and end (no longer part of the incident), s after the warm-up."""
    speed_mps: Annotated[float, Field(ge=0.1, le=100)] | None = None
    """Speed limit during the incident, m/s. Without it and without `factor` the edge or lanes are closed."""
    factor: _Slower | None = None
    """Speed limit during the incident, relative to the usual one."""
    random: RandomIncidents | None = None
    """Draw incidents in each traffic seed, instead of one that is the same in all."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("edge", "place", "random") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} are given" if given else "there is none"
            raise ValueError(f"an incident has one of edge, place and random, but {said}; give one")
        fixed = [name for name in ("begin_s", "end_s", "speed_mps", "factor") if getattr(self, name) is not None]
        if self.random is not None:
            if fixed or self.lanes:
                name = (fixed or ["lanes"])[0]
                raise ValueError(f"{name} is not for random incidents; remove it, or set it in random = {{ ... }}")
            return self
        if self.begin_s is None or self.end_s is None:
            raise ValueError("an incident needs begin_s and end_s, s after the warm-up; give both")
        if self.begin_s >= self.end_s:
            raise ValueError(f"the incident ends at {self.end_s:g} s, not after its begin at {self.begin_s:g} s")
        if self.speed_mps is not None and self.factor is not None:
            raise ValueError("both speed_mps and factor are given; remove one")
        if len(set(self.lanes)) != len(self.lanes):
            raise ValueError("lanes: a lane is given twice; remove one")
        return self


class EventIncidents(RandomIncidents):
    """Incidents of an event day."""

    count: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of incidents."""
    closed: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that an incident closes its edge."""
    factor: tuple[_Slower, _Slower] = (0.03, 0.05)
    """Lowest and highest speed on a slowed edge, relative to its limit."""


class Surge(Settings):
    """Vehicles that leave one place within minutes, as after a match, in addition to the demand."""

    vehicles: Annotated[int, Field(ge=1, le=MOST_AGENTS)] = 300
    """Number of vehicles. Those that a fleet may draw become agents by the same share as all others."""
    begin_s: tuple[_IncidentTime, _IncidentTime] = (0.0, 300.0)
    """Earliest and latest time of the first departure, s after the warm-up."""
    duration_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 300.0
    """Time within which all of them depart, s."""
    place: Place | None = None
    """The place that they leave. If absent, each traffic seed has its own, away from the rim of the network."""
    radius_m: Annotated[float, Field(ge=10, le=1e5)] = 400.0
    """They depart on edges up to this far from the place, m."""
    min_distance_m: Annotated[float, Field(ge=0, le=1e7)] = 1000.0
    """Their destinations are at least this far from the place, straight line, m (less on a small network)."""
    destinations: Annotated[int, Field(ge=1, le=1000)] = 40
    """Number of edges to which they drive, drawn by length, lanes and speed limit."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.begin_s[0] > self.begin_s[1]:
            raise ValueError("surge.begin_s: the earliest begin is after the latest; swap them")
        return self

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        return {key: value for key, value in content.items() if value is not None}


class Events(Settings):
    """Days that differ: each traffic seed is an ordinary day, or one with incidents, a surge of demand, or both.

    Vehicles do not know of an event before they see it. Travel times that are known beforehand are of ordinary days.
    """

    ordinary: Annotated[float, Field(ge=0, le=MOST_FACTOR)] = 1.0
    """Weight of ordinary days among the day types."""
    with_incidents: Annotated[float, Field(ge=0, le=MOST_FACTOR)] = 1.0
    """Weight of days with incidents."""
    with_surge: Annotated[float, Field(ge=0, le=MOST_FACTOR)] = 1.0
    """Weight of days with a surge."""
    with_both: Annotated[float, Field(ge=0, le=MOST_FACTOR)] = 1.0
    """Weight of days with a surge and incidents."""
    incidents: EventIncidents = EventIncidents()
    surge: Surge = Surge()

    @model_validator(mode="after")
    def _some_day(self) -> Self:
        if self.ordinary + self.with_incidents + self.with_surge + self.with_both <= 0:
            raise ValueError(
                "events: all weights are 0; give one of ordinary, with_incidents, with_surge and with_both a weight"
            )
        return self

    @property
    def has_incidents(self) -> bool:
        """Whether some days have incidents."""
        return self.with_incidents + self.with_both > 0

    @property
    def has_surges(self) -> bool:
        """Whether some days have a surge."""
        return self.with_surge + self.with_both > 0


class Demand(Settings):
    """Background traffic.

    Vehicles depart by a Poisson process of rate ``rate_vph x profile(t)``; origins and destinations are edges, weighted
    by length, lanes and speed limit, and by `fringe_factor` at the rim of the network.
    """

    level: Annotated[float, Field(ge=0, le=2)] = 0.30
    """Target congestion: extra mean travel time over the same trips in light traffic (0.30 is +30 %)."""
    rate_vph: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Departures per hour at profile factor 1, calibrated for `level`. If absent, it is calibrated on first use."""
    warmup_s: Annotated[float, Field(ge=0, le=WEEK_S)] = 600.0
    """Duration of background traffic alone, before the agents' time 0, s."""
    profile: tuple[tuple[_ProfileTime, _ProfileFactor], ...] = ((0.0, 0.6), (600.0, 1.0), (1800.0, 1.0), (2700.0, 0.7))
    """Departure rate over time: pairs (s since the start of the warm-up, factor), linear between, constant outside."""
    fringe_factor: Annotated[float, Field(gt=0, le=1e6)] = 5.0
    """Weight of origins and destinations at the rim of the network, relative to the inside."""
    min_distance_m: Annotated[float, Field(ge=0, le=1e7)] = 500.0
    """Shortest trip, straight line, m (less on a small network)."""
    max_running: Annotated[int, Field(ge=1, le=10**6)] = 2000
    """Calibration allows about this many vehicles at once, which bounds the cost of a simulated second."""
    route_file: str | None = None
    """Your own demand instead of all this: a SUMO .rou.xml, relative to this file. Traffic seeds then vary SUMO's seed
    only."""
    additional_file: str | None = None
    """What your own demand needs besides its routes, in a SUMO additional file: stops, signal programs, rerouters."""
    counts_file: str | None = None
    """Counts that your own demand was made for (edge data of SUMO); `scenario check` compares the traffic with them."""
    begin_s: Annotated[float, Field(ge=0, le=2 * WEEK_S)] = 0.0
    """Simulation time at which the warm-up begins, s; only with a route_file, whose departures are in this time."""
    sumo: Annotated[dict[str, SumoValue], Field(max_length=200)] = Field(default_factory=dict)
    """SUMO's options that change traffic, such as "time-to-teleport.highways" = 30; only with a route_file."""
    route_choice: Literal["free-flow", "equilibrium"] = "free-flow"
    """Routes of the generated vehicles, with random factors on travel times: those at free flow, or those that drivers
    learn day by day. The rate stays that of free flow, so that both are the same demand."""
    rerouting: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the background vehicles that SUMO's rerouting device guides around congestion while they drive."""

    @model_validator(mode="after")
    def _own(self) -> Self:
        given = {
            "additional_file": self.additional_file,
            "counts_file": self.counts_file,
            "begin_s": self.begin_s,
            "sumo": self.sumo,
        }
        if self.route_file is None and (needless := [name for name, value in given.items() if value]):
            raise ValueError(f"{', '.join(needless)}: only with a route_file; remove it, or name the route_file")
        sumo_allowed.check(self.sumo)
        if self.rerouting and "device.rerouting.probability" in self.sumo:
            raise ValueError("rerouting: sumo sets device.rerouting.probability too; remove one of the two")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        for name in ("additional_file", "counts_file", "begin_s", "sumo"):
            if not content.get(name):
                content.pop(name, None)
        for name in ("route_choice", "rerouting"):
            if content.get(name) == type(self).model_fields[name].default:
                del content[name]
        return content

    @model_validator(mode="after")
    def _profile_in_order(self) -> Self:
        times = [t for t, _ in self.profile]
        if not times or times != sorted(set(times)) or any(factor < 0 for _, factor in self.profile):
            raise ValueError("profile: give (time, factor) pairs with rising times and factors of at least 0")
        return self


class Seeds(Settings):
    """Traffic seeds, each one a demand sample and SUMO's own random seed together; the three sets are disjoint."""

    training: tuple[_Seed, ...]
    """Traffic seeds of training."""
    validation: tuple[_Seed, ...]
    """Traffic seeds for all choices, such as settings."""
    evaluation: tuple[_Seed, ...]
    """Traffic seeds of reported results."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        every = (*self.training, *self.validation, *self.evaluation)
        if len(set(every)) != len(every):
            raise ValueError("seeds: training, validation and evaluation must not share a seed or hold one twice")
        if not (self.training and self.validation and self.evaluation):
            raise ValueError("seeds: each of training, validation and evaluation needs at least one seed")
        if min(every) < 0:
            raise ValueError("seeds: a seed is a whole number of at least 0")
        return self

    @classmethod
    def default(cls) -> Seeds:
        """Return 16 training, 5 validation and 20 evaluation seeds."""
        return cls(
            training=tuple(range(SEED_COUNTS["training"])),
            validation=tuple(range(100, 100 + SEED_COUNTS["validation"])),
            evaluation=tuple(range(200, 200 + SEED_COUNTS["evaluation"])),
        )


CONNECTED = "connected"  # the built-in observation of all roads
OBSERVATION, REWARD = "roads", "progress"  # built-in kinds (`relid_sumo.scenario.kinds`)


class _Kind(Settings):
    """Base of settings that a user's own code can replace. The built-in kind is not written to files."""

    @model_serializer(mode="wrap")
    def _without_built_in(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if content.get("kind") == type(self).model_fields["kind"].default:
            del content["kind"]
        return content


class Observation(_Kind):
    """Observation of a vehicle at a decision."""

    kind: str = OBSERVATION
    """``roads`` (the next edges), ``connected`` (all roads, and the plans that agents share), or a function of your
    own: ``package.module:NAME`` or ``file.py:NAME``."""
    distance: Literal["straight", "network", "time"] = "straight"
    """Distance to the destination: straight line, shortest path on the network, or time-to-go on the edges' mean travel
    times over the training traffic (in metres at free-flow speed)."""
    congestion: Literal["ewma", "instant"] = "ewma"
    """Travel time on the next edges: exponentially weighted over `window_s`, or of the last second."""
    window_s: Annotated[float, Field(ge=10, le=WEEK_S)] = 180.0
    """Time constant of `ewma`, s; use at least one signal cycle."""


class Reward(_Kind):
    """``R_k = -(t_k - t_(k-1)) + w_d (d_(k-1) - d_k)``, in s."""

    kind: str = REWARD
    """``progress``, as above, or a function of your own: ``package.module:NAME`` or ``file.py:NAME``."""
    w_d: Annotated[float, Field(ge=0, le=1000)] = 0.1
    """Weight of the distance, s/m: a metre covered is worth the time to drive it at ``1 / w_d`` (36 km/h for 0.1)."""


Simulator = Literal["micro", "meso"]


class Meso(Settings):
    """Makes SUMO's mesoscopic simulation agree with the microscopic one; see `relid_sumo.scenario.traffic.meso`."""

    junction_control: bool = True
    """Whether vehicles wait at junctions: for green (if signals have no penalty), and for gaps where they
    must yield."""
    tls_penalty: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Weight of the expected wait at a signal, by its share of green, instead of its phases; 0 is none."""
    tls_flow_penalty: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Weight of the share of red in the headways at a signal; 0 is none."""
    minor_penalty_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """Time to cross a link that must yield, s."""
    tauff: Annotated[float, Field(gt=0, le=3600)] = 1.13
    """Headway between two free segments (SUMO's --meso-tauff), s."""
    taufj: Annotated[float, Field(gt=0, le=3600)] = 1.13
    """Headway from a free to a jammed segment, s."""
    taujf: Annotated[float, Field(gt=0, le=3600)] = 1.73
    """Headway from a jammed to a free segment, s."""
    taujj: Annotated[float, Field(gt=0, le=3600)] = 1.4
    """Headway between two jammed segments, s."""


class Scenario(Settings):
    """One complete routing problem. `relid_sumo.load_scenario` loads it."""

    name: Name
    network: str
    """Name of a network (``networks/<name>/network.toml``), or an OSM file or SUMO network, relative to this file."""
    network_options: NetworkSettings = NetworkSettings()
    """Options for an OSM file; a named network has its own."""
    horizon_s: Annotated[float, Field(gt=0, le=WEEK_S)] = 1800.0
    """Length of an episode from the agents' time 0, s."""
    step_length_s: Annotated[float, Field(ge=0.001, le=1)] = 1.0
    """Step of the simulation, s."""
    teleport_after_s: Annotated[float, Field(gt=0, le=MOST_FACTOR)] = 180.0
    """SUMO teleports a vehicle that has stood this long, s."""
    simulator: Simulator = "micro"
    """Simulator of the training: SUMO's microscopic one (micro), or its mesoscopic one (meso), about twenty times
    faster. Evaluation is always microscopic."""
    observation: Observation = Observation()
    reward: Reward = Reward()
    demand: Demand = Demand()
    meso: Meso | None = None
    """Calibrated parameters of the mesoscopic simulation. If absent, they are calibrated on first use."""
    seeds: Seeds = Seeds.default()
    fleet: Fleet | None = None
    """Agents drawn from the demand, instead of `trips`."""
    incidents: Annotated[tuple[Incident, ...], Field(max_length=1000)] = ()
    """Closed and slowed edges, which vehicles do not know of before they see them."""
    events: Events | None = None
    """Types of days, drawn by the traffic seed: ordinary, incidents, surges."""
    trips: tuple[Trip, ...] = ()
    rough: Annotated[tuple[str, ...], Field(exclude=True, max_length=10)] = ()
    """What --quick left out. Results are a first look; make the scenario without --quick before you use them."""
    llm: Annotated[LlmSettings, Field(exclude=True)] = LlmSettings()
    """The language-model service, for --llm openai. It is not part of the routing problem, and so not of its hashes."""
    llm_unnamed: Annotated[str, Field(exclude=True, alias="__llm_unnamed__")] = ""
    """Why the service may not be asked: a file names it, and the user has not (not written)."""
    folder: Annotated[Path, Field(exclude=True, alias="__folder__")] = Path()
    """Folder of the file (not written to it)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fleet is not None:
            self._check_fleet(self.fleet)
        elif not self.trips:
            raise ValueError("trips: there are no agents; give trips ([[trips]]), or a fleet ([fleet] with share)")
        names = [trip.id for trip in self.trips]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"trips: the id '{twice[0]}' is given twice")
        late = [trip.id for trip in self.trips if trip.depart_s >= self.horizon_s]
        if late:
            raise ValueError(f"horizon_s: {self.horizon_s:g} s ends before trip '{late[0]}' departs; make it longer")
        self._check_events()
        for i, incident in enumerate(self.incidents):
            random = incident.random
            begin_s = (random.begin_s or (0.0, 0.0))[1] if random is not None else incident.begin_s
            if begin_s is not None and begin_s >= self.horizon_s:
                raise ValueError(
                    f"incidents[{i}]: it begins at {begin_s:g} s, but the episode ends at horizon_s = "
                    f"{self.horizon_s:g} s; begin earlier, or make the horizon longer"
                )
        return self

    def _check_events(self) -> None:
        events = self.events
        if events is None:
            return
        begins = {"incidents": (events.incidents.begin_s or (0.0, 0.0))[1] if events.has_incidents else 0.0}
        begins["surge"] = events.surge.begin_s[1] + events.surge.duration_s if events.has_surges else 0.0
        for name, last_s in begins.items():
            if last_s >= self.horizon_s:
                what = "begin_s" if name == "incidents" else "begin_s and duration_s"
                raise ValueError(
                    f"events.{name}: {what} reach to {last_s:g} s, but the episode ends at horizon_s = "
                    f"{self.horizon_s:g} s; lower them, or make the horizon longer"
                )

    def _check_fleet(self, fleet: Fleet) -> None:
        if self.trips:
            raise ValueError("fleet: a scenario has either trips or a fleet; remove [fleet] or all [[trips]]")
        last = fleet.begin_s if fleet.end_s is None else fleet.end_s
        if last > self.horizon_s or fleet.begin_s >= self.window_s[1]:
            raise ValueError(
                f"fleet: departures from {fleet.begin_s:g} s to {self.window_s[1]:g} s are not within horizon_s = "
                f"{self.horizon_s:g} s; correct fleet.begin_s and fleet.end_s, or make the horizon longer"
            )

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        content.pop("fleet" if self.fleet is None else "trips", None)
        if not self.incidents:
            content.pop("incidents", None)
        if self.events is None:
            content.pop("events", None)
        return content

    @property
    def window_s(self) -> tuple[float, float]:
        """Window of the fleet's departures, s after the warm-up; the second time is not part of it."""
        fleet = self.fleet or Fleet(count=1)
        return fleet.begin_s, self.horizon_s / 2 if fleet.end_s is None else fleet.end_s

    @property
    def n_agents(self) -> int | None:
        """Number of agents, N; None for a share of the demand, which differs between traffic seeds."""
        return len(self.trips) if self.fleet is None else self.fleet.count

    @property
    def start_s(self) -> float:
        """Simulation time of the agents' time 0, s."""
        return self.demand.begin_s + self.demand.warmup_s

    @property
    def end_s(self) -> float:
        """Simulation time at which an episode is cut off, s."""
        return self.start_s + self.horizon_s
