"""The gate for images with policies, without an API server, and somebody who asks it for one sandbox."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from image_registry import ImageRegistry
from signing import pem_of

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.controller.images.gate import Admission, ImageGate
from claude_sandbox.controller.images.updates import NO_WORK
from claude_sandbox.controller.sandboxes.store import Key

OPERATOR = "registry.test/operator@sha256:" + "0" * 64
KEY = Key("agents", "alice")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class GatePlace:
    """A gate with policies, without an API server, and somebody who asks it."""

    def __init__(self, labels: dict[str, str] | None = None, operator: str = OPERATOR) -> None:
        self.woken = asyncio.Event()
        self.now, self.work = NOW, NO_WORK
        self.more: dict[str, Any] = {}
        """Fields of the spec beside."""
        self.others: list[dict[str, Any]] = []
        self.site = Site(parse_image(operator, "IfNotPresent"))
        self.gate = ImageGate(
            None,  # type: ignore[arg-type]  # the informer never runs
            lambda _namespace: labels,
            lambda: (KEY,),
            lambda _namespace: self.others,
            lambda _key: self.woken.set(),
            60.0,
        )
        self.gate._informer.settled.set()
        self.status: dict[str, Any] = {}

    def policy(self, name: str = "ours", **spec: Any) -> None:
        metadata = {"name": name, "uid": name, "generation": 1, "resourceVersion": "1"}
        self.gate._changed(None, {"metadata": metadata, "spec": spec})

    def ask(self, **image: Any) -> Admission:
        fields: dict[str, Any] = {"credentials": {"apiKeySecretRef": {"name": "key"}}}
        spec = ClaudeSandboxSpec.model_validate_json(
            json.dumps(fields | self.more | ({"image": image} if image else {}))
        )
        blueprint = build(Identity("agents", "alice", "u"), spec, self.site)
        raw = {"metadata": {"namespace": "agents", "name": "alice"}, "status": self.status}
        found = self.gate.admitted(raw, spec, blueprint, self.now, self.work)
        if found.status is not None:
            self.status = {"image": found.status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        return found

    async def told(self, **image: Any) -> Admission:
        """What comes of it when the registry was asked."""
        async with asyncio.timeout(120):
            while True:
                self.woken.clear()
                found = self.ask(**image)
                if not found.held or found.failure is not None:
                    return found
                await self.woken.wait()


def refused(found: Admission) -> str:
    assert found.held
    assert found.failure is not None
    assert (found.failure.reason, found.failure.permanent) == (Reason.IMAGE_NOT_ALLOWED, True)
    return found.failure.message


def wants_signatures(registry: ImageRegistry, *keys: ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    return {
        "permitted": [{"repository": registry.host, "publicKeys": [pem_of(key) for key in keys]}],
        "registries": [{"host": registry.host, "plainHttp": True}],
    } | more
