"""In what a live object differs from the desired one. Pure.

Only what is desired is compared, so that the API server's defaults never look like drift; but where something
added is itself the danger (a container, a volume, a peer of a policy), what is live may hold nothing more.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from claude_sandbox.api import meta, quantity
from claude_sandbox.backends.kubernetes.raw import Object

# Below these keys Kubernetes writes quantities in its own canonical form.
_QUANTITY_KEYS = frozenset({"cpu", "memory", "ephemeral-storage", "storage", "sizeLimit"})

# Lists whose order doesn't matter, and the key of their entries.
_KEYED_LISTS = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath", "env": "name"}

# Maps in which every key is a choice, so that one that was added is drift as well.
_EXACT = frozenset({"securityContext", "capabilities", "selector", "limits", "requests"})

# What could be added to a pod or a container and is never wanted.
_POD_FLAGS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
_POD_LISTS = ("initContainers", "ephemeralContainers")
_CONTAINER_KEYS = ("envFrom", "lifecycle", "volumeDevices")


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
    added = (f"spec.{key}" for key in ("externalIPs", "externalName", "loadBalancerIP") if spec.get(key))
    return (*metadata_differences(desired, live), *differences(desired["spec"], spec, "spec"), *added)


def claim_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """Of a PersistentVolumeClaim: of its spec only the size can ever be changed."""
    size = ("spec", "resources", "requests", "storage")
    wanted, actual = desired, live
    for key in size:
        wanted, actual = wanted[key], (actual or {}).get(key, {})
    owners = () if "ownerReferences" in desired["metadata"] else _foreign_owners(live)
    return (*metadata_differences(desired, live), *differences(wanted, actual, ".".join(size)), *owners)


def pod_differences(desired: Object, live: Object) -> tuple[str, ...]:
    """What makes the live pod another than the desired one, and only a new pod could mend.

    Labels and annotations can be put back in place and are left out.
    """
    spec = live.get("spec", {})
    found = [*differences(desired["spec"], spec, "spec")]
    found += [f"spec.{key}[{item.get('name')}]" for key in _POD_LISTS for item in spec.get(key) or ()]
    found += [f"spec.{key}" for key in _POD_FLAGS if spec.get(key)]
    found += [
        f"spec.containers[{container.get('name')}].{key}"
        for container in spec.get("containers") or ()
        for key in _CONTAINER_KEYS
        if container.get(key)
    ]
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
    if isinstance(desired, Mapping):
        yield from _in_mapping(desired, live if isinstance(live, Mapping) else {}, path)
    elif isinstance(desired, list):
        yield from _in_list(desired, live if isinstance(live, list) else [], path)
    elif not _equal(desired, live, path.rpartition(".")[2]):
        yield path


def _in_mapping(desired: Object, live: Object, path: str) -> Iterator[str]:
    for key, value in desired.items():
        yield from differences(value, live.get(key), f"{path}.{key}")
    if path.rpartition(".")[2] in _EXACT:
        for key in sorted(live.keys() - desired.keys()):
            if live[key] not in (None, {}, []):
                yield f"{path}.{key}"


def _in_list(desired: Sequence[Any], live: Sequence[Any], path: str) -> Iterator[str]:
    key = _KEYED_LISTS.get(path.rpartition(".")[2])
    if key is None:
        if len(desired) != len(live):
            yield path
            return
        for index, (wanted, actual) in enumerate(zip(desired, live, strict=True)):
            yield from differences(wanted, actual, f"{path}[{index}]")
        return
    by_key = {item.get(key): item for item in live}
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


def _foreign_owners(live: Object) -> tuple[str, ...]:
    owners = live["metadata"].get("ownerReferences") or ()
    return ("metadata.ownerReferences",) if any(owner.get("kind") == meta.KIND for owner in owners) else ()
