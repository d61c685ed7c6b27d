"""One engine behind a relay, an operator as a process, and sandboxes that are brought from one state to another."""

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import tarfile
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, get_sandbox, is_ready, prepare
from dockerkit import IMAGE, counted
from engine_relay import Call, Relay, Rule
from engine_watch import UID, Watch
from portkit import HTTP, PORT, SERVES, answers
from requests.exceptions import RequestException

from claude_sandbox.api import meta
from claude_sandbox.blueprint.tools import BUSYBOX
from claude_sandbox.install.inside import run_inside
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.recipes import recipe

KEY, NEXT_KEY = "not-really-a-key-1234", "not-really-a-key-5678"
KEY_FILE = "/run/claude-sandbox/api-key/api-key"
RELAY_MEMORY = 128 << 20
"""Bytes that a relay may have at most."""
GATEWAY_MEMORY = 352 << 20
"""As RELAY_MEMORY, of a gateway."""
GIT_HOST, GIT_PORT = "git.example.org", 18443
"""Where the repositories of sandboxes that have some are, beside the provider."""
CLONED_PATH = "code/project"
WHOLE = f"""cd /workspace/{CLONED_PATH} && git fsck --full --strict 2>&1 && git status --porcelain 2>&1 \
&& git diff --stat refs/remotes/origin/main 2>&1 && cd /workspace && find . -mindepth 1 -maxdepth 1 -printf '%P\\n'"""
"""Says what is wrong with what was cloned, and then what there is in the workspace."""
_BODY = '{"model":"claude-test-1","max_tokens":10,"messages":[{"role":"user","content":"ping"}]}'
# Half a connection is none to a gateway.
ASK = f"""{{ printf 'POST /v1/messages HTTP/1.1\\r\\nHost: claude-sandbox-gateway:8080\\r\\nConnection: close\\r\\n'
printf 'x-api-key: %s\\r\\nContent-Type: application/json\\r\\n' "$(cat {KEY_FILE})"
printf 'Content-Length: {len(_BODY)}\\r\\n\\r\\n%s' '{_BODY}'
sleep 1; }} | {BUSYBOX} nc -w 5 claude-sandbox-gateway 8080"""
"""The smallest client of the model."""
_MEMORY = {None: 2 << 30, "3Gi": 3 << 30, "512Mi": 512 << 20}
"""Bytes, by what sandboxes here ask for."""
PATIENCE = 240.0
"""Seconds for anything to come about: repairs after the first wait 10 s and 20 s, and the machine may be busy."""
REST = 5.0
"""Seconds without a call after which a sandbox is taken to be at rest."""
HOST = "engine-1"

Wanted = Callable[[Obj | None], bool]


@dataclass
class Made:
    """One sandbox of the test, and the container that it has on the engine, as the engine itself tells."""

    place: "Place"
    name: str
    uid: str
    spec: dict[str, Any]
    key: str = KEY
    # The calls that changed anything of it since it was last armed.
    calls: list[Call] = field(default_factory=list)

    @property
    def container(self) -> dict[str, Any] | None:
        """Its container, whatever it is called now; None where there is none."""
        return self._container("agent")

    @property
    def relay(self) -> dict[str, Any] | None:
        """As `container`, of what publishes its ports."""
        return self._container("relay")

    @property
    def gateway(self) -> dict[str, Any] | None:
        """As `container`, of its way out."""
        return self._container("gateway")

    @property
    def cloner(self) -> dict[str, Any] | None:
        """As `container`, of what clones its repositories."""
        return self._container("clone")

    @property
    def brokered(self) -> bool:
        """Whether it has a gateway, and a placeholder for its key."""
        return bool(self.spec.get("credentials", {}).get("delivery") == "Brokered")

    def _container(self, component: str) -> dict[str, Any] | None:
        sdk = self.place.sdk.api
        wanted = {"label": [f"{UID}={self.uid}", f"{meta.LABEL_COMPONENT}={component}"]}
        for summary in sdk.containers(all=True, filters=wanted):
            with contextlib.suppress(NotFound):
                found: dict[str, Any] = sdk.inspect_container(summary["Id"])
                return found
        return None

    @property
    def left(self) -> dict[str, list[str]]:
        """The names of everything that the engine has for it, by kind."""
        sdk = self.place.sdk.api
        wanted = {"label": f"{UID}={self.uid}"}
        return {
            # One that is just being removed has no name any more.
            "containers": sorted(
                str((one["Names"] or [f"/{one['Id']}"])[0])[1:] for one in sdk.containers(all=True, filters=wanted)
            ),
            "networks": sorted(one["Name"] for one in sdk.networks(filters=wanted)),
            "volumes": sorted(one["Name"] for one in sdk.volumes(filters=wanted)["Volumes"] or ()),
        }

    @property
    def ports(self) -> list[dict[str, Any]]:
        """Those that it declares."""
        found: list[dict[str, Any]] = self.spec.get("network", {}).get("ports", [])
        return found

    def amiss(self) -> str:
        """In what the engine's state is not that of a sandbox that runs as asked for; empty where it is."""
        live = self.container
        if live is None or not live["State"]["Running"] or live["State"]["Paused"]:
            return f"it does not run: {None if live is None else live['State']}"
        left = self.left
        # With a relay come its container and its outer network; so they do with a gateway, and its accounts.
        both = 1 + bool(self.ports) + self.brokered
        if [len(left[kind]) for kind in ("containers", "networks", "volumes")] != [both, both, 3 + self.brokered]:
            return f"it has {left}"
        network = min(left["networks"])
        if (on := set(live["NetworkSettings"]["Networks"])) != {network}:
            return f"it is on {on}"
        if not self.place.sdk.api.inspect_network(network)["Internal"]:
            return "its network is open"
        memory = _MEMORY[self.spec.get("resources", {}).get("memory")]
        if (live["HostConfig"]["Memory"], live["HostConfig"]["MemorySwap"]) != (memory, memory):
            return f"its memory is {live['HostConfig']['Memory']}"
        asked = {f"{one['name']}={one['value']}" for one in self.spec.get("env", ())}
        if not asked <= set(live["Config"]["Env"]):
            return "it has another environment"
        found = self.read(str(live["Id"]), KEY_FILE)
        if self.brokered and found is not None and found[0].startswith(b"csb-"):
            found = (self.key.encode(), *found[1:])
        if found != (self.key.encode(), 0o400, 1000):
            return f"its key is {None if found is None else found[1:]}"
        if self.read(str(live["Id"]), "/etc/claude-code/managed-settings.json") is None:
            return "it has no settings"
        if self.brokered and (why := self._unbrokered(str(live["Id"]), network)):
            return why
        if self.spec.get("repositories") and (why := self._not_whole(str(live["Id"]))):
            return why
        return self._unpublished(str(live["Id"]), network) if self.ports else ""

    def _unbrokered(self, agent: str, network: str) -> str:
        """In what it can't work by its gateway: a request with its placeholder has to come with its key."""
        live, sdk = self.gateway, self.place.sdk.api
        if live is None or not live["State"]["Running"] or live["State"]["Paused"]:
            return f"its gateway does not run: {None if live is None else live['State']}"
        outer = next(name for name in self.left["networks"] if name.endswith("-gateway"))
        on = {name: one["NetworkID"] for name, one in live["NetworkSettings"]["Networks"].items()}
        if on != {name: sdk.inspect_network(name)["Id"] for name in (network, outer)}:
            return f"its gateway is on {on}"
        if live["HostConfig"]["Memory"] > GATEWAY_MEMORY:
            return f"its gateway's memory is {live['HostConfig']['Memory']}"
        answer = run_inside(sdk, agent, "/bin/sh", "-c", ASK)[1]
        wanted = hashlib.sha256(self.key.encode()).hexdigest()
        return "" if wanted in answer else f"its gateway answers {answer[:300]!r}"

    def _not_whole(self, agent: str) -> str:
        """In what its repository is not there as it was cloned, or anything else is beside it."""
        code, said = run_inside(self.place.sdk.api, agent, "/bin/sh", "-c", WHOLE)
        return "" if (code, said) == (0, f"{CLONED_PATH.partition('/')[0]}\n") else f"of its repository: {said[:300]!r}"

    def _unpublished(self, agent: str, network: str) -> str:
        """In what its port is not published as it should be."""
        live, sdk, (port,) = self.relay, self.place.sdk.api, self.ports
        if live is None or not live["State"]["Running"] or live["State"]["Paused"]:
            return f"its relay does not run: {None if live is None else live['State']}"
        outer = max(self.left["networks"])
        networks = {name: sdk.inspect_network(name) for name in (network, outer)}
        on = {name: one["NetworkID"] for name, one in live["NetworkSettings"]["Networks"].items()}
        if on != {name: one["Id"] for name, one in networks.items()}:
            return f"its relay is on {on}"
        members = [set(one["Containers"]) for one in networks.values()]
        if members != [{agent, live["Id"]}, {live["Id"]}]:
            return f"its networks have {[list(one['Containers'].values()) for one in networks.values()]}"
        if live["HostConfig"]["Memory"] > RELAY_MEMORY:
            return f"its relay's memory is {live['HostConfig']['Memory']}"
        wanted = str(port.get("hostPort", ""))
        match self.published:
            case [("127.0.0.1", number)] if wanted in ("", number):
                found = answers(self.place.host, f"127.0.0.1:{number}")
                return "" if found == "hello\n" else f"its port answers {found!r}"
            case published:
                return f"its port is published on {published}"

    @property
    def published(self) -> list[tuple[str, str]]:
        """Where on the host its port is published, by the engine's word."""
        found = ((self.relay or {}).get("NetworkSettings") or {}).get("Ports") or {}
        return [(one["HostIp"], one["HostPort"]) for one in found.get(f"{PORT}/tcp") or ()]

    def told(self, found: Obj | None) -> bool:
        """Whether the operator says that the sandbox can be worked with, and where its port is published."""
        if not ready(found) or found is None:
            return False
        endpoints = [one["address"] for one in found["status"].get("endpoints") or ()]
        return endpoints == [f"{address}:{number}" for address, number in self.published if self.ports]

    def read(self, container: str, path: str) -> tuple[bytes, int, int] | None:
        """A file's content, mode and owner, as the engine itself reads them."""
        try:
            stream, _ = self.place.sdk.api.get_archive(container, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                member = archive.next()
                file = archive.extractfile(member) if member is not None else None
                return (file.read(), member.mode & 0o777, member.uid) if member is not None and file else None
        except APIError:
            return None

    def suspended_amiss(self) -> str:
        """As `amiss`, of one that is suspended."""
        left = self.left
        right = [len(left[kind]) for kind in ("containers", "networks", "volumes")] == [0, 1, 3 + self.brokered]
        return "" if right else f"it has {left}"

    def gone_amiss(self) -> str:
        """As `amiss`, of one that was deleted, with its workspace."""
        left = self.left
        return f"it has left {left}" if any(left.values()) else ""


class Conductor(Rule):
    """Knows whose call each is, counts them, and does what was asked for at the k-th of a sandbox."""

    def __init__(self, place: "Place") -> None:
        self._place = place
        self._labels: dict[str, dict[str, str]] = {}
        self._armed: dict[str, Moment] = {}
        self._lock = threading.Lock()
        self.calls: list[Call] = []

    def arm(self, made: Made, at: "Moment | None") -> None:
        """Count this sandbox's calls from the first, and do something at one of them."""
        with self._lock:
            made.calls.clear()
            self._armed.pop(made.name, None)
            if at is not None:
                self._armed[made.name] = at

    def before(self, call: Call) -> None:
        made = self._owner(call)
        with self._lock:
            self.calls.append(call)
            if made is None:
                return
            made.calls.append(call)
            moment = self._armed.get(made.name)
            if moment is None or not moment.is_at(call, len(made.calls)):
                return
            moment.call = call
        if not moment.answered:
            moment.act()

    def after(self, call: Call) -> None:
        with self._lock:
            moment = next((one for one in self._armed.values() if one.call is call), None)
        if moment is not None and moment.answered:
            moment.act()

    def _owner(self, call: Call) -> Made | None:
        text = f"{call.path}?{call.query} {call.body[:4096].decode('latin-1')}"
        for name, made in self._place.sandboxes.items():
            # By the names of its objects, or by that of its image where it has one of its own.
            if f"-{name}-" in text or f"%2F{name}&" in f"{call.query}&":
                return made
        for part in call.path.split("/"):
            if len(part) == 64:
                return self._place.sandboxes.get(self._labels_of(part).get(meta.LABEL_SANDBOX, ""))
        return None

    def component(self, call: Call) -> str:
        """Of what a call is that makes, starts, stops or removes a container; once it was seen, whenever it is asked.

        Empty where it is of none.
        """
        if call.path == "/containers/create":
            return str(json.loads(call.body)["Labels"].get(meta.LABEL_COMPONENT, ""))
        identifier = next((part for part in call.path.split("/") if len(part) == 64), "")
        return self._labels.get(identifier, {}).get(meta.LABEL_COMPONENT, "")

    def _labels_of(self, identifier: str) -> dict[str, str]:
        """Those of a container or network, asked of the engine itself, past the relay."""
        if identifier not in self._labels:
            sdk = self._place.sdk.api
            for inspect in (sdk.inspect_container, sdk.inspect_network):
                with contextlib.suppress(APIError, RequestException):
                    found = inspect(identifier)
                    self._labels[identifier] = (found.get("Config") or found).get("Labels") or {}
                    break
        return self._labels.get(identifier, {})


@dataclass
class Moment:
    """Before the engine hears of a sandbox's call, or, `answered`, when it has carried it out.

    `which`: the number of the call, from 1, or whether a call is the one.
    """

    which: int | Callable[[Call], bool]
    action: Callable[[], None]
    answered: bool = False
    call: Call | None = None
    came: threading.Event = field(default_factory=threading.Event)
    """Set as soon as the call is there."""
    acted: threading.Event = field(default_factory=threading.Event)
    """Set when what was to be done is done."""
    error: BaseException | None = None

    def is_at(self, call: Call, number: int) -> bool:
        """Whether it has come with this call, the sandbox's `number`-th; it comes once."""
        if self.call is not None:
            return False
        return self.which == number if isinstance(self.which, int) else self.which(call)

    def act(self) -> None:
        self.came.set()
        try:
            self.action()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.acted.set()


@dataclass(frozen=True)
class Phase:
    """A way from one state of a sandbox to another. `begin` None: from a sandbox that runs and is at rest.

    `spec`: what the sandbox is created with.
    """

    name: str
    begin: Callable[["Place", Made], Awaitable[None]] | None
    trigger: Callable[["Place", Made], Awaitable[None]]
    amiss: Callable[[Made], str] = Made.amiss
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def creates(self) -> bool:
        """Whether it begins with the sandbox's creation."""
        return self.name == CREATING


class Place:
    """The API server, the engine as a DockerHost behind the relay, the operator, and whoever watches the engine."""

    def __init__(
        self, api: Api, host: EngineDescription, operator: Operator, relay_at: Path, watch: Watch, cluster: Cluster
    ) -> None:
        self.api, self.host, self.operator, self.watch, self.cluster = api, host, operator, watch, cluster
        self.sandboxes: dict[str, Made] = {}
        self.sdk = docker.DockerClient(base_url=host.socket, timeout=60, version="auto", max_pool_size=32)
        self.conductor = Conductor(self)
        self.relay = Relay(relay_at, host.socket_path, self.conductor)
        self.fleet = Fleet(api)

    async def join(self) -> None:
        """Make the engine known by the relay's socket."""
        images = {"allowed": [{"repository": "127.0.0.1:5000"}]}
        await self.fleet.add(HOST, f"unix://{self.relay.path}", allowedNamespaces={"names": [OWN]}, images=images)
        await self.fleet.comes_to(HOST, is_ready)

    def prepare(self, name: str) -> Made:
        """The sandbox of that name, before it is created."""
        return self.sandboxes.setdefault(name, Made(self, name, "", {}))

    async def create(self, name: str, at: Moment | None = None, key: str = KEY, **spec: Any) -> Made:
        """Create a sandbox with a Secret of its own; with a moment for what is done when it comes to be."""
        await self.fleet.secret(name, {"api-key": key}, meta.SECRET_TYPE)
        made = self.prepare(name)
        made.key = key
        self.conductor.arm(made, at)
        own = {
            "workspace": {"type": "PersistentVolumeClaim", "size": "16Mi", "retention": "Delete"},
            "updateStrategy": {"type": "Recreate"},
            **spec,
        }
        made.spec = own
        made.uid = (await create_sandbox(self.api, name, **own))["metadata"]["uid"]
        return made

    async def change(self, made: Made, **spec: Any) -> None:
        made.spec |= spec
        await self.api.patch(SANDBOXES, made.name, OWN, {"spec": spec})

    async def renew_key(self, made: Made, key: str = NEXT_KEY) -> None:
        made.key = key
        await self.api.patch(SECRETS, made.name, OWN, {"stringData": {"api-key": key}})

    async def delete(self, made: Made) -> None:
        with contextlib.suppress(ApiError):
            await self.api.delete(SANDBOXES, made.name, OWN)

    async def get(self, made: Made) -> Obj | None:
        return await get_sandbox(self.api, made.name)

    async def comes_to(self, made: Made, amiss: Callable[[Made], str], patience: float = PATIENCE) -> str:
        """Wait until the engine's state is as it should be; why it is not, where it doesn't come to be."""
        deadline = time.monotonic() + patience
        why = "it was never looked at"
        while time.monotonic() < deadline:
            try:
                if not (why := await asyncio.to_thread(amiss, made)):
                    return ""
            except (APIError, RequestException) as error:
                why = str(error)
            await asyncio.sleep(0.3)
        return why

    async def is_told(self, made: Made, wanted: Wanted, patience: float = PATIENCE) -> str:
        """Wait until the resource is as it should be; what it says, where it doesn't come to be."""
        deadline = time.monotonic() + patience
        found: Obj | None = None
        while time.monotonic() < deadline:
            found = await self.get(made)
            if wanted(found):
                return ""
            await asyncio.sleep(0.3)
        return json.dumps((found or {}).get("status", {}).get("conditions"))

    async def ended(self, *made: Made) -> list[str]:
        """Delete sandboxes; what is left of them after all."""
        for one in made:
            self.conductor.arm(one, None)
        await asyncio.gather(*map(self.delete, made))
        left = await asyncio.gather(*(self.comes_to(one, Made.gone_amiss) for one in made))
        told = await asyncio.gather(*(self.is_told(one, lambda found: found is None) for one in made))
        for one in made:
            with contextlib.suppress(ApiError):
                await self.api.delete(SECRETS, one.name, OWN)
            self.sandboxes.pop(one.name, None)
        return [f"{one.name}: {why}" for one, *whys in zip(made, left, told, strict=True) for why in whys if why]


def ready(found: Obj | None) -> bool:
    """Whether the operator says that the sandbox can be worked with, of the spec that it has now."""
    status = (found or {}).get("status") or {}
    if found is None or status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    return condition(status, "Ready")[0] == "True"


def settled(found: Obj | None) -> bool:
    """Whether all of the spec was carried out, be the sandbox ready yet or not."""
    status = (found or {}).get("status") or {}
    if found is None or status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    return bool(status.get("workload")) and condition(status, "Drifted")[0] == "False"


def suspended(found: Obj | None) -> bool:
    """Whether the operator says that the sandbox is suspended."""
    status = (found or {}).get("status") or {}
    return bool(status.get("conditions")) and condition(status, "Ready")[1] == "Suspended"


async def _suspend(place: Place, made: Made) -> None:
    await place.change(made, operatingMode="Suspended")


async def _suspended(place: Place, made: Made) -> None:
    await _suspend(place, made)
    assert not await place.is_told(made, suspended)


async def _resume(place: Place, made: Made) -> None:
    await place.change(made, operatingMode="Running")


async def _nothing(place: Place, made: Made) -> None:
    pass


async def _limits(place: Place, made: Made) -> None:
    await place.change(made, resources={"cpu": "1500m", "memory": "3Gi"})


async def _another(place: Place, made: Made) -> None:
    await place.change(made, env=[{"name": "COLOUR", "value": "blue"}])


async def _allow(place: Place, made: Made) -> None:
    await place.change(made, network={"egress": {"allowedDomains": ["registry.example.org"]}})


def _with_ports(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"network": {"egress": {"allowedCIDRs": []}, "ports": list(ports)}}


async def _publish(place: Place, made: Made) -> None:
    await place.change(made, **_with_ports(HTTP))


async def _move(place: Place, made: Made) -> None:
    """To a port of the host that no other sandbox here asks for."""
    await place.change(made, **_with_ports(HTTP | {"hostPort": next(_HOST_PORTS)}))


async def _withdraw(place: Place, made: Made) -> None:
    await place.change(made, **_with_ports())


# Below those that the engine chooses from.
_HOST_PORTS = itertools.count(30_000)

CREATING = "creating"
# From nothing: by the resource's own creation, which is what begins it.
_CREATING = Phase(CREATING, None, _nothing)
_RUNNING = Phase("running", None, _nothing)
_RENEWING = Phase("renewing", None, lambda place, made: place.renew_key(made))
_UPDATING = Phase("updating", None, _limits)
_RECREATING = Phase("recreating", None, _another)
_SUSPENDING = Phase("suspending", None, _suspend, Made.suspended_amiss)
_RESUMING = Phase("resuming", _suspended, _resume)
_DELETING = Phase("deleting", None, lambda place, made: place.delete(made), Made.gone_amiss)

Phases = Mapping[str, Phase]
PHASES: Phases = {
    phase.name: phase
    for phase in (_CREATING, _RUNNING, _RENEWING, _UPDATING, _RECREATING, _SUSPENDING, _RESUMING, _DELETING)
}
"""Those of a sandbox without ports, in an order in which one can go through all of them."""
PORT_PHASES: Phases = {
    phase.name: replace(phase, spec={"command": SERVES, **spec})
    for phase, spec in (
        *((phase, _with_ports(HTTP)) for phase in (_CREATING, _RUNNING, _RENEWING, _UPDATING, _RECREATING)),
        (Phase("withdrawing", None, _withdraw), _with_ports(HTTP)),
        (Phase("publishing", None, _publish), _with_ports()),
        (Phase("moving", None, _move), _with_ports(HTTP)),
        *((phase, _with_ports(HTTP)) for phase in (_SUSPENDING, _RESUMING, _DELETING)),
    )
}
"""The same of a sandbox with a port, and how ports come and go."""
BROKERED = {
    "credentials": {"delivery": "Brokered"},
    "network": {"egress": {"allowedDomains": ["pypi.example.org"]}},
}
GATEWAY_PHASES: Phases = {
    phase.name: replace(phase, spec=BROKERED)
    for phase in (
        *(_CREATING, _RUNNING, _RENEWING, _UPDATING, _RECREATING),
        Phase("allowing", None, _allow),
        *(_SUSPENDING, _RESUMING, _DELETING),
    )
}
"""The same of a sandbox with a gateway, and how what it may reach becomes another."""


CLONED: Mapping[str, Any] = BROKERED | {
    "repositories": [
        {
            "path": CLONED_PATH,
            "url": f"https://{GIT_HOST}:{GIT_PORT}/team/project",
            "credentialsSecretRef": {"name": "git"},
        }
    ],
    "workspace": {"type": "PersistentVolumeClaim", "size": "64Mi", "retention": "Delete"},
    # Many at a time, on a machine that has room for ten of the default.
    "resources": {"memory": "512Mi"},
}
CLONED_PHASES: Phases = {
    phase.name: replace(phase, spec=CLONED) for phase in (_CREATING, _RECREATING, _SUSPENDING, _RESUMING, _DELETING)
}
"""Those in which repositories are cloned, or found there, before there is a container of the sandbox's own."""


def before_relay(phase: Phase, calls: list[Call]) -> int:
    """How many of the calls of a phase come before those that make a relay, the same as without ports."""
    if not (phase.creates or phase.name == "resuming") or not phase.spec:
        return 0
    networks = [number for number, call in enumerate(calls) if call.path == "/networks/create"]
    return networks[-1]


async def recorded(place: Place, phases: Phases = PHASES) -> dict[str, list[Call]]:
    """The calls of each phase, as one sandbox goes through all of them undisturbed."""
    # Whether an engine bounds volumes is found out by the first one that it refuses: a call that no later one has.
    first = await place.create("first", **phases[CREATING].spec)
    assert not (why := await place.comes_to(first, phases[CREATING].amiss)), why
    assert not await place.ended(first)
    made = await place.create("undisturbed", **phases[CREATING].spec)
    found: dict[str, list[Call]] = {}
    for phase in phases.values():
        if not phase.creates:
            if phase.begin is not None and phase.name != "resuming":
                await phase.begin(place, made)
            place.conductor.arm(made, None)
            await phase.trigger(place, made)
        assert not (why := await place.comes_to(made, phase.amiss)), f"{phase.name}: {why}"
        if phase.amiss is Made.amiss:
            assert not await place.is_told(made, settled)
            assert not await place.is_told(made, made.told)
        elif phase.amiss is Made.suspended_amiss:
            assert not await place.is_told(made, suspended)
        if made.brokered:
            await _at_rest(made)
        found[phase.name] = list(made.calls)
    assert not await place.ended(made)
    return found


async def _at_rest(made: Made) -> None:
    """Until nothing was asked of the engine for a while: what a phase still does would be counted to the next one.

    A gateway has another key before the sandbox has its placeholder, and nothing tells of the end of that.
    """
    count = -1
    while count != (count := len(made.calls)):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(REST)


@contextlib.asynccontextmanager
async def fault_place(cluster: Cluster, host: EngineDescription, log: Path, *options: str) -> AsyncIterator[Place]:
    """All of it; afterwards nothing is left on the engine, and nothing was ever seen that should not be.

    `options`: further ones of the operator's.
    """
    # A socket's path may have 108 characters.
    with tempfile.TemporaryDirectory(prefix="csb-") as short:
        async with _fault_place(cluster, host, log, Path(short), options) as place:
            yield place


@contextlib.asynccontextmanager
async def _fault_place(
    cluster: Cluster, host: EngineDescription, log: Path, directory: Path, options: tuple[str, ...]
) -> AsyncIterator[Place]:
    credentials = from_kubeconfig(str(cluster.kubeconfig))
    await prepare(credentials)
    images = f"--sandbox-image={IMAGE}", f"--relay-image={recipe('operator').reference}"
    # What is struck are the calls of a sandbox's life, the same each time; a probe comes when it will.
    operator = Operator(cluster, log, *images, "--probe-interval=0", *options)
    before = counted(host)
    async with Api(credentials, user_agent="tests") as api:
        with Watch(host) as watch:
            place = Place(api, host, operator, directory / "relay.sock", watch, cluster)
            with place.relay:
                operator.start()
                try:
                    await operator.is_ready()
                    await place.join()
                    yield place
                    if not operator.alive:
                        # A test that failed may have left it so.
                        operator.start()
                    left = await place.ended(*place.sandboxes.values())
                    assert not left, left
                finally:
                    await place.fleet.close()
                    ended = operator.stop()
                    place.sdk.close()
                    print(operator.log.read_text())
            assert watch.violations == [], watch.violations
    assert ended == 0
    assert "Traceback" not in operator.log.read_text()
    assert KEY not in operator.log.read_text()
    assert counted(host) == before
