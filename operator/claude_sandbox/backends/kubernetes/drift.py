"""In what a live object differs from the desired one. Pure.

Of a pod, a policy and a Service everything is compared: what is live may hold what is desired, the API server's known
defaults, and what only says where or when a pod runs. Anything else is a difference, also what nobody here has heard
of.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from claude_sandbox.api import meta, quantity
from claude_sandbox.kubernetes_api.unstructured import Object

# Below these keys Kubernetes writes quantities in its own canonical form.
_QUANTITY_KEYS = frozenset({"cpu", "memory", "ephemeral-storage", "storage", "sizeLimit"})

_ITEMS = re.compile(r"\[[^\]]*\]")

# Lists whose order doesn't matter, and the key of their entries.
_KEYED_LISTS = {
    "initContainers": "name",
    "containers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "env": "name",
}

_WITH_IMAGES = ("initContainers", "containers")

# Maps in which every key is a choice, so that one that was added is drift as well.
_EXACT = frozenset({"securityContext", "capabilities", "selector", "limits", "requests"})

# What is as good as nothing where nothing was asked for.
_NOTHING: tuple[Any, ...] = (None, "", False, 0, {}, [])

# What the API server writes where nothing was asked for (k8s.io/kubernetes, pkg/apis/core/v1/defaults.go).
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "spec.dnsPolicy": ("ClusterFirst",),
    "spec.containers.terminationMessagePath": ("/dev/termination-log",),
    "spec.containers.terminationMessagePolicy": ("File",),
    "spec.initContainers.terminationMessagePath": ("/dev/termination-log",),
    "spec.initContainers.terminationMessagePolicy": ("File",),
    "spec.initContainers.volumeMounts.recursiveReadOnly": ("Disabled",),
    "spec.containers.startupProbe.successThreshold": (1,),
    "spec.containers.readinessProbe.successThreshold": (1,),
    "spec.containers.livenessProbe.successThreshold": (1,),
    "spec.containers.volumeMounts.recursiveReadOnly": ("Disabled",),
    "spec.volumes.downwardAPI.items.fieldRef.apiVersion": ("v1",),
    # Of a Deployment and its pods.
    "spec.progressDeadlineSeconds": (600,),
    "spec.restartPolicy": ("Always",),
    "spec.containers.livenessProbe.initialDelaySeconds": (0,),
    "spec.volumes.projected.sources.downwardAPI.items.fieldRef.apiVersion": ("v1",),
    # Of a Service.
    "spec.internalTrafficPolicy": ("Cluster",),
    "spec.sessionAffinity": ("None",),
}
SCHEDULING = frozenset(
    {
        *("nodeName", "nodeSelector", "affinity", "topologySpreadConstraints", "tolerations", "schedulerName"),
        *("schedulingGates", "readinessGates", "priority", "priorityClassName", "preemptionPolicy"),
        *("imagePullSecrets", "runtimeClassName", "overhead"),
    }
)
"""Of a pod's spec, what scheduler, ServiceAccount and admission plugins may fill in: where, when and by what runtime
the pod runs. None of it changes what runs or what it can reach; the controls judge a RuntimeClass."""
# What the API server allots to a Service.
_ALLOTTED = frozenset({"spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"})


def account_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a ServiceAccount."""
    token = "automountServiceAccountToken"
    return (*metadata_differences(desired, live), *differences(desired[token], live.get(token), token))


def policy_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a NetworkPolicy, whose every field can widen it."""
    wanted, actual = _without_empty(desired["spec"]), _without_empty(live.get("spec", {}))
    changed = (key for key in sorted({*wanted, *actual}) if wanted.get(key) != actual.get(key))
    return (*metadata_differences(desired, live), *(f"spec.{key}" for key in changed))


def service_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a Service."""
    spec = live.get("spec", {})
    found = list(whole(desired["spec"], spec, "spec", _ALLOTTED))
    # The type was asked for, and without an address it is another thing: a name of the pod's own address.
    if spec.get("clusterIP") == "None":
        found.append("spec.clusterIP")
    return (*metadata_differences(desired, live), *found)


def role_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a Role: what is granted is just what is meant."""
    same = desired["rules"] == (live.get("rules") or [])
    return (*metadata_differences(desired, live), *(() if same else ("rules",)))


def binding_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a RoleBinding: to whom, and which role, which can't be changed."""
    wanted = [_subject(one) for one in desired["subjects"]]
    subjects = () if wanted == [_subject(one) for one in live.get("subjects") or ()] else ("subjects",)
    role = () if desired["roleRef"] == live.get("roleRef") else ("roleRef",)
    return (*metadata_differences(desired, live), *subjects, *role)


def budget_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a PodDisruptionBudget."""
    return (*metadata_differences(desired, live), *whole(desired["spec"], live.get("spec") or {}, "spec"))


def deployment_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a Deployment, its pods' template included. Annotations of others there restart its pods, and nothing else."""
    wanted, spec = dict(desired["spec"]), dict(live.get("spec") or {})
    template, found = wanted.pop("template"), spec.pop("template", None) or {}
    labels = whole(template["metadata"]["labels"], (found.get("metadata") or {}).get("labels") or {}, "labels")
    notes = differences(
        template["metadata"]["annotations"], (found.get("metadata") or {}).get("annotations"), "annotations"
    )
    return (
        *metadata_differences(desired, live),
        *whole(wanted, spec, "spec"),
        *(f"spec.template.metadata.{path}" for path in (*labels, *notes)),
        *(f"spec.template.{path}" for path in pod_differences(template, found)),
    )


def claim_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a PersistentVolumeClaim: of its spec only the size can ever be changed."""
    size = ("spec", "resources", "requests", "storage")
    wanted, actual = desired, live
    for key in size:
        wanted, actual = wanted[key], (actual or {}).get(key, {})
    # Of a claim that is to outlive its sandbox: with that owner it would be deleted along.
    owners = () if "ownerReferences" in desired["metadata"] else _foreign_owners(live)
    return (*metadata_differences(desired, live), *differences(wanted, actual, ".".join(size)), *owners)


def pod_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """What makes the live pod another than the desired one, and only a new pod could mend.

    Labels and annotations can be put back in place and are left out.
    """
    spec, wanted = live.get("spec", {}), desired["spec"]
    filled = {f"spec.{key}" for key in SCHEDULING - wanted.keys()}
    if spec.get("serviceAccount") == wanted.get("serviceAccountName"):
        # The same under its name of old.
        filled.add("spec.serviceAccount")
    if "supplementalGroupsPolicy" not in (spec.get("securityContext") or {}):
        # API servers before 1.33 drop it; the groups that the node tells of are judged in any case (PRIV-05).
        filled.add("spec.securityContext.supplementalGroupsPolicy")
    if _always_pulls(wanted, spec):
        filled |= {f"spec.{kind}.imagePullPolicy" for kind in _WITH_IMAGES} | {"spec.volumes.image.pullPolicy"}
    filled |= {f"spec.{kind}.image" for kind in _WITH_IMAGES if _same_digest(wanted, spec, kind)}
    return tuple(whole(wanted, spec, "spec", frozenset(filled)))


def remade_differences(made: Object, live: Object) -> tuple[str, ...]:
    """In what a live pod differs from what the API server makes of ours now, but for the node it was given."""
    found = [*_exact(made["spec"], live.get("spec", {}), "spec", frozenset({"spec.nodeName"}))]
    for part in ("labels", "annotations", "ownerReferences", "finalizers"):
        found += _exact(made["metadata"].get(part) or (), live["metadata"].get(part) or (), f"metadata.{part}")
    return tuple(found)


def metadata_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Labels, annotations and owners of ours that are missing or changed."""
    wanted, actual = desired["metadata"], live["metadata"]
    return tuple(
        path
        for part in ("labels", "annotations", "ownerReferences")
        if part in wanted
        for path in differences(wanted[part], actual.get(part), f"metadata.{part}")
        if not path.endswith(meta.ANNOTATION_SPEC_HASH)
    )


def differences(desired: Any, live: Any, path: str) -> Iterator[str]:
    """The paths in which `live` is not what is desired, in a stable order."""
    # Nearly everything is as it should be, and an interpreter compares it a hundred times as fast as this walk.
    if desired == live:
        return
    if isinstance(desired, Mapping):
        yield from _in_mapping(desired, live if isinstance(live, Mapping) else {}, path)
    elif isinstance(desired, list):
        yield from _in_list(desired, live if isinstance(live, list) else [], path)
    elif not _equal(desired, live, path.rpartition(".")[2]):
        yield path


def _in_mapping(desired: Object, live: Object, path: str) -> Iterator[str]:
    for key, value in desired.items():
        if live.get(key) != value:
            yield from differences(value, live.get(key), f"{path}.{key}")
    if path.rpartition(".")[2] in _EXACT:
        for key in sorted(live.keys() - desired.keys()):
            if live[key] not in (None, {}, []):
                yield f"{path}.{key}"


def whole(desired: Any, live: Any, path: str, filled: frozenset[str] = frozenset()) -> Iterator[str]:
    """The paths in which `live` is not what is desired and what the API server adds to that by itself.

    `filled`: paths, without the names of a list's items, that may hold anything.
    """
    yield from (found for found in differences(desired, live, path) if _plain(found) not in filled)
    yield from (found for found in _added(desired, live, path) if _plain(found) not in filled)


def _added(desired: Any, live: Any, path: str) -> Iterator[str]:
    """The paths of what is live and was not asked for; items of lists are told by `differences`."""
    if desired == live:
        return
    if isinstance(desired, dict) and isinstance(live, dict):
        # In some maps every key that was added is told already.
        if path.rpartition(".")[2] not in _EXACT:
            for key in sorted(live.keys() - desired.keys()):
                value, at = live[key], f"{path}.{key}"
                if value not in _NOTHING and value not in _DEFAULTS.get(_plain(at), ()):
                    yield from _named(value, at)
        for key, value in desired.items():
            if key in live and live[key] != value:
                yield from _added(value, live[key], f"{path}.{key}")
    elif isinstance(desired, list) and isinstance(live, list):
        named = _KEYED_LISTS.get(path.rpartition(".")[2])
        if named is None:
            for index, (wanted, actual) in enumerate(zip(desired, live, strict=False)):
                yield from _added(wanted, actual, f"{path}[{index}]")
            return
        by_key = {item.get(named): item for item in live if isinstance(item, dict)}
        for item in desired:
            yield from _added(item, by_key.get(item[named]), f"{path}[{item[named]}]")


def _named(value: Any, path: str) -> Iterator[str]:
    """The path of what was added, or of each item of a list whose items have names."""
    names = [item.get("name") for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
    yield from (f"{path}[{name}]" for name in names) if all(names) and names else (path,)


def _exact(made: Any, live: Any, path: str, but: frozenset[str] = frozenset()) -> Iterator[str]:
    if isinstance(made, Mapping) and isinstance(live, Mapping):
        for key in sorted({*made, *live}):
            yield from _exact(made.get(key), live.get(key), f"{path}.{key}", but)
    elif made != live and path not in but:
        yield path


def _plain(path: str) -> str:
    """A path without the names and numbers of lists' items: a mount's name may hold dots and slashes."""
    return _ITEMS.sub("", path)


def _always_pulls(wanted: Object, spec: Object) -> bool:
    """Whether the plugin AlwaysPullImages was at work, which only makes sure that the image may be pulled."""
    live = [one for kind in _WITH_IMAGES for one in spec.get(kind) or ()]
    ours = [one for kind in _WITH_IMAGES for one in wanted.get(kind) or ()]
    return len(live) == len(ours) and all(one.get("imagePullPolicy") == "Always" for one in live)


def _same_digest(wanted: Object, spec: Object, kind: str) -> bool:
    """Whether the very same image is taken from another registry, by its digest."""
    live = spec.get(kind) or ()
    pairs = [*zip(wanted.get(kind) or (), live, strict=False)]
    digests = [[str(one.get("image")).partition("@sha256:")[2] for one in pair] for pair in pairs]
    return len(live) == len(pairs) and all(ours and ours == theirs for ours, theirs in digests)


def _in_list(desired: Sequence[Any], live: Sequence[Any], path: str) -> Iterator[str]:
    key = _KEYED_LISTS.get(path.rpartition(".")[2])
    if key is None:
        # Lists without keys have an order that matters: of two lengths no item can be told to be missing.
        if len(desired) != len(live):
            yield path
            return
        for index, (wanted, actual) in enumerate(zip(desired, live, strict=True)):
            yield from differences(wanted, actual, f"{path}[{index}]")
        return
    by_key = {item.get(key): item for item in live}
    if len(by_key) != len(live):
        # Of two of one name it would depend on the reader which one counts.
        yield path
    for item in desired:
        yield from differences(item, by_key.pop(item[key], None), f"{path}[{item[key]}]")
    yield from (f"{path}[{extra}]" for extra in by_key)


def _equal(desired: Any, live: Any, key: str) -> bool:
    # An empty string and no string are the same to Kubernetes, and it writes the latter.
    if desired == live or (desired == "" and live is None):
        return True
    if key not in _QUANTITY_KEYS or not isinstance(live, int | str):
        return False
    try:
        return quantity.parse(desired) == quantity.parse(live)
    except ValueError:
        return False


def _without_empty(value: Any) -> Any:
    """Without lists that are empty: the API server leaves them out. An empty object selects all: it stays."""
    if isinstance(value, Mapping):
        return {key: _without_empty(item) for key, item in value.items() if item not in ([], None)}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def _subject(subject: Object) -> tuple[Any, ...]:
    return subject.get("kind"), subject.get("name"), subject.get("namespace"), subject.get("apiGroup") or ""


def _foreign_owners(live: Object) -> tuple[str, ...]:
    owners = live["metadata"].get("ownerReferences") or ()
    return ("metadata.ownerReferences",) if any(owner.get("kind") == meta.KIND for owner in owners) else ()


DIFFER: Mapping[str, Callable[[Object, Object], tuple[str, ...]]] = {
    "Deployment": deployment_differences,
    "NetworkPolicy": policy_differences,
    "PodDisruptionBudget": budget_differences,
    "Role": role_differences,
    "RoleBinding": binding_differences,
    "Service": service_differences,
    "ServiceAccount": account_differences,
}
"""Of each kind that can be put back in place; of a pod and a claim it depends on more."""
