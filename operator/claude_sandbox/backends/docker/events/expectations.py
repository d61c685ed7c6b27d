"""Which events a pass has caused itself, or has seen the outcome of: nobody need be woken by them.

Theory of operation. While a pass writes, what is told of its sandbox is kept for it instead of waking the sandbox; at
its end the pass asks which of that its last look does not answer for (`unanswered`), and wakes the sandbox itself where
there is any. So whatever else is told while a pass writes makes another one, and what it caused itself makes none. What
is told later wakes as usual, which costs a look and no more.

It holds the events of the passes that are writing now, of each sandbox one, and the last _REMEMBERED containers that
passes removed: an engine may tell of one a moment after it answered that it is gone. `keep` is called by who follows
the events, the rest by passes, all on the event loop. What a pass that was ended early had kept is lost, as it is in a
crash: such a pass is made again soon.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.written import WriteResults
from claude_sandbox.compliance.containers.document import Document

Sandbox = tuple[str, str]
"""Namespace and name."""

# The engine may still tell of a container a moment after it answered that it is gone.
_REMEMBERED = 256


class Expectations:
    """Of all passes that write to one engine: keeps back what is told of their sandboxes meanwhile."""

    def __init__(self) -> None:
        self._kept: dict[Sandbox, list[Object]] = {}
        self._gone: deque[str] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def during(self, sandbox: Sandbox, removed: Iterable[str]) -> Iterator[list[Object]]:
        """A pass that writes; gives the events that are kept, which grow until its end.

        `removed`: identifiers of the containers that it has removed by then.
        """
        kept = self._kept[sandbox] = list[Object]()
        try:
            yield kept
        finally:
            self._gone.extend(removed)
            del self._kept[sandbox]

    def keep(self, sandbox: Sandbox, event: Object) -> bool:
        """Whether the sandbox is not to be woken by the event, at least not before the pass that is under way ends."""
        if container_of(event) in self._gone:
            return True
        kept = self._kept.get(sandbox)
        if kept is None:
            return False
        kept.append(event)
        return True


def container_of(event: Object) -> str:
    """The identifier of the container that an event is about, or that it puts on or takes off a network."""
    told = Document(event)
    if event.get("Type") == "container":
        return told.text("Actor.ID") or ""
    return told.text("Actor.Attributes.container") or ""


def until_start(events: Sequence[Object], container: str) -> int:
    """How many of the events there are up to the first start of a container, that one included; 0 without one."""
    for number, event in enumerate(events, 1):
        if event.get("Type") == "container" and event.get("Action") == "start" and container_of(event) == container:
            return number
    return 0


def unseen(events: Sequence[Object], container: str, network: str, before: int, gone: Collection[str]) -> list[Object]:
    """The events that a look at a container and its network does not answer for.

    All by identifiers. The look came after the first `before` of the events; `gone` are containers that were removed.
    """
    return [
        event
        for number, event in enumerate(events)
        if (about := container_of(event)) not in gone
        and (number >= before or about != container)
        and not (about == "" and event.get("Action") == "create" and Document(event).text("Actor.ID") == network)
    ]


def unanswered(observed: Observed, events: list[Object], told: int, results: WriteResults) -> list[Object]:
    """The events that what was observed last does not answer for; it was looked at when `told` of them were known."""
    container, network = (str((one or {}).get("Id", "")) for one in (observed.container, observed.network))
    looked = told
    if results.started is not None:
        # It was read as soon as it was started, and not once more after that.
        told = until_start(events, container)
    beside = (observed.relay, observed.outer, observed.gateway.container, observed.gateway.network)
    relay, outer, gateway, way_out = (str((one or {}).get("Id", "")) for one in beside)
    cloner, holder = observed.cloner.identifier, observed.holder.identifier
    # What is beside the container is looked at after all that the pass did.
    seen = [event for event in events[:looked] if container_of(event) in {relay, gateway, cloner, holder} - {""}]
    made = [event for event in events[:looked] if (event.get("Actor") or {}).get("ID") in {outer, way_out} - {""}]
    left = unseen(events, container, network, told, results.removed)
    return [event for event in left if event not in seen and event not in made]
