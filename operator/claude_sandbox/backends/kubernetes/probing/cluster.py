"""Where the cluster's own services are: what no sandbox may reach, whoever it is.

Theory of operation. Holds what was found last, for AGAIN seconds. Who may not read Services and EndpointSlices outside
of some namespaces finds the API server's address that the operator itself uses, and no more. Where nobody answered,
what was found before stays, and is asked for again in SOON seconds. A crash loses nothing.
"""

import asyncio
import time
from collections.abc import Callable

from claude_sandbox.backends.kubernetes.probing.targets import Address, ClusterAddresses
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import ENDPOINT_SLICES, SERVICES
from claude_sandbox.kubernetes_api.unstructured import Object

AGAIN = 600.0
SOON = 10.0
_MOST = 5
"""Addresses of API servers: each is a target of every probe."""
_OF_API_SERVER = "kubernetes.io/service-name=kubernetes"
_RESOLVER = ("kube-dns", "kube-system")
"""The name that kubeadm, kind, k3s and the managed offerings give its Service."""


class Cluster:
    """What one cluster has."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._own: list[Address] = []
        self._front: list[Address] = []
        self._behind: list[Address] = []
        self._resolver = ""
        self._until: float | None = None

    async def addresses(self) -> ClusterAddresses:
        """What is known, read anew where that is too long ago."""
        if self._until is None or self._clock() >= self._until:
            told = await asyncio.gather(
                self._look_own(), self._look_front(), self._look_behind(), self._look_resolver()
            )
            self._until = self._clock() + (AGAIN if all(told) else SOON)
        found = tuple(dict.fromkeys((*self._own, *self._front, *self._behind)))
        return ClusterAddresses(found[:_MOST], self._resolver)

    async def _look_own(self) -> bool:
        """Whether that was told, as for the others."""
        host, _, port = self._api.host.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port))
        except OSError:
            return False
        except ValueError:
            return True
        self._own = [(str(one[4][0]), int(one[4][1])) for one in found[:1]]
        return True

    async def _look_front(self) -> bool:
        service = await self._service("kubernetes", "default")
        if service is not None:
            self._front = [(one, 443) for one in _clusters(service)]
        return service is not None

    async def _look_resolver(self) -> bool:
        service = await self._service(*_RESOLVER)
        if service is not None:
            self._resolver = next(iter(_clusters(service)), "")
        return service is not None

    async def _service(self, name: str, namespace: str) -> Object | None:
        """Empty where there is none; None where that was not told."""
        try:
            return await self._api.get(SERVICES, name, namespace)
        except ApiError as error:
            return {} if _is_answer(error) else None

    async def _look_behind(self) -> bool:
        try:
            slices = (await self._api.list(ENDPOINT_SLICES, "default", label_selector=_OF_API_SERVER)).items
        except ApiError as error:
            if not _is_answer(error):
                return False
            slices = []
        self._behind = [
            (str(address), int(port["port"]))
            for one in slices
            for endpoint in one.get("endpoints") or ()
            for address in endpoint.get("addresses") or ()
            for port in one.get("ports") or ()
            if port.get("port")
        ]
        return True


def _is_answer(error: ApiError) -> bool:
    """Whether it will be the same in a while: there is none, or the operator may not know."""
    return error.status in (403, 404)


def _clusters(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    return [one for one in spec.get("clusterIPs") or [spec.get("clusterIP")] if one and one != "None"]
