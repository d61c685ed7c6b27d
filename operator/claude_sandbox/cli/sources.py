"""Where ClaudeSandboxes are read that a command is about: the cluster, a file, or standard input."""

import asyncio
import codecs
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from claude_sandbox.api import meta
from claude_sandbox.cli.unreadable import UnreadableError, unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SANDBOX = re.compile(f"(?:{_LABEL}/)?{_LABEL}(?:\\.{_LABEL})*")
_WRITE_IT = f"Write it with: kubectl get {meta.PLURAL} --all-namespaces -o json > FILE"


@dataclass(frozen=True)
class Read:
    """ClaudeSandboxes, where they were read, and which they are, as a phrase."""

    documents: tuple[Mapping[str, Any], ...]
    origin: str
    scope: str
    hosts: tuple[Mapping[str, Any], ...] = ()
    """DockerHosts that are in the file as well."""


@dataclass(frozen=True)
class Wanted:
    """Names are NAMESPACE/NAME or NAME. Without any: all of `namespace`, or of the cluster where `everything`."""

    names: tuple[str, ...]
    namespace: str | None
    everything: bool
    kubeconfig: str | None
    context: str | None


@contextlib.asynccontextmanager
async def reading(wanted: Wanted) -> AsyncIterator[tuple[Api, Read]]:
    """What the API server has, and who may be asked for more. Raises UnreadableError."""
    try:
        credentials = await asyncio.to_thread(load, wanted.kubeconfig, wanted.context)
    except CredentialsError as error:
        raise UnreadableError(f"{error}.", "Name the cluster with --kubeconfig, or give a file.") from None
    async with Api(credentials) as api:
        if wanted.names:
            documents, scope = await _named(api, wanted, credentials.namespace), ", ".join(wanted.names)
        else:
            namespace = None if wanted.everything else wanted.namespace or credentials.namespace
            documents = await _listed(api, namespace)
            scope = "all namespaces" if namespace is None else f"namespace {namespace}"
        yield api, Read(tuple(documents), credentials.server, scope)


async def _named(api: Api, wanted: Wanted, namespace: str) -> list[dict[str, Any]]:
    found = []
    for full_name in dict.fromkeys(wanted.names):
        said, _, name = full_name.rpartition("/")
        place = said or wanted.namespace or namespace
        try:
            found.append(await api.get(SANDBOXES, name, place))
        except ApiError as error:
            right = f"get {meta.PLURAL} in namespace {place}"
            raise unread(error, f"ClaudeSandbox {place}/{name}", right) from None
    return found


async def _listed(api: Api, namespace: str | None) -> list[dict[str, Any]]:
    where = "all namespaces" if namespace is None else f"namespace {namespace}"
    try:
        return (await api.list(SANDBOXES, namespace)).items
    except ApiError as error:
        raise unread(error, f"The ClaudeSandboxes of {where}", f"list {meta.PLURAL} in {where}") from None


def file_among(sources: tuple[str, ...]) -> str | None:
    """The file that is named, if one is; what is a file here is no name. Raises click.UsageError."""
    files = [one for one in sources if one == "-" or Path(one).is_file() or not _SANDBOX.fullmatch(one)]
    if files and len(sources) > 1:
        raise click.UsageError(f"{files[0]!r} is a file or no name of a ClaudeSandbox: give one file, or only names")
    return files[0] if files else None


def check_usage(
    command: str, sources: tuple[str, ...], file: str | None, namespace: str | None, *, everything: bool
) -> None:
    """Raises click.UsageError where what is named and the options don't fit. `command`: as it is called."""
    if everything and namespace is not None:
        raise click.UsageError("--all-namespaces is every namespace: leave --namespace out")
    if everything and sources and file is None:
        raise click.UsageError("--all-namespaces is every sandbox: leave the names out")
    if file == "-" and sys.stdin.isatty():
        written = f"kubectl get {meta.PLURAL} -A -o json"
        raise click.UsageError(f"nothing is piped in: {written} | claude-sandbox {command} -")
    elsewhere = [one for one in sources if file is None and namespace and "/" in one and one.split("/")[0] != namespace]
    if elsewhere:
        raise click.UsageError(f"{elsewhere[0]!r} is not in namespace {namespace}")


def from_file(file: str, namespace: str | None) -> Read:
    """What `kubectl get claudesandboxes -o json` or `-o yaml` wrote; - is standard input. Raises UnreadableError."""
    called = "standard input" if file == "-" else file
    everything = _documents(text_of(file, called), called)
    found = [one for one in everything if one.get("kind") == meta.KIND]
    ours = f"{meta.GROUP}/"
    hosts = [one for one in everything if one.get("kind") == meta.HOST_KIND and _version(one).startswith(ours)]
    if not all(_version(one).startswith(ours) for one in found):
        raise UnreadableError(f"{called} has a {meta.KIND} that is not of {meta.GROUP}.", _WRITE_IT)
    if namespace is not None:
        found = [one for one in found if (one.get("metadata") or {}).get("namespace") == namespace]
    scope = "all in it" if namespace is None else f"namespace {namespace}"
    return Read(tuple(found), called, scope, tuple(hosts))


def _version(document: Mapping[str, Any]) -> str:
    return str(document.get("apiVersion"))


def text_of(file: str, called: str) -> str:
    """The text in a file, or in standard input for -. Raises UnreadableError."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UnreadableError(f"{called} can't be read: {error.strerror}.", _WRITE_IT) from None
    # PowerShell writes what is redirected to a file so.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError(f"{called} is not text.", _WRITE_IT) from None


def _documents(text: str, called: str) -> list[dict[str, Any]]:
    """Every object in it, those of lists as well."""
    try:
        parsed = [json.loads(text)] if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise UnreadableError(f"{called} is neither JSON nor YAML.", _WRITE_IT) from None
    objects = list(_objects(parsed))
    is_empty_list = not objects and any(isinstance(one, dict) and one.get("items") == [] for one in parsed)
    if not is_empty_list and not any(one.get("kind") == meta.KIND for one in objects):
        raise UnreadableError(f"{called} holds no {meta.KIND}.", _WRITE_IT)
    return objects


def _yaml(text: str) -> list[Any]:
    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _objects(documents: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for document in documents:
        if not isinstance(document, dict):
            continue
        items = document.get("items")
        if isinstance(items, list):
            yield from (one for one in items if isinstance(one, dict))
        else:
            yield document
