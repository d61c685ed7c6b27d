"""Looks for a key's bytes, in every form that something might keep them in, in everything that could."""

import base64
import contextlib
import io
import json
import subprocess
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from claude_sandbox.localcluster.engine import EngineDescription


def forms(key: str) -> dict[str, bytes]:
    """The key as it is, and as it is commonly written; each without what depends on what it stands beside."""
    raw = key.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for shift in range(3):
        # 6 bits a letter: the first and the last letters hold bits of what stands before and after the key.
        whole = base64.b64encode(bytes(shift) + raw)
        first = -(-shift * 8 // 6)
        last = (shift + len(raw)) * 8 // 6
        part = whole[first:last]
        found[f"base64+{shift}"] = part
        found[f"base64url+{shift}"] = part.replace(b"+", b"-").replace(b"/", b"_")
    found["json"] = json.dumps(key)[1:-1].encode()
    # Go's encoder escapes what HTML would take for its own.
    escaped = json.dumps(key, ensure_ascii=False)[1:-1]
    for letter in "<>&":
        escaped = escaped.replace(letter, f"\\u{ord(letter):04x}")
    found["json-go"] = escaped.encode()
    found["json-twice"] = json.dumps(json.dumps(key))[3:-3].encode()
    found["repr"] = repr(key)[1:-1].encode()
    found["url"] = urllib.parse.quote(key, safe="").encode()
    return found


class Search:
    """For some keys at once. Everywhere, what was found is told as `where: form`, never the key."""

    def __init__(self, *keys: str) -> None:
        self._forms = {f"{name} of key {n}": form for n, key in enumerate(keys, 1) for name, form in forms(key).items()}

    def in_bytes(self, where: str, content: bytes) -> list[str]:
        return [f"{where}: {name}" for name, form in self._forms.items() if form in content]

    def in_document(self, where: str, document: Any) -> list[str]:
        """In what an API answered: as text of every kind, and each string of it as it is."""
        text = json.dumps(document, default=str, ensure_ascii=False).encode(errors="replace")
        return self.in_bytes(where, text + b"\n".join(s.encode(errors="replace") for s in _strings(document)))

    def in_files(self, *places: Path, within: tuple[str | Path, ...] = ()) -> list[str]:
        """In all files below these places, and in their names. `within`: a command to look from the inside of."""
        found = []
        with tempfile.NamedTemporaryFile("wb", prefix="forms-", dir="/dev/shm") as patterns:
            patterns.write(b"\n".join(self._forms.values()) + b"\n")
            patterns.flush()
            grep = [*within, "grep", "--recursive", "--text", "--files-with-matches", "--devices=skip",
                    "--fixed-strings", f"--file={patterns.name}"]  # fmt: skip
            done = subprocess.run([*map(str, grep), *map(str, places)], capture_output=True, check=False)
            found += [f"{path}: found" for path in done.stdout.decode(errors="replace").splitlines()]
            # What went meanwhile, and what can't be read by anyone.
            allowed = (b"No such file", b"No such device", b"Invalid argument", b"Permission denied")
            missed = [line for line in done.stderr.splitlines() if not any(one in line for one in allowed)]
            assert not missed, missed
        names = subprocess.run([*map(str, within), "find", *map(str, places)], capture_output=True, check=False)
        return found + self.in_bytes("the files' names", names.stdout)


def told(of: EngineDescription, sdk: docker.DockerClient) -> Iterator[tuple[str, Any]]:
    """All that an engine tells of everything that it has, with what it is."""
    api = sdk.api
    for summary in api.containers(all=True):
        name, one = str(summary["Names"]), summary["Id"]
        for what, ask in (
            ("inspect", lambda one=one: api.inspect_container(one)),
            ("diff", lambda one=one: api.diff(one)),
            ("logs", lambda one=one: api.logs(one, timestamps=True).decode(errors="replace")),
            ("top", lambda one=one: api.top(one)),
        ):
            # The helper's log driver keeps none; it may have gone meanwhile; what has ended has no processes.
            with contextlib.suppress(APIError):
                yield f"{what} of {name}", ask()
    for image in api.images(all=True):
        told = [ask(image["Id"]) for ask in (api.inspect_image, api.history)]  # type: ignore[no-untyped-call]
        yield f"image {image['RepoTags']}", told
    yield "networks", [api.inspect_network(one["Id"]) for one in api.networks()]
    yield "volumes", api.volumes()
    yield "info", [api.info(), api.version(), api.df()]
    yield "events", list(api.events(since=0, until=int(time.time()) + 1, decode=True))
    assert of


def layers(sdk: docker.DockerClient, but: Collection[str] = ()) -> Iterator[tuple[str, bytes]]:
    """All images as `docker save` writes them, each file of each layer; but for those of these identifiers."""
    for image in sdk.api.images():
        if image["Id"] in but:
            continue
        with tempfile.TemporaryFile() as saved:
            for chunk in sdk.api.get_image(image["Id"]):
                saved.write(chunk)
            saved.seek(0)
            yield from _of_archive(f"image {image['RepoTags']}", saved.read())


def _of_archive(where: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """An archive, and, in whichever way they are packed, the archives in it."""
    yield where, content
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.isreg() and (file := archive.extractfile(member)) is not None:
                    yield from _of_archive(f"{where} {member.name}", file.read())
    except tarfile.TarError:
        return


def processes(of: EngineDescription) -> Iterator[tuple[str, bytes]]:
    """The arguments and environments of all processes below the engine's control group."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if of.cgroup.encode() in path.read_bytes():
                yield str(path.parent), (path.parent / "cmdline").read_bytes() + (path.parent / "environ").read_bytes()
        except OSError:
            continue


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield str(key)
            yield from _strings(value)
    elif isinstance(document, Iterable) and not isinstance(document, bytes):
        for value in document:
            yield from _strings(value)
