"""A registry with a tag that a sandbox follows, policies that let the operator ask it, and what the status says."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from image_registry import ImageRegistry
from kubelet import Kubelet
from signing import pem_of, sign
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api

OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CANARY = "sandbox-alice-canary"
"""Of the sandbox alice: its pod and its policy."""
CRASHES = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
HANGS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
ENDS = {"terminated": {"exitCode": 1, "reason": "Error"}}
BESIDE = {"strategy": "Auto", "maxAge": "0m", "healthGate": {"readyWithin": "8s", "stableFor": "1s"}}
AT_ONCE = {**BESIDE, "canary": "None"}


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry() as found:
        yield found


@pytest.fixture
async def policies(world: World, api: Api) -> AsyncIterator["Policies"]:
    made = Policies(world, api)
    yield made
    await made.remove()


class Policies:
    """The policy that is about one test's namespace alone."""

    def __init__(self, world: World, api: Api) -> None:
        self._world, self._api = world, api
        self.name = f"of-{world.namespace}"

    async def make(self, **spec: Any) -> None:
        chosen = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._world.namespace}}}
        body = {"apiVersion": meta.API_VERSION, "kind": meta.IMAGE_POLICY_KIND, "metadata": {"name": self.name}}
        await self._api.apply(r.IMAGE_POLICIES, {**body, "spec": chosen | spec})

    async def remove(self) -> None:
        if any(one["metadata"]["name"] == self.name for one in (await self._api.list(r.IMAGE_POLICIES)).items):
            await self._api.delete(r.IMAGE_POLICIES, self.name)


def signed_by(registry: ImageRegistry, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return {
        "permitted": [{"repository": registry.host, "publicKeys": [pem_of(key)]}],
        "registries": [{"host": registry.host, "plainHttp": True}],
    }


def image_of(world: World, name: str) -> str | None:
    pod = world.child(r.PODS, name)
    return None if pod is None else str(pod["spec"]["containers"][0]["image"])


class Tag:
    """The tag that a sandbox follows, and what the sandbox's status says of it."""

    def __init__(self, world: World, kubelet: Kubelet, registry: ImageRegistry) -> None:
        self.world, self.kubelet, self.registry = world, kubelet, registry

    def push(self, content: str, key: ec.EllipticCurvePrivateKey | None = OURS, state: Any = None) -> str:
        """Have the tag stand for another image, signed or not, whose containers end up in a state."""
        digest = self.registry.put("a", "1", content)
        if state is not None:
            self.kubelet.broken[digest] = state
        if key is not None:
            sign(self.registry, "a", digest, key)
        return digest

    @property
    def said(self) -> dict[str, Any]:
        return dict(((self.world.sandbox("alice") or {}).get("status") or {}).get("image") or {})

    async def comes_to(self, result: str, digest: str) -> dict[str, Any]:
        """Wait until the status says how the change to a digest ended; all that it says."""

        def ended() -> bool:
            last = self.said.get("last") or {}
            return (last.get("result"), last.get("to")) == (result, digest) and "rolling" not in self.said

        await self.world.ledger.until(ended, f"{digest} {result}", 120.0)
        return self.said

    async def runs(self, digest: str) -> None:
        """Wait until the workload is of this digest, and ready."""
        image = f"{self.registry.host}/a:1@{digest}"
        await self.world.ledger.until(
            lambda: image_of(self.world, "alice") == image and self.world.is_ready("alice"), f"{image} running", 120.0
        )

    async def is_told(self, digest: str, part: str) -> None:
        """Wait until the status says why a newer one is not taken."""

        def found() -> bool:
            told = self.said.get("available") or {}
            return told.get("digest") == digest and part in told.get("message", "")

        await self.world.ledger.until(found, f"{digest}: {part}", 120.0)
