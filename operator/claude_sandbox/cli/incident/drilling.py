"""Each incident once, on a sandbox of the drill's own, with somebody at work in it who gives nothing up.

Theory of operation. A `Scratch` is a ClaudeSandbox with a Secret of made-up text and, on Kubernetes, a NetworkPolicy
that allows its pod everything. While the drill lasts a program runs in it that ignores signals, writes without end, and
says a number twenty times a second: what it says is the sign of life, heard by another way than the operator's word.
All three objects go in the end, however that comes; an interrupted drill waits for it. A drill that is killed leaves
objects whose names begin with `drill-`.

What is measured is what whoever declares it sees: from the moment at which the request is sent until the status says
so. Evidence stays, as it is meant to.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.cli.incident.files import to_its_end
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import place_of
from claude_sandbox.cli.work.ways.sessions import Session
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, NETWORK_POLICIES, SANDBOXES, SECRETS, Resource

ATTACKER = """
trap '' TERM HUP INT
n=0
while :; do n=$((n+1)); echo $n; echo $n > /tmp/drill; sleep 0.05 || sleep 1; done
"""
"""For any POSIX shell."""
SETTLES = 1.0
"""Seconds that what was said before may still be on its way for, after it is said to be contained."""
LISTENS = 2.0
"""Seconds in which nothing may be heard any more."""
HEARD = 40
"""Signs of life before it is contained: two seconds of them, as of a sandbox that has been at work for a while.

A kubelet that has just dealt with a pod waits with its next step until it has asked its runtime for news again (its
PLEG does, once a second). A pod that became ready a moment before would be killed so much later.
"""
_LOOK = 0.02
_Live = Mapping[str, Any]


@dataclass
class Drilled:
    """What one drill found. `seconds` by what was waited for, in order; `got_out`: what should not have been."""

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    got_out: list[str] = field(default_factory=list)


@dataclass
class _Life:
    """What was heard of the program in the sandbox."""

    said: int = 0
    last: float | None = None

    async def heard(self, session: Session) -> None:
        """Until it says no more, or the way to it ends."""
        with contextlib.suppress(ApiError, WorkError):
            async for _, part in session.output():
                self.said += part.count(b"\n")
                self.last = time.monotonic()


class Scratch:
    """A sandbox of the drill's own. `spec`: beside the key, and what makes it small."""

    def __init__(self, api: Api, namespace: str, spec: _Live, patience: float) -> None:
        self.api, self.namespace, self.patience = api, namespace, patience
        self.name = f"drill-{secrets.token_hex(4)}"
        self._spec = spec

    async def make(self) -> None:
        """The objects. Raises WorkError."""
        await self._create(SECRETS, self._secret())
        if (self._spec.get("backend") or {}).get("type") != "Docker":
            selector = {"matchLabels": {meta.LABEL_SANDBOX: self.name}}
            rule = {"podSelector": selector, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
            await self._create(NETWORK_POLICIES, {"metadata": {"name": self.name}, "spec": rule})
        credentials = {"apiKeySecretRef": {"name": self.name}, **(self._spec.get("credentials") or {})}
        small = {"workspace": {"type": "EmptyDir", "size": "64Mi"}, "resources": {"cpu": "500m", "memory": "512Mi"}}
        spec = {**small, **self._spec, "credentials": credentials}
        await self._create(SANDBOXES, {"metadata": {"name": self.name}, "spec": spec})

    async def another_key(self) -> None:
        """Write another made-up key into the Secret."""
        await self._patch(SECRETS, self._secret())

    async def declare(self, incident: _Live | None) -> None:
        """Declare an incident, or lift it. Raises WorkError."""
        await self._patch(SANDBOXES, {"spec": {"incident": incident}})

    async def until(self, what: str, done: Callable[[_Live], bool]) -> _Live:
        """Wait until the sandbox is so. Raises WorkError."""
        ends = time.monotonic() + self.patience
        while True:
            live = await self.read()
            if done(live):
                return live
            if time.monotonic() > ends:
                raise WorkError(
                    f"The drill's ClaudeSandbox {self.namespace}/{self.name} is not {what} after {self.patience:.0f} s"
                    f": {_why(live)}",
                    "See the operator's log; a longer time is given by --timeout.",
                )
            await asyncio.sleep(_LOOK)

    async def read(self) -> _Live:
        """As it is now."""
        found: _Live = await self.api.get(SANDBOXES, self.name, self.namespace)
        return found

    async def remove(self) -> None:
        """All of it, as far as it is there."""
        with contextlib.suppress(ApiError, WorkError):
            await self.declare(None)
        for resource in (SANDBOXES, NETWORK_POLICIES, SECRETS):
            with contextlib.suppress(ApiError):
                await self.api.delete(resource, self.name, self.namespace)
        ends = time.monotonic() + self.patience
        with contextlib.suppress(ApiError):
            while time.monotonic() < ends:
                await self.read()
                await asyncio.sleep(0.1)

    def _secret(self) -> dict[str, Any]:
        text = f"no-key-of-anybody-{secrets.token_hex(8)}"
        return {"metadata": {"name": self.name}, "type": meta.SECRET_TYPE, "stringData": {"api-key": text}}

    async def _create(self, resource: Resource, body: dict[str, Any]) -> None:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        try:
            await self.api.create(resource, body, self.namespace)
        except ApiError as error:
            raise refused(error, f"The drill's {resource.kind}", f"create {resource.plural}", self.namespace) from None

    async def _patch(self, resource: Resource, body: _Live) -> None:
        try:
            await self.api.patch(resource, self.name, self.namespace, body)
        except ApiError as error:
            raise refused(error, f"The drill's {resource.kind}", f"patch {resource.plural}", self.namespace) from None


@contextlib.asynccontextmanager
async def scratch(api: Api, namespace: str, spec: _Live, patience: float) -> AsyncIterator[Scratch]:
    """A sandbox of the drill's own, which goes in the end. Raises WorkError."""
    made = Scratch(api, namespace, spec, patience)
    try:
        await made.make()
        yield made
    finally:
        await to_its_end(made.remove())


async def drill(api: Api, namespace: str, spec: _Live, where: Where | None, patience: float) -> Drilled:
    """Each incident of a sandbox; where None, with nobody at work in it. Raises WorkError."""
    async with scratch(api, namespace, spec, patience) as one:
        found = Drilled(f"{namespace}/{one.name}")
        begun = time.monotonic()
        await one.until("ready", ready)
        found.seconds["ready"] = time.monotonic() - begun
        await _key_compromised(one, found)
        await one.until("ready again", ready)
        await _quarantined(one, found, where)
    return found


async def drill_of_host(api: Api, namespace: str, spec: _Live, host: str, patience: float) -> Drilled:
    """A host that has no other sandbox is declared compromised, and that is lifted. Raises WorkError."""
    async with scratch(api, namespace, spec, patience) as one:
        found = Drilled(f"{namespace}/{one.name}")
        placed = await one.until("ready", ready)
        if _status(placed).get("placement", {}).get("host") != host:
            raise WorkError(f"The drill's sandbox is not on DockerHost {host}.", "Name the host that it may use.")
        live = await api.get(DOCKER_HOSTS, host)
        if (there := int((live.get("status") or {}).get("sandboxes") or 0)) > 1:
            raise WorkError(
                f"DockerHost {host} has {there - 1} other sandboxes, whose keys would be used no more.",
                "Drill on a host that has none.",
            )
        begun = time.monotonic()
        try:
            # Within: a request that is given up, for an interruption or for time, may be carried out all the same.
            await _declare_host(api, host, {"state": "HostCompromised", "note": "a drill"})
            await one.until("marked", lambda live: _reason(live, "Ready") == "HostCompromised")
            found.seconds["HostCompromised: its sandbox is marked"] = time.monotonic() - begun
            while not ((await api.get(DOCKER_HOSTS, host)).get("status") or {}).get("incident"):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)
            found.seconds["HostCompromised: what was there is listed"] = time.monotonic() - begun
        finally:
            await to_its_end(_declare_host(api, host, None))
        begun = time.monotonic()
        await one.until("ready again", ready)
        found.seconds["HostCompromised, lifted: ready"] = time.monotonic() - begun
    return found


async def _declare_host(api: Api, host: str, incident: _Live | None) -> None:
    try:
        await api.patch(DOCKER_HOSTS, host, None, {"spec": {"incident": incident}})
    except ApiError as error:
        raise refused(error, f"DockerHost {host}", f"patch {meta.HOST_PLURAL}", "") from None


async def _key_compromised(one: Scratch, found: Drilled) -> None:
    before = _requests(await one.read())
    begun = time.monotonic()
    await one.declare({"state": "KeyCompromised", "note": "a drill"})
    await one.until("without its key", lambda live: _reason(live, "CredentialsCurrent") == "KeyCompromised")
    found.seconds["KeyCompromised: used no more"] = time.monotonic() - begun
    if (taken := _requests(await one.read()) - before) > 0:
        found.got_out.append(f"{taken} requests with a key that was compromised")
    begun = time.monotonic()
    await one.another_key()
    await one.until("over it", lambda live: _reason(live, "CredentialsCurrent") != "KeyCompromised")
    found.seconds["KeyCompromised: over with another key"] = time.monotonic() - begun
    await one.declare(None)


async def _quarantined(one: Scratch, found: Drilled, where: Where | None) -> None:
    was = _status(await one.read()).get("workload", {}).get("uid")
    async with _at_work(one, where) as life:
        begun = time.monotonic()
        await one.declare({"state": "Quarantined", "note": "a drill"})
        live = await one.until("contained", lambda live: _told(live, "Contained") == "True")
        found.seconds["Quarantined: contained"] = time.monotonic() - begun
        if within := (_status(live).get("incident") or {}).get("containedWithin"):
            found.seconds["Quarantined: contained, by the operator"] = float(str(within).removesuffix("s"))
        if life is not None:
            await asyncio.sleep(SETTLES)
            heard = life.said
            await asyncio.sleep(LISTENS)
            if life.said > heard:
                found.got_out.append(f"{life.said - heard} signs of life after it was said to be contained")
            found.seconds["Quarantined: last sign of life"] = max(0.0, (life.last or begun) - begun)
    live = await one.until("at rest", lambda live: _told(live, "Reconciling") == "False")
    kept = (_status(live).get("incident") or {}).get("evidence") or {}
    found.notes.append(f"evidence stays in {kept['place']}" if kept else "no evidence was kept")
    begun = time.monotonic()
    await one.declare(None)
    live = await one.until("ready again", lambda live: ready(live) and not _status(live).get("incident"))
    found.seconds["Quarantined, lifted: another one is ready"] = time.monotonic() - begun
    if _status(live).get("workload", {}).get("uid") == was:
        found.got_out.append("what was in quarantine goes on")


@contextlib.asynccontextmanager
async def _at_work(one: Scratch, where: Where | None) -> AsyncIterator[_Life | None]:
    """Somebody at work in the sandbox, who is heard. Raises WorkError where nobody is."""
    if where is None:
        yield None
        return
    life = _Life()
    async with place_of((one.namespace, one.name), where) as (place, _):
        session = await place.run(["/bin/sh", "-c", ATTACKER])
        hearing = asyncio.create_task(life.heard(session))
        try:
            ends = time.monotonic() + one.patience
            while life.said < HEARD and time.monotonic() < ends and not hearing.done():  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)
            if life.said < HEARD:
                raise WorkError("Nothing runs in the drill's sandbox that could be contained.", "See its log.")
            yield life
        finally:
            hearing.cancel()
            with contextlib.suppress(ApiError, WorkError):
                await session.close()
            await asyncio.gather(hearing, return_exceptions=True)


def ready(live: _Live) -> bool:
    """Whether it can be worked with, by what its status says of its present spec."""
    current = _status(live).get("observedGeneration") == (live.get("metadata") or {}).get("generation")
    return current and _told(live, "Ready") == "True"


def _status(live: _Live) -> _Live:
    found = live.get("status")
    return found if isinstance(found, Mapping) else {}


def _condition(live: _Live, kind: str) -> _Live:
    return next((one for one in _status(live).get("conditions") or () if one.get("type") == kind), {})


def _told(live: _Live, kind: str) -> str:
    return str(_condition(live, kind).get("status"))


def _reason(live: _Live, kind: str) -> str:
    return str(_condition(live, kind).get("reason"))


def _why(live: _Live) -> str:
    return "; ".join(f"{kind} {_told(live, kind)} {_reason(live, kind)}" for kind in ("Ready", "Stalled", "Contained"))


def _requests(live: _Live) -> int:
    return int((_status(live).get("usage") or {}).get("requests") or 0)
