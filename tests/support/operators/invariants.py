"""What must hold at every instant of a history. Pure, and independent of the operator's own planning."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ledger import Event

BASELINE = "claude-sandbox-default-deny"
LABEL = "claudesandbox.dev/sandbox"
GATEWAY = "claude-sandbox-gateway"
BEFORE_A_POD = ("ServiceAccount", "NetworkPolicy", "Service", "Role", "RoleBinding", "Deployment")
"""What of a gateway has to be there before a pod that knows of it."""


def violations(history: Iterable[Event]) -> list[str]:
    """Every instant at which a pod was unprotected, or was made before what it needs."""
    live: dict[tuple[str, str], Mapping[str, Any]] = {}
    found: list[str] = []
    for event in history:
        key = (event.kind, event.name)
        if event.type == "DELETED":
            live.pop(key, None)
        else:
            live[key] = event.obj
        found += [f"after {event}: {problem}" for problem in _unprotected(live)]
        if event.kind == "Pod" and event.type == "ADDED" and event.name.startswith("sandbox-"):
            found += [f"at {event}: {problem}" for problem in _made_too_early(event.obj, live)]
        if event.kind == "Deployment" and event.type == "ADDED" and ("NetworkPolicy", GATEWAY) not in live:
            found.append(f"at {event}: the gateway was made without its policy")
    return found


def selects(policy: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the policy's pod selector matches the pod's labels, as the API defines it."""
    selector = policy["spec"].get("podSelector") or {}
    labels = pod["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(expression, labels) for expression in selector.get("matchExpressions") or ())


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or ()
    return {
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
    }[str(operator)]


def _unprotected(live: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[str]:
    policies = [obj for (kind, name), obj in live.items() if kind == "NetworkPolicy" and _ours(name)]
    for (kind, name), pod in live.items():
        if kind != "Pod" or not name.startswith("sandbox-") or not _may_run(pod):
            continue
        covered = {way for policy in policies if selects(policy, pod) for way in policy["spec"]["policyTypes"]}
        if covered != {"Ingress", "Egress"}:
            yield f"pod {name} may run and is isolated for {sorted(covered) or 'nothing'}"


def _may_run(pod: Mapping[str, Any]) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase == "Running" or bool(pod["spec"].get("nodeName") and phase not in ("Succeeded", "Failed"))


def _ours(name: str) -> bool:
    return name == BASELINE or name.startswith("sandbox-")


def _made_too_early(pod: Mapping[str, Any], live: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[str]:
    name = pod["metadata"]["name"]
    if ("NetworkPolicy", BASELINE) not in live:
        yield f"pod {name} was made without the baseline policy"
    sandbox = live.get(("ClaudeSandbox", name.removeprefix("sandbox-")))
    if sandbox is None or sandbox["metadata"]["uid"] not in {
        o["uid"] for o in pod["metadata"].get("ownerReferences", ())
    }:
        return  # it was deleted meanwhile, and the garbage collector may have been quicker than the operator
    account = live.get(("ServiceAccount", name))
    if account is None or account.get("automountServiceAccountToken") is not False:
        yield f"pod {name} was made without its ServiceAccount"
    if ("NetworkPolicy", name) not in live:
        yield f"pod {name} was made without its NetworkPolicy"
    if pod["spec"].get("hostAliases"):
        yield from (
            f"pod {name} was made without the gateway's {kind}" for kind in BEFORE_A_POD if (kind, GATEWAY) not in live
        )
    for volume in pod["spec"].get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and ("PersistentVolumeClaim", claim) not in live:
            yield f"pod {name} was made without its claim {claim}"
