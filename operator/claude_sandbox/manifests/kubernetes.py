"""From documents to the Kubernetes objects in them, and to the pods that their workloads would run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.plugin_policies import is_plugin_policy
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.manifests.documents import Document, Problem

_TEMPLATES = (("spec", "template"), ("spec", "jobTemplate", "spec", "template"), ("template",), ("spec", "podTemplate"))
"""Where a workload has the pod that it would run: CronJobs the second, PodTemplates the third. Foreign kinds too."""
_KNOWN = frozenset(
    {
        *("Pod", "PodTemplate", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"),
        *("Job", "CronJob"),
    }
)
_TRUTHS = frozenset(
    {
        *("privileged", "allowPrivilegeEscalation", "runAsNonRoot", "readOnlyRootFilesystem", "hostNetwork", "hostPID"),
        *("hostIPC", "hostUsers", "shareProcessNamespace", "automountServiceAccountToken", "readOnly", "hostProcess"),
    }
)
"""Fields of a pod that are true or false. The API server refuses anything else."""
_LISTS = ("initContainers", "containers", "ephemeralContainers", "volumes", "imagePullSecrets")


@dataclass(frozen=True)
class Found:
    """An object, and where it is."""

    document: Document
    value: Object
    at: tuple[str | int, ...] = ()
    """Where in the document it is: empty, but for items of a List."""

    @property
    def kind(self) -> str:
        return str(self.value.get("kind", ""))

    @property
    def namespace(self) -> str:
        """Empty: that into which it is applied, which the file does not say."""
        return str(_mapping(self.value.get("metadata")).get("namespace") or "")

    @property
    def name(self) -> str:
        metadata = _mapping(self.value.get("metadata"))
        return str(metadata.get("name") or f"{metadata.get('generateName') or ''}…")

    @property
    def target(self) -> dict[str, str]:
        """What a report calls it."""
        space = {"namespace": self.namespace} if self.namespace else {}
        return {"kind": self.kind, **space, "name": self.name}


@dataclass(frozen=True)
class Workload:
    """A workload, and the pod that it would run, as the API server would have it: with namespace and labels."""

    found: Found
    pod: Object
    path: tuple[str, ...] = ()
    """Where in the object the pod is; empty where it is the object itself."""


@dataclass(frozen=True)
class Objects:
    """All objects of all files, for what is judged to be judged among them."""

    all: tuple[Found, ...] = ()
    by_kind: Mapping[tuple[str, str], tuple[Object, ...]] = field(default_factory=dict)
    """By their API groups as well: a NetworkPolicy may be Calico's, and a Service one of Knative's."""

    def of(self, resource: Resource, namespace: str) -> tuple[Object, ...]:
        """Those of a kind in a namespace."""
        return tuple(
            one
            for one in self.by_kind.get((resource.group, resource.kind), ())
            if str(_mapping(one.get("metadata")).get("namespace") or "") == namespace
        )

    def named(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """None where it is not among them."""
        those = (one for one in self.of(resource, namespace) if _mapping(one.get("metadata")).get("name") == name)
        return next(those, None)

    @cached_property
    def plugin_policies(self) -> tuple[Object, ...]:
        """Those of network plugins, in whatever namespace."""
        return tuple(one for those in self.by_kind.values() for one in those if is_plugin_policy(one))


def objects(documents: Iterable[Document]) -> Objects:
    """The objects in `documents`, those in lists one by one. What is no Kubernetes object is left out."""
    found = tuple(one for document in documents for one in _expanded(document))
    by_kind: dict[tuple[str, str], list[Object]] = {}
    for one in found:
        if isinstance(one.value.get("metadata"), Mapping):
            by_kind.setdefault((_group(one.value), one.kind), []).append(one.value)
    return Objects(found, {kind: tuple(those) for kind, those in by_kind.items()})


def is_object(value: Object) -> bool:
    """Whether it is one of Kubernetes."""
    return isinstance(value.get("apiVersion"), str) and isinstance(value.get("kind"), str)


def _group(value: Object) -> str:
    group, slash, _ = str(value["apiVersion"]).partition("/")
    return group if slash else ""


def is_sandbox(found: Found) -> bool:
    return found.kind == meta.KIND and str(found.value.get("apiVersion", "")).startswith(f"{meta.GROUP}/")


def has_texts(metadata: Object) -> bool:
    """Whether its labels and annotations are texts, as the API server asks for."""
    return _is_texts(metadata.get("labels")) and _is_texts(metadata.get("annotations"))


def workloads(found: Sequence[Found]) -> tuple[tuple[Workload, ...], tuple[Problem, ...]]:
    """What of it would run a pod, but for ClaudeSandboxes; and workloads whose pod can't be made out."""
    ready, problems = [], []
    for one in found:
        if is_sandbox(one):
            continue
        made = _workload(one)
        if isinstance(made, Workload):
            ready.append(made)
        elif made:
            problems.append(Problem(one.document.file, one.document.line, f"{one.kind} {one.name}: {made}"))
    return tuple(ready), tuple(problems)


def _workload(found: Found) -> Workload | str:
    """The workload; why its pod can't be judged; empty where it is none."""
    path = () if _is_pod(found) else _path_of(found.value)
    if path is None:
        return "it has no pod template" if _is_known(found) else ""
    template = _at(found.value, path)
    spec = template.get("spec")
    if why := _unlike(spec):
        return f"{'.'.join((*path, 'spec'))}{why}"
    metadata = {**_mapping(template.get("metadata")), "namespace": found.namespace, "name": found.name}
    if not has_texts(metadata):
        return f"{'.'.join((*path, 'metadata'))} has labels or annotations that are no texts"
    return Workload(found, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, path)


def _is_known(found: Found) -> bool:
    version = str(found.value.get("apiVersion", ""))
    return found.kind in _KNOWN and version.partition("/")[0] in ("v1", "apps", "batch", "extensions")


def _is_pod(found: Found) -> bool:
    return found.kind == "Pod" and found.value.get("apiVersion") == "v1"


def _path_of(value: Object) -> tuple[str, ...] | None:
    return next((path for path in _TEMPLATES if "containers" in _mapping(_at(value, path).get("spec"))), None)


def _unlike(spec: Any) -> str:
    """In what it is not a pod's spec as the API server would take it; empty where in nothing."""
    if not isinstance(spec, Mapping) or not spec.get("containers"):
        return " has no containers"
    for key in _LISTS:
        those = spec.get(key)
        if those is not None and not (isinstance(those, list) and all(isinstance(one, Mapping) for one in those)):
            return f".{key} is not a list of objects"
    if names := sorted(_no_truths(spec)):
        return f": {', '.join(names)} must be true or false, without quotes: the API server refuses anything else"
    return ""


def _no_truths(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _no_truths(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key in _TRUTHS and one is not None and not isinstance(one, bool | Mapping | list):
                yield str(key)
            else:
                yield from _no_truths(one)


def _expanded(document: Document) -> Iterator[Found]:
    # Not by recursion: kubectl applies what is in lists of any depth, and a file may have more of it than a stack.
    left: list[tuple[Object, tuple[str | int, ...]]] = [(document.value, ())]
    while left:
        value, at = left.pop()
        if not is_object(value):
            continue
        kind, items = value["kind"], value.get("items")
        if not kind.endswith("List") or not isinstance(items, list):
            yield Found(document, value, at)
            continue
        # Items of a typed list come without kind and version.
        own = {"apiVersion": value["apiVersion"], "kind": kind.removesuffix("List")} if kind != "List" else {}
        inner = [({**own, **one}, (*at, "items", n)) for n, one in enumerate(items) if isinstance(one, Mapping)]
        # In the order of the file.
        left += reversed(inner)


def _at(value: Any, path: Iterable[str]) -> Object:
    for key in path:
        value = _mapping(value).get(key)
    return _mapping(value)


def _mapping(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _is_texts(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
    )
