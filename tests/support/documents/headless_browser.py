"""Chromium without a window, asked by its DevTools protocol: what a page does, and what it asks for.

`async with opened() as browser` starts a process with a profile of its own, and ends it. `browser.heard` holds what the
page did meanwhile: requests, messages on the console, exceptions, violations of its policy, and dialogs.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_EVENTS = {
    "Network.requestWillBeSent",
    "Runtime.exceptionThrown",
    "Runtime.consoleAPICalled",
    "Log.entryAdded",
    "Page.javascriptDialogOpening",
}
_KEYS = {"ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27, "Tab": 9}


class Browser:
    """One page. `heard`: the events of `_EVENTS`, in their order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.heard: list[tuple[str, Any]] = []

    async def listen(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif told["method"] in _EVENTS:
                self.heard.append((told["method"], told["params"]))

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of a method. Raises AssertionError where the browser refuses it."""
        self._number += 1
        self._answers[self._number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        told = await answer
        assert "error" not in told, told
        return told["result"]

    async def open(self, file: Path) -> None:
        """Open a file and wait until it is loaded and drawn."""
        self._loaded.clear()
        await self.call("Page.navigate", url=file.as_uri())
        await self._loaded.wait()
        await self.of("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")

    async def of(self, expression: str) -> Any:
        """The value of an expression in the page."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def press(self, key: str) -> None:
        """A key down and up."""
        text = {"text": "\r"} if key == "Enter" else {}
        told = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **told, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    async def size(self, width: int, height: int) -> None:
        """The window's, in pixels of CSS."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def scheme(self, name: str) -> None:
        """`light` or `dark`, as the user prefers."""
        feature = {"name": "prefers-color-scheme", "value": name}
        await self.call("Emulation.setEmulatedMedia", features=[feature])


@asynccontextmanager
async def opened() -> AsyncIterator[Browser]:
    """A browser with an empty page."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"),
            *(f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            port = await _port(process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    (target,) = [one for one in await answer.json() if one["type"] == "page"]
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    browser = Browser(socket)
                    listening = asyncio.create_task(browser.listen())
                    for domain in ("Page", "Runtime", "Network", "Log"):
                        await browser.call(f"{domain}.enable")
                    yield browser
                    listening.cancel()
        finally:
            process.terminate()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    """It says on its standard error where it listens."""
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"DevTools listening on "):
            # What it says later would fill the pipe.
            _drains.add(asyncio.create_task(_drain(process.stderr)))
            return int(line.split(b":")[2].split(b"/")[0])
    raise AssertionError("the browser ended before it listened")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


_drains: set[asyncio.Task[None]] = set()
