"""The pod that probes, and whether a live one is it. Pure."""

from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.drift import pod_differences
from claude_sandbox.backends.kubernetes.hardening import RUNTIME_DEFAULT, hardened_container
from claude_sandbox.backends.kubernetes.ownership import is_owned, owner_reference
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, annotations, labels

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.probe.pod")
"""Isolated: neither the working directory nor a variable decides what is imported."""
DEADLINE = 90
"""Seconds after which the kubelet ends it."""
USER = 65532
NEVER = f"{meta.GROUP}/never"
"""A condition that nobody sets: without it the pod is not Ready."""
NETWORKS = ("k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network")
"""Annotations that choose the networks of a pod (Network Plumbing Working Group's de-facto standard)."""
_USERS = ("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy")
_SHARED = ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace")
_PROFILES = ("seccompProfile", "appArmorProfile")
_TAKEN = ("nodeName", "serviceAccountName", "runtimeClassName", "hostUsers", "tolerations")
"""Of the sandbox's pod, what decides where in the network it is, and whether it may be there."""


def document(
    identity: Identity, sandbox: Object, image: Image, name: str, question: str, meant: Object | None = None
) -> Manifest:
    """`sandbox`: its pod as it is; `meant`: the profiles that it is meant to be held to. The question is an argument:
    it holds no secret."""
    spec = sandbox["spec"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": identity.namespace,
            "labels": dict(labels(sandbox)),
            "ownerReferences": [owner_reference(identity)],
        },
        "spec": {
            **{key: spec[key] for key in _TAKEN if key in spec},
            **_spec_as(sandbox, image, question, meant or {}),
        },
    }


def _spec_as(sandbox: Object, image: Image, question: str, meant: Object) -> Manifest:
    """What runs, held to the profiles that the sandbox's pod has, where these are the runtime's own or the meant ones:
    any other may let everything pass."""
    found, theirs = confined_spec(image, question), _confinement(sandbox)
    kept = {
        key: value for key in _PROFILES if (value := theirs.get(key)) in (RUNTIME_DEFAULT, meant.get(key)) and value
    }
    return {**found, "securityContext": {**found["securityContext"], **kept}}


def confined_spec(image: Image, question: str) -> Manifest:
    """What runs, as confined as a sandbox is that asks for nothing, and nothing of where."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": DEADLINE,
        "terminationGracePeriodSeconds": 1,
        "readinessGates": [{"conditionType": NEVER}],
        # No name is looked up.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": RUNTIME_DEFAULT,
        },
        "containers": [_container(image, question)],
    }


def _container(image: Image, question: str) -> Manifest:
    amounts = {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "1Mi"}
    return {
        "name": "probe",
        "image": image.reference,
        "imagePullPolicy": image.pull_policy,
        "command": list(PROGRAM),
        "args": [question],
        "workingDir": "/",
        "resources": {"requests": amounts, "limits": {**amounts, "cpu": "500m"}},
        "securityContext": hardened_container(),
    }


def changed_on_admission(desired: Object, made: Object, sandbox: Object) -> str:
    """Why a pod that was just made does not stand for the sandbox's; empty where it does."""
    if labels(made) != labels(sandbox):
        return "the cluster's admission gives it other labels than the sandbox's pod has"
    if networks_of(made) != networks_of(sandbox):
        return "it is not on the networks that the sandbox's pod is on (annotations of their pods)"
    spec, twin = made.get("spec") or {}, sandbox.get("spec") or {}
    if any(spec.get(key) != twin.get(key) for key in _TAKEN if key != "tolerations"):
        return "the cluster's admission gives it another node, account or runtime than the sandbox's pod has"
    # Asked last: the three before say more clearly what is wrong.
    if differences := pod_differences(desired, made):
        return f"the cluster's admission changes it: {', '.join(sorted(differences)[:5])}"
    return ""


def unlike(made: Object, sandbox: Object) -> str:
    """Why what the kernel lets a probe do says nothing of the sandbox; empty where it does.

    What a pod's security context says of users and groups is left out: an unprivileged user is as good as another.
    A probe is never made less confined than it is, whatever the sandbox's pod says: it is a pod of the operator's.
    """
    twin, agent = _confinement(made), _confinement(sandbox)
    found = sorted(key for key in twin.keys() | agent.keys() if twin.get(key) != agent.get(key))
    return f"the sandbox's container is confined otherwise than a probe is ({', '.join(found)})" if found else ""


def _confinement(pod: Object) -> dict[str, Any]:
    """What the kernel goes by, of the pod's first container: its own word comes before the pod's."""
    spec = pod.get("spec") or {}
    containers = spec.get("containers") or [{}]
    of_pod, own = spec.get("securityContext") or {}, containers[0].get("securityContext") or {}
    context = {key: value for key, value in {**of_pod, **own}.items() if key not in _USERS and value is not None}
    context |= {key: spec[key] for key in _SHARED if spec.get(key)}
    return context


def networks_of(pod: Object) -> tuple[str, ...]:
    """What chooses the networks of a pod beside its labels."""
    return tuple(annotations(pod).get(key, "") for key in NETWORKS)


def touched(made: Object, ended: Object) -> str:
    """How a pod that has ended is not what was made; empty where it is."""
    if ended["metadata"]["uid"] != made["metadata"]["uid"]:
        return "another pod has its name"
    if labels(ended) != labels(made) or networks_of(ended) != networks_of(made):
        return "somebody changed its labels or annotations"
    if ended.get("spec") != made.get("spec"):
        return "somebody changed its spec"
    # The same spec at both looks does not say that it was so in between.
    if ended["metadata"].get("generation", 1) != made["metadata"].get("generation", 1):
        return "somebody changed its spec, and changed it back"
    statuses: list[Any] = (ended.get("status") or {}).get("containerStatuses") or []
    if len(statuses) != 1 or statuses[0].get("restartCount", 0):
        return "its container was restarted"
    return ""


def cut_short(ended: Object) -> str:
    """Why a node never began a pod, or ended it early (Evicted, OutOfpods, DeadlineExceeded, ...), in its kubelet's
    word; empty where it ended by itself. What else the status of such a pod says is by chance: of one that had begun
    there is an exit code, maybe a restart, and of others no container at all."""
    return str((ended.get("status") or {}).get("reason") or "")


def is_left(live: Object, identity: Identity) -> bool:
    """Whether a pod is what an operator left that ended in the middle of a probe, or looks so."""
    return str(live["metadata"]["name"]).startswith(meta.PROBE_PREFIX) and is_owned(live, identity)


def termination(ended: Object) -> tuple[int, str] | None:
    """The exit code and the message of a pod that has ended; None where its container did not run to its end."""
    statuses: list[Any] = (ended.get("status") or {}).get("containerStatuses") or []
    state = (statuses[0].get("state") or {}).get("terminated") if statuses else None
    if not state:
        return None
    return int(state.get("exitCode", 1)), str(state.get("message") or "")


def waits_for(live: Object | None) -> str:
    """Why a pod has not begun, as far as the kubelet tells; empty where it does not."""
    status = (live or {}).get("status") or {}
    for one in status.get("containerStatuses") or ():
        if reason := ((one.get("state") or {}).get("waiting") or {}).get("reason"):
            return str(reason)
    return ""
