"""What tenants write keeps the operator's event loop busy, and health, the lease and everybody else's sandboxes wait.

Every kind of object that is followed, in the worst shapes that were found: near the 1.5 MiB that an API server takes,
thousands of them, selectors with thousands of expressions, labels, annotations, field managers, owners, and changes as
fast as they come. One NetworkPolicy held the loop for seconds, a page of large objects for as long as it took to
decode 700 MB. Closed by pages of bounded size, by what is kept (a projection and a ration for each kind), by work in
small pieces, by bounds for what is judged, and by judging what is long in a thread, for a bounded time.

What is measured is the processor's time between two turns of the loop, so other processes have no part in it.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import loopmeter
import pytest
from answering_server import IMAGE, NAMESPACE, with_sandbox
from tenants_server import Tenants, serving

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.base import Outcome, Past
from claude_sandbox.backends.kubernetes.backend import KubernetesBackend
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.watches import secret_opt_in
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.compliance.evidence.pods import QUESTIONS
from claude_sandbox.kubernetes_api.client import Api

Json = dict[str, Any]

LIMIT = 50.0
"""Milliseconds of a processor for which nothing else may have the loop."""
LARGE = 1_400_000
"""Bytes, about: an API server takes 1.5 MiB."""
SANDBOX = with_sandbox()
LAST = "zz-last"


def _object(kind: str, name: str, **fields: Any) -> Json:
    metadata = {"name": name, "namespace": NAMESPACE} | fields.pop("metadata", {})
    return {"kind": kind, "metadata": metadata} | fields


def _policy(name: str, **spec: Any) -> Json:
    return _object("NetworkPolicy", name, spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **spec})


def _expressions(bytes_: int) -> Json:
    return {"matchExpressions": [{"key": f"k{n}", "operator": "DoesNotExist"} for n in range(bytes_ // 42)]}


def _labels(bytes_: int) -> dict[str, str]:
    return {f"example.com/label-{number}": "v" * 40 for number in range(bytes_ // 72)}


METADATA: dict[str, Json] = {
    "annotations": {"annotations": {f"a-{n}": "ж" * 20_000 for n in range(LARGE // 40_000)}},
    "labels": {"labels": _labels(LARGE)},
    "owners": {
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": f"u{n}"} for n in range(20_000)]
    },
    "sandboxes as owners": {
        "ownerReferences": [
            {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "name": f"x{n}", "uid": f"u{n}"} for n in range(15_000)
        ]
    },
    "managers": {
        "managedFields": [
            {"manager": f"m{n}", "operation": "Update", "fieldsV1": {f"f:{i}": {} for i in range(200)}}
            for n in range(600)
        ]
    },
    "finalizers": {"finalizers": [f"example.com/finalizer-{number}" for number in range(40_000)]},
}

Write = Callable[[Tenants], None]


def _policies(**spec: Any) -> Write:
    return lambda tenants: tenants.has("networkpolicies", _policy("nasty", **spec))


def _many(plural: str, count: int, make: Callable[[int], Json]) -> Write:
    return lambda tenants: tenants.has(plural, *(make(number) for number in range(count)))


def _own_pod(**changes: Any) -> Write:
    def write(tenants: Tenants) -> None:
        pod = SANDBOX.pods["sandbox-alice"]
        spec = {**pod["spec"], **changes.get("spec", {})}
        spec["containers"] = [{**spec["containers"][0], **changes.get("container", {})}]
        metadata = {**pod["metadata"], "labels": {**pod["metadata"]["labels"], **changes.get("labels", {})}}
        tenants.listed["pods"] = []
        tenants.has("pods", {**pod, "metadata": metadata, "spec": spec})

    return write


def _nested(depth: int) -> bytes:
    inside = '{"a":' * depth + "1" + "}" * depth
    metadata = f'{{"name":"nested","namespace":"{NAMESPACE}","uid":"u","resourceVersion":"7"}}'
    return f'{{"metadata":{metadata},"spec":{{"podSelector":{{}},"x":{inside}}}}}'.encode()


def _churn(tenants: Tenants) -> None:
    for number in range(2000):
        tenants.tells(
            "networkpolicies", "ADDED" if number == 0 else "MODIFIED", _policy("busy", ingress=[{}] * (number % 7))
        )
        tenants.tells(
            "services", "ADDED" if number == 0 else "MODIFIED", _object("Service", "busy", spec={"x": number})
        )


def _large_events(tenants: Tenants) -> None:
    for number in range(6):
        blocks = [{"ipBlock": {"cidr": f"10.{n >> 8 & 255}.{n & 255}.{number}/32"}} for n in range(30_000)]
        tenants.tells(
            "networkpolicies", "ADDED" if number == 0 else "MODIFIED", _policy("large", egress=[{"to": blocks}])
        )


def _slices(tenants: Tenants) -> None:
    endpoints = [{"addresses": ["10.1.1.1", f"10.2.{n >> 8}.{n & 255}"]} for n in range(1000)]
    target = {"kind": "Pod", "namespace": NAMESPACE, "name": "sandbox-alice"}
    for number in range(60):
        labels = {"kubernetes.io/service-name": f"s{number}"}
        one = _object("EndpointSlice", f"s{number}", metadata={"labels": labels}, endpoints=endpoints)
        one["endpoints"] = [*endpoints[1:], {"addresses": ["10.1.1.1"], "targetRef": target}]
        tenants.has("endpointslices", one)


def _excepting(count: int) -> list[Json]:
    excepted = [f"10.{n >> 8 & 255}.{n & 255}.0/24" for n in range(count)]
    return [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": excepted}}]}]


def _quota(number: int) -> Json:
    return _object("ResourceQuota", f"q{number}", spec={"hard": {f"r{i}": "1" for i in range(900)}})


def _role(number: int) -> Json:
    rules = [{"apiGroups": [""], "resources": [f"x{i}"], "verbs": ["get"]} for i in range(500)]
    return _object("Role", f"r{number}", rules=rules)


def _secret(number: int) -> Json:
    return _object("Secret", f"s{number}", metadata={"annotations": {"a": "ж" * 5000}})


WORST: dict[str, Write] = {
    "exceptions": _policies(
        egress=[
            {
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(60_000)]}}
                ]
            }
        ]
    ),
    "exceptions below the ration": _policies(
        egress=[
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(1900)]}}]}
        ]
    ),
    "selector": _policies(podSelector=_expressions(LARGE)),
    "selectors below the ration": _many(
        "networkpolicies", 60, lambda n: _policy(f"p{n}", podSelector=_expressions(120_000))
    ),
    "peers by selectors": _policies(ingress=[{"from": [{"podSelector": _expressions(100_000)}]}]),
    "ports": _policies(egress=[{"ports": [{"port": n % 65535 + 1} for n in range(100_000)]}]),
    "rules": _policies(ingress=[{}] * 400_000),
    "small policies": _many("networkpolicies", 10_000, lambda n: _policy(f"p{n}", egress=[{}])),
    "small policies of others": _many(
        "networkpolicies", 10_000, lambda n: _policy(f"p{n}", podSelector={"matchLabels": {"a": str(n)}})
    ),
    "Services": _many("services", 8000, lambda n: _object("Service", f"s{n}", spec={"selector": {"a": str(n)}})),
    "Services by selectors": _many(
        "services", 100, lambda n: _object("Service", f"s{n}", spec={"selector": _labels(80_000)})
    ),
    "large Services": _many("services", 12, lambda n: _object("Service", f"s{n}", spec={"selector": _labels(LARGE)})),
    "EndpointSlices": _slices,
    "quotas": _many("resourcequotas", 100, _quota),
    "bindings": _many(
        "rolebindings",
        100,
        lambda n: _object(
            "RoleBinding",
            f"b{n}",
            roleRef={"kind": "ClusterRole", "name": "admin"},
            subjects=[{"kind": "ServiceAccount", "name": f"a{i}", "namespace": NAMESPACE} for i in range(2000)],
        ),
    ),
    "roles": _many("roles", 40, _role),
    "Secrets": _many("secrets", 1500, _secret),
    "environment": _own_pod(container={"env": [{"name": f"E{n}", "value": "x"} for n in range(30_000)]}),
    "debug containers": _own_pod(spec={"ephemeralContainers": [{"name": f"d{n}", "image": "x"} for n in range(1500)]}),
    "tolerations": _own_pod(spec={"tolerations": [{"key": f"k{n}", "operator": "Exists"} for n in range(30_000)]}),
    "a pod's labels": _own_pod(labels=_labels(LARGE)),
    "labels below the ration": _own_pod(labels=_labels(100_000)),
    "deep nesting": lambda tenants: tenants.has("networkpolicies", _nested(800)),
    "changes": _churn,
    "large changes": _large_events,
}
_NAMES = {
    "networkpolicies": "NetworkPolicy",
    "serviceaccounts": "ServiceAccount",
    "endpointslices": "EndpointSlice",
    "namespaces": "Namespace",
}


def _with(plural: str, metadata: Json) -> Write:
    def make(number: int) -> Json:
        made = _object(_NAMES[plural], f"n{number}", metadata=metadata, spec={"podSelector": {}})
        if plural == "namespaces":
            del made["metadata"]["namespace"]
        return made

    return _many(plural, 3, make)


_ALWAYS = {
    *("exceptions", "exceptions below the ration", "selectors below the ration", "rules", "small policies"),
    *("EndpointSlices", "Secrets", "environment", "labels below the ration", "deep nesting", "large changes"),
}


def _cases() -> Iterator[Any]:
    """Those that were worst, and all others where there is time."""
    for what, write in WORST.items():
        yield pytest.param(write, id=what, marks=() if what in _ALWAYS else (pytest.mark.slow,))
    for plural in _NAMES:
        for what, metadata in METADATA.items():
            yield pytest.param(_with(plural, metadata), id=f"{what} of {plural}", marks=pytest.mark.slow)


def _tenants(write: Write) -> Tenants:
    tenants = Tenants()
    tenants.has("namespaces", {"metadata": {"name": NAMESPACE, "labels": {}}})
    tenants.has("networkpolicies", *SANDBOX.policies)
    tenants.has("serviceaccounts", *SANDBOX.accounts.values())
    pod = SANDBOX.pods["sandbox-alice"]
    pod["status"]["podIPs"] = [{"ip": "10.1.1.1"}]
    tenants.has("pods", pod)
    write(tenants)
    for plural in ("networkpolicies", "services", *tenants.listed):
        scope = {} if plural == "namespaces" else {"namespace": NAMESPACE}
        spec = {"spec": {"podSelector": {"matchLabels": {"none": "none"}}}}
        rest = {"roleRef": {"kind": "Role", "name": "x"}} if plural == "rolebindings" else spec
        tenants.tells(plural, "ADDED", {"metadata": {"name": LAST, **scope}, **rest})
    return tenants


@pytest.mark.parametrize("write", _cases())
async def test_nothing_that_a_tenant_writes_holds_the_loop(write: Write) -> None:
    spec = parse_spec(SANDBOX.sandboxes["alice"])
    blueprint = build(Identity(NAMESPACE, "alice", "u-1"), spec, Site(parse_image(IMAGE, "IfNotPresent")))
    tenants = _tenants(write)
    woken: list[str] = []
    key, past = (
        secret_opt_in.opted_in({"metadata": {"resourceVersion": "7"}}),
        Past(provisioned=False, ran=False, settled=True),
    )
    with serving(tenants) as credentials, loopmeter.measured() as slices:
        async with Api(credentials, attempts=1) as api:
            watches = Watches(
                api,
                (),
                secrets=True,
                wake=lambda *_: None,
                wake_soon=lambda *_: None,
                wake_all=woken.append,
                wake_users=lambda *_: None,
            )
            following = asyncio.create_task(watches.run())
            try:
                async with asyncio.timeout(120):
                    await watches.settled()
                    while not all(_heard(watches, plural) for plural in tenants.told):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                backend = KubernetesBackend(api, watches, AccessReviews(api, QUESTIONS), Pacer(), minor=34)
                for _ in range(2):
                    await backend.ensure(blueprint, key, spec, past)
                    await backend.state(blueprint.identity)
                    await _measured(backend, blueprint, spec)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    assert slices.milliseconds < LIMIT, f"{slices.milliseconds:.0f} ms: {slices.what}"


async def _measured(backend: KubernetesBackend, blueprint: Any, spec: Any) -> None:
    _, compliant, _ = await backend.measure(blueprint, spec, Outcome())
    assert compliant[0] in (ConditionStatus.FALSE, ConditionStatus.UNKNOWN)


def _heard(watches: Watches, plural: str) -> bool:
    return any(
        (NAMESPACE, LAST) in informer.store or ("", LAST) in informer.store
        for informer in watches
        if informer.resource.plural == plural
    )
