"""Chromium without a window, told what to do over a pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

_MOST_SECONDS = 120


class Browser:
    """One page of a browser.

    :param send: descriptor that takes messages
    :param receive: descriptor that gives them
    :ivar messages: what the page has complained about, such as a forbidden script
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send = send
        self._receive = receive
        self._left = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self._events: list[dict[str, Any]] = []
        self.messages: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self._call(f"{domain}.enable")

    def emulate(self, width: int, height: int, scheme: Literal["light", "dark"]) -> None:
        """Be a screen of so many pixels, whose owner prefers light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        self._events.clear()
        self._call("Page.navigate", url=url)
        self._wait("Page.loadEventFired")

    def click(self, selector: str) -> None:
        """Click at what leads to another page, and wait until that is there."""
        self._events.clear()
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
        self._wait("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write what the whole page looks like, as PNG."""
        data = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _wait(self, method: str) -> None:
        while not any(each.get("method") == method for each in self._events):
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            data = os.read(self._receive, 1 << 16)
            assert data, "the browser has ended"
            self._left += data
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Log.entryAdded":
            self.messages.append(message["params"]["entry"]["text"])
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run Chromium until the block ends, or skip the test.

    Where the environment has NEGSERVE_REQUIRE_BROWSER, the test fails instead.

    :param folder: for what it keeps
    """
    program = shutil.which("chromium")
    if program is None:
        say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_BROWSER") else pytest.skip
        say("there is no chromium: install Debian's package chromium")
    # Chromium reads from its descriptor 3, and writes to 4.
    its_read, send = os.pipe()
    receive, its_write = os.pipe()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{its_read} 4>&{its_write}', "bash", program, "--headless",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", f"--user-data-dir={folder}",
             "--remote-debugging-pipe", "about:blank"],
            pass_fds=(its_read, its_write), stderr=log, start_new_session=True,
        )  # fmt: skip
    os.close(its_read)
    os.close(its_write)

    def kill() -> None:
        """Kill all its processes, which are a group of their own."""
        os.killpg(process.pid, signal.SIGKILL)

    watchdog = threading.Timer(_MOST_SECONDS, kill)
    watchdog.start()
    try:
        yield Browser(send, receive)
    finally:
        watchdog.cancel()
        kill()
        process.wait(30)
        os.close(send)
        os.close(receive)
