"""The credentials of sandboxes: from Secrets that the API server tells, or from files that the kubelet mounts.

Theory of operation: holds one `Found` for each key of a Secret that is wanted, and of no other; of a Secret nothing but
that key is kept. Each is got by its name, then watched by its name (`get` and `watch` with `resourceNames`), so a
change is here at once; where watching is not allowed it is got again and again. What is deleted, lost its opt-in, or
may not be read any more has no text from then on. An API server that does not answer changes nothing: without it no
sandbox would work, and a key can be taken away at the provider as well. `changed` is called, from the event loop, when
a `Found` became another one. A crash leaves nothing.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from claude_sandbox.gateway.config.cluster import GitSecret, SecretKey, ServiceSecret
from claude_sandbox.gateway.config.follow import INTERVAL, read_files, read_secret, secret_text
from claude_sandbox.gateway.destinations.scopes import SCOPE_KEY, scope_of, serves
from claude_sandbox.gateway.git.credentials.credential import (
    SECRET_KEYS,
    CredentialError,
    GitCredential,
    read_credential,
    read_scope,
)
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of
from claude_sandbox.gateway.kubernetes.contact import Contact
from claude_sandbox.gateway.kubernetes.declared import moment
from claude_sandbox.gateway.kubernetes.names import (
    GIT_SECRET_TYPE,
    LABEL_SECRET_OPT_IN_VALUE,
    SECRET_TYPE,
    SERVICE_SECRET_TYPE,
)
from claude_sandbox.gateway.services.declared import Unopened

Wanted = SecretKey | ServiceSecret | GitSecret
"""What may be followed: each by the use that the Secret has to have opted in to."""
MOST = 256
"""Keys of Secrets that are followed at a time: each has a connection."""
_WATCH_SECONDS = 300
"""Seconds after which a watch is ended and the Secret got anew, so that nothing is missed for longer."""
_USES = {GitSecret: GIT_SECRET_TYPE, ServiceSecret: SERVICE_SECRET_TYPE}


@dataclass(frozen=True)
class Found:
    """What there is. `text`: the credential, in no repr; None with `problem`, which says why, and in one word `why`.
    `generation`: the Secret's resourceVersion, where the API server told it; `changed`: when its data was written
    last, as far as that tells. `git`: of a Secret for git instead of a
    text, with the `scope` that it is for."""

    text: str | None = field(default=None, repr=False)
    generation: str | None = None
    problem: str = ""
    why: Unopened = Unopened.NOT_READ
    git: GitCredential | None = None
    scope: str = ""
    changed: datetime | None = None


class Credentials(Protocol):
    """Where credentials come from."""

    def want(self, keys: Iterable[Wanted]) -> None:
        """Follow these, and no others."""

    def get(self, key: Wanted) -> Found | None:
        """What there is; None where it was not looked at yet."""

    async def run(self) -> None:
        """Follow until cancelled."""


class WatchedSecrets:
    """See Credentials: by the API server."""

    def __init__(self, api: ApiServer, namespace: str, changed: Callable[[], None]) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._changed = changed
        self._found: dict[Wanted, Found] = {}
        self._tasks: dict[Wanted, asyncio.Task[None]] = {}
        self._broken = asyncio.Event()
        self._error: BaseException | None = None

    def want(self, keys: Iterable[Wanted]) -> None:
        """See Credentials."""
        # In one order, so that of too many always the same ones are left out, and none comes and goes.
        wanted = set(sorted(keys, key=repr)[:MOST])
        for key in set(self._tasks) - wanted:
            self._tasks.pop(key).cancel()
            self._found.pop(key, None)
        for key in wanted - set(self._tasks):
            self._tasks[key] = task = asyncio.create_task(self._follow(key))
            task.add_done_callback(self._ended)

    def get(self, key: Wanted) -> Found | None:
        """See Credentials."""
        if key not in self._tasks and len(self._tasks) >= MOST:
            return Found(problem=f"one gateway follows {MOST} keys of Secrets: share some among sandboxes")
        return self._found.get(key)

    async def run(self) -> None:
        """See Credentials."""
        try:
            await self._broken.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.want(())

    def _ended(self, task: asyncio.Task[None]) -> None:
        """One that ends by itself would go on with an old key: `run` ends with its error."""
        if not task.cancelled():
            self._error = task.exception()
            self._broken.set()

    async def _follow(self, key: Wanted) -> None:
        contact = Contact()
        while True:
            began = time.monotonic()
            try:
                await self._once(key, contact)
            except ApiServerError as error:
                wait = contact.failed(str(error))
                # An API server that was just started knows no roles yet, and refuses: it is believed the second time.
                if error.status == 403 and contact.failures > 1:
                    self._put(
                        key, Found(problem=f"the gateway may not read Secret {key.secret}: its Role has to name it")
                    )
                if key not in self._found and contact.failures > 1:
                    self._put(key, Found(problem=f"Secret {key.secret} can't be read: {error}"))
                await asyncio.sleep(wait)
            else:
                await asyncio.sleep(max(0.0, began + INTERVAL - time.monotonic()))

    async def _once(self, key: Wanted, contact: Contact) -> None:
        """Look at it, and watch it as long as the server goes on. Raises ApiServerError."""
        query = {"fieldSelector": f"metadata.name={key.secret}"}
        try:
            secret = await self._api.get(f"{self._path}/{quote(key.secret)}")
        except ApiServerError as error:
            if error.status != 404:
                raise
            # Without a version the watch begins with what there is by then.
            self._put(key, _missing(key))
        else:
            self._put(key, read(secret, key))
            query["resourceVersion"] = version_of(secret)
        contact.made()
        try:
            async with aclosing(self._api.watch(self._path, query, _WATCH_SECONDS)) as events:
                async for event in events:
                    if event["type"] == "DELETED":
                        self._put(key, _missing(key))
                    elif event["type"] in ("ADDED", "MODIFIED"):
                        self._put(key, read(event["object"], key))
        except ApiServerError as error:
            # Where only watching is not allowed, it is got again after INTERVAL.
            if error.status != 403:
                raise

    def _put(self, key: Wanted, found: Found) -> None:
        # One that nobody wants any more may still have had its answer on the way.
        if key in self._tasks and self._found.get(key) != found:
            self._found[key] = found
            self._changed()


class MountedSecrets:
    """See Credentials: by files, `DIRECTORY/SECRET/KEY`. Who mounts a Secret there says that sandboxes may use it."""

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._directory = directory
        self._changed = changed
        self._wanted: frozenset[Wanted] = frozenset()
        self._found: dict[Wanted, Found] = {}

    def want(self, keys: Iterable[Wanted]) -> None:
        """See Credentials."""
        self._wanted = frozenset(keys)
        self._look()

    def get(self, key: Wanted) -> Found | None:
        """See Credentials."""
        return self._found.get(key)

    async def run(self) -> None:
        """See Credentials."""
        while True:
            await asyncio.sleep(INTERVAL)
            if self._look():
                self._changed()

    def _look(self) -> bool:
        found = {key: self._read(key) for key in self._wanted}
        before, self._found = self._found, found
        return before != found

    def _read(self, key: Wanted) -> Found:
        directory = self._directory / key.secret
        if isinstance(key, GitSecret):
            data = read_files(directory, (SCOPE_KEY, *SECRET_KEYS))
            return of_git(key.secret, data) if data else Found(problem=f"Secret {key.secret} is not mounted")
        if isinstance(key, ServiceSecret) and not serves(scope_of(read_secret(directory / SCOPE_KEY) or ""), key.host):
            return _other_host(key)
        text = read_secret(directory / key.key)
        if not text:
            problem = f"Secret {key.secret} is not mounted, or has no good {key.key}"
            return Found(problem=problem, why=Unopened.NO_KEY)
        return Found(text)


def read(secret: Obj, key: Wanted) -> Found:
    """The credential in a Secret as the API server tells it, if it opted in."""
    version = version_of(secret)
    metadata: dict[str, Any] = secret["metadata"]
    # A fieldSelector is asked for, and not relied upon.
    if metadata.get("name") != key.secret or metadata.get("deletionTimestamp"):
        return _missing(key)
    labels = metadata.get("labels")
    # A Secret opts in to a use by its type, or by a label of the same name.
    use = _USES.get(type(key), SECRET_TYPE)
    by_label = isinstance(labels, dict) and labels.get(use) == LABEL_SECRET_OPT_IN_VALUE
    if not by_label and secret.get("type") != use:
        problem = f"Secret {key.secret} has not opted in to being used by sandboxes: give it the label {use}"
        return Found(problem=problem, why=Unopened.NOT_OPTED_IN)
    if isinstance(key, GitSecret):
        return of_git(key.secret, _decoded(secret.get("data")), version)
    if isinstance(key, ServiceSecret) and not serves(scope_of(_text(secret, SCOPE_KEY) or ""), key.host):
        return _other_host(key)
    text = _text(secret, key.key)
    if not text:
        return Found(problem=f"Secret {key.secret} has no good {key.key}", why=Unopened.NO_KEY)
    return Found(text, version, changed=_changed(secret))


def _changed(secret: Obj) -> datetime | None:
    """By who wrote any of its data; a manager may have written something else at that time, and so it is the latest."""
    metadata = secret.get("metadata")
    managed = metadata.get("managedFields") if isinstance(metadata, dict) else None
    wrote = (one for one in managed if isinstance(one, dict)) if isinstance(managed, list) else ()
    times = (moment(str(one.get("time"))) for one in wrote if "f:data" in (one.get("fieldsV1") or {}))
    return max(filter(None, times), default=None)


def _text(secret: Obj, key: str) -> str | None:
    data = secret.get("data")
    encoded = data.get(key) if isinstance(data, dict) else None
    try:
        return secret_text(base64.b64decode(encoded, validate=True)) if isinstance(encoded, str) else None
    except (binascii.Error, ValueError):
        return None


def _missing(key: Wanted) -> Found:
    return Found(problem=f"there is no Secret {key.secret}", why=Unopened.NO_SECRET)


def _other_host(key: ServiceSecret) -> Found:
    problem = f"Secret {key.secret} is not for {key.host}: its key {SCOPE_KEY} has to name the service that it is for"
    return Found(problem=problem, why=Unopened.OTHER_HOST)


def of_git(secret: str, data: Mapping[str, bytes], version: str | None = None) -> Found:
    """The credential for git in a Secret's data."""
    try:
        return Found(generation=version, git=read_credential(data), scope=read_scope(data))
    except CredentialError as error:
        return Found(problem=f"Secret {secret}: {error}")


def _decoded(data: Any) -> dict[str, bytes]:
    """What is there of the keys that are read."""
    found: dict[str, bytes] = {}
    for name in (SCOPE_KEY, *SECRET_KEYS):
        try:
            if isinstance(data, dict) and isinstance(data.get(name), str):
                found[name] = base64.b64decode(data[name], validate=True)
        except (binascii.Error, ValueError):
            continue
    return found
