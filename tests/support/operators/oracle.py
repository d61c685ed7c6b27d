"""What a sandbox's spec asks to be there, said again in a few lines and without the operator's code."""

from collections.abc import Iterator, Mapping
from typing import Any

from ledger import Ledger

from claude_sandbox.kubernetes_api import resources as r

ANTHROPIC = ["160.79.104.0/23", "2607:6bc0::/48"]


def complaints(ledger: Ledger, name: str) -> list[str]:
    """In what the objects of a running or suspended sandbox, whose key is there, are not what its spec asks for."""
    sandbox = ledger.get(r.SANDBOXES, name)
    if sandbox is None:
        return ["there is no sandbox"]
    return list(_complaints(ledger, sandbox))


def _complaints(ledger: Ledger, sandbox: Mapping[str, Any]) -> Iterator[str]:
    spec, uid, name = sandbox["spec"], sandbox["metadata"]["uid"], f"sandbox-{sandbox['metadata']['name']}"
    ports = [port["containerPort"] for port in spec.get("network", {}).get("ports") or ()]
    wants_claim = spec["workspace"]["type"] == "PersistentVolumeClaim"
    wants_pod = spec.get("operatingMode", "Running") == "Running"
    for kind, wanted in (
        (r.SERVICE_ACCOUNTS, True),
        (r.NETWORK_POLICIES, True),
        (r.SERVICES, bool(ports)),
        (r.PODS, wants_pod),
    ):
        obj = ledger.get(kind, name)
        if (obj is not None) != wanted:
            yield f"{kind.kind} {'is not' if wanted else 'is'} there"
        elif obj is not None and [owner["uid"] for owner in obj["metadata"].get("ownerReferences", ())] != [uid]:
            yield f"{kind.kind} is not the sandbox's own"
    if ledger.get(r.NETWORK_POLICIES, "claude-sandbox-default-deny") is None:
        yield "the baseline policy is not there"
    claim = ledger.get(r.PERSISTENT_VOLUME_CLAIMS, f"{name}-workspace")
    if wants_claim and claim is None:
        yield "the claim is not there"
    if claim is not None and wants_claim:
        deleted_with_it = spec["workspace"].get("retention", "Retain") == "Delete"
        if bool(claim["metadata"].get("ownerReferences")) != deleted_with_it:
            yield f"the claim is {'not ' if deleted_with_it else ''}deleted with the sandbox"
    policy, service, pod = (ledger.get(kind, name) for kind in (r.NETWORK_POLICIES, r.SERVICES, r.PODS))
    if policy is not None:
        yield from _of_policy(policy["spec"], spec, ports, sandbox["metadata"])
    if service is not None and [port["port"] for port in service["spec"]["ports"]] != ports:
        yield "the Service has other ports"
    if pod is not None and "deletionTimestamp" in pod["metadata"]:
        yield "the pod is terminating"


def _of_policy(
    policy: Mapping[str, Any], spec: Mapping[str, Any], ports: list[int], metadata: Mapping[str, Any]
) -> Iterator[str]:
    if sorted(policy["policyTypes"]) != ["Egress", "Ingress"]:
        yield "the policy does not deny both ways"
    labels = {"claudesandbox.dev/sandbox": metadata["name"], "claudesandbox.dev/sandbox-uid": metadata["uid"]}
    if policy["podSelector"] != {"matchLabels": labels}:
        yield "the policy selects other pods"
    allowed = [port["port"] for rule in policy.get("ingress") or () for port in rule.get("ports") or [{"port": "any"}]]
    if allowed != ports:
        yield f"the policy lets in to {allowed}"
    anywhere: dict[str, Any] = {"ipBlock": {"cidr": "anywhere"}}
    peers = [peer for rule in policy.get("egress") or () for peer in rule.get("to") or [anywhere]]
    cidrs = [peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer]
    by_gateway = spec.get("credentials", {}).get("delivery") == "Brokered"
    if cidrs != spec.get("network", {}).get("egress", {}).get("allowedCIDRs", [] if by_gateway else ANTHROPIC):
        yield f"the policy lets out to {cidrs}"
