"""On which Docker host a sandbox runs. Pure, and the same for the same hosts in whatever order.

A choice is made once: the workspace is a volume of the host. Another host is looked for only where an administrator
drains the one that was chosen, and only for sandboxes that lose nothing by it; whatever else becomes of a host moves
none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Generic, TypeVar

from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.docker_hosts.status import StayReason
from claude_sandbox.api.spec import Backend, ClaudeSandboxSpec, Image, UpdateStrategyType, WorkspaceType
from claude_sandbox.api.status import Placement
from claude_sandbox.backends.docker.hosts.capacity import Allocatable, Requests, requests_of


@dataclass(frozen=True)
class HostInfo:
    """What a DockerHost stands for: all that a sandbox which is on it already depends on."""

    name: str
    spec: DockerHostSpec
    engine_id: str | None
    """The identifier of its engine; None where the engine never answered."""
    app_armor: bool | None = field(default=None, kw_only=True)
    """Whether its engine gives containers a profile of AppArmor; None where the engine never answered."""
    namespaces: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """The UIDs of the namespaces that its administrator named, as they were when the name was first seen to be one."""


@dataclass(frozen=True)
class Candidate(HostInfo):
    """A DockerHost, as last seen, with what it takes to choose among several."""

    labels: Mapping[str, str]
    answers: bool
    """Whether its engine answered when it was last asked."""
    cores: int
    """Its CPU, in thousandths of a core."""
    capacity: Allocatable
    free: Allocatable


@dataclass(frozen=True)
class PlacementRequest:
    """What a sandbox asks for. `namespace_labels` None: they are not known, so that only names of namespaces count."""

    namespace: str
    namespace_labels: Mapping[str, str] | None
    backend: Backend
    requests: Requests
    image: Image | None = None
    """None: the operator's own default, which every host allows."""
    runtime: str | None = None
    """None: the engine's default, which every host allows."""
    app_armor: bool = False
    """Whether it is to run under AppArmor only."""
    namespace_uid: str | None = None
    """Which namespace of that name it is; None: not known, and then its name alone is not enough."""


def placement_request(
    namespace: str,
    namespace_labels: Mapping[str, str] | None,
    spec: ClaudeSandboxSpec,
    namespace_uid: str | None = None,
) -> PlacementRequest:
    """What a sandbox of the namespace asks for with this spec."""
    return PlacementRequest(
        namespace,
        namespace_labels,
        spec.backend,
        requests_of(spec),
        spec.image,
        spec.security.runtime_class_name,
        spec.security.app_armor_profile is not None,
        namespace_uid,
    )


MADE_ANEW = (
    "One that is named, and was deleted and made again since, is another: its name has to be removed there and added"
    " again."
)


_OTHER_RUNTIME = (
    "Have an administrator list it there, or leave out spec.security.runtimeClassName for the engine's default."
)
_WITHOUT_APP_ARMOR = "Have an administrator turn AppArmor on there, or leave out spec.security.appArmorProfile."


class Refusal(StrEnum):
    """Why there is no host for a sandbox."""

    NO_HOST = "NoHost"
    """No host that the namespace may use has the name or the labels."""
    HOST_GONE = "HostGone"
    """The host that was chosen is gone, or stands for another engine; the workspace is not there."""
    NOT_ALLOWED = "NotAllowed"
    """The host that was chosen does not allow the namespace any more."""
    NO_IMAGE = "NoImage"
    """None of the hosts that may be used allows the image."""
    NO_RUNTIME = "NoRuntime"
    """None of the hosts that may be used allows the runtime, or the one that was chosen does not any more."""
    NO_APP_ARMOR = "NoAppArmor"
    """None of the hosts that may be used has AppArmor, or the one that was chosen does not any more."""
    NO_ROOM = "NoRoom"
    """The hosts that may be used have no room, or take no further sandboxes."""
    NO_ANSWER = "NoAnswer"
    """One of the hosts that may be used does not answer, and no other has room."""


@dataclass(frozen=True)
class Refused:
    """There is no host. The message says what to do, and tells nothing of hosts that the namespace may not use."""

    refusal: Refusal
    message: str

    @property
    def passes(self) -> bool:
        """Whether it may pass without anybody doing anything: room is given back, a host answers again."""
        return self.refusal in (Refusal.NO_ROOM, Refusal.NO_ANSWER)


def place(wish: PlacementRequest, hosts: Iterable[Candidate]) -> Placement | Refused:
    """The host for a sandbox that has none: the one that is left with the most room."""
    found = _best(wish, hosts)
    if isinstance(found, Placement):
        return found
    if not found:
        return Refused(Refusal.NO_HOST, _none(wish))
    remedy = "It is placed as soon as one can take it; ask for less, or delete sandboxes that are not needed."
    if (worst := _worst(found)) is Refusal.NO_IMAGE:
        remedy = "Name an image that one of them allows, or leave out spec.image for the operator's own."
    if worst is Refusal.NO_RUNTIME:
        remedy = _OTHER_RUNTIME
    if worst is Refusal.NO_APP_ARMOR:
        remedy = _WITHOUT_APP_ARMOR
    return Refused(worst, f"{_said(found)}. {remedy}")


def keep(wish: PlacementRequest, host: HostInfo | None, current: Placement) -> Placement | Refused:
    """The host that the sandbox has, where it may go on using it. `host` None: it is not known any more."""
    if host is None:
        message = (
            f"The DockerHost {current.host} is gone, and the sandbox's workspace is on it. Make it known again, or"
            " delete the sandbox."
        )
        return Refused(Refusal.HOST_GONE, message)
    # Of one that has not answered yet it is not known which engine it is.
    if host.engine_id not in (None, current.engine_id):
        message = (
            f"The DockerHost {current.host} stands for another engine than when the sandbox was placed, and the"
            " workspace is not on that one. Let it point at the former engine, or delete the sandbox."
        )
        return Refused(Refusal.HOST_GONE, message)
    if not _permits(host, wish):
        message = (
            f"The DockerHost {current.host} does not allow the namespace {wish.namespace} any more: an administrator"
            f" has to name it in its spec.allowedNamespaces, or the sandbox be deleted. {MADE_ANEW}"
        )
        return Refused(Refusal.NOT_ALLOWED, message)
    if why := _runtime_refused(host, wish):
        return Refused(Refusal.NO_RUNTIME, f"DockerHost {why}. {_OTHER_RUNTIME}")
    if why := _lacks_app_armor(host, wish):
        return Refused(Refusal.NO_APP_ARMOR, f"DockerHost {why}. {_WITHOUT_APP_ARMOR}")
    return current


def _best(wish: PlacementRequest, hosts: Iterable[Candidate]) -> Placement | list[Refused]:
    """The host that is left with the most room, or why each that may be used can't take the sandbox."""
    found = sorted(hosts, key=lambda host: host.name)
    usable = [host for host in found if _permits(host, wish) and _chosen(host, wish.backend)]
    obstacles = {host.name: _obstacle(host, wish) for host in usable}
    fitting = [host for host in usable if obstacles[host.name] is None]
    if not fitting:
        return [obstacle for obstacle in obstacles.values() if obstacle is not None]
    best = max(fitting, key=lambda host: _left(host, wish.requests))  # of equal ones the first by name
    return Placement(host=best.name, engine_id=best.engine_id or "")  # one that answers has one


def _permits(host: HostInfo, wish: PlacementRequest) -> bool:
    labels = None if wish.namespace_labels is None else dict(wish.namespace_labels)
    allowed = host.spec.allowed_namespaces
    # One that has taken a name since is not the one that was meant; labels are an administrator's word on it.
    meant = host.namespaces.get(wish.namespace) in (None, wish.namespace_uid)
    return (allowed if meant else allowed.model_copy(update={"names": []})).permits(wish.namespace, labels)


def _chosen(host: Candidate, backend: Backend) -> bool:
    if backend.host_ref is not None:
        return host.name == backend.host_ref.name
    return backend.host_selector is None or backend.host_selector.matches(dict(host.labels))


def _obstacle(host: Candidate, wish: PlacementRequest) -> Refused | None:
    """Why the host can't take a sandbox now."""
    if host.spec.compromised:
        return Refused(Refusal.NO_ROOM, f"{host.name} is compromised (spec.incident)")
    if not host.spec.images.permits(wish.image):
        return Refused(Refusal.NO_IMAGE, f"{host.name} does not allow the image (spec.images.allowed)")
    if why := _runtime_refused(host, wish):
        return Refused(Refusal.NO_RUNTIME, why)
    if why := _lacks_app_armor(host, wish):
        return Refused(Refusal.NO_APP_ARMOR, why)
    if not host.answers or host.engine_id is None:
        return Refused(Refusal.NO_ANSWER, f"{host.name} does not answer")
    reason = _full(host, wish.requests)
    return None if reason is None else Refused(Refusal.NO_ROOM, f"{host.name} {reason}")


def _runtime_refused(host: HostInfo, wish: PlacementRequest) -> str:
    """That the host does not allow the runtime; empty where it does."""
    if wish.runtime is None or wish.runtime in host.spec.allowed_runtimes:
        return ""
    return f"{host.name} does not allow the runtime {wish.runtime} (spec.allowedRuntimes)"


def _lacks_app_armor(host: HostInfo, wish: PlacementRequest) -> str:
    """That the host is known to have no AppArmor and the sandbox asks for it; empty otherwise."""
    return f"{host.name} has no AppArmor" if wish.app_armor and host.app_armor is False else ""


def _full(host: Candidate, requests: Requests) -> str | None:
    if host.spec.drain:
        return "is being drained"
    if host.spec.unschedulable:
        return "takes no further sandboxes (spec.unschedulable)"
    if requests.cpu > host.cores:
        return f"has {_cores(host.cores)} cores and {_cores(requests.cpu)} are asked for"
    left = host.free
    if left.sandboxes is not None and left.sandboxes < 1:
        return "has as many sandboxes as it may have"
    if left.cpu is not None and requests.cpu > left.cpu:
        return f"has {_cores(left.cpu)} cores left and {_cores(requests.cpu)} are asked for"
    if left.memory is not None and requests.memory > left.memory:
        return f"has {_mebibytes(left.memory)} of memory left and {_mebibytes(requests.memory)} are asked for"
    return None


def _left(host: Candidate, requests: Requests) -> tuple[Fraction, Fraction]:
    """How much of what is scarcest on the host would be left, and of all together."""
    left = host.free.less([requests])
    pairs = (
        (left.sandboxes, host.capacity.sandboxes),
        (left.cpu, host.capacity.cpu),
        (left.memory, host.capacity.memory),
    )
    shares = [Fraction(part, whole) for part, whole in pairs if part is not None and whole]
    return min(shares, default=Fraction(1)), sum(shares, Fraction(0))


def _none(wish: PlacementRequest) -> str:
    if wish.backend.host_ref is not None:
        which = f"DockerHost {wish.backend.host_ref.name}"
    elif wish.backend.host_selector is not None:
        labels = wish.backend.host_selector.match_labels
        which = "DockerHost with the labels " + ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
    else:
        which = "DockerHost"
    return (
        f"There is no {which} that the namespace {wish.namespace} may use: an administrator has to name the namespace"
        f" in its spec.allowedNamespaces. {MADE_ANEW}"
    )


def _worst(obstacles: list[Refused]) -> Refusal:
    found = {obstacle.refusal for obstacle in obstacles}
    # What may pass by itself comes first: while one host may yet take it, nobody has to do anything.
    order = (Refusal.NO_ANSWER, Refusal.NO_ROOM, Refusal.NO_IMAGE, Refusal.NO_RUNTIME, Refusal.NO_APP_ARMOR)
    return next(one for one in order if one in found)


def _said(obstacles: list[Refused]) -> str:
    more = f"; and {len(obstacles) - 5} more" if len(obstacles) > 5 else ""
    return "; ".join(obstacle.message for obstacle in obstacles[:5]) + more


def _cores(amount: int) -> str:
    return f"{amount / 1000:g}"


def _mebibytes(amount: int) -> str:
    return f"{amount // 2**20}Mi"


K = TypeVar("K")


@dataclass(frozen=True)
class Stay:
    """Why a sandbox stays on a host that is being drained. The message is a clause."""

    reason: StayReason
    message: str


def stay_of(spec: ClaudeSandboxSpec, *, runs: bool) -> Stay | None:
    """Why a sandbox can't be moved to another host without loss; None where it can. `runs`: its container runs.

    Moving ends what runs, and with it what an agent is doing. Whether the operator may do that to a sandbox its user
    says once, for all occasions: with the update strategy.
    """
    if spec.workspace.type is not WorkspaceType.EMPTY_DIR:
        message = "its workspace is a volume of the host: copy the files into a new sandbox, and delete this one"
        return Stay(StayReason.WORKSPACE_ON_HOST, message)
    if spec.backend.host_ref is not None:
        message = "it names the host (spec.backend.hostRef): make a new sandbox that does not, and delete this one"
        return Stay(StayReason.HOST_NAMED, message)
    if runs and spec.update_strategy.type is not UpdateStrategyType.RECREATE:
        message = (
            "its container runs, and its updateStrategy leaves it alone: set type Recreate, or suspend it until it has"
            " moved"
        )
        return Stay(StayReason.IN_USE, message)
    return None


def elsewhere(wish: PlacementRequest, source: str, hosts: Iterable[Candidate]) -> Placement | Stay:
    """The host that takes a sandbox from the one that is being drained, or why there is none."""
    found = _best(wish, [host for host in hosts if host.name != source])
    if isinstance(found, Placement):
        return found
    if not found:
        return Stay(StayReason.NO_OTHER_HOST, "there is no other DockerHost that it may use")
    reasons = {
        Refusal.NO_ANSWER: StayReason.NO_ANSWER,
        Refusal.NO_IMAGE: StayReason.NO_IMAGE,
        Refusal.NO_RUNTIME: StayReason.NO_OTHER_HOST,
        Refusal.NO_APP_ARMOR: StayReason.NO_OTHER_HOST,
    }
    reason = reasons.get(_worst(found), StayReason.NO_ROOM)
    return Stay(reason, f"no other DockerHost takes it now: {_said(found)}")


@dataclass(frozen=True)
class Placed(Generic[K]):
    """A sandbox that has a host. `stay`: why it can't be moved; None where it can."""

    key: K
    wish: PlacementRequest
    placement: Placement
    stay: Stay | None


@dataclass(frozen=True)
class Drain(Generic[K]):
    """What becomes of the sandboxes of hosts that are being drained."""

    moves: Mapping[K, Placement]
    stays: Mapping[K, Stay]


def drain(placed: Iterable[Placed[K]], hosts: Iterable[Candidate]) -> Drain[K]:
    """Where the sandboxes of the hosts that are being drained go, in the order in which they are given.

    Each move takes the room that the next one no longer has.
    """
    by_name = {host.name: host for host in hosts}
    moves: dict[K, Placement] = {}
    stays: dict[K, Stay] = {}
    for one in placed:
        source = by_name.get(one.placement.host)
        if source is None or not source.spec.drain:
            continue
        target = one.stay or elsewhere(one.wish, source.name, by_name.values())
        if isinstance(target, Stay):
            stays[one.key] = target
            continue
        moves[one.key] = target
        chosen = by_name[target.host]
        by_name[target.host] = replace(chosen, free=chosen.free.less([one.wish.requests]))
    return Drain(moves, stays)
