"""A headless Chromium, steered through its debugging port, for the tests of web pages."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What the program may be called."""
PATIENCE_S = 60.0
"""For a machine that draws WebGL without a GPU while it does other things."""
T = TypeVar("T")


def find_chromium() -> str | None:
    """The program, if one is installed."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


def wait_for(probe: Callable[[], T | None], what: str) -> T:
    """Ask until there is an answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"expected {what} within {PATIENCE_S:.0f} s")


class Page:
    """One tab."""

    def __init__(self, connection: Any) -> None:
        """Take over a tab's websocket."""
        self._connection, self._number = connection, 0

    def call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """A command of the DevTools protocol; events in between are passed over."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def javascript(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """What can be read on the page."""
        return self.javascript("document.body ? document.body.innerText : ''") or ""

    def click(self, button: str) -> None:
        """Press the button with a text on it."""
        self.javascript(f"[...document.querySelectorAll('button')].find(b => b.innerText.includes({button!r})).click()")

    def press_right(self) -> None:
        """The right arrow key, where the focus is."""
        for kind in ("keyDown", "keyUp"):
            key = {"type": kind, "key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
            self.call("Input.dispatchKeyEvent", key)

    def screenshot(self) -> np.ndarray:
        """Colours [h w 3], uint8."""
        png = base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@contextmanager
def open_page(url: str, folder: Path) -> Iterator[Page]:
    """A page of 1200 x 800 px; WebGL is drawn by the CPU."""
    program = find_chromium()
    assert program is not None
    options = ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
    options += ["--remote-debugging-port=0", "--window-size=1200,800", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        port_file = folder / "DevToolsActivePort"
        port = wait_for(lambda: port_file.read_text().split()[:1] if port_file.exists() else None, "a debugging port")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE_S) as answer:
            tab = next(tab for tab in json.load(answer) if tab["type"] == "page")
        connect = importlib.import_module("websockets.sync.client").connect
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as connection:
            page = Page(connection)
            page.call("Page.navigate", {"url": url})
            yield page
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
