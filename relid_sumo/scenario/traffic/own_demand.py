"""A scenario's own route file, rewritten so that SUMO may read it: from lists of elements, attributes and parameters.

SUMO writes and reads files that a route file names (``device.ssm.file``, ``<include>``, outputs of additional
elements), so a route file of another person is a program. Descriptions of vehicles and persons are listed below
and pass unchanged; all else is refused by name, with its line. SUMO only reads the rewritten copy in the cache.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, cast
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from relid_sumo.base import cache, files, temporary
from relid_sumo.base.errors import InputError, did_you_mean
from relid_sumo.base.safe_paths import printable

FORMAT = 2  # part of the cache key: raise it when the lists or the rewriting change
MOST_MIB = 2048  # of a route file, unpacked
LONGEST_VALUE = 2**20  # characters: a route of a hundred thousand edges


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEPARTURE = _words(
    "departLane departPos departSpeed departPosLat departEdge arrivalLane arrivalPos arrivalSpeed arrivalPosLat "
    "arrivalEdge"
)
_VEHICLE = _DEPARTURE | _words(
    "id type color line personNumber containerNumber reroute speedFactor insertionChecks parkingBadges via"
)
_ENDS = _words(
    "from to via fromTaz toTaz fromJunction toJunction viaJunctions fromXY toXY viaXY fromLonLat toLonLat viaLonLat"
)
_FLOW = _words("begin end period vehsPerHour perHour probability number")
_ROUTE = _words(
    "id edges color cost savings probability exitTimes repeat cycleTime routeLength refId reason replacedOnEdge "
    "replacedOnIndex replacedAtTime"
)
_PLAN = _ENDS | _words(
    "edges route lines modes vTypes speed duration departPos departPosLat departLane arrivalPos walkFactor cost costs "
    "intended depart group vehicle started ended exitTimes routeLength waitingTime busStop trainStop containerStop "
    "chargingStation parkingArea"
)
_PERSON = _words("id type color departPos arrivalPos modes vTypes speedFactor arrival")
_MODEL = _words(
    "accel decel emergencyDecel apparentDecel sigma sigmaStep tau delta stepping adaptTime adaptFactor tmp1 tmp2 tmp3 "
    "tmp4 tmp5 tauLast apProb k phi security estimation speedControlGain speedControlMinGap gapClosingControlGainSpeed "
    "gapClosingControlGainSpace gapControlGainSpeed gapControlGainSpace collisionAvoidanceGainSpeed "
    "collisionAvoidanceGainSpace collisionAvoidanceOverride collisionMinGapFactor speedControlGainCACC "
    "gapClosingControlGainGap gapClosingControlGainGapDot gapControlGainGap gapControlGainGapDot "
    "collisionAvoidanceGainGap collisionAvoidanceGainGapDot tauCACCToACC applyDriverState cc1 cc2 cc3 cc4 cc5 cc6 cc7 "
    "cc8 cc9 c1 ccDecel constSpacing kp lambda omegaN tauEngine xi lanesCount ccAccel ploegKp ploegKd ploegH flatbedKa "
    "flatbedKv flatbedKp flatbedD flatbedH tPersDrive tpreview treaction tPersEstimate ccoolness sigmaleader sigmagap "
    "sigmaerror jerkmax epsilonacc taccmax Mflatness Mbegin maxvehpreview maxAccelProfile desAccelProfile"
)
_TYPE = _MODEL | _words(
    "id refId length minGap maxSpeed desiredMaxSpeed probability speedFactor speedDev speedFactorPremature vClass "
    "emissionClass maneuverAngleTimes guiShape width height mass massFactor color parkingBadges personCapacity "
    "containerCapacity boardingDuration boardingFactor loadingDuration scale latAlignment maxSpeedLat minGapLat "
    "actionStepLength hasDriverState impatience startupDelay timeToTeleport timeToTeleportBidi carFollowModel "
    "laneChangeModel trainType speedTable tractionTable resistanceTable maxPower maxTraction resCoef_constant "
    "resCoef_linear resCoef_quadratic curveResistance curveIntegration lcStrategic lcCooperative lcSpeedGain "
    "lcKeepRight lcSublane lcOpposite lcPushy lcPushyGap lcStrategicLookahead lcAssertive lcLookaheadLeft "
    "lcSpeedGainRight lcSpeedGainLookahead lcSpeedGainRemainTime lcSpeedGainUrgency lcCooperativeRoundabout "
    "lcCooperativeSpeed lcCooperativeHelpTime lcCooperativeHelpThreshold lcCooperativeMinSpeed lcTurnAlignmentDistance "
    "lcImpatience lcTimeToImpatience lcAccelLat lcMaxSpeedLatStanding lcMaxSpeedLatFactor lcMaxDistLatStanding "
    "lcOvertakeRight lcLaneDiscipline lcSigma lcKeepRightAcceptanceTime lcOvertakeDeltaSpeedFactor lcContRight "
    "jmCrossingGap jmDriveAfterYellowTime jmDriveAfterRedTime jmDriveRedSpeed jmIgnoreKeepClearTime jmIgnoreFoeSpeed "
    "jmIgnoreFoeProb jmIgnoreJunctionFoeProb jmSigmaMinor jmStoplineGap jmStoplineGapMinor jmTimegapMinor jmExtraGap "
    "jmAdvance jmStopSignWait jmAllwayStopWait"
)
_STOP = _words(
    "lane edge lon lat startPos endPos posLat friendlyPos arrival duration until extension index parking triggered "
    "containerTriggered expected permitted expectedContainers actType tripId split join line speed started ended "
    "onDemand jump jumpUntil priority collision busStop trainStop containerStop chargingStation parkingArea"
)
ATTRIBUTES: dict[str, frozenset[str]] = {
    "routes": frozenset(),
    "vType": _TYPE,
    "vTypeDistribution": _words("id vTypes probabilities deterministic"),
    "route": _ROUTE,
    "routeDistribution": _words("id last routes probabilities"),
    "trip": _VEHICLE | _ENDS | {"depart", "arrival"},
    "vehicle": _VEHICLE | _words("route depart arrival routeLength fromTaz toTaz"),
    "flow": _VEHICLE | _ENDS | _FLOW | {"route"},
    "interval": _words("begin end"),
    "person": _PERSON | {"depart"},
    "personFlow": _PERSON | _FLOW | {"personsPerHour"},
    "container": _PERSON | {"depart"},
    "containerFlow": _PERSON | _FLOW | {"containersPerHour"},
    "walk": _PLAN,
    "ride": _PLAN,
    "personTrip": _PLAN,
    "transport": _PLAN,
    "tranship": _PLAN,
    "stop": _STOP,
    "param": _words("key value"),
}
ATTRIBUTES |= {
    f"carFollowing-{model}": _MODEL
    for model in _words(
        "IDM IDMM EIDM Krauss KraussPS KraussOrig1 SmartSK Daniel1 PWagner2009 BKerner Wiedemann W99 ACC CACC CC"
    )
}
_STAGES = _words("walk ride personTrip stop param")
_CARGO = _words("transport tranship stop param")
_DRIVEN = _words("route routeDistribution stop param")
CHILDREN: dict[str, frozenset[str]] = {
    "routes": _words(
        "vType vTypeDistribution route routeDistribution trip vehicle flow interval person personFlow container "
        "containerFlow"
    ),
    "vType": frozenset(name for name in ATTRIBUTES if name.startswith("carFollowing-")) | {"param"},
    "vTypeDistribution": _words("vType"),
    "route": _words("stop param"),
    "routeDistribution": _words("route"),
    "trip": _words("stop param"),
    "vehicle": _DRIVEN,
    "flow": _DRIVEN,
    "interval": _words("flow"),
    "person": _STAGES,
    "personFlow": _STAGES,
    "container": _CARGO,
    "containerFlow": _CARGO,
    "stop": _words("param"),
    "walk": _words("param"),
    "ride": _words("param"),
    "personTrip": _words("param"),
}
ROOTS = {"routes": "routes", "additional": "routes", "route-alternatives": "routes"}
PARAMETERS = _words(
    "has.rerouting.device has.routing.device has.driverstate.device has.battery.device has.emissions.device "
    "has.glosa.device has.bluelight.device has.tripinfo.device has.vehroute.device "
    "device.rerouting.period device.rerouting.pre-period device.rerouting.probability device.rerouting.synchronize "
    "rerouting.period rerouting.probability "
    "device.driverstate.initialAwareness device.driverstate.errorTimeScaleCoefficient "
    "device.driverstate.errorNoiseIntensityCoefficient device.driverstate.speedDifferenceErrorCoefficient "
    "device.driverstate.speedDifferenceChangePerceptionThreshold device.driverstate.headwayChangePerceptionThreshold "
    "device.driverstate.headwayErrorCoefficient device.driverstate.freeSpeedErrorCoefficient "
    "device.driverstate.minAwareness device.driverstate.maximalReactionTime "
    "device.battery.capacity device.battery.maximumChargeRate device.battery.chargeLevel "
    "device.battery.stoppingThreshold maximumBatteryCapacity actualBatteryCapacity maximumPower vehicleMass "
    "frontSurfaceArea airDragCoefficient rotatingMass internalMomentOfInertia radialDragCoefficient "
    "rollDragCoefficient constantPowerIntake propulsionEfficiency recuperationEfficiency stoppingThreshold "
    "device.glosa.range device.glosa.max-speedfactor device.glosa.min-speed device.glosa.add-switchtime "
    "device.glosa.use-queue device.glosa.override-safety device.glosa.ignore-cfmodel "
    "device.bluelight.reactiondist device.bluelight.mingapfactor device.bluelight.near-dist "
    "device.bluelight.reaction-prob-far device.bluelight.reaction-prob-near "
    "junctionModel.ignoreIDs junctionModel.ignoreTypes carFollowModel.ignoreIDs carFollowModel.ignoreTypes"
)
_SCHEMA = re.compile(r"xmlns:xsi|xsi:noNamespaceSchemaLocation")  # of the root, which SUMO's own tools write
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN_VALUE = re.compile(r"[\w .,:;#+-]*", re.ASCII)  # of a parameter: no path
_EMISSIONS = re.compile(r"(HBEFA[234]/|Energy/)?[\w.-]+", re.ASCII)  # PHEMlight's are names of files


def parameter_fits(values: Mapping[str, str]) -> bool:
    """Return whether a parameter of a vehicle, a type or a person is on the list, and its value is no path."""
    return values.get("key", "") in PARAMETERS and bool(_PLAIN_VALUE.fullmatch(values.get("value", "")))


def emissions_fit(name: str) -> bool:
    """Return whether an emission class is no name of a file; "" is none."""
    return not name or bool(_EMISSIONS.fullmatch(name))


@lru_cache(maxsize=64)
def _digest(file: Path, *changed: int) -> str:
    del changed  # size and time of the last change: another one is another file
    return cache.sha256(file)


def digest(file: Path) -> str:
    """Return the checksum of a route file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        about = file.stat()
        return _digest(file, about.st_size, about.st_mtime_ns, about.st_ino)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def note_clean(file: Path) -> None:
    """Note that a file in the cache is as `cleaned` writes it, because it was made from the same lists."""
    target = cache.cache_file("demand", "own", [FORMAT, digest(file)], ".rou.xml")

    def make() -> None:
        with files.whole(target) as part:
            shutil.copyfile(file, part)

    cache.once(target, make)


def cleaned(file: Path) -> Path:
    """Return a route file that SUMO may read, rewritten and cached at first use.

    Raises
    ------
    InputError
        It is not XML or too large, or a part of it is not on the lists; the message names the part and its line.
    """
    target = cache.cache_file("demand", "own", [FORMAT, digest(file)], ".rou.xml")

    def make() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(".tmp-", target.parent) as folder:
            part = Path(folder) / "own.rou.xml"
            with part.open("w", encoding="utf-8") as out:
                _Rewriter(file, out).run()
            files.put(part, target)

    cache.once(target, make)
    return target


class _Rewriter:
    """One pass over a route file: parts on the lists are written to `out`, any other part raises an error."""

    def __init__(self, file: Path, out: IO[str]) -> None:
        self._file, self._out = file, out
        self._open: list[str] = []
        self._closed = True  # whether the last start tag has its '>'
        self._parser = parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.CharacterDataHandler = self._text

    def run(self) -> None:
        """Rewrite the file."""
        try:
            with self._file.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
                read = 0
                while piece := stream.read(1 << 20):
                    read += len(piece)
                    if read > MOST_MIB * 2**20:
                        raise InputError(f"{self._file}: a route file of more than {MOST_MIB} MiB; thin it out")
                    self._parser.Parse(piece, False)
                self._parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise InputError(f"{self._file}: not XML: {error}") from None
        except (EOFError, zlib.error, OSError) as error:
            raise InputError(f"{self._file}: cannot be read: {error}") from None

    def _refuse(self, what: str, why: str) -> None:
        line = self._parser.CurrentLineNumber
        raise InputError(f"{self._file}, line {line}: {printable(what)[:200]} {why}")

    def _doctype(self, *_: object) -> None:
        self._refuse("a document type (<!DOCTYPE ...>)", "is refused: it may define entities; remove it")

    def _text(self, text: str) -> None:
        if text.strip():
            self._refuse(
                f"text ({text.strip()[:40]!r})", "stands between elements, where a route file has none; remove it"
            )

    def _start(self, name: str, given: list[str]) -> None:
        above = self._open[-1] if self._open else None
        if above is None and name not in ROOTS:
            self._refuse(f"<{name}>", "is not the first element of a route file, which is <routes>")
        if above is not None and name not in CHILDREN.get(above, ()):
            known = CHILDREN.get(above, frozenset())
            inside = f", nothing else may stand in <{above}>: {', '.join(sorted(known)) or 'nothing'}"
            self._refuse(f"<{name}>", f"is not part of a route file{did_you_mean(name, known)}{inside}; remove it")
        written = ROOTS.get(name, name) if above is None else name
        self._open.append(written)
        values = dict(zip(given[::2], given[1::2], strict=True))
        if above is None:
            values = {key: value for key, value in values.items() if not _SCHEMA.fullmatch(key)}
        for key, value in values.items():
            self._check(written, key, value)
        if written == "param":
            self._check_parameter(values.get("key", ""), values.get("value", ""))
        if not self._closed:
            self._out.write(">\n")
        text = "".join(f" {key}={quoteattr(value)}" for key, value in values.items())
        self._out.write(f"{'    ' * (len(self._open) - 1)}<{written}{text}")
        self._closed = False

    def _check(self, name: str, key: str, value: str) -> None:
        known = ATTRIBUTES[name]
        if key not in known:
            self._refuse(f"the attribute {key} of <{name}>", f"is not allowed{did_you_mean(key, known)}; remove it")
        if len(value) > LONGEST_VALUE or _CONTROL.search(value):
            self._refuse(f"the value of {key} of <{name}>", "has control characters, or is too long")
        if key == "emissionClass" and not _EMISSIONS.fullmatch(value):
            self._refuse(f"emissionClass = {value!r}", "is not allowed: SUMO may take it for a file; use HBEFA4/...")

    def _check_parameter(self, key: str, value: str) -> None:
        if key not in PARAMETERS:
            self._refuse(f"the parameter {key!r}", f"is not allowed{did_you_mean(key, PARAMETERS)}; remove it")
        if not _PLAIN_VALUE.fullmatch(value):
            self._refuse(f"the parameter {key} = {value!r}", "is not a number or a plain word")

    def _end(self, _: str) -> None:
        name = self._open.pop()
        self._out.write("/>\n" if not self._closed else f"{'    ' * len(self._open)}</{name}>\n")
        self._closed = True
