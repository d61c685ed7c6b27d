"""The credential of another sandbox's service, by an address that was that sandbox's a moment ago.

At the proxy a sandbox on Kubernetes is known by its pod's address. A pod that has ended gives its address back, and the
next pod on the node may get it while the status of the first one's sandbox, which the operator writes later, still has
it. By that status alone (as destinations are told apart) the second sandbox's agent is taken for the first, and its
requests would go out with the first one's credential. What closes it: a credential is lent only where the API server
says of the pods themselves that one alone has the address, goes on, and is the one that the sandbox's status names by
its UID (`gateway/kubernetes/pods.py`).

In the same test the attack succeeds by the status: the first sandbox's destination is let through.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_place import Place, place, ready
from gatewaykit import Gateway, running
from service_lab import HOST, TOKEN, ServiceLab, service

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

FIRST, SECOND, FREE = "127.0.0.21", "127.0.0.22", "127.0.0.23"
SECRET = "issues"


@dataclass(frozen=True)
class Lab:
    place: Place
    service: ServiceLab
    gateway: Gateway
    uid: str
    """Of the first sandbox's pod."""

    async def asks(self, address: str, name: str = "issues.services") -> str:
        """The status line of what a program at this address is answered."""
        host, _, port = self.gateway.proxy.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
        writer.write(f"GET http://{name}/api/items HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        line = (await reader.readline()).decode()
        writer.transport.abort()
        return line.split(" ", 2)[1]

    async def comes_to(self, status: str, address: str, name: str = "issues.services") -> None:
        async with asyncio.timeout(20):
            while await self.asks(address, name) != status:  # noqa: ASYNC110  # in another process
                await asyncio.sleep(0.1)


@pytest.fixture
async def lab(control_plane: Cluster, tmp_path: Path) -> AsyncIterator[Lab]:
    async with place(control_plane, tmp_path) as here, service(tmp_path) as one:
        await here.make(secrets=(SECRET,))
        data = {"token": TOKEN, "host": one.at}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        document = {"metadata": {"name": SECRET}, "type": meta.SERVICE_SECRET_TYPE, "data": encoded}
        await here.api.create(r.SECRETS, document, here.namespace)
        header = {"prefix": "Bearer ", "valueFrom": {"secretKeyRef": {"name": SECRET}}}
        declared = {"name": "issues", "host": one.at, "header": header, "paths": ["/api/*"]}
        allowed = {"egress": {"allowedDomains": ["first.example.org"]}}
        first = await here.sandbox("first", services=[declared], network=allowed)
        second = await here.sandbox("second")
        await here.running("first", FIRST)
        await here.running("second", SECOND)
        await here.report("first", first, FIRST)
        await here.report("second", second, SECOND)
        configuration: dict[str, Any] = here.configuration("http://127.0.0.1:9")
        configuration["provider"]["caFile"] = str(one.trust.bundle)
        configuration["egress"]["hosts"] = {HOST: ["127.0.0.1"], "first.example.org": ["127.0.0.1"]}
        with running(tmp_path, configuration) as gateway:
            await ready(gateway)
            yield Lab(here, one, gateway, first)


async def test_an_address_is_lent_nothing_once_its_pod_has_lost_it(lab: Lab) -> None:
    await lab.comes_to("200", FIRST)
    assert lab.service.seen[-1].header("authorization") == [f"Bearer {TOKEN}"]
    assert await lab.asks(SECOND) == "404", "it is none of the second's services"

    # The first pod's network is gone with its node's restart, the second has its address; no status says so yet.
    await lab.place.running("first")
    await lab.place.running("second", FIRST)
    await lab.comes_to("503", FIRST)
    # By the status alone it is still the first one's: what only the first may reach is let through.
    assert await lab.asks(FIRST, "first.example.org") == "502", "nothing listens there"
    assert await lab.asks(SECOND, "first.example.org") == "403"
    count = len(lab.service.seen)

    # The operator has seen it.
    await lab.place.report("first", lab.uid, FREE)
    await lab.place.running("first", FREE)
    await lab.comes_to("200", FREE)
    assert len(lab.service.seen) == count + 1


async def test_what_is_not_certain_is_lent_nothing(lab: Lab) -> None:
    await lab.comes_to("200", FIRST)
    await lab.place.running("second", FIRST)
    await lab.comes_to("503", FIRST)  # two pods have the address
    await lab.place.running("second", SECOND)
    await lab.comes_to("200", FIRST)

    down = {"type": "PodReadyToStartContainers", "status": "False"}
    await lab.place.running("first", FIRST, conditions=[down])
    await lab.comes_to("503", FIRST)  # the pod has no network
    await lab.place.running("first", FIRST, conditions=[{**down, "status": "True"}])
    await lab.comes_to("200", FIRST)

    # Another pod of the same name: its UID is not the one that the status names.
    name = meta.child_name("first")
    await lab.place.api.delete(r.PODS, name, lab.place.namespace, grace_seconds=0)
    await lab.comes_to("503", FIRST)
    other = await lab.place.pod(name, labels={meta.LABEL_SANDBOX: "first"})
    await lab.place.running("first", FIRST)
    assert await lab.asks(FIRST) == "503"
    await lab.place.report("first", other, FIRST)
    await lab.comes_to("200", FIRST)

    await lab.place.running("first", FIRST, phase="Failed")
    await lab.comes_to("503", FIRST)  # it has ended


async def test_a_secret_is_not_lent_for_what_it_has_not_opted_in_to(lab: Lab) -> None:
    """Who may declare a service, and not read the Secret, has it sent to a host of his own; or has the key of the
    model's provider sent there."""
    await lab.comes_to("200", FIRST)
    secret = {"data": {"host": base64.b64encode(b"other.example.org").decode()}}
    await lab.place.api.patch(r.SECRETS, SECRET, lab.place.namespace, secret)
    await lab.comes_to("503", FIRST)
    await lab.place.api.delete(r.SECRETS, SECRET, lab.place.namespace)
    encoded = {"token": base64.b64encode(b"k").decode(), "host": base64.b64encode(lab.service.at.encode()).decode()}
    document = {"metadata": {"name": SECRET}, "type": meta.SECRET_TYPE, "data": encoded}
    await lab.place.api.create(r.SECRETS, document, lab.place.namespace)
    assert await lab.asks(FIRST) == "503"
    labels = {"metadata": {"labels": {meta.SERVICE_SECRET_TYPE: meta.LABEL_SECRET_OPT_IN_VALUE}}}
    await lab.place.api.patch(r.SECRETS, SECRET, lab.place.namespace, labels)
    await lab.comes_to("200", FIRST)
    assert lab.service.seen[-1].header("authorization") == ["Bearer k"]
