"""A socket in front of an engine's: passes calls on, and can hold, refuse or cut each of them at a known moment."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CHUNK = 1 << 16
_VERSION = re.compile(r"^/v[0-9.]+")


class CutError(Exception):
    """Raised by a rule: the connection that the call came over is ended, without an answer."""


@dataclass(frozen=True)
class Call:
    """One request. `path` is without the API's version and without what comes after the question mark."""

    method: str
    path: str
    query: str
    body: bytes

    @property
    def changes(self) -> bool:
        """Whether it may change anything on the engine."""
        return self.method not in ("GET", "HEAD")

    @property
    def kind(self) -> str:
        """The call without what differs between two sandboxes, for people."""
        return f"{self.method} {re.sub(r'/(csb-[-a-z0-9]+|[0-9a-f]{12,64})(?=/|$)', '/…', self.path)}"


class Rule:
    """What is done about calls that may change something. Both are called in a thread of the connection's own."""

    def before(self, call: Call) -> None:
        """The engine has not heard of it yet."""

    def after(self, call: Call) -> None:
        """The engine has carried it out and begun to answer; nobody has heard the answer yet."""


class Relay:
    """Listens at `path` for as long as the block lasts, in front of the socket `upstream`."""

    def __init__(self, path: Path, upstream: Path, rule: Rule) -> None:
        self.path, self._upstream, self.rule = path, upstream, rule
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: set[_Link] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="engine-relay", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """End every connection there is now, in both directions; the engine goes on."""
        with self._lock:
            links = list(self._open)
        for link in links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), name="engine-relay-call", daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        link = _Link(near, far)
        with self._lock:
            self._open.add(link)
        try:
            far.connect(str(self._upstream))
            threading.Thread(target=link.answer, name="engine-relay-answer", daemon=True).start()
            while (read := link.read_call()) is not None:
                call, raw = read
                self._pass(link, call, raw)
                if call.path.endswith("/attach"):
                    link.pass_on()
                    return
        except (CutError, OSError):
            pass
        finally:
            link.close()
            with self._lock:
                self._open.discard(link)

    def _pass(self, link: "_Link", call: Call, raw: bytes) -> None:
        if not call.changes:
            link.far.sendall(raw)
            return
        self.rule.before(call)
        link.withhold()
        link.far.sendall(raw)
        link.answered.wait()
        if link.closed.is_set():
            raise CutError
        self.rule.after(call)
        link.deliver()


class _Link:
    """One connection of a client, and the one to the engine that stands for it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.answered = threading.Event()
        self.closed = threading.Event()
        self._may_deliver = threading.Event()
        self._may_deliver.set()
        self._buffer = b""

    def withhold(self) -> None:
        """Keep the next answer back."""
        self.answered.clear()
        self._may_deliver.clear()

    def deliver(self) -> None:
        self._may_deliver.set()

    def close(self) -> None:
        self.closed.set()
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.answered.set()
        self._may_deliver.set()

    def answer(self) -> None:
        """Pass the engine's answers on until either end is closed."""
        with contextlib.suppress(OSError):
            while data := self.far.recv(_CHUNK):
                self.answered.set()
                self._may_deliver.wait()
                self.near.sendall(data)
        self.close()

    def pass_on(self) -> None:
        """Pass on what is no HTTP any more."""
        if self._buffer:
            self.far.sendall(self._buffer)
        while data := self.near.recv(_CHUNK):
            self.far.sendall(data)

    def read_call(self) -> tuple[Call, bytes] | None:
        """The next request, taken apart and as it came; None at the end."""
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        first, _, rest = head.decode("latin-1").partition("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in rest.split("\r\n"))
        }
        body = self._exactly(int(headers.get("content-length", "0") or 0))
        path, _, query = target.partition("?")
        return Call(method, _VERSION.sub("", path), query, body), head + body

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            if not (data := self.near.recv(_CHUNK)):
                return None
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(end)
        return found + end

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            if not (data := self.near.recv(_CHUNK)):
                raise CutError
            self._buffer += data
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        return found
