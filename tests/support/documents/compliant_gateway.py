"""The gateway of a namespace of which every part that NET-12 measures passes; the tests change one thing at a time.

Its objects are the operator's own, as an API server with a Deployment controller and nodes would have them.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.gateway.evidence import Read, gateway_of
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering, Wish
from claude_sandbox.backends.kubernetes.gateway.plan import desired
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import SLICE_MANAGER, SLICE_OF

Object = dict[str, Any]

IMAGE = "registry.example/operator@sha256:" + "e" * 64
GIVEN = Brokering(parse_image(IMAGE, "IfNotPresent"))
ADDRESS = "10.96.0.77"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nof the gateway\n-----END CERTIFICATE-----\n"
WISH = Wish("agents", frozenset({"anthropic"}), mounted=False, certificate="c" * 32)
HASH = "5f6d8c"


@dataclass
class Gateways:
    """What the operator's caches have of one gateway, for the tests to change."""

    wish: Wish
    objects: dict[str, Object]
    pods: list[Object]
    policies: list[Object]
    services: list[Object]
    slices: list[Object]
    grants: tuple[Grant, ...] | str = ()
    readable: frozenset[str] = frozenset({"anthropic"})
    given: Brokering = GIVEN
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the evidence, whatever the rest says."""

    @property
    def pod(self) -> Object:
        return self.pods[0]

    @property
    def container(self) -> Object:
        found: Object = self.pod["spec"]["containers"][0]
        return found

    def add_policy(self, **spec: Any) -> None:
        """Somebody else's policy, which selects all pods."""
        self.policies.append(
            {"metadata": {"name": "other", "namespace": "agents"}, "spec": {"podSelector": {}, **spec}}
        )

    def evidence(self) -> Gateway:
        """As the operator puts it together."""
        read = Read(tuple(self.pods), tuple(self.policies), tuple(self.services), tuple(self.slices), self.grants)
        found = gateway_of(self.wish, self.given, self.readable, self.objects, read, authority=AUTHORITY, minor=34)
        return replace(found, **self.changes)


def gateway(wish: Wish = WISH) -> Gateways:
    """Everything as it should be."""
    objects = {kind: copy.deepcopy(dict(one)) for kind, one in desired(wish, GIVEN).items()}
    for one in objects.values():
        one["metadata"] |= {"uid": f"u-{one['kind']}", "resourceVersion": "1", "generation": 1}
    objects["Service"]["spec"] |= {"clusterIP": ADDRESS, "clusterIPs": [ADDRESS]}
    objects["Deployment"]["status"] = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}
    template = objects["Deployment"]["spec"]["template"]
    labels = {SLICE_OF: meta.GATEWAY, SLICE_MANAGER: "endpointslice-controller.k8s.io"}
    return Gateways(
        wish=wish,
        objects=objects,
        pods=[_pod(template, name, f"10.0.0.{number}") for number, name in enumerate(("a", "b"), 1)],
        policies=[objects["NetworkPolicy"]],
        services=[objects["Service"]],
        slices=[
            {
                "metadata": {"name": f"{meta.GATEWAY}-x", "namespace": "agents", "labels": labels},
                "endpoints": [{"addresses": [f"10.0.0.{number}"]} for number in (1, 2)],
            }
        ],
    )


def _pod(template: Mapping[str, Any], name: str, address: str) -> Object:
    """As its ReplicaSet makes it, and a node runs it."""
    found: Object = copy.deepcopy(dict(template))
    found["metadata"] |= {
        "name": f"{meta.GATEWAY}-{HASH}-{name}",
        "namespace": "agents",
        "uid": f"u-{name}",
        "resourceVersion": "1",
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"{meta.GATEWAY}-{HASH}",
                "uid": "u-rs",
                "controller": True,
            }
        ],
    }
    found["metadata"]["labels"]["pod-template-hash"] = HASH
    found["spec"] |= {
        "nodeName": "node-1",
        "serviceAccount": meta.GATEWAY,
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    }
    found["status"] = {
        "phase": "Running",
        "podIPs": [{"ip": address}],
        "containerStatuses": [
            {"name": "gateway", "imageID": IMAGE, "user": {"linux": {"uid": 65532, "gid": 65532}}},
        ],
    }
    found["status"]["containerStatuses"][0]["user"]["linux"]["supplementalGroups"] = [65532]
    return found


Change = Callable[[Gateways], Any]
