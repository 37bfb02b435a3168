"""A headless Chromium, controlled through chromedriver (W3C WebDriver): for tests of pages, and to measure them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

SWITCHES = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900"]


class Browser:
    """One tab."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}/session"
        options = {"args": SWITCHES}
        wanted = {"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}, "goog:chromeOptions": options}
        made = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/{made['sessionId']}"

    def _send(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def _cdp(self, command: str, **parameters: object) -> None:
        self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, address: str) -> None:
        """Open an address, as of a file (`Path.as_uri`)."""
        self._send("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Run the body of a function in the page and return its value, awaited if it is a promise."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def size(self, width: int, height: int) -> None:
        """Set the size of the page; below 600 pixels it is a phone."""
        phone = width < 600
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._cdp("Emulation.setTouchEmulationEnabled", enabled=phone)

    def scheme(self, name: str) -> None:
        """Prefer the colours ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self._cdp("Emulation.setEmulatedMedia", features=[feature])

    def press(self, keys: str) -> None:
        """Press keys one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Drag the mouse by a number of pixels; (0, 0) is a click."""
        end = start[0] + by[0], start[1] + by[1]
        move: dict[str, object] = {"type": "pointerMove", "duration": 20}
        actions = [
            {**move, "x": start[0], "y": start[1]},
            {"type": "pointerDown", "button": 0},
            {**move, "x": end[0], "y": end[1]},
            {"type": "pointerUp", "button": 0},
        ]
        self._send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return and clear a log: ``browser`` or ``performance``."""
        found: list[dict[str, Any]] = self._send("POST", "/se/log", {"type": kind})
        return found

    def picture(self) -> bytes:
        """Return a picture of the page as PNG."""
        return base64.b64decode(self._send("GET", "/screenshot"))

    def quit(self) -> None:
        """Close the browser."""
        self._send("DELETE", "")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Yield a new browser.

    Raises
    ------
    RuntimeError
        chromedriver does not start.
    """
    command = ["chromedriver", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        assert driver.stdout is not None
        said = ""
        try:
            for said in driver.stdout:
                if found := re.search(r"started successfully on port (\d+)", said):
                    break
            else:
                raise RuntimeError(f"chromedriver did not start: {said}")
            tab = Browser(int(found[1]))
            try:
                yield tab
            finally:
                tab.quit()
        finally:
            driver.terminate()
