"""Asks the agents on the nodes about sandboxes' pods, each now and then, and keeps what they said last.

Theory of operation. A pass tells of the pod that it sees (`look`) and takes what is known (`known`). A pod that is new
is asked about at once, and for that the pass waits for a few seconds at most, so that an operator that starts anew does
not first take back what its last one found; after that nobody waits. Each pod is asked about every `interval` seconds,
spread by a fifth; in SOON seconds where something of it is only beginning (`answers.settled`). Only an answer that says
something else wakes its sandbox, so that a steady state costs no pass and no write. A few questions are under way at a
time, whoever they are about; fewer of those to agents that told nothing when they were asked last, which may take all
of their time again, and must not keep the others from being asked.

Where an agent is follows from the pods of its namespace, which an informer follows. Where there is none, or none
answers, what was said last holds until it is too old for evidence, and then nothing is said: the results rest on the
pod's object again. Why is logged, once for each node until it answers. A crash loses all; the next pass asks.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.kubernetes.node_agents import NAMESPACE, SELECTOR
from claude_sandbox.backends.kubernetes.node_agents.answers import Answer, MisunderstoodError, said, settled
from claude_sandbox.backends.kubernetes.node_agents.asking import AskingError, ask, ask_evidence
from claude_sandbox.backends.kubernetes.node_agents.certificates import Certificates
from claude_sandbox.backends.kubernetes.node_agents.counted import Counted
from claude_sandbox.backends.kubernetes.watches.watches import MAX_AGE
from claude_sandbox.backends.pressure import NOTHING_SHORT, pressure_of
from claude_sandbox.compliance.evidence.pod_processes import PodProcesses
from claude_sandbox.compliance.evidence.readings import Object, Reading, Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.unstructured import terminating
from claude_sandbox.node_agent import PORT

logger = logging.getLogger(__name__)

SOON = 11.0
"""Seconds until what is only beginning is there, or was not seen again."""
FIRST = 5.0
"""Seconds that a pass waits for the first answer about a pod."""
AT_A_TIME, OF_SILENT = 8, 2
CERTIFICATES = 5.0
"""Seconds between two looks at whether certificates are to be looked at."""

Found = Reading[PodProcesses] | Unread | None
Key = tuple[str, str]
"""Namespace and name of a sandbox."""


@dataclass
class _Pod:
    """One that is asked about. `looks`: see `answers.settled`. `late`: a pass went on without the first answer."""

    uid: str
    node: str
    found: Found = None
    counted: Counted | None = None
    looks: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    first: asyncio.Event = field(default_factory=asyncio.Event)
    late: bool = False
    task: "asyncio.Task[None] | None" = None


class NodeAgents:
    """Of one cluster. `wake`: have a sandbox looked at. `interval`: in seconds, less than evidence may be old.

    `port`: where agents listen.
    """

    def __init__(
        self, api: Api, wake: Callable[[str, str], None], pace: Timings, interval: float, port: int = PORT
    ) -> None:
        self.informer = Informer(api, PODS, namespace=NAMESPACE, label_selector=SELECTOR, transform=_kept, pace=pace)
        self._certificates = Certificates(api)
        self._wake = wake
        self._interval = interval
        self._port = port
        self._pods: dict[Key, _Pod] = {}
        self._room, self._room_of_silent = asyncio.Semaphore(AT_A_TIME), asyncio.Semaphore(OF_SILENT)
        self._silent: set[str] = set()

    async def run(self, leads: Callable[[], bool]) -> None:
        """Follow the agents until cancelled, and end what is under way then. Who `leads` sees to the certificates."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.informer.run(), name="informer of the nodes' agents")
                group.create_task(self._certify(leads), name="certificates of the nodes' agents")
        finally:
            for key in list(self._pods):
                self.forget(*key)

    async def look(self, namespace: str, name: str, pod: Object | None) -> None:
        """Have the sandbox's pod asked about, if it runs; wait for the first answer, and not for long."""
        uid, node = _place(pod)
        if not node:
            self.forget(namespace, name)
            return
        one = self._pods.get((namespace, name))
        if one is None or (one.uid, one.node) != (uid, node):
            # Another pod: what was said of the one before must not be taken for what is so of this one.
            self.forget(namespace, name)
            one = self._pods[namespace, name] = _Pod(uid, node)
            one.task = asyncio.create_task(self._follow(namespace, name, one), name=f"kernel of {name}")
        if one.late:
            return
        try:
            async with asyncio.timeout(FIRST):
                await one.first.wait()
        except TimeoutError:
            # Nobody waits for it now, so its coming has to wake the sandbox.
            one.late = True

    def known(self, namespace: str, name: str) -> Found:
        """What the kernel said last of the pod that was looked at last."""
        one = self._pods.get((namespace, name))
        return None if one is None else one.found

    async def evidence(self, pod: Object, most: int) -> Evidence:
        """What the kernel of the pod's node says for an investigation, in so many bytes.

        Raises AskingError, ApiError and MisunderstoodError.
        """
        uid, node = _place(pod)
        address = await self._address(node) if node else None
        if address is None:
            raise AskingError("there is no agent on its node")
        return await ask_evidence(address, self._port, await self._certificates.context(), uid, most)

    def counted(self, namespace: str, name: str) -> Counted | None:
        """What the kernel had counted when it was asked last; None where that is too old, or was never told."""
        one = self._pods.get((namespace, name))
        counted = None if one is None else one.counted
        return None if counted is None or datetime.now(UTC) - counted.at > MAX_AGE else counted

    def forget(self, namespace: str, name: str) -> None:
        """Ask about it no more."""
        one = self._pods.pop((namespace, name), None)
        if one is not None and one.task is not None:
            one.task.cancel()

    def silent(self) -> dict[str, bool]:
        """Of each node with a pod that is asked about, whether its agent told nothing when it was asked last."""
        return {one.node: one.node in self._silent for one in self._pods.values()}

    def certificate_ends(self) -> datetime | None:
        """When what the agents are known by ends, were it not renewed until then; None while that is not known."""
        return self._certificates.ends

    async def _certify(self, leads: Callable[[], bool]) -> None:
        """Agents get their certificate before there is a sandbox, and a new one in time."""
        said = ""
        while True:
            if leads():
                # They may have been taken away and be there again, and wait for their certificate.
                if not (there := self._agents()) or not all(pod["address"] for pod in there):
                    self._certificates.doubt()
                try:
                    await self._certificates.context()
                    said = ""
                except Exception as error:  # noqa: BLE001 - nothing that goes wrong here may end the operator
                    if (now := str(error)) != said:
                        logger.warning("the certificates of the nodes' agents can't be looked after: %s", now)
                    said = now
            await asyncio.sleep(CERTIFICATES)

    async def _follow(self, namespace: str, name: str, one: _Pod) -> None:
        while True:
            before, is_first = (one.found, one.counted), not one.first.is_set()
            try:
                wait = await self._ask(one)
            except Exception as error:
                # What is answered is in part what runs in the pod.
                logger.warning("a question to a node's agent has ended early", exc_info=True)
                one.found, wait = Unread(mishap(error)), self._interval
            finally:
                # Also where it failed: a pass waits for it.
                one.first.set()
            # A pass that waited for the first answer has it already.
            if (one.late or not is_first) and _said(*before) != _said(one.found, one.counted):
                self._wake(namespace, name)
            await asyncio.sleep(wait * random.uniform(1.0, 1.2))  # noqa: S311

    async def _ask(self, one: _Pod) -> float:
        """Ask once; in how many seconds to ask again. Where nothing can be had, what was found stays, to grow old."""
        async with self._turn(one.node):
            try:
                answer = await self._answer(one)
            except (AskingError, ApiError) as error:
                self._tell(one.node, str(error))
                one.failures += 1
                return float(min(self._interval, SOON * 2 ** min(one.failures - 1, 8)))
            except MisunderstoodError as error:
                one.found = Unread(f"the answer of the agent on its node is not understood ({error})")
                return self._interval
        self._silent.discard(one.node)
        one.failures = 0
        one.counted = Counted({each.identifier: each.counters for each in answer.containers}, datetime.now(UTC))
        processes, one.looks, young = settled(answer, one.looks)
        # Nothing but what is beginning is no answer yet: what was found before stays.
        if any(container.processes for container in processes.containers) or not young:
            one.found = Reading(processes, EvidenceSource.HOST_PROC, datetime.now(UTC))
        return SOON if young else self._interval

    @asynccontextmanager
    async def _turn(self, node: str) -> AsyncIterator[None]:
        while True:
            is_silent = node in self._silent
            async with self._room_of_silent if is_silent else self._room:
                # While it was waited for, another's question may have told.
                if (node in self._silent) == is_silent:
                    yield
                    return

    async def _answer(self, one: _Pod) -> Answer:
        """Raises AskingError, ApiError and MisunderstoodError."""
        address = await self._address(one.node)
        if address is None:
            raise AskingError("there is none that has an address")
        try:
            answer = await ask(address, self._port, await self._certificates.context(), one.uid)
        except AskingError as error:
            # The Secrets may have been made anew by another process, or taken away.
            if error.untrusted:
                self._certificates.doubt()
            raise
        # The pod runs, as its status says: an agent that sees nothing of it must not make that a clean result.
        if not answer.containers:
            raise AskingError("it finds no control group of a pod that runs there")
        return answer

    async def _address(self, node: str) -> str | None:
        await self.informer.settled.wait()
        for pod in self._agents():
            if pod["node"] == node and pod["address"] and not terminating(pod):
                return str(pod["address"])
        return None

    def _agents(self) -> tuple[Object, ...]:
        return tuple(self.informer.store.by_namespace(NAMESPACE))

    def _tell(self, node: str, why: str) -> None:
        if node not in self._silent:
            # Those that no pod is on any more go: the names of nodes that are gone may never come again.
            self._silent &= {one.node for one in self._pods.values()}
            self._silent.add(node)
            logger.warning("the agent on node %s tells nothing: %s", node, why)


def _kept(pod: Object) -> dict[str, object]:
    """Of an agent's pod what is looked at."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    wanted = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    return {
        "metadata": {name: metadata[name] for name in wanted if name in metadata},
        "node": (pod.get("spec") or {}).get("nodeName"),
        "address": status.get("podIP"),
    }


def _place(pod: Object | None) -> tuple[str, str]:
    """The pod's UID and its node; empty where none of its containers runs."""
    if pod is None or (pod.get("status") or {}).get("phase") != "Running":
        return "", ""
    return str(pod["metadata"]["uid"]), str(pod["spec"].get("nodeName") or "")


def _said(found: Found, counted: Counted | None) -> object:
    """The same without its time; of what was counted, what is short."""
    counters = {} if counted is None else counted.containers
    short = {one: seen for one, told in counters.items() if (seen := pressure_of(told)) != NOTHING_SHORT}
    return said(found.value) if isinstance(found, Reading) else found, short
