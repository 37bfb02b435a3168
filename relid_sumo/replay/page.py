"""The replay as one HTML page. It opens offline and makes no request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

HERE = Path(__file__).parent
SCRIPTS = ("codec.js", "episode.js", "map.js", "panel.js", "timeline.js", "player.js")


def page(said: Mapping[str, Any], arrays: Mapping[str, Any], colours: list[str], version: str) -> str:
    """Return the page as HTML text.

    Parameters
    ----------
    said, arrays
        See `relid_sumo.replay.content.content`.
    colours
        CSS colours of the agents.
    """
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True)
    return environment.get_template("page.html").render(
        title=said["title"],
        version=version,
        styles=[Markup(_read("leaflet/leaflet.css")), Markup(_read("page.css"))],
        library=Markup(_library()),
        script=Markup("\n".join(map(_read, SCRIPTS))),
        data=Markup(_json({**said, "colours": colours})),
        arrays=Markup(_json(arrays)),
    )


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _library() -> str:
    """Return Leaflet with its licence, without the link to a source map, which the page does not have."""
    code, _, _ = _read("leaflet/leaflet.js").partition("//# sourceMappingURL")
    return f"/*\n{_read('leaflet/LICENSE')}*/\n{code}"


def _json(content: object) -> str:
    """Return JSON that cannot close the script element."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
