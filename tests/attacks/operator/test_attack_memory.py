"""What tenants write fills the operator's memory, until it is killed for everybody.

300 sandboxes with 256 KiB of annotations each, in letters that are not Latin, took 302 MiB; so would anybody's Services
and NetworkPolicies. Closed at the door: of each object what something reads is kept, by a projection declared for its
kind; the rest (specs, statuses, labels) is kept up to a ration for each namespace, and told beyond that.

Evidence of sandboxes in quarantine is what their agents wrote, too: eight at once on one host, each with a long log and
many sockets, took 2 GiB. Closed by what all evidence that is on its way may take together (`backends/containment.py`).
"""

import asyncio
import gc
import json
import os
import threading
import tracemalloc
from datetime import UTC, datetime
from typing import Any, cast

import loopmeter
import pytest
from kopf._cogs.clients.api import iter_jsonlines
from tenants_server import Tenants, serving

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.containment import Evidence, Packed
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.containment.quarantine import DockerQuarantine
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.kubernetes.containment import keeping
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.resync import list_all
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.controller.sandboxes.watch import WatchErrors, session_for
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informers.cache_limits import LIMITS, MIB, CacheLimit, CacheLimits
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS

Json = dict[str, Any]

QUARTER = "ж" * 131_072
"""256 KiB: as much as an API server takes of annotations."""
FOLLOWED = [one for one in PROJECTIONS if one is not r.SANDBOXES]


def _object(name: str, **fields: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "tenant"} | fields.pop("metadata", {})} | fields


def _sandbox(name: str, **spec: Any) -> Json:
    metadata = {"annotations": {"notes": QUARTER}, "generation": 1}
    return _object(name, metadata=metadata, spec={"credentials": {"apiKeySecretRef": {"name": "key"}}, **spec})


def test_every_kind_that_is_followed_has_a_projection() -> None:
    watches = Watches(
        None,  # nothing is asked
        (),
        secrets=True,
        gateways=True,
        wake=lambda *_: None,
        wake_soon=lambda *_: None,
        wake_all=lambda *_: None,
        wake_users=lambda *_: None,
    )
    everywhere = {r.CLUSTER_ROLES, r.CLUSTER_ROLE_BINDINGS}  # theirs is in rights.py
    assert {informer.resource for informer in watches} - everywhere == set(FOLLOWED)


@pytest.mark.parametrize("resource", [*FOLLOWED, r.SANDBOXES], ids=str)
def test_nothing_that_nobody_reads_is_kept(resource: r.Resource) -> None:
    junk = {"annotations": {"a": QUARTER}, "managedFields": [{"x": QUARTER}], "ownerReferences": [{"uid": QUARTER}]}
    one = _object("x", metadata=junk | {"uid": "u", "resourceVersion": "1", "selfLink": QUARTER}, extra=QUARTER)
    # What ConfigMaps that opted in say is read, as far as the limits of a namespace go.
    data = {} if resource is r.CONFIG_MAPS else {"data": {"k": QUARTER}}
    kept = PROJECTIONS[resource](one | {"apiVersion": "v1", "kind": "X"} | data)
    assert "ж" not in repr(kept)


async def test_annotations_of_300_sandboxes_and_of_what_others_write_take_nothing() -> None:
    tenants = Tenants()
    for number in range(300):
        tenants.has("claudesandboxes", _sandbox(f"s{number}"))
    for number in range(60):
        annotated = {"annotations": {"notes": QUARTER}}
        for plural in ("networkpolicies", "services", "endpointslices"):
            tenants.has(plural, _object(f"o{number}", metadata=annotated, spec={"podSelector": {}}))
    gc.collect()
    with serving(tenants) as credentials:
        tracemalloc.start()
        try:
            async with Api(credentials) as api:
                sandboxes = Sandboxes()
                sandboxes.replace(await list_all(api, ()))
                informers = [Informer(api, one) for one in (r.NETWORK_POLICIES, r.SERVICES, r.ENDPOINT_SLICES)]
                following = [asyncio.create_task(informer.run()) for informer in informers]
                await asyncio.gather(*(informer.synced.wait() for informer in informers))
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert len(sandboxes) == 300
    assert held < 8 * MIB, f"{held / MIB:.1f} MiB"


def test_a_namespace_has_a_ration_and_others_are_not_touched() -> None:
    sandboxes = Sandboxes()
    large = {"args": ["ж" * 4000] * 8, "env": [{"name": f"E{n}", "value": "ж" * 4000} for n in range(8)]}
    for number in range(400):
        one = _sandbox(f"s{number:03}", **large)
        one["metadata"] |= {"uid": f"u{number}", "resourceVersion": str(number + 1)}
        sandboxes.put(one)
    stubs = [key for key in sandboxes if OUTSIZE in (sandboxes.get(key) or {})]
    assert 0 < len(stubs) < 400
    assert {key.name for key in sandboxes} == {f"s{number:03}" for number in range(400)}
    kept = sum(len(repr(sandboxes.get(key)).encode()) for key in sandboxes)
    assert kept < 1.1 * LIMITS[r.SANDBOXES].namespace
    other = _sandbox("x", **large)
    other["metadata"] |= {"namespace": "other", "uid": "x", "resourceVersion": "900"}
    sandboxes.put(other)
    assert OUTSIZE not in (sandboxes.get(Key("other", "x")) or {})
    # There is room again: the next list brings back what was left out, although nothing of it has changed.
    again = _sandbox(stubs[0].name, **large)
    number = int(stubs[0].name[1:])
    again["metadata"] |= {"uid": f"u{number}", "resourceVersion": str(number + 1)}
    assert not sandboxes.put(again)
    for key in [key for key in sandboxes if key.namespace == "tenant" and key not in stubs][:20]:
        sandboxes.remove(key)
    assert sandboxes.put(again)
    assert OUTSIZE not in (sandboxes.get(stubs[0]) or {})


async def test_what_is_too_much_is_told() -> None:
    """The sandbox's status says what is wrong and what to do; nothing is made for it."""
    told: list[Json] = []

    class Reporter:
        async def write_status(self, raw: Any, patch: Any) -> Any:
            told.append(dict(patch))
            return {**raw, "status": patch}

        def tell(self, *_: Any, **__: Any) -> None: ...

        def observe(self, *_: Any) -> None: ...

    class Backend:
        async def state(self, _: Any) -> Any:
            from claude_sandbox.backends.kubernetes.state import state_of

            return state_of(None)

    sandboxes = Sandboxes()
    one = _sandbox("large", args=["x" * 600_000])
    one["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    sandboxes.put(one)
    reconciler = Reconciler(sandboxes, Backend(), Reporter(), Site(parse_image("x/y:1", "IfNotPresent")))  # type: ignore[arg-type]
    await reconciler(Key("tenant", "large"))
    [stalled] = [one for one in told[0]["conditions"] if one["type"] == "Stalled"]
    assert stalled["status"] == "True"
    assert "512 are kept of one" in stalled["message"]
    assert "make it smaller, or delete sandboxes" in stalled["message"]


@pytest.mark.parametrize("resource", FOLLOWED, ids=str)
def test_a_ration_of_each_kind_is_kept_and_given_back(resource: r.Resource) -> None:
    limits = CacheLimits(resource, CacheLimit(object=10_000, namespace=50_000))
    for number in range(100):
        one = _object(f"o{number}", apiVersion="v1", kind=resource.kind, spec={"x": "y" * 1000})
        limits.admit(one)
    assert limits.sum("tenant") < 90_000
    stub = limits.admit(_object("large", apiVersion="v1", kind=resource.kind, spec={"x": "y" * 20_000}))
    assert OUTSIZE in stub
    for number in range(100):
        limits.forget(("tenant", f"o{number}"))
    limits.forget(("tenant", "large"))
    assert limits.sum("tenant") == 0


async def test_what_kopf_is_handed_is_pruned_and_holds_no_loop() -> None:
    """Its session, read as kopf reads it: pages decoded at once, a watch by lines."""
    tenants = Tenants()
    for number in range(30):
        tenants.has("claudesandboxes", _sandbox(f"s{number}"))
        tenants.tells("claudesandboxes", "MODIFIED" if number else "ADDED", _sandbox("told", x=number))
    items: list[Json] = []
    events: list[Json] = []
    with serving(tenants) as credentials, loopmeter.measured() as slices:
        url = f"{credentials.server}{r.SANDBOXES.collection(None)}"
        async with session_for(credentials, WatchErrors()) as session:
            more: dict[str, str] = {}
            while more is not None:
                async with await session.request("GET", url, params={"limit": "500", **more}) as response:
                    page = await response.json()
                items += page["items"]
                token = page["metadata"].get("continue")
                more = {"continue": token} if token else None  # type: ignore[assignment]
            async with await session.request("GET", url, params={"watch": "true"}) as response:
                async for line in iter_jsonlines(response.content):
                    events.append(json.loads(line))
                    if len(events) == 30:
                        break
    assert [one["metadata"]["name"] for one in items] == [f"s{number}" for number in range(30)]
    assert [one["object"]["spec"]["x"] for one in events] == list(range(30))
    assert "ж" not in repr((items, events))
    assert slices.milliseconds < 50, f"{slices.milliseconds:.0f} ms: {slices.what}"


class Verbose:
    """An engine whose answers are as long as may be."""

    may_be_local = False

    def __init__(self, uid: str) -> None:
        told = {names.LABEL_COMPONENT: names.AGENT, names.LABEL_CLUSTER: "c", meta.LABEL_MANAGED_BY: meta.MANAGED_BY}
        told |= {meta.LABEL_SANDBOX_UID: uid, meta.LABEL_SANDBOX: "alice", names.LABEL_NAMESPACE: "agents"}
        self._live = {"Id": "1", "Names": ["/x"], "State": "paused", "Labels": told, "Config": {"Labels": told}}
        self.sent = 0

    async def containers(self, _labels: Any) -> list[Json]:
        return [self._live]

    async def container(self, name: str) -> Json | None:
        return self._live if name == "1" else None

    async def content(self, _path: str, _params: Any, most: int) -> bytes:
        await asyncio.sleep(0)
        return (b"\x01" + bytes(3) + (most - 8).to_bytes(4, "big")).ljust(most, b"x")

    async def events_of(self, _label: str, most: int = 1 << 20) -> bytes:
        return b"x" * most

    async def volume(self, _name: str) -> None:
        return None

    async def create_volume(self, volume: Json) -> Json:
        return volume

    async def create_container(self, *_: Any) -> str:
        return "2"

    async def put_archive(self, _identifier: str, _path: str, archive: bytes) -> None:
        self.sent = len(archive)
        await asyncio.sleep(0.05)


async def test_evidence_of_many_sandboxes_at_once_has_a_bound_together() -> None:
    engines = [Verbose(str(number)) for number in range(8)]
    quarantines = [
        DockerQuarantine(cast(Engine, one), "c", "h", Image("i", None, "Never"), 60.0, lambda: datetime.now(UTC))
        for one in engines
    ]
    tracemalloc.start()
    try:
        kept = await asyncio.gather(
            *(
                one.keep_evidence(Identity("agents", "alice", str(number)), datetime.now(UTC), {})
                for number, one in enumerate(quarantines)
            )
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Each is kept, the first ones more of it.
    assert [one for one in kept if isinstance(one, Failure)] == []
    assert max(one.sent for one in engines) > 16 * MIB
    assert min(one.sent for one in engines) > MIB // 2
    assert peak < 320 * MIB


async def test_a_log_that_can_not_be_compressed_is_packed_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    fitting = keeping.fitting

    def packed(what: Evidence, since: datetime) -> tuple[Packed, bytes]:
        threads.append(threading.current_thread())
        return fitting(what, since)

    monkeypatch.setattr(keeping, "fitting", packed)

    class Creates:
        async def create(self, _resource: Any, body: Json, _namespace: str) -> Json:
            return {"metadata": {"name": body["metadata"]["generateName"]}}

    log = Evidence({"agent/log": os.urandom(4 * MIB)})
    identity = Identity("agents", "alice", "1")
    await keeping.keep(cast(Api, Creates()), "operators", identity, log, datetime.now(UTC))
    assert threads
    assert threading.main_thread() not in threads
