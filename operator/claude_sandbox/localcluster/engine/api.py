"""The few questions that bringing an engine up asks of its API, over its Unix socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, BinaryIO

from claude_sandbox.localcluster.errors import LocalClusterError

# Seconds for one question; a healthy engine answers within milliseconds.
_PATIENCE = 5.0
# Seconds that an engine is given to take an image in.
_LOAD_PATIENCE = 300.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def listens(path: Path) -> bool:
    """Whether something accepts connections on the Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def answers(path: Path) -> bool:
    """Whether the engine answers that it is well."""
    try:
        return _ask(path, "GET", "/_ping")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def version(path: Path) -> dict[str, Any]:
    """The engine's account of itself. Raises LocalClusterError where it doesn't answer."""
    try:
        _, body = _ask(path, "GET", "/version")
    except (OSError, http.client.HTTPException) as error:
        raise LocalClusterError(
            f"The Docker Engine does not answer: {error}.", "See `claude-sandbox engine status`."
        ) from error
    document: dict[str, Any] = json.loads(body)
    return document


def load(path: Path, archive: BinaryIO) -> None:
    """Give the engine the images in an archive. Raises LocalClusterError with its words where it refuses them."""
    try:
        status, body = _ask(path, "POST", "/images/load?quiet=1", archive, _LOAD_PATIENCE)
    except (OSError, http.client.HTTPException) as error:
        raise LocalClusterError(
            f"The Docker Engine did not take the image: {error}.", "See `claude-sandbox engine status`."
        ) from error
    # What goes wrong on the way is told after the status, in the stream of progress.
    if status != http.client.OK or b'"errorDetail"' in body:
        raise LocalClusterError(
            f"The Docker Engine refused the image: {body.decode(errors='replace').strip()}",
            "See that its disk isn't full, and try again.",
        )


def _ask(
    path: Path, method: str, target: str, body: BinaryIO | None = None, patience: float = _PATIENCE
) -> tuple[int, bytes]:
    connection = _Connection(path, patience)
    try:
        headers = {} if body is None else {"Content-Type": "application/x-tar"}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
