"""Reports of a network's summary about its OSM file: lost roads, warnings, elements and rules."""

from __future__ import annotations

from typing import Any

from relid_sumo.network import netconvert, osm

Summary = dict[str, Any]

LOST_SHARE = 0.1  # of the drivable length; a larger share causes a warning at each use of the network


def totals(tally: osm.Tally) -> dict[str, float]:
    """Return the number of OSM ways, and their km, of all entries together."""
    return {key: sum(entry[key] for entry in tally.values()) for key in ("ways", "km")}


def lost(summary: Summary) -> tuple[float, dict[str, float]]:
    """Return the share of the drivable length that the network does not have, and the km by reason, most first.

    The drivable length is that of the requested area, roads that an incomplete file lacks included.
    """
    gone = {reason: summary["left_out"][reason]["km"] for reason in osm.LOSSES if reason in summary["left_out"]}
    gone |= {reason: entry["km"] for reason, entry in summary["outcome"].items() if reason != netconvert.KEPT}
    drivable = summary["outcome"][netconvert.KEPT]["km"] + sum(gone.values())
    km = {reason: length for reason, length in sorted(gone.items(), key=lambda item: -item[1]) if length > 0}
    return (sum(km.values()) / drivable if drivable else 0.0), km


def warnings(summary: Summary) -> list[str]:
    """Return the warnings that each use of a network repeats."""
    source, found = summary["source"], []
    if summary["remarks"]:
        found.append(f"{source}: the map may be incomplete; the server remarks: {' / '.join(summary['remarks'])}")
    share, km = lost(summary)
    if share > LOST_SHARE:
        reasons = ", ".join(f"{length:.1f} km {reason}" for reason, length in km.items())
        found.append(f"{source}: {share:.0%} of the length that cars could drive on is not in the network: {reasons}")
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
