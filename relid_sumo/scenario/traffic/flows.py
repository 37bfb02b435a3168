"""Flows of a route file, written as single vehicles."""

from __future__ import annotations

import copy
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from relid_sumo.base import seeding
from relid_sumo.scenario.given.times import seconds

OF_FLOWS = ("begin", "end", "number", "period", "vehsPerHour", "perHour", "probability")
EXPONENTIAL = re.compile(r"exp\((.+)\)")


def unrolled(root: ET.Element, traffic_seed: int, end_s: float) -> ET.Element:
    """Return a route file in which flows are single vehicles with SUMO's names, up to the end of the episode.

    Departures of a flow are those of SUMO; those that it draws (``probability``, ``period="exp(...)"``) are drawn from
    the traffic seed with the same distribution.

    Parameters
    ----------
    root
        The root of the file; unchanged.
    """
    result = ET.Element(root.tag, root.attrib)
    for element in root:
        if element.tag == "flow":
            result.extend(_vehicles(element, {}, traffic_seed, end_s))
        elif element.tag == "interval":
            for flow in element.findall("flow"):
                result.extend(_vehicles(flow, element.attrib, traffic_seed, end_s))
        else:
            result.append(element)
    return result


def _vehicles(flow: ET.Element, interval: dict[str, str], traffic_seed: int, end_s: float) -> Iterator[ET.Element]:
    about = {**interval, **flow.attrib}
    own = {name: value for name, value in flow.attrib.items() if name not in OF_FLOWS}
    has_route = "route" in own or flow.find("route") is not None or flow.find("routeDistribution") is not None
    for k, depart_s in enumerate(departures(about, traffic_seed, end_s)):
        vehicle = ET.Element("vehicle" if has_route else "trip", own)
        vehicle.set("id", f"{own.get('id', '')}.{k}")
        vehicle.set("depart", f"{depart_s:.3f}")
        vehicle.extend(copy.deepcopy(list(flow)))
        yield vehicle


def departures(flow: dict[str, str], traffic_seed: int, end_s: float) -> Iterator[float]:
    """Yield the departures of a flow with these attributes, s, up to the end of the episode."""
    begin, end = seconds(flow.get("begin", "0")), seconds(flow.get("end", "inf"))
    most = float(flow.get("number", "inf"))
    draw = seeding.stream(traffic_seed, "flow", flow.get("id", ""))
    period = flow.get("period", "")
    per_hour = flow.get("vehsPerHour", flow.get("perHour", ""))
    if exponential := EXPONENTIAL.fullmatch(period):
        mean_s = 1.0 / float(exponential[1])
        at_s, made = begin + float(draw.exponential(mean_s)), 0
        while at_s < min(end, end_s) and made < most:
            yield at_s
            at_s, made = at_s + float(draw.exponential(mean_s)), made + 1
        return
    if "probability" in flow:
        share, made, second = float(flow["probability"]), 0, 0
        while begin + second < min(end, end_s) and made < most:
            if draw.random() < share:
                yield begin + second
                made += 1
            second += 1
        return
    if period:
        step = seconds(period)
    elif per_hour:
        step = 3600.0 / float(per_hour)
    else:
        step = (end - begin) / most
    if step <= 0 or not math.isfinite(step):
        return
    most = min(most, math.ceil(round((end - begin) / step, 6)) if math.isfinite(end) else math.inf)
    k = 0
    while k < most and begin + k * step < end_s:
        yield begin + k * step
        k += 1
