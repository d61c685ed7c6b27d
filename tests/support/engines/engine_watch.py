"""Watches an engine's own events, past the operator: on which networks sandboxes' containers run, and for how long.

What it holds against every sandbox, whoever did what to it meanwhile:
- when its container is started it is on no network but the sandbox's own, which leads nowhere;
- while it runs it joins no other, unless the test itself put it there; then it is off it again soon;
- the helper that brings the key is on no network, ever;
- the relay that publishes its ports is on the sandbox's own network and an outer one of its own, and no other;
- so is the gateway by which it gets out;
- what clones its repositories is where its container is, and nowhere else.
"""

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import docker
from docker.errors import APIError, NotFound
from requests.exceptions import RequestException

from claude_sandbox.localcluster.engine import EngineDescription

COMPONENT, UID = "claudesandbox.dev/component", "claudesandbox.dev/sandbox-uid"
_FILTERS = {
    "type": ["container", "network"],
    "event": ["create", "start", "die", "destroy", "connect", "disconnect"],
}


@dataclass
class _Seen:
    """One container. `on`: the networks that it is on now, by identifier, and since when."""

    labels: Mapping[str, str]
    name: str
    on: dict[str, float] = field(default_factory=dict)
    running: bool = False


@dataclass(frozen=True)
class Stay:
    """For how many seconds a running sandbox was on a network that is not its own."""

    container: str
    network: str
    seconds: float


class Watch:
    """From when the block is entered until it is left. `violations` tells what should never be, as text."""

    def __init__(self, of: EngineDescription) -> None:
        self._of = of
        self._api = docker.APIClient(base_url=of.socket, timeout=60, version="auto")
        self._containers: dict[str, _Seen] = {}
        # Networks by identifier, and of which sandbox (by UID) each is the own one, which leads nowhere, or the outer.
        self._networks: dict[str, str] = {}
        self._outer: dict[str, tuple[str, str]] = {}
        """Of which sandbox's component each outer network is."""
        self._names: dict[str, str] = {}
        self._excused: set[str] = set()
        self._stays: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._follows, self._ended = threading.Event(), threading.Event()
        self.violations: list[str] = []
        self.stays: list[Stay] = []
        self.starts = 0
        self.gaps = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._forever, name="engine-watch", daemon=True).start()
        assert self._follows.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # Something happens, so that the reader looks up.
        with contextlib.suppress(APIError, RequestException):
            self._api.remove_network(self._api.create_network("the-watch-ends")["Id"])

    def excuse(self, container: str) -> None:
        """The test is about to connect this container, named or by identifier, to a network that is not its own."""
        with self._lock:
            self._excused.add(container)

    @property
    def on_now(self) -> list[str]:
        """Running sandboxes that are on a network not their own now."""
        with self._lock:
            return [f"{name} on {self._names.get(network)}" for name, network in self._stays]

    def _forever(self) -> None:
        while not self._ended.is_set():
            try:
                events = self._api.events(filters=_FILTERS, decode=True)
                self._look()
                self._follows.set()
                for event in events:
                    if self._ended.is_set():
                        return
                    with self._lock:
                        self._take(event)
            except (APIError, RequestException, json.JSONDecodeError, OSError):
                pass
            self.gaps += 1
            time.sleep(0.1)

    def _look(self) -> None:
        """All there is now, asked and not heard: the first time, and after the events could not be followed."""
        with self._lock:
            for network in self._api.networks():
                self._learn(network["Id"])
            self._containers.clear()
            self._stays.clear()
            for summary in self._api.containers(all=True):
                try:
                    live = self._api.inspect_container(summary["Id"])
                except NotFound:
                    continue
                one = _Seen(live["Config"]["Labels"] or {}, live["Name"].lstrip("/"))
                self._containers[live["Id"]] = one
                if live["State"]["Running"]:
                    one.running = True
                    for endpoint in live["NetworkSettings"]["Networks"].values():
                        self._joins(live["Id"], str(endpoint["NetworkID"]))

    def _take(self, event: dict[str, Any]) -> None:
        actor, action = event["Actor"], str(event["Action"])
        identifier, attributes = str(actor["ID"]), actor.get("Attributes") or {}
        match event["Type"], action:
            case "network", "create":
                self._learn(identifier)
            case "network", "connect":
                self._joins(str(attributes.get("container")), identifier)
            case "network", "disconnect":
                self._leaves(str(attributes.get("container")), identifier)
            case "container", "create":
                self._containers[identifier] = _Seen(attributes, str(attributes.get("name")))
            case "container", "start":
                self._starts(identifier)
            case "container", "die":
                self._ends(identifier)
            case "container", "destroy":
                self._ends(identifier)
                self._containers.pop(identifier, None)

    def _learn(self, network: str) -> None:
        try:
            live = self._api.inspect_network(network)
        except (APIError, RequestException):
            # Gone already: nothing is known of it, so that nobody may be on it.
            return
        self._names[network] = live["Name"]
        labels = live.get("Labels") or {}
        if live["Internal"] and live["Driver"] == "bridge" and labels.get(COMPONENT) == "network":
            self._networks[network] = labels.get(UID, "")
        elif labels.get(COMPONENT) in ("relay-network", "gateway-network"):
            self._outer[network] = (labels.get(UID, ""), labels[COMPONENT])

    def _is_own(self, one: _Seen, network: str) -> bool:
        if one.labels.get(COMPONENT) == "key-delivery":
            return self._names.get(network) == "none"
        uid = one.labels[UID]
        # Only a relay and a gateway have such a network.
        return self._networks.get(network) == uid or self._outer.get(network) == (
            uid,
            f"{one.labels[COMPONENT]}-network",
        )

    def _is_watched(self, one: _Seen | None) -> bool:
        return one is not None and one.labels.get(COMPONENT) in ("agent", "clone", "key-delivery", "relay", "gateway")

    def _joins(self, container: str, network: str) -> None:
        one = self._containers.get(container)
        if one is None or not self._is_watched(one):
            return
        one.on[network] = time.monotonic()
        if not self._is_own(one, network):
            self._stays[one.name, network] = time.monotonic()
            if one.running and not self._is_excused(container, one):
                self._says(f"{one.name} joined {self._names.get(network, network)} while it ran")

    def _leaves(self, container: str, network: str) -> None:
        one = self._containers.get(container)
        if one is None:
            return
        one.on.pop(network, None)
        if (since := self._stays.pop((one.name, network), None)) is not None and one.running:
            self.stays.append(Stay(one.name, self._names.get(network, network), time.monotonic() - since))

    def _starts(self, container: str) -> None:
        one = self._containers.get(container)
        if one is None or not self._is_watched(one):
            return
        one.running = True
        self.starts += 1
        others = [self._names.get(network, network) for network in one.on if not self._is_own(one, network)]
        if others and not self._is_excused(container, one):
            self._says(f"{one.name} was started on {', '.join(others)}")

    def _ends(self, container: str) -> None:
        one = self._containers.get(container)
        if one is None:
            return
        for network in list(one.on):
            self._leaves(container, network)
        one.running = False

    def _is_excused(self, container: str, one: _Seen) -> bool:
        return container in self._excused or one.name in self._excused

    def _says(self, what: str) -> None:
        self.violations.append(what)
