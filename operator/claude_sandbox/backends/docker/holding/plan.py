"""What has to be done about what holds a sandbox's EmptyDir. Pure."""

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object, name_of, running
from claude_sandbox.backends.docker.holding.holder import NO_NETWORK
from claude_sandbox.backends.docker.model import CONTAINER, HOLDER, Desired, Observed, Step, Verb
from claude_sandbox.backends.docker.names import is_owned

Steps = tuple[Step, ...]


def holds(desired: Desired, observed: Observed) -> bool:
    """Whether the files of an EmptyDir outlive the sandbox's container now."""
    live = _live(desired, observed)
    return live is not None and running(live)


def has_lost(desired: Desired, observed: Observed, ours: Object) -> bool:
    """Whether a sandbox's container that does not run would find its EmptyDir empty, and without its repositories: both
    it and what held the files have ended, as a pod ends with its node. Then it is begun anew."""
    cloned = desired.documents.holder is not None and desired.documents.cloner is not None
    return cloned and not running(ours) and not holds(desired, observed)


def plan_holder(
    desired: Desired, observed: Observed, past: Past, *, needed: bool, may_be_made: bool
) -> tuple[Steps, Steps]:
    """What is done before the volumes are seen to, and what after, before any container of the sandbox's is made.

    `needed`: no container of the sandbox's is there that would stay. While one runs it holds the files itself, and the
    holder can be made anew; else one that holds them stays as it is, whatever image it is of.
    """
    wanted, live = desired.documents.holder, _live(desired, observed)
    name, volume = desired.documents.names.holder, desired.documents.empty_dir
    if wanted is None or volume is None or desired.ended:
        return (() if live is None else (_removal(live, Cause.UPDATE),)), ()
    made = observed.volumes.get(volume["Name"])
    if live is None:
        # The volume was there and what held it is not: the files are gone, which is told as a repair.
        lost = made is not None and past.ran and past.settled
        cause = Cause.HEAL if lost else Cause.PROVISION if not past.settled else Cause.UPDATE
        return (), (Step(Verb.CREATE, cause, HOLDER, name, paced=lost),) if may_be_made else ()
    other = made is None or bool(drift.volume_differences(volume, made))
    if other and needed:
        # The engine changes no volume that is mounted.
        create = Step(Verb.CREATE, Cause.UPDATE, HOLDER, name)
        return (_removal(live, Cause.UPDATE),), ((create,) if may_be_made else ())
    broken = live.get("State", {}).get("Status") in ("dead", "removing")
    paths = _differences(desired, live, observed.holder.image)
    if broken or (paths and (not running(live) or _runs(observed.container))):
        cause = Cause.UPDATE if paths == ("Config.Image",) else Cause.HEAL
        return (), (Step(Verb.REPLACE, cause, HOLDER, name, live, paths=paths, paced=True),)
    if not running(live):
        fresh = live.get("State", {}).get("Status") == "created"
        cause = Cause.HEAL if past.settled and not fresh else Cause.PROVISION
        return (), (Step(Verb.START, cause, HOLDER, name, live, paths=("State.Status",), paced=not fresh),)
    return (), ()


def foreign_to_holder(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """The container under the holder's name, where it is not the sandbox's own, as "Kind name"."""
    live = observed.holder.container
    if desired.documents.holder is None or live is None or is_holder(desired, live):
        return ()
    return (f"{CONTAINER} {name_of(live)}",)


def is_holder(desired: Desired, live: Object | None) -> bool:
    """Whether a container is the one that holds the sandbox's EmptyDir."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.HOLDER)


def _live(desired: Desired, observed: Observed) -> Object | None:
    live = observed.holder.container
    return live if is_holder(desired, live) else None


def _removal(live: Object, cause: Cause) -> Step:
    return Step(Verb.REMOVE, cause, HOLDER, name_of(live), live)


def _differences(desired: Desired, live: Object, image: Object | None) -> tuple[str, ...]:
    wanted = desired.documents.holder
    assert wanted is not None  # noqa: S101 - who calls has looked
    found = drift.container_differences(wanted.container, live, image, desired.capabilities)
    paused = ("State.Status",) if live.get("State", {}).get("Paused") else ()
    elsewhere = sorted(set(drift.networks_of(live)) - {NO_NETWORK})
    return (*paused, *found.fixed, *found.updatable, *(f"Networks.{one}" for one in elsewhere))


def _runs(container: Object | None) -> bool:
    return container is not None and running(container)
