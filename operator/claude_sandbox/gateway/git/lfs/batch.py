"""The batch API of Git LFS: what a client asks for, and what the server answers. Pure.

A client names files by the SHA-256 of their content; the server answers with URLs and headers at which each is brought
or fetched, which are as good as a credential
(https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md). So neither goes to the client as it is: both messages
are written anew from what was read of them, and the client is named URLs of the gateway's own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.gateway.destinations.names import NotANameError, normalise

CONTENT_TYPE = "application/vnd.git-lfs+json"
MOST_REQUEST = 256 * 1024
MOST_ANSWER = 4 * 1024 * 1024
"""Bytes. Of a file the server tells some kilobytes; clients ask for 100 files at a time."""
MOST_OBJECTS = 1000
_OID = re.compile(r"[0-9a-f]{64}")
_MOST_SIZE = 1 << 50
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_URL = re.compile(r"[\x21-\x7e]{1,8192}")
# What belongs to a connection, or follows from the file: the gateway's own to say.
_OWN = frozenset(("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
                  "expect", "range", "accept-encoding", "content-encoding", "proxy-authorization"))  # fmt: skip
_EXPIRES = 600
"""Seconds for which a client may take the gateway's URLs for good; then it asks again, with its identity of then."""


class BatchError(ValueError):
    """A message is not of this API; the text says what of it."""


@dataclass(frozen=True)
class LargeFile:
    """By the SHA-256 of its content, in hex, and its size in bytes."""

    oid: str
    size: int


@dataclass(frozen=True)
class Batch:
    """What a client asks for. `ref`: the branch that it is for, if it says so."""

    upload: bool
    files: tuple[LargeFile, ...]
    ref: str | None = None


@dataclass(frozen=True)
class Action:
    """A request that the server names. Its URL may be signed: as much a secret as the headers."""

    url: str = field(repr=False)
    host: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answered:
    """What the server says of one file. No `transfer`: of an upload, that it has the file already."""

    file: LargeFile
    transfer: Action | None = None
    verify: Action | None = None
    error: tuple[int, str] | None = None


def read_request(body: bytes) -> Batch:
    """Raises BatchError."""
    found = _object(body)
    operation, transfers = found.get("operation"), found.get("transfers", ["basic"])
    if operation not in ("download", "upload"):
        raise BatchError("operation is neither download nor upload")
    if not isinstance(transfers, list) or (transfers and "basic" not in transfers):
        raise BatchError("no other transfer than basic is passed on")
    if found.get("hash_algo", "sha256") != "sha256":
        raise BatchError("files are named by their SHA-256")
    ref = found.get("ref")
    name = ref.get("name") if isinstance(ref, dict) else None
    return Batch(operation == "upload", _files(found), name if isinstance(name, str) else None)


def write_request(batch: Batch) -> bytes:
    """What the server is asked."""
    return _json(
        {
            "operation": "upload" if batch.upload else "download",
            "transfers": ["basic"],
            **({"ref": {"name": batch.ref}} if batch.ref is not None else {}),
            "objects": [{"oid": one.oid, "size": one.size} for one in batch.files],
            "hash_algo": "sha256",
        }
    )


def read_answer(batch: Batch, body: bytes) -> tuple[Answered, ...]:
    """What the server says of the files that were asked for, in their order. Raises BatchError."""
    found = _object(body)
    if found.get("transfer", "basic") not in ("basic", "") or not isinstance(found.get("objects"), list):
        raise BatchError("the server's answer is not of the basic transfer")
    said: dict[str, dict[str, Any]] = {}
    for one in found["objects"]:
        if isinstance(one, dict) and isinstance(one.get("oid"), str):
            # Of two answers about one file the first: the gateway asks for each file anew before it brings it.
            said.setdefault(one["oid"], one)
    return tuple(_answered(batch, one, said.get(one.oid)) for one in batch.files)


def write_answer(batch: Batch, answered: tuple[Answered, ...], base: str, authorization: str) -> bytes:
    """What the client is told: where each file is at the gateway, and to present itself there as it did here."""
    name = "upload" if batch.upload else "download"
    objects: list[dict[str, Any]] = []
    for one in answered:
        told: dict[str, Any] = {"oid": one.file.oid, "size": one.file.size}
        if one.error is not None:
            told["error"] = {"code": one.error[0], "message": one.error[1]}
        elif one.transfer is not None:
            href = f"{base}/objects/{one.file.oid}/{one.file.size}"
            action = {"href": href, "header": {"Authorization": authorization}, "expires_in": _EXPIRES}
            # Without that word a client looks for a credential of its own for the URL.
            told |= {"authenticated": True, "actions": {name: action}}
        objects.append(told)
    return _json({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})


def _files(found: Mapping[str, Any]) -> tuple[LargeFile, ...]:
    objects = found.get("objects")
    if not isinstance(objects, list) or not 0 < len(objects) <= MOST_OBJECTS:
        raise BatchError(f"objects are to be 1 to {MOST_OBJECTS}")
    files = []
    for one in objects:
        oid, size = (one.get("oid"), one.get("size")) if isinstance(one, dict) else (None, None)
        if not isinstance(oid, str) or not isinstance(size, int) or isinstance(size, bool):
            raise BatchError("an object has no oid or size")
        files.append(large_file(oid, size))
    return tuple(dict.fromkeys(files))


def large_file(oid: str, size: int) -> LargeFile:
    """Raises BatchError."""
    if not _OID.fullmatch(oid) or not 0 <= size <= _MOST_SIZE:
        raise BatchError("an object's oid is no SHA-256 in hex, or its size is none")
    return LargeFile(oid, size)


def _answered(batch: Batch, asked: LargeFile, said: Mapping[str, Any] | None) -> Answered:
    if said is None:
        return Answered(asked, error=(404, "the server says nothing of it"))
    error = said.get("error")
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        status = code if isinstance(code, int) and 400 <= code <= 599 else 422
        return Answered(asked, error=(status, _words(message) or "the server refuses it"))
    actions = said.get("actions")
    actions = actions if isinstance(actions, dict) else {}
    transfer = actions.get("upload" if batch.upload else "download")
    if transfer is None and not batch.upload:
        return Answered(asked, error=(404, "the server does not say where it is"))
    if transfer is None:
        return Answered(asked)
    verify = actions.get("verify") if batch.upload else None
    return Answered(asked, _action(transfer), None if verify is None else _action(verify))


def _action(said: Any) -> Action:
    url, headers = (said.get("href"), said.get("header") or {}) if isinstance(said, dict) else (None, None)
    if not isinstance(url, str) or not _URL.fullmatch(url) or not isinstance(headers, dict):
        raise BatchError("the server names no place that is one")
    try:
        parts = urlsplit(url)
        host, _ = normalise(parts.hostname or ""), parts.port
    except (NotANameError, ValueError):
        raise BatchError("the server names a place that is no name of a host") from None
    if parts.scheme != "https" or "@" in parts.netloc:
        raise BatchError("the server names a place without TLS, or with a user")
    kept = {}
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not isinstance(value, str) or not (value.isascii() and value.isprintable()):
            raise BatchError("the server names a header that is none")
        if name.lower() not in _OWN:
            kept[name.lower()] = value
    return Action(url, host, kept)


def _words(message: object) -> str:
    return "".join(one for one in message if one.isprintable())[:300] if isinstance(message, str) else ""


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BatchError("it is no JSON object")
    return found


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
