"""The pods of sandboxes in the gateway's namespace, by their addresses: whose address it is, for certain.

Theory of operation. A sandbox's status says which addresses its pod has, but the operator writes it, later than a pod
has an address, and not at all while there is no operator. An address goes to another pod as soon as its pod has ended.
To tell destinations apart that does; a credential is lent by what the API server says of the pods themselves. They are
followed as sandboxes are (`followed.py`), and only where a sandbox has services; nobody but pods with this label
can connect. Of each pod its UID, its addresses and whether it goes on are held.

An address is certain while the watch is in contact, and one pod alone that has not ended has it, and that pod is not
being deleted, and its network is up as far as the kubelet has said. What remains is the kubelet's own delay, of some
seconds: where a pod's network ends and nobody deleted the pod (its node was restarted, or what holds its network was
killed), and another sandbox's pod gets that very address before the kubelet has told of either.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj
from claude_sandbox.gateway.kubernetes.declared import Pod, as_sockets_write
from claude_sandbox.gateway.kubernetes.followed import Followed
from claude_sandbox.gateway.kubernetes.names import LABEL_SANDBOX

_PAGE = 50
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Placed:
    """A pod that has not ended. `steady`: it is not being deleted, and has its network."""

    pod: Pod
    addresses: tuple[str, ...]
    steady: bool


class Pods(Followed[dict[str, Placed]]):
    """Those of one namespace."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        super().__init__(
            api, f"/api/v1/namespaces/{namespace}/pods", page=_PAGE, query={"labelSelector": LABEL_SANDBOX}
        )
        self._found: dict[str, Placed] = {}
        self._by_address: dict[str, Placed | None] = {}
        self._needed = asyncio.Event()

    def need(self, needed: bool) -> None:
        """Whether they are to be followed."""
        if needed:
            self._needed.set()
        else:
            self._needed.clear()

    def certainly_at(self, address: str) -> Pod | None:
        """The pod whose address this is; None where that is not certain."""
        # What is known may be old, and an address goes to another pod as soon as its own has ended.
        if self._version is None or self.contact.behind() is not None:
            return None
        found = self._by_address.get(address)
        return found.pod if found is not None and found.steady else None

    async def _begin(self) -> None:
        if not self._needed.is_set():
            # Nobody follows them meanwhile, so that what is known grows old: it is listed anew before any is certain.
            self._version = None
            await self._needed.wait()

    def _nothing(self) -> dict[str, Placed]:
        return {}

    def _take(self, item: Any, held: dict[str, Placed]) -> None:
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(metadata, dict):
            raise ApiServerError(200, "a pod without metadata")
        placed = read_pod(item, metadata)
        if placed is not None:
            held[placed.pod.name] = placed

    def _hold(self, held: dict[str, Placed]) -> None:
        self._found = held
        self._index()

    def _apply(self, kind: str, obj: Obj) -> None:
        # A pod that lost the label can't connect any more either: of it the server says that it is deleted.
        self._found.pop(str(obj["metadata"].get("name")), None)
        if kind != "DELETED":
            self._take(obj, self._found)
        self._index()

    def _index(self) -> None:
        by_address: dict[str, Placed | None] = {}
        for placed in self._found.values():
            for address in placed.addresses:
                # Of two that have it, none has it for certain.
                by_address[address] = None if address in by_address else placed
        self._by_address = by_address


def read_pod(obj: Mapping[str, Any], metadata: Mapping[str, Any]) -> Placed | None:
    """A pod as the API server tells it; None for one that has ended, and has no address any more."""
    status = obj.get("status")
    status = status if isinstance(status, dict) else {}
    if status.get("phase") in _ENDED:
        return None
    texts = [one.get("ip") for one in status.get("podIPs") or () if isinstance(one, dict)]
    addresses = tuple(address for text in texts if isinstance(text, str) and (address := as_sockets_write(text)))
    pod = Pod(str(metadata.get("name")), str(metadata.get("uid")))
    return Placed(pod, addresses, "deletionTimestamp" not in metadata and _has_network(status))


def _has_network(status: Mapping[str, Any]) -> bool:
    """Whether the kubelet has not said otherwise; before Kubernetes 1.29 it says nothing of it."""
    conditions = [one for one in status.get("conditions") or () if isinstance(one, dict)]
    told = (one.get("status") for one in conditions if one.get("type") == "PodReadyToStartContainers")
    return next(told, "True") == "True"
