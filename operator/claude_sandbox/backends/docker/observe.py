"""What an engine has of one sandbox. Reads only.

Theory of operation. Everything is asked for in each pass, but for what can't have changed or was only just written: an
image's document, since an image is named by what it is; what was delivered into a container since its start, for a
while; and that a sandbox has nothing of a relay. It holds these, and which container was last seen to be the sandbox's,
so that it is known again under another name. What was read in a container goes with it, or when something is delivered
to it (`changed`).

Used by the one pass at work on a sandbox, on the event loop. A crash forgets: then it is read once more.
"""

import asyncio
import posixpath
import time
from collections.abc import Callable

from claude_sandbox import delivery
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.cloning.beside import last_outcomes
from claude_sandbox.backends.docker.companions import Companion
from claude_sandbox.backends.docker.engine.documents import Object, name_of_summary, running, started_at
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.gateway.health import said_revision
from claude_sandbox.backends.docker.keys.placeholder import is_placeholder
from claude_sandbox.backends.docker.model import Delivered, Desired, Observed
from claude_sandbox.backends.docker.names import is_owned, selector
from claude_sandbox.backends.docker.plan import is_outdated
from claude_sandbox.backends.docker.written import WriteResults
from claude_sandbox.blueprint.model import Blueprint

_MOST_IMAGES = 256
"""Images whose documents are remembered: tenants name them, and one sandbox after another may name another."""
LINES = 40
"""Of the end of the log of what clones: it tells of its progress every two seconds, and again of all that failed."""
LOOK_INSIDE_AGAIN = 240.0
"""Seconds until what was delivered is read once more: whoever has the engine may have replaced the settings since."""

_COMPANIONS = (names.HELPER, names.RELAY, names.GATEWAY, names.CLONER, names.HOLDER)


class Observer:
    """One engine's. Remembers an image's document, which can't change, and for a while what was delivered."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._images: dict[str, Object] = {}
        # By container: its start, when what is in it was read, in seconds of `clock`, and that.
        self._inside: dict[str, tuple[str, float, Delivered]] = {}
        # The container that was last seen under the sandbox's name, by the sandbox's UID: ours, if it is renamed.
        self._known: dict[str, str] = {}
        # Those that have nothing of a relay, or of a gateway: neither the container, nor the network without it. By
        # the sandboxes' UIDs and the component.
        self._without: set[tuple[str, str]] = set()
        # By the sandbox's UID: its gateway, when it was asked who else has its accounts, in seconds of `clock`.
        self._alone: dict[str, tuple[str, float]] = {}
        # By the sandbox's UID: its gateway, that one's start, empty where not known yet, and what it said that it
        # follows when it was told of it.
        self._told: dict[str, tuple[str, str, str]] = {}

    async def observe(self, desired: Desired, blueprint: Blueprint) -> Observed:
        """Everything under the sandbox's names and with its labels. Raises EngineError."""
        called = desired.documents.names
        container, listed, network, volumes = await asyncio.gather(
            self._engine.container(called.container),
            self._engine.containers(selector(desired.cluster, desired.identity)),
            self._network(called.network, desired),
            self._engine.volumes(called=(*called.all_volumes, *_shared(desired)), beginning=called.first),
        )
        ours = {*called.all_volumes, *_shared(desired)}
        helpers, relays, gateways, cloners, holders = (
            tuple(one for one in listed if _component(one) == component) for component in _COMPANIONS
        )
        others = [
            one
            for one in listed
            if _component(one) not in _COMPANIONS
            and _component(one) not in names.PASSING
            and one["Id"] != (container["Id"] if container is not None else None)
        ]
        # Of several nobody could say which one was renamed.
        if container is None and len(others) == 1:
            container = await self._renamed(desired, others[0])
            others = others if container is None else []
        if container is None and network is None and not listed:
            # Nothing was made for it yet.
            self._without |= {(desired.identity.uid, one) for one in (names.RELAY, names.GATEWAY)}
        relay = await self._relay(desired, has=bool(relays))
        gateway = await self._gateway(desired, has=bool(gateways))
        cloner, said, keyed = await self._cloner(desired, blueprint, has=bool(cloners))
        return Observed(
            container=container,
            image=await self._recognize(container, desired),
            delivered=await self._look_inside(container, blueprint, desired.word),
            network=network,
            volumes={volume["Name"]: volume for volume in volumes if volume["Name"] in ours},
            workspaces=frozenset(filter(None, (called.number_of(volume["Name"]) for volume in volumes))),
            helpers=helpers,
            relay=relay.container,
            outer=relay.network,
            relay_image=relay.image,
            gateway=gateway,
            gateway_revision=self._revision(desired.identity.uid, gateway.container),
            accounts_elsewhere=await self._elsewhere(desired, gateway),
            holder=await self._holder(desired, has=bool(holders)),
            other_companions=(
                *(one for one in relays if name_of_summary(one) != called.relay),
                *(one for one in gateways if name_of_summary(one) != called.gateway),
                *(one for one in cloners if name_of_summary(one) != called.cloner),
                *(one for one in holders if name_of_summary(one) != called.holder),
            ),
            cloner=cloner,
            cloner_said=said,
            cloner_keyed=keyed,
            strays=tuple(sorted(map(name_of_summary, others))),
        )

    async def again(self, desired: Desired, blueprint: Blueprint, before: Observed, results: WriteResults) -> Observed:
        """What there is after a pass has done all that it planned upon `before`. Raises EngineError.

        What its own writes told is not asked for again.
        """
        called, started = desired.documents.names, results.started
        if started is not None:
            container: Object | None = started.container
            network: Object | None = started.network
            self._inside[str(started.container["Id"])] = (
                started_at(started.container),
                self._clock(),
                started.inside,
            )
        else:
            container, network = await asyncio.gather(
                self._engine.container(called.container), self._network(called.network, desired)
            )
        relay = await self._relay(desired, has=before.relay is not None)
        gateway = await self._gateway(desired, has=before.gateway.container is not None)
        cloner, said, keyed = await self._cloner(desired, blueprint, has=container is None)
        return Observed(
            container=container,
            image=await self._recognize(container, desired),
            delivered=await self._look_inside(container, blueprint, desired.word),
            network=network,
            volumes=results.volumes_over(before.volumes),
            relay=relay.container,
            outer=relay.network,
            relay_image=relay.image,
            gateway=gateway,
            gateway_revision=self._revision(desired.identity.uid, gateway.container),
            accounts_elsewhere=await self._elsewhere(desired, gateway),
            cloner=cloner,
            cloner_said=said,
            cloner_keyed=keyed,
            holder=await self._holder(desired, has=desired.documents.holder is not None),
            # Nothing else is looked for again: helpers and other companions are what the pass removed.
            strays=before.strays,
        )

    def delivered(self, container: Object | None) -> str | None:
        """The generation of the key in a container, where it is known to be there since it was started."""
        known = self._inside.get(container["Id"]) if container is not None else None
        if container is None or known is None or known[0] != started_at(container) or not running(container):
            return None
        return known[2].key_generation

    def changed(self, container: str) -> None:
        """Forget what was read in a container: something was delivered to it, or it was started."""
        self._inside.pop(container, None)

    def told(self, uid: str, gateway: str, revision: str) -> None:
        """A sandbox's gateway was told what to follow, and said that it does."""
        self._told[uid] = (gateway, "", revision)

    def forget(self, uid: str) -> None:
        """The sandbox is gone."""
        self._without -= {(uid, one) for one in (names.RELAY, names.GATEWAY)}
        self._told.pop(uid, None)
        self._alone.pop(uid, None)
        if (container := self._known.pop(uid, None)) is not None:
            self._inside.pop(container, None)

    async def _recognize(self, container: Object | None, desired: Desired) -> Object | None:
        """Remember a container that is the sandbox's; the document of its image, None where it is somebody else's."""
        before = self._known.pop(desired.identity.uid, None)
        if before is not None and (container is None or container["Id"] != before):
            # It is gone, and what was in it with it.
            self._inside.pop(before, None)
        if container is None or not is_owned(container, desired.cluster, desired.identity, names.AGENT):
            return None
        self._known[desired.identity.uid] = str(container["Id"])
        return await self._image(container)

    async def _relay(self, desired: Desired, *, has: bool) -> Companion:
        """What is under the relay's name. `has`: the sandbox has a relay by its labels, or had a moment ago."""
        wanted, name = desired.documents.relay is not None, desired.documents.names.relay
        return await self._companion(desired, name, (names.RELAY, names.OUTER), wanted=wanted, has=has)

    async def _gateway(self, desired: Desired, *, has: bool) -> Companion:
        """What is under the gateway's name; `has` as of a relay."""
        wanted, name = desired.documents.gateway is not None, desired.documents.names.gateway
        return await self._companion(desired, name, (names.GATEWAY, names.GATEWAY_NETWORK), wanted=wanted, has=has)

    async def _cloner(
        self, desired: Desired, blueprint: Blueprint, *, has: bool
    ) -> tuple[Companion, tuple[str, ...] | None, bool]:
        """What clones for the sandbox, what it said last, and whether it has the key that is asked for.

        `has`: there is one by its labels, or may be one. Somebody else's under its name is seen when it is made.
        """
        live = await self._engine.container(desired.documents.names.cloner) if has else None
        if live is None or not is_owned(live, desired.cluster, desired.identity, names.CLONER):
            return Companion(), None, False
        identifier, runs = str(live["Id"]), running(live)
        marker = posixpath.join(blueprint.key.directory, delivery.MARKER)
        said = await self._engine.last_words(identifier, LINES)
        word = _text(await self._engine.read_file(identifier, marker)) if runs else None
        keyed = bool(word) and desired.word in (None, word)
        return Companion(live, None, await self._image(live)), last_outcomes(said), keyed

    async def _holder(self, desired: Desired, *, has: bool) -> Companion:
        """What holds the sandbox's EmptyDir. `has`: there is one by its labels, or may be one. Somebody else's under
        its name is seen when it is made."""
        live = await self._engine.container(desired.documents.names.holder) if has else None
        if live is None or not is_owned(live, desired.cluster, desired.identity, names.HOLDER):
            return Companion(live)
        return Companion(live, None, await self._image(live))

    async def _companion(
        self, desired: Desired, name: str, components: tuple[str, str], *, wanted: bool, has: bool
    ) -> Companion:
        """`components`: of the container and of its outer network."""
        component, network_component = components
        key = (desired.identity.uid, component)
        if not (wanted or has) and key in self._without:
            return Companion()
        container, network = await asyncio.gather(
            self._engine.container(name), self._network(name, desired, network_component)
        )
        if wanted or container is not None or network is not None:
            self._without.discard(key)
        else:
            self._without.add(key)
        ours = container is not None and is_owned(container, desired.cluster, desired.identity, component)
        return Companion(container, network, await self._image(container) if container is not None and ours else None)

    async def _elsewhere(self, desired: Desired, gateway: Companion) -> int:
        """How many containers but the gateway have its accounts. Where none has, it is asked again after a while."""
        if gateway.container is None or desired.documents.gateway is None:
            return 0
        uid, identifier = desired.identity.uid, gateway.identifier
        known, at = self._alone.get(uid, ("", 0.0))
        if known == identifier and self._clock() - at < LOOK_INSIDE_AGAIN:
            return 0
        found = await self._engine.containers_with(desired.documents.names.accounts)
        others = len([one for one in found if one["Id"] != identifier])
        if not others:
            self._alone[uid] = (identifier, self._clock())
        return others

    def _revision(self, uid: str, gateway: Object | None) -> str | None:
        """What a gateway follows: what it said when it was told last, else what its health check found last."""
        if gateway is None or not running(gateway):
            return None
        start = started_at(gateway)
        identifier, since, revision = self._told.get(uid, ("", "", ""))
        # What it was told is in its memory: after another start it knows nothing of it. Which start it was, the first
        # look after the telling says.
        if identifier == gateway["Id"] and since in ("", start):
            self._told[uid] = (identifier, start, revision)
            return revision
        return said_revision(gateway)

    async def _network(self, name: str, desired: Desired, component: str = names.NETWORK) -> Object | None:
        try:
            return await self._engine.network(name)
        except EngineError as error:
            # Older engines let several networks have one name, and don't decide between them.
            if error.status not in (400, 409):
                raise
        found = await self._engine.networks(name=name)
        ours = [one for one in found if is_owned(one, desired.cluster, desired.identity, component)]
        # With somebody else's beside it the name is in the way, whoever it belongs to.
        foreign = [one for one in found if one not in ours]
        return await self._engine.network((foreign or ours)[0]["Id"]) if found else None

    async def _renamed(self, desired: Desired, summary: Object) -> Object | None:
        """The sandbox's container under another name, or None: its labels alone could be anybody's."""
        live = await self._engine.container(summary["Id"])
        if live is None or not is_owned(live, desired.cluster, desired.identity, names.AGENT):
            return None
        # This process saw it under its own name. After a restart nobody did: then it has to be made from this very
        # document.
        if self._known.get(desired.identity.uid) == live["Id"]:
            return live
        image = await self._image(live)
        differs = drift.container_differences(desired.documents.container, live, image, desired.capabilities)
        return None if is_outdated(desired, live) or differs.fixed else live

    async def _image(self, container: Object) -> Object | None:
        identifier = str(container.get("Image", ""))
        if identifier not in self._images:
            found = await self._engine.image(identifier)
            if found is None:
                return None
            if len(self._images) >= _MOST_IMAGES:
                # The one that is known for longest; where it is needed again, it is asked for again.
                del self._images[next(iter(self._images))]
            # An image's document is as large as who built it made it: only what is compared is kept.
            self._images[identifier] = {"Config": found.get("Config")}
        return self._images[identifier]

    async def _look_inside(
        self, container: Object | None, blueprint: Blueprint, generation: str | None
    ) -> Delivered | None:
        """What was delivered to a container that runs. `generation`: of the key that it should have.

        What is read of the key's generation is compared with that, and kept nowhere: whatever made it, it is not shown.
        """
        if container is None or not running(container):
            return None
        identifier, start = str(container["Id"]), started_at(container)
        known = self._inside.get(identifier)
        if known is not None and known[0] == start and self._clock() - known[1] < LOOK_INSIDE_AGAIN:
            return known[2]
        marker, settings = await asyncio.gather(
            self._engine.read_file(identifier, posixpath.join(blueprint.key.directory, delivery.MARKER)),
            self._engine.read_file(identifier, posixpath.join(blueprint.settings.directory, blueprint.settings.file)),
        )
        word = _text(marker)
        has_key, same = bool(marker), word == generation
        found = Delivered(
            generation if same else None,
            _text(settings),
            has_key,
            placeholder=is_placeholder(word),
            other=has_key and not same and generation is not None,
        )
        # What is not as it should be is read again each time, so that a delivery is seen at once.
        if has_key and (same or generation is None):
            self._inside[identifier] = (start, self._clock(), found)
        return found


def _component(listed: Object) -> str | None:
    """Which part of a sandbox a container of a list says that it is; None of the sandbox's own."""
    found: str | None = listed["Labels"].get(names.LABEL_COMPONENT)
    return found


def _shared(desired: Desired) -> tuple[str, ...]:
    """The names of volumes that others have too."""
    tools = desired.documents.tools
    return () if tools is None else (str(tools["Name"]),)


def _text(content: bytes | None) -> str | None:
    return content.decode(errors="replace") if content else None
