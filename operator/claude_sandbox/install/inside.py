"""What a program prints in a container."""

import struct
from collections.abc import Iterator

from docker import APIClient

_HEAD = struct.Struct(">BxxxL")
"""Which stream it is, and how long the piece that follows; Docker Engine API, "Attach to a container"."""


def run_inside(api: APIClient, container: str, *argv: str) -> tuple[int, str]:
    """The exit code, and what was printed to both streams. As the container's own user.

    The library's own way (`exec_start`) reads past what came in one packet with the head of the engine's answer, so
    that now and then the output of a short program is missing.
    """
    session = str(api.exec_create(container, list(argv))["Id"])
    url = f"{api.base_url}/v{api.api_version}/exec/{session}/start"
    answer = api.post(url, json={"Detach": False, "Tty": False})
    answer.raise_for_status()
    said = b"".join(_pieces(answer.content))
    return int(api.exec_inspect(session)["ExitCode"]), said.decode(errors="replace")


def _pieces(content: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        _, length = _HEAD.unpack_from(content, place)
        place += _HEAD.size
        yield content[place : place + length]
        place += length
