"""A sumo-gui process, and what is drawn in its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relid_sumo.base.arrays import Floats
from relid_sumo.base.errors import SimulationError
from relid_sumo.sim.bridge import SumoBridge
from relid_sumo.viewer.screen import NO_DISPLAY, unanswered

# Colours by Okabe & Ito and by Tol: colour-blind readers can distinguish them, and they are visible on white.
COLOURS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0)),
    *((86, 180, 233), (136, 34, 85), (51, 34, 136), (153, 153, 51), (102, 17, 0)),
)
VIEW, SCHEME = "View #0", "relid_sumo"  # the name sumo-gui gives its view, and the name of the scheme in SETTINGS
CLEAR = (0, 0, 0, 0)

# Agents are selected, because selected vehicles keep their screen size when zoomed out. Fuller lanes are darker.
SETTINGS = """<viewsettings>
  <scheme name="relid_sumo">
    <opengl dither="0" fps="0"/>
    <background backgroundColor="white" showGrid="0"/>
    <edges laneEdgeMode="4" laneShowBorders="0" showLinkDecals="0" hideConnectors="1"
           widthExaggeration="{wider:.2f}" minSize="0">
      <colorScheme name="by current occupancy (lanewise, brutto)" interpolated="1">
        <entry color="205,210,216" threshold="0"/>
        <entry color="150,156,164" threshold="0.2"/>
        <entry color="110,116,124" threshold="0.5"/>
        <entry color="80,86,94" threshold="1"/>
      </colorScheme>
    </edges>
    <junctions drawShape="1" junction_minSize="0">
      <colorScheme name="uniform"><entry color="205,210,216"/></colorScheme>
    </junctions>
    <vehicles vehicleMode="0" vehicleQuality="1" vehicle_minSize="0" vehicle_exaggeration="{cars:.2f}"
              vehicle_constantSize="1" vehicle_constantSizeSelected="1" showBlinker="0">
      <colorScheme name="given vehicle/type/route color"><entry color="30,34,40"/></colorScheme>
    </vehicles>
    <pois poi_minSize="0" poi_exaggeration="4" poi_constantSize="1" poiName_show="0"
          poiText_show="0"
          poiType_show="1" poiType_size="{text:g}" poiType_color="black" poiType_bgColor="255,255,255,200"
          poiType_constantSize="1"/>
    <polys poly_minSize="0" poly_exaggeration="1" poly_constantSize="0" polyName_show="0" polyType_show="0"/>
    <legend showSizeLegend="1"/>
  </scheme>
</viewsettings>
"""


class Window(SumoBridge):
    """A sumo-gui process that draws lines, areas and marks with labels. Drawing does not change the traffic.

    Attributes
    ----------
    after
        Called with the present time, s, after each step.
    colours
        Colour of each agent.

    Raises
    ------
    InputError
        No X server answers at DISPLAY.
    """

    def __init__(self, options: Sequence[str], colours: dict[str, tuple[int, int, int]], **settings: Any) -> None:  # noqa: ANN401 - as SumoBridge
        self.after: Callable[[float], None] | None = None
        self.colours = colours
        self._marks: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        self._left: set[str] = set()
        try:
            super().__init__(options, **settings, program="sumo-gui")
        except SimulationError as error:
            if NO_DISPLAY not in str(error):
                raise
            raise unanswered() from None

    def show(self, low: Floats, high: Floats) -> None:
        """Show the network between two corners (x, y), m."""
        self.api.gui.setSchema(VIEW, SCHEME)
        self.api.gui.setBoundary(VIEW, *low.tolist(), *high.tolist())

    def follow(self, vehicle: str, width_m: float) -> None:
        """Keep a vehicle in the centre of a view of this width, m, until it leaves."""
        x, y = self.api.vehicle.getPosition(vehicle)
        self.api.gui.setBoundary(VIEW, x - width_m / 2, y - width_m / 2, x + width_m / 2, y + width_m / 2)

    def mark(
        self, name: str, x: float, y: float, label: str, colour: tuple[int, ...] = CLEAR, *, layer: int = 200
    ) -> None:
        """Draw a circle with a label, or change its label or place; a clear colour gives the label alone."""
        poi = self.api.poi
        if name not in self._marks:
            poi.add(name, x, y, colour if len(colour) == 4 else (*colour, 255), label, layer)
        else:
            if self._marks[name] != label:
                poi.setType(name, label)
            poi.setPosition(name, x, y)
        self._marks[name] = label

    def draw(
        self,
        name: str,
        points: Sequence[tuple[float, float]],
        colour: tuple[int, ...],
        *,
        width_m: float = 1.0,
        layer: int = 100,
        fill: bool = False,
    ) -> None:
        """Draw a line of a width, m, or a filled area; or change it."""
        if len(points) < 2:
            return
        if name in self._lines:
            self.api.polygon.setShape(name, points)
            self.api.polygon.setColor(name, colour)
            return
        self.api.polygon.add(name, points, colour, fill, "", layer, width_m)
        self._lines[name] = layer

    def erase(self, name: str) -> None:
        """Remove a line, an area or a mark, where there is one."""
        if name in self._lines:
            self.api.polygon.remove(name, self._lines.pop(name))
        if self._marks.pop(name, None) is not None:
            self.api.poi.remove(name)

    def picture(self, file: Path) -> None:
        """Write a picture of the view in the next step."""
        self.api.gui.screenshot(VIEW, str(file))

    def add(
        self, vehicle: str, route: Sequence[str], depart_s: float, *, rerouting: bool = False, kind: str = ""
    ) -> None:
        """See `Bridge.add`."""
        super().add(vehicle, route, depart_s, rerouting=rerouting, kind=kind)
        self.api.vehicle.setColor(vehicle, (*self.colours[vehicle], 255))
        self.api.gui.toggleSelection(vehicle)

    def step(self) -> float:
        """See `Bridge.step`."""
        now = super().step()
        self._left.update(self.api.simulation.getArrivedIDList())
        if self.after is not None:
            self.after(now)
        return now

    def has(self, vehicle: str) -> bool:
        """Return whether a vehicle that was inserted has not left yet."""
        return vehicle not in self._left

    def road(self, vehicle: str) -> str | None:
        """See `Bridge.road`. sumo-gui is not asked for an absent vehicle: it would print an error in its window."""
        return None if vehicle in self._left else super().road(vehicle)

    def speed_factor(self, vehicle: str) -> float:
        """See `Bridge.speed_factor`."""
        return 1.0 if vehicle in self._left else super().speed_factor(vehicle)

    def last_word(self) -> str:
        """Return SUMO's last error line, or "". Other lines may come from the window's libraries."""
        line = super().last_word()
        return line if line.startswith("Error:") or NO_DISPLAY in line else ""

    def exit_code(self) -> int | None:
        """Return the exit code of sumo-gui; None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End the process at once, from another thread too."""
        if self._process is not None:
            self._process.kill()
