"""Which pods the operator made, and what the cluster's admission makes of what it asks for.

Theory of operation. A tenant who may make pods can give one any name, label, annotation and owner, so none of these
says whose it is. A pod is ours if its UID is the one that our own create was answered with. That is held here, and in
the sandbox's status (`workload.uid`), which only the operator may write: the roles in manifests/rbac/users give nobody
else `claudesandboxes/status`. So a restarted operator knows its pods without a write. Between a create and the status a
crash leaves a pod that neither names. It is recognized by being, in every field, what the API server makes of our pod
now: a create is sent as a dry run, and only the node, and of which generation its key was, may differ. Whoever made
such a pod, nothing in it is his.

What is made is compared with what was asked for. Where admission (a mutating webhook or policy) changed it in a way
that matters, making it again changes nothing. That is remembered for IMPOSED_FOR seconds by what was asked for, then
asked for with another dry run, so that nothing is made, ended or fought meanwhile.

All of it is used by the one pass at work on a sandbox; a crash loses nothing that can't be asked for again.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.unstructured import Object, annotations

IMPOSED_FOR = 300.0
_GENERATION = meta.ANNOTATION_KEY_GENERATION

Recorded = Callable[[Identity], "Pod | None"]
"""What the sandbox's status says of its pod; None where it says nothing."""


@dataclass(frozen=True)
class Pod:
    """One pod of ours. `revision` says what it was made from, and how; empty where that is not known."""

    uid: str
    revision: str = ""


@dataclass(frozen=True)
class _Imposed:
    asked: str
    paths: frozenset[str]
    until: float


@dataclass(frozen=True)
class _Made:
    sandbox: str
    pod: Pod


def nothing_recorded(_identity: Identity) -> Pod | None:
    """Of operators whose sandboxes have no status."""
    return None


def revision(live: Object) -> str:
    """What a pod was made from (the hash of what was asked for), and what of its spec can be changed while it lives.

    Everything else the API server keeps as it is (k8s.io/kubernetes, pkg/apis/core/validation, ValidatePodUpdate).
    """
    return f"{annotations(live).get(meta.ANNOTATION_SPEC_HASH, '')}/{fingerprint(live)}"


def fingerprint(live: Object) -> str:
    """Of what can be changed of a pod's spec: images, resources, deadline; and which containers there are."""
    spec = live.get("spec") or {}
    kinds = ("initContainers", "containers", "ephemeralContainers")
    found = [
        [kind, one.get("name"), one.get("image"), one.get("resources")]
        for kind in kinds
        for one in spec.get(kind) or ()
    ]
    changeable = [found, spec.get("resources"), spec.get("activeDeadlineSeconds")]
    packed = orjson.dumps(changeable, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(packed).hexdigest()[:16]


class PodAdmission:
    """For all sandboxes of one cluster."""

    def __init__(
        self, api: Api, recorded: Recorded = nothing_recorded, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._recorded = recorded
        self._clock = clock
        self._made: dict[tuple[str, str], _Made] = {}
        self._imposed: dict[tuple[str, str, str], _Imposed] = {}
        # The pod that was found not to be ours last, and what was asked for then.
        self._refused: dict[tuple[str, str], tuple[str, str]] = {}

    def ours(self, identity: Identity, live: Object) -> Pod | None:
        """What is known of this pod, if it is ours for certain."""
        uid = live["metadata"]["uid"]
        # By the sandbox's UID as well: an earlier sandbox of the name had pods of the same name.
        held = self._made.get((identity.namespace, identity.name))
        if held is not None and (held.sandbox, held.pod.uid) == (identity.uid, uid):
            return held.pod
        told = self._recorded(identity)
        # Named by neither: whatever owner and labels it has, they are anybody's.
        if told is None or told.uid != uid:
            return None
        self._hold(identity, told if told.revision else Pod(uid, revision(live)))
        return self._made[identity.namespace, identity.name].pod

    def made(self, identity: Identity, live: Object) -> None:
        """Our own create was answered with this pod."""
        self._hold(identity, Pod(live["metadata"]["uid"], revision(live)))

    async def recognize(self, identity: Identity, desired: Object, live: Object) -> bool:
        """Whether a pod that nothing says is ours is what ours would be. Raises ApiError."""
        key, seen = (identity.namespace, identity.name), (live["metadata"]["uid"], _asked(desired))
        # Not asked again for the same pod and the same wish: two requests for each pass would be a tenant's to cause.
        if self._refused.get(key) == seen:
            return False
        # The informer keeps a part of it, and any field may be what somebody added.
        whole = await self._api.get(PODS, live["metadata"]["name"], identity.namespace)
        made = await self._try(desired)
        # The key may have been renewed since the pod was made; which one a pod was made with gives it nothing.
        found = [path for path in drift.remade_differences(made, whole) if not path.endswith(_GENERATION)]
        # Between the watch and the read another one may have taken the name.
        if whole["metadata"]["uid"] == seen[0] and not found:
            self.made(identity, whole)
            return True
        self._refused[key] = seen
        return False

    def imposed(self, desired: Object) -> frozenset[str]:
        """The paths in which admission changes this object, as far as that was found out lately."""
        held = self._held(desired)
        return held.paths if held is not None and self._clock() < held.until else frozenset()

    def answered(self, desired: Object, paths: tuple[str, ...]) -> None:
        """The API server's answer to a write of ours differed in these."""
        if paths:
            self._remember(desired, paths)
        else:
            self._imposed.pop(_key(desired), None)

    async def find_out(self, desired: Object, *, differs: bool) -> None:
        """Ask what admission makes of our pod, without making it, if that matters and is not known.

        It does where the live pod `differs` from it, or was changed when it was last made. Where it can't be asked, as
        with a webhook that takes no dry runs, the next pod that is made will show it.
        """
        held = self._held(desired)
        if (held is not None and self._clock() < held.until) or not (differs or (held is not None and held.paths)):
            return
        try:
            paths = drift.pod_differences(desired, await self._try(desired))
        # Taken as nothing found out: what is made next is compared with what was asked for in any case.
        except ApiError:
            paths = ()
        self._remember(desired, paths)

    def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""
        self._made.pop((namespace, name), None)
        self._refused.pop((namespace, name), None)
        child = meta.child_name(name)
        for key in [key for key in self._imposed if key[1:] == (namespace, child)]:
            del self._imposed[key]

    async def _try(self, desired: Object) -> Object:
        # Under another name: a dry run of the same finds the one that is there.
        metadata = {key: value for key, value in desired["metadata"].items() if key != "name"}
        metadata["generateName"] = f"{desired['metadata']['name']}-"
        namespace = desired["metadata"]["namespace"]
        return await self._api.create(PODS, {**desired, "metadata": metadata}, namespace, dry_run=True)

    def _held(self, desired: Object) -> _Imposed | None:
        held = self._imposed.get(_key(desired))
        return held if held is not None and held.asked == _asked(desired) else None

    def _remember(self, desired: Object, paths: tuple[str, ...]) -> None:
        until = self._clock() + IMPOSED_FOR
        self._imposed[_key(desired)] = _Imposed(_asked(desired), frozenset(paths), until)

    def _hold(self, identity: Identity, pod: Pod) -> None:
        self._made[identity.namespace, identity.name] = _Made(identity.uid, pod)
        self._refused.pop((identity.namespace, identity.name), None)


def _key(desired: Object) -> tuple[str, str, str]:
    metadata = desired["metadata"]
    return str(desired["kind"]), str(metadata["namespace"]), str(metadata["name"])


def _asked(desired: Object) -> str:
    """Of what was asked for. Which generation the key has is no matter: it changes what no admission looks at."""
    metadata = desired["metadata"]
    labels = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    labels.pop(meta.ANNOTATION_KEY_GENERATION, None)
    packed = orjson.dumps([desired.get("spec"), labels], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(packed).hexdigest()
