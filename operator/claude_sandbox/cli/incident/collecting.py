"""An archive of evidence, fetched from where it is kept, and compared with what the sandbox's status says of it."""

import asyncio
import base64
import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import docker
import requests

from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.cli.incident.files import new_file
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import engine_of
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import CONFIG_MAPS

_PIECE = 1 << 20
_BESIDE = 4 << 20
"""Bytes that come beside a file at most: its headers, what fills up its last blocks, and what is read ahead."""


async def collected(api: Api, live: Mapping[str, Any], evidence: Mapping[str, Any], output: Path, where: Where) -> int:
    """How many bytes were written. Raises WorkError; then nothing is."""
    if not (live.get("status") or {}).get("placement"):
        return await _from_config_map(api, evidence, output)
    host = str(((live.get("status") or {}).get("placement") or {}).get("host") or "")
    what = f"{live['metadata']['namespace']}/{live['metadata']['name']}"
    place, expected = str(evidence.get("place")), str(evidence.get("sha256"))
    engine = await engine_of(api, what, host, where)
    try:
        size, digest = await asyncio.to_thread(_fetched, engine, place, output, int(evidence.get("size") or 0))
    except ConnectError as error:
        raise WorkError(
            f"{engine.endpoint}: {error}.",
            "Run this where the Docker host's engine can be reached, or name the engine with --host.",
        ) from None
    except (docker.errors.DockerException, requests.RequestException, tarfile.TarError) as error:
        raise WorkError(
            f"The evidence can't be read from {place}: {type(error).__name__}.", f"docker cp {place} . says why."
        ) from None
    if digest != expected:
        await asyncio.to_thread(output.unlink)
        raise _changed(place, digest, expected, "take the Docker host for compromised. docker cp gets what is there.")
    return size


async def _from_config_map(api: Api, evidence: Mapping[str, Any], output: Path) -> int:
    place, expected = str(evidence.get("place")), str(evidence.get("sha256"))
    where, _, file = place.partition(":")
    namespace, _, name = where.partition("/")
    try:
        kept = await api.get(CONFIG_MAPS, name, namespace)
    except ApiError as error:
        raise refused(error, f"ConfigMap {where}", "get configmaps", namespace) from None
    try:
        packed = base64.b64decode(str((kept.get("binaryData") or {}).get(file) or ""))
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as archive:
            content = archive.read(int(evidence.get("size") or 0) + 1)
    except (OSError, EOFError, ValueError, zlib.error):
        content = b""
    if (digest := hashlib.sha256(content).hexdigest()) != expected:
        raise _changed(place, digest, expected, f"see who may write ConfigMaps in namespace {namespace}.")
    return (await asyncio.to_thread(_written, io.BytesIO(content), output))[0]


def _changed(place: str, digest: str, expected: str, remedy: str) -> WorkError:
    return WorkError(
        f"What is kept in {place} is not what the sandbox's status says: its sha256 is {digest}, not {expected}.",
        f"Somebody changed it: {remedy}",
    )


def _fetched(engine: EngineAddress, place: str, output: Path, expected: int) -> tuple[int, str]:
    """Its size and its checksum. Blocks. Raises WorkError where it is not of the size that is expected."""
    container, _, path = place.partition(":")
    with connect(engine.address, engine.credentials) as connection:
        stream = _Pieces(_archive(connection, container, path), expected + _BESIDE)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as outer:
            member = outer.next()
            content = outer.extractfile(member) if member is not None and member.isreg() else None
            if content is None or member is None:
                raise tarfile.TarError("no file")
            # Before any of it is written: a host that may be compromised must not fill this machine's disk.
            if member.size != expected:
                raise WorkError(
                    f"What is kept in {place} is not what the sandbox's status says: it has {member.size} bytes, not"
                    f" {expected}.",
                    "Somebody changed it: take the Docker host for compromised. docker cp gets what is there.",
                )
            return _written(content, output)


def _archive(connection: Connection, container: str, path: str) -> Iterator[bytes]:
    pieces, _ = connection.api.get_archive(container, path, chunk_size=_PIECE)
    return iter(pieces)


def _written(content: IO[bytes], output: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with new_file(output) as file:
        while piece := content.read(_PIECE):
            digest.update(piece)
            size += file.write(piece)
    return size, digest.hexdigest()


class _Pieces:
    """What comes in pieces, to be read as a file of so many bytes at most.

    A header says how long it is itself, and is read as a whole: who sends it must not fill the memory.
    """

    def __init__(self, pieces: Iterator[bytes], most: int) -> None:
        self._pieces, self._rest, self._most = pieces, b"", most

    def read(self, size: int) -> bytes:
        """So many bytes, or what is left. Raises TarError where it is more than it may be."""
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
            self._most -= len(piece)
            if self._most < 0:
                raise tarfile.ReadError("more than one file of that size")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
