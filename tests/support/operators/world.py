"""A namespace with a key in it, somebody who uses it, and an operator that looks after it."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gate import Gate
from invariants import violations
from ledger import CHILDREN, OF_GATEWAYS, Ledger, condition, says
from nursery import Nursery
from operator_process import OperatorProcess

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import ApiError

SECRET = "api-key"
KEY = b"sk-ant-not-a-real-key-0123456789"
NO_CLAIM = {"workspace": {"type": "EmptyDir"}}
BROKERED = {"credentials": {"apiKeySecretRef": {"name": SECRET}, "delivery": "Brokered"}}
WITH_GATEWAYS = "--gateway-image=example.org/operator@sha256:" + "b" * 64
"""The operator's option without which there are none."""
PORTS = {"network": {"ports": [{"name": "web", "containerPort": 8080}]}}


class World:
    """What one test works with. `api` is the user's way to the server, `gate` the operator's."""

    def __init__(self, api: Api, namespace: str, ledger: Ledger, gate: Gate, directory: Path, nursery: Nursery) -> None:
        self.api = api
        self.namespace = namespace
        self.ledger = ledger
        self.gate = gate
        self.directory = directory
        self.nursery = nursery
        self.expected_generation = ""
        """The Secret's version that a test waits for."""
        self.operators: list[OperatorProcess] = []
        ledger.trouble = self._trouble

    def operator(
        self,
        *options: str,
        gate: Gate | None = None,
        elect: bool = False,
        fork: bool = True,
        cluster_wide: bool = False,
    ) -> OperatorProcess:
        """An operator for this namespace, not started yet; with `fork` false it is started as a person would."""
        found = OperatorProcess(
            (gate or self.gate).kubeconfig(self.directory),
            self.directory / f"operator-{self.namespace}-{len(self.operators)}.log",
            *(() if cluster_wide else (f"--namespace={self.namespace}",)),
            *(() if elect else ("--no-leader-election",)),
            # A pod that tries takes a node on which programs run.
            "--pod-probe-interval=0",
            *options,
            nursery=self.nursery if fork else None,
        )
        found.on_end = self.ledger.wake
        self.operators.append(found)
        return found

    def _trouble(self) -> str:
        return ", ".join(f"{process.log.name} ended" for process in self.operators if process.failed)

    async def log_in(self, upstream: Credentials) -> None:
        """From now on the gate forwards with these credentials."""
        await self.gate.forward_as(upstream)

    # What users do

    async def add_secret(self, name: str = SECRET, kind: str = meta.SECRET_TYPE, **labels: str) -> Obj:
        """A Secret with a key."""
        body = {
            "metadata": {"name": name, "labels": labels},
            "type": kind,
            "data": {"api-key": base64.b64encode(KEY).decode()},
        }
        return await self.api.create(r.SECRETS, body, self.namespace)

    async def change_secret(self, value: bytes, name: str = SECRET) -> Obj:
        """Write another key into the Secret."""
        data = {"api-key": base64.b64encode(value).decode()}
        return await self.api.patch(r.SECRETS, name, self.namespace, {"data": data})

    async def create(self, name: str, secret: str = SECRET, **spec: Any) -> Obj:
        """A sandbox; without a claim, and without a gateway, unless the spec says so."""
        credentials = {"apiKeySecretRef": {"name": secret}, "delivery": "Mounted"}
        wanted = {"credentials": credentials} | NO_CLAIM | spec
        body = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": name}, "spec": wanted}
        return await self._seen(r.SANDBOXES, await self.api.create(r.SANDBOXES, body, self.namespace))

    async def edit(self, name: str, **spec: Any) -> Obj:
        """Merge into a sandbox's spec."""
        return await self.change(r.SANDBOXES, name, {"spec": spec})

    async def change(self, kind: r.Resource, name: str, patch: dict[str, Any]) -> Obj:
        """Merge into any object."""
        changed = await self.api.patch(kind, name, self.namespace, patch, field_manager="user")
        return await self._seen(kind, changed)

    async def _seen(self, kind: r.Resource, obj: Obj) -> Obj:
        """Wait until the ledger knows of a write, so that what it says is not of the time before."""
        await self.ledger.caught_up(kind, int(obj["metadata"]["resourceVersion"]))
        return obj

    async def delete(self, name: str, kind: r.Resource = r.SANDBOXES, *, missing_ok: bool = False) -> None:
        """Delete an object as kubectl does."""
        before = self.ledger.get(kind, name)
        try:
            await self.api.delete(kind, name, self.namespace)
        except ApiError as error:
            if not (missing_ok and error.is_not_found):
                raise
        if before is not None:
            await self.ledger.until(
                lambda: _replaced_or_going(before, self.ledger.get(kind, name)), f"the deletion of {kind.kind} {name}"
            )

    async def quota_is_counted(self, name: str) -> None:
        """Wait until a ResourceQuota is in force."""
        listing = await self.api.list(r.RESOURCE_QUOTAS, self.namespace)
        if any("hard" in quota.get("status", {}) for quota in listing.items):
            return
        watch = self.api.watch(r.RESOURCE_QUOTAS, self.namespace, resource_version=listing.resource_version)
        async with asyncio.timeout(30), aclosing(watch):
            async for event in watch:
                quota = event["object"]
                if quota["metadata"]["name"] == name and "hard" in quota.get("status", {}):
                    return

    # What is seen

    def sandbox(self, name: str) -> Obj | None:
        """The sandbox as last seen."""
        return self.ledger.get(r.SANDBOXES, name)

    def child(self, kind: r.Resource, name: str) -> Obj | None:
        """The sandbox's object of this kind."""
        suffix = "-workspace" if kind is r.PERSISTENT_VOLUME_CLAIMS else ""
        return self.ledger.get(kind, f"sandbox-{name}{suffix}")

    def heals(self, name: str) -> int:
        """How often the sandbox was healed, by its status."""
        return int((((self.sandbox(name) or {}).get("status") or {}).get("heals") or {}).get("count", 0))

    def is_ready(self, name: str) -> bool:
        """Whether the status says that all is done and the workload can be worked with."""
        found = self.sandbox(name)
        return says(found, "Ready", "True") and says(found, "Reconciling", "False")

    async def ready(self, name: str, patience: float = 60.0) -> Obj:
        """Wait until it is."""
        await self.ledger.until(lambda: self.is_ready(name), f"{name} Ready", patience)
        found = self.sandbox(name)
        assert found is not None
        return found

    async def said(self, name: str, kind: str, status: str, reason: str | None = None) -> dict[str, Any]:
        """Wait until a condition says this of the current generation; the condition."""
        what = f"{name} {kind}={status} {reason or ''}"
        await self.ledger.until(lambda: says(self.sandbox(name), kind, status, reason), what)
        return condition(self.sandbox(name), kind)

    async def healed(self, name: str, before: int) -> str:
        """Wait until the status counts a further heal; what it says of it."""
        await self.ledger.until(lambda: self.heals(name) > before, f"{name} healed after {before} times")
        return str(self.sandbox(name)["status"]["heals"]["last"]["what"])  # type: ignore[index]

    async def told(self, name: str, reason: str, part: str = "") -> Obj:
        """Wait for a Kubernetes Event about the sandbox."""

        def found() -> Obj | None:
            for event in self.ledger.all(r.EVENTS):
                about = event.get("regarding") or {}
                if (about.get("name"), event.get("reason")) == (name, reason) and part in event.get("note", ""):
                    return event
            return None

        event = await self.ledger.until(found, f"Event {reason} about {name} that says {part!r}")
        assert event is not None
        return event

    def leftovers(self, *, but: tuple[str, ...] = ()) -> list[str]:
        """Objects of sandboxes that are there."""
        return [
            f"{kind.kind} {obj['metadata']['name']}"
            for kind in (*CHILDREN, *OF_GATEWAYS)
            for obj in self.ledger.all(kind)
            if _ours(obj["metadata"]["name"]) and obj["metadata"]["name"] not in but
        ]

    def owned_by(self, name: str) -> list[str]:
        """Objects of a sandbox of this name that are there, the baseline and kept workspaces apart."""
        wanted = f"sandbox-{name}"
        return [
            f"{kind.kind} {wanted}"
            for kind in CHILDREN
            if kind is not r.PERSISTENT_VOLUME_CLAIMS and self.ledger.get(kind, wanted) is not None
        ]

    def all_gone(self, *, but: tuple[str, ...] = ()) -> bool:
        """Whether nothing of any sandbox is left."""
        return not self.ledger.all(r.SANDBOXES) and not self.leftovers(but=but)

    async def gone(self, *, but: tuple[str, ...] = ()) -> None:
        """Wait until nothing is."""
        await self.ledger.until(lambda: self.all_gone(but=but), f"nothing left but {but}")

    def versions(self, *, but: r.Resource = r.EVENTS) -> dict[str, str]:
        """The resource version of everything there is, Events and another kind apart."""
        return {
            f"{kind} {name}": obj["metadata"]["resourceVersion"]
            for (kind, name), obj in self.ledger.live.items()
            if kind not in (r.EVENTS.kind, but.kind)
        }

    def assert_always_isolated(self) -> None:
        """No instant of the history had a pod that might run without a policy of ours."""
        assert not (holes := self.ledger.holes()), f"the history has holes: {holes}"
        found = violations(self.ledger.history())
        assert not found, "\n".join(found[:10])

    # Waiting for the operator

    async def asked(self, condition_: Callable[[], bool], what: str, patience: float = 60.0) -> None:
        """Wait for a request of the operator."""
        try:
            async with asyncio.timeout(patience):
                while not condition_():
                    await self.gate.next_call()
        except TimeoutError:
            raise AssertionError(f"never came: {what}\n{self.ledger.describe()}") from None

    async def close(self) -> None:
        """End the operators."""
        for process in self.operators:
            process.thaw()
            await process.crash()


def _replaced_or_going(before: Obj, now: Obj | None) -> bool:
    if now is None or now["metadata"]["uid"] != before["metadata"]["uid"]:
        return True
    return "deletionTimestamp" in now["metadata"]


def _ours(name: str) -> bool:
    return name == meta.BASELINE_POLICY or name.startswith(("sandbox-", meta.GATEWAY))
