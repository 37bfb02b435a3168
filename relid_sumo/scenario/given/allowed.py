"""SUMO's options that a scenario may take over: those that change traffic, and neither write nor read files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from relid_sumo.base.errors import did_you_mean

SumoValue = bool | Annotated[float, Field(ge=-1e9, le=1e9)] | Annotated[str, Field(max_length=2000)]

_PLAIN = re.compile(r"[\w.,:;+# -]*", re.ASCII)  # of a word or a list of words: no path

# Devices that only measure (emissions, fcd, tripinfo ...) are left out with the outputs.
_WITH_DEVICE = {
    "rerouting": "period pre-period threshold.factor threshold.constant with-taz mode synchronize railsignal "
    "bike-speeds invalidation cch-update-threshold.factor cch-update-threshold.constant cch-ensemble",
    "stationfinder": "rescueTime rescueAction reserveFactor emptyThreshold radius maxEuclideanDistance repeat "
    "chargeType waitForCharge minOpportunityDuration saturatedChargeLevel needToChargeLevel opportunisticChargeLevel "
    "replacePlannedStop maxDistanceToReplacedStop chargingStrategy checkEnergyForRoute",
    "battery": "track-fuel",
    "driverstate": "initialAwareness errorTimeScaleCoefficient errorNoiseIntensityCoefficient "
    "speedDifferenceErrorCoefficient headwayErrorCoefficient freeSpeedErrorCoefficient "
    "speedDifferenceChangePerceptionThreshold headwayChangePerceptionThreshold minAwareness maximalReactionTime",
    "bluelight": "reactiondist mingapfactor",
    "elechybrid": "",
    "taxi": "dispatch-algorithm dispatch-period dispatch-keep-unreachable idle-algorithm vclasses",
    "glosa": "range max-speedfactor min-speed add-switchtime use-queue override-safety ignore-cfmodel",
    "friction": "stdDev offset",
}
_PLAIN_OPTIONS = """
    junction-taz step-method.ballistic extrapolate-departpos lateral-resolution no-internal-links
    ignore-junction-blocker ignore-accidents collision.action intermodal-collision.action collision.stoptime
    intermodal-collision.stoptime collision.check-junctions collision.check-junctions.mingap collision.mingap-factor
    keep-after-arrival max-num-vehicles max-num-persons scale scale-suffix time-to-teleport.highways
    time-to-teleport.highways.min-speed time-to-teleport.disconnected time-to-teleport.remove
    time-to-teleport.remove-constraint time-to-teleport.ride time-to-teleport.bidi
    time-to-teleport.railsignal-deadlock waiting-time-memory startup-wait-threshold max-depart-delay sloppy-insert
    eager-insert emergency-insert insertion-checks random-depart-offset lanechange.duration lanechange.overtake-right
    tls.all-off tls.actuated.jam-threshold tls.actuated.detector-length tls.delay_based.detector-range
    tls.yellow.min-decel railsignal-moving-block railsignal.moving-block.default-classes
    railsignal.moving-block.max-dist railsignal.max-block-length railsignal.default-classes slope-centered
    time-to-impatience default.departspeed default.departlane default.action-step-length default.carfollowmodel
    default.speeddev default.emergencydecel overhead-wire.recuperation overhead-wire.substation-current-limits
    parking.maneuver use-stop-ended use-stop-started pedestrian.model pedestrian.timegap-crossing
    pedestrian.striping.stripe-width pedestrian.striping.dawdling pedestrian.striping.mingap-to-vehicle
    pedestrian.striping.jamtime pedestrian.striping.jamtime.crossing pedestrian.striping.jamtime.narrow
    pedestrian.striping.jamfactor pedestrian.striping.reserve-oncoming pedestrian.striping.reserve-oncoming.junctions
    pedestrian.striping.reserve-oncoming.max pedestrian.striping.legacy-departposlat
    pedestrian.striping.walkingarea-detail ride.stop-tolerance mapmatch.distance mapmatch.junctions mapmatch.taz
    weights.turnaround-penalty weights.reversal-penalty persontrip.walk-opposite-factor routing-algorithm
    weights.random-factor weights.random-factor.dynamic weights.minor-penalty weights.tls-penalty
    weights.priority-factor weights.separate-turns persontrip.walkfactor persontrip.transfer.car-walk
    persontrip.transfer.taxi-walk persontrip.transfer.walk-taxi persontrip.default.group
    persontrip.taxi.waiting-time persontrip.ride-public-line railway.max-train-length
    person-device.rerouting.probability person-device.rerouting.explicit person-device.rerouting.deterministic
    person-device.rerouting.period person-device.rerouting.mode person-device.rerouting.scope
"""
ALLOWED = frozenset(
    [
        *_PLAIN_OPTIONS.split(),
        *(f"device.{name}.{key}" for name, keys in _WITH_DEVICE.items() for key in keys.split()),
        *(f"device.{name}.{key}" for name in _WITH_DEVICE for key in ("probability", "explicit", "deterministic")),
    ]
)
# Values that would make SUMO load other software, or that this package cannot drive.
_REFUSED = {"pedestrian.model": frozenset({"jupedsim", "remote"}), "routing-algorithm": frozenset({"CHWrapper"})}


def fault(name: str, value: bool | float | str) -> str | None:
    """Return why an option cannot be taken over; None where it can."""
    if name not in ALLOWED:
        return f"not one of SUMO's options that a scenario may set{did_you_mean(name, ALLOWED)}"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return f"{value!r} is not a number, a word or a list of words"
    if value in _REFUSED.get(name, ()):
        return f"'{value}' is not supported"
    return None


def check(options: Mapping[str, bool | float | str]) -> None:
    """Raise ValueError where options contain one that a scenario may not set."""
    for name, value in options.items():
        if (wrong := fault(name, value)) is not None:
            raise ValueError(f"sumo.'{name}': {wrong}; remove it")


def as_words(options: Mapping[str, bool | float | str]) -> list[str]:
    """Return options as words of SUMO's command line."""
    return [word for name, value in options.items() for word in (f"--{name}", as_text(value))]


def as_text(value: bool | float | str) -> str:
    """Return a value as SUMO reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.12g}"
