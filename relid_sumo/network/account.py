"""Reports of a network's summary about its OSM file: lost roads, warnings, elements and rules."""

from __future__ import annotations

import math
from typing import Any

from relid_sumo.network import netconvert, osm, sumo_net

Summary = dict[str, Any]

LOST_SHARE = 0.1  # of the drivable length; a larger share causes a warning at each use of the network
CUT_SHARE = 0.2  # the same that is not strongly connected; a larger share causes advice to use a wider area
MARGIN_M = 300.0  # of that area: about two blocks
METRES_PER_DEGREE = 111_320.0  # of latitude


def totals(tally: osm.Tally) -> dict[str, float]:
    """Return the number of OSM ways, and their km, of all entries together."""
    return {key: sum(entry[key] for entry in tally.values()) for key in ("ways", "km")}


def lost(summary: Summary) -> tuple[float, dict[str, float]]:
    """Return the share of the drivable length that the network does not have, and the km by reason, most first.

    The drivable length is that of the requested area, roads that an incomplete file lacks included.
    """
    gone = {reason: summary["left_out"][reason]["km"] for reason in osm.LOSSES if reason in summary["left_out"]}
    unused = summary["outcome"].keys() - {netconvert.KEPT, sumo_net.CLOSED}
    gone |= {reason: entry["km"] for reason, entry in summary["outcome"].items() if reason in unused}
    drivable = summary["outcome"][netconvert.KEPT]["km"] + sum(gone.values())
    km = {reason: length for reason, length in sorted(gone.items(), key=lambda item: -item[1]) if length > 0}
    return (sum(km.values()) / drivable if drivable else 0.0), km


def _drivable(summary: Summary) -> float:
    """Return the drivable length of the requested area, km."""
    share, km = lost(summary)
    return float(sum(km.values()) / share) if share else float(summary["outcome"][netconvert.KEPT]["km"])


def _wider(summary: Summary) -> str:
    """Return the advice to use a wider area, where streets are cut off at its border."""
    cut = "streets that the border of the area cuts off connect again in a wider one"
    if summary["settings"]["bbox"] is None:
        return f"{cut}; use an extract that reaches at least {MARGIN_M:.0f} m further on each side"
    west, south, east, north = summary["settings"]["bbox"]
    lat = MARGIN_M / METRES_PER_DEGREE
    lon = lat / math.cos(math.radians((south + north) / 2))
    wider = ",".join(f"{degrees:.4f}" for degrees in (west - lon, south - lat, east + lon, north + lat))
    return f"{cut}; try a margin of {MARGIN_M:.0f} m: --bbox {wider}"


def warnings(summary: Summary) -> list[str]:
    """Return the warnings that each use of a network repeats."""
    source, found = summary["source"], []
    if summary["remarks"]:
        found.append(f"{source}: the map may be incomplete; the server remarks: {' / '.join(summary['remarks'])}")
    share, km = lost(summary)
    if share > LOST_SHARE and summary.get("given"):
        found.append(
            f"{source}: {share:.0%} of the length that cars can drive on is {sumo_net.APART}; agents' trips start and "
            "end there only if the rest has too few trips"
        )
    elif share > LOST_SHARE:
        reasons = ", ".join(f"{length:.1f} km {reason}" for reason, length in km.items())
        found.append(f"{source}: {share:.0%} of the length that cars could drive on is not in the network: {reasons}")
        if km.get(netconvert.CUT_OFF, 0.0) > CUT_SHARE * _drivable(summary):
            found.append(f"{source}: {_wider(summary)}")
    if summary["missing_nodes"]:
        found.append(f"{source}: {summary['missing_nodes']} nodes of roads are missing from the file; roads end there")
    if summary["other_side"] > 0:
        found.append(
            f"{source}: traffic drives on the other side on {summary['other_side']:.0%} of the roads; crop the area, "
            "or set the side (network_options.left_hand)"
        )
    return found


def elements(summary: Summary) -> str:
    """Return the numbers of elements and of ignored records of the file, as one line."""
    parts = []
    for kind, found in summary["elements"].items():
        others = [f"{count} {what}" for what, count in found.items() if what != "elements" and count]
        parts.append(
            f"{found['elements']} {kind}{'s' * (found['elements'] != 1)}"
            + (f" ({', '.join(others)})" if others else "")
        )
    types = [f"{count} {kind}" for kind, count in summary["relation_types"].items()]
    return ", ".join(parts) + (f"; relations without turn rules: {', '.join(types)}" if types else "")


def rules(summary: Summary) -> list[str]:
    """Return the effects of the rules, with numbers of OSM ways, one line each."""
    lines = [f"{what} ({count})" for what, count in summary["rules"].items()]
    if summary["settings"]["rules"] < osm.RULES and summary["differences"]:
        counts = ", ".join(f"{count} {what}" for what, count in summary["differences"].items())
        lines.append(f"rules {summary['settings']['rules']} are used; rules {osm.RULES} read {counts} differently")
    return lines


def listed(counts: dict[str, int], most: int = 12) -> str:
    """Return counts as one line, the largest first."""
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:most]]
    rest = len(counts) - len(shown)
    return ", ".join(shown + ([f"{rest} more (summary.json)"] if rest > 0 else [])) or "none"
