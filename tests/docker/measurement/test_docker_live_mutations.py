"""Each thing that can be wrong with a container, with a real one: changed behind the operator's back, or made so.

A sandbox with a gateway is made as the operator makes it, and passes. Then somebody with the engine's socket makes its
container, or its gateway, anew with one thing different, or changes what is there. What the engine and its files tell
then is measured before anything is put right: just the controls fail that are about it, each with its own remedy.
docs/reference/mutations.md says which are seen so.
"""

import copy
import io
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from checkkit import checked
from dockerkit import PRODUCTION, Sandbox, sandbox
from enginekit import hardened, own, run_inside

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.evidence.single_container import survey
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.control import ContainerCheck
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

Document = dict[str, Any]
Change = Callable[[Document], Any]
Act = Callable[["Place"], Any]

BROKERED = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}
ULIMITS = [{"Name": "nofile", "Soft": 64, "Hard": 64}]
KEY = "sk-ant-api03-" + "x" * 40
SHARED = "/run/claude-sandbox-shared"
ALLOWED = "registry.example/sandboxes"
"""From where images may be. The sandbox's own is named by its identifier, which does not tell."""


@dataclass
class Place:
    """The sandbox, and how its containers were when the operator had made them."""

    host: EngineDescription
    one: Sandbox
    agent: Document
    gateway: Document
    before: set[str] = field(default_factory=set)
    """What fails of it as the operator made it."""
    undo: list[Callable[[], Any]] = field(default_factory=list)
    at_last: list[Callable[[], Any]] = field(default_factory=list)
    """What is undone when the containers are as they were."""
    changed: set[str] = field(default_factory=set)
    """The containers that are not as the operator made them."""

    @property
    def api(self) -> Any:
        return self.one.sdk.api

    def make_anew(self, before: Document, name: str, change: Change = lambda _: None) -> None:
        """In the place of a container one of the same name, labels and volumes, with something different."""
        mode = before["HostConfig"]["NetworkMode"]
        joined = {
            network: {"Aliases": told.get("Aliases"), "IPAMConfig": told.get("IPAMConfig")}
            for network, told in before["NetworkSettings"]["Networks"].items()
        }
        body = copy.deepcopy({**before["Config"], "HostConfig": before["HostConfig"]})
        body["NetworkingConfig"] = {"EndpointsConfig": {mode: joined[mode]}}
        change(body)
        self.changed.add(name)
        self.api.remove_container(name, force=True, v=False)
        self.api.create_container_from_config(body, name=name)
        # Old engines make a container on one network only.
        for network in joined.keys() - {mode} if body["HostConfig"]["NetworkMode"] == mode else ():
            self.api.connect_container_to_network(name, network, aliases=joined[network]["Aliases"])
        self.api.start(name)


def host(**fields: Any) -> Act:
    """The agent's container with other options."""
    return agent(lambda body: body["HostConfig"].update(fields))


def config(**fields: Any) -> Act:
    """... with another configuration."""
    return agent(lambda body: body.update(fields))


def env(*variables: str) -> Act:
    return agent(lambda body: body["Env"].extend(variables))


def security(*options: str) -> Act:
    return agent(lambda body: body["HostConfig"]["SecurityOpt"].extend(options))


def bind(source: str, target: str = "/mnt/x", propagation: str = "rprivate") -> Act:
    mount = {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
    mount["BindOptions"] = {"Propagation": propagation}
    return agent(lambda body: body["HostConfig"]["Mounts"].append(mount))


def agent(change: Change) -> Act:
    return lambda place: place.make_anew(place.agent, place.one.names.container, change)


def gateway(**fields: Any) -> Act:
    """The gateway with other options."""
    return lambda place: place.make_anew(
        place.gateway, place.one.names.gateway, lambda body: body["HostConfig"].update(fields)
    )


def on_network(**options: Any) -> Act:
    """The agent's container on one network more."""

    def act(place: Place) -> None:
        made = place.one.sdk.networks.create(own("second"), **options)
        made.connect(place.one.names.container)
        place.undo += [lambda: made.disconnect(place.one.names.container, force=True), made.remove]

    return act


def guest(place: Place) -> None:
    """Somebody else's container on the sandbox's network."""
    made = place.one.sdk.containers.run(place.one.image, ["sleep", "60"], network=place.one.names.network, detach=True)
    place.undo.append(lambda: made.remove(force=True))


def other_settings(place: Place) -> None:
    """Written by a container that mounts the volume with them."""
    [volume] = [one["Name"] for one in place.agent["Mounts"] if one["Destination"] == "/etc/claude-code"]
    content = b'{"permissions": {"defaultMode": "bypassPermissions"}}'
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        entry = tarfile.TarInfo("managed-settings.json")
        entry.size = len(content)
        made.addfile(entry, io.BytesIO(content))
    writer = place.one.sdk.containers.create(place.one.image, volumes={volume: {"bind": "/v", "mode": "rw"}})
    before, _ = writer.get_archive("/v/managed-settings.json")
    kept = b"".join(before)
    assert writer.put_archive("/v", archive.getvalue())
    place.undo += [lambda: writer.put_archive("/v", kept), lambda: writer.remove(force=True)]


def session(**options: Any) -> Act:
    """Somebody outside works in it."""

    def act(place: Place) -> None:
        identifier = place.api.exec_create(place.one.names.container, ["sleep", "60"], **options)["Id"]
        place.api.exec_start(identifier, detach=True)
        # It ends with the container.
        place.changed.add(place.one.names.container)

    return act


def without_option(beginning: str) -> Act:
    """Without the security options that begin so."""

    def change(body: Document) -> None:
        kept = [one for one in body["HostConfig"]["SecurityOpt"] if not one.startswith(beginning)]
        body["HostConfig"]["SecurityOpt"] = kept

    return agent(change)


def shared_with_the_host(propagation: str) -> Act:
    """A directory of the engine's, whose mounts are seen on the other side: of one that is a mount by itself."""

    def act(place: Place) -> None:
        run_inside(place.host, f"mkdir -p {SHARED}\nmount --bind {SHARED} {SHARED}\nmount --make-shared {SHARED}\n")
        place.at_last.append(lambda: run_inside(place.host, f"umount -l {SHARED}\nrmdir {SHARED}\n"))
        bind(SHARED, propagation=propagation)(place)

    return act


def of_an_image(name: str) -> Act:
    """The agent's container of the same image under another name."""

    def act(place: Place) -> None:
        repository, _, tag = name.rpartition(":")
        place.api.tag(place.one.image, repository, tag)
        place.at_last.append(lambda: place.api.remove_image(name))
        config(Image=name)(place)

    return act


def of_another_image(place: Place) -> None:
    """The agent's container of an image with something more in it, by that one's digest."""
    changed = place.one.sdk.containers.create(place.one.image)
    other = str(changed.commit().id)
    changed.remove()
    # After the container that is of it has gone.
    place.at_last.append(lambda: place.api.remove_image(other))
    config(Image=other)(place)


def another_volume(place: Place) -> None:
    """That it can write to, and that stays."""
    made = place.one.sdk.volumes.create(own("volume"))
    place.at_last.append(made.remove)
    mount = {"Type": "volume", "Source": made.name, "Target": "/data"}
    agent(lambda body: body["HostConfig"]["Mounts"].append(mount))(place)


def writable_workspace(body: Document) -> None:
    for mount in body["HostConfig"]["Mounts"]:
        if mount["Target"] == "/workspace":
            mount["ReadOnly"] = False


def connected(place: Place) -> None:
    place.api.connect_container_to_network(place.one.names.container, "bridge")
    place.undo.append(lambda: place.api.disconnect_container_from_network(place.one.names.container, "bridge"))


def less_memory(place: Place) -> None:
    place.api.update_container(place.one.names.container, mem_limit="96m", memswap_limit="96m")
    place.changed.add(place.one.names.container)


def on_the_hosts_network(body: Document) -> None:
    body["HostConfig"]["NetworkMode"] = "host"
    body |= {"NetworkingConfig": {}, "Hostname": "", "ExposedPorts": {}}


def in_the_gateways_processes(place: Place) -> None:
    mode = f"container:{place.one.names.gateway}"
    place.make_anew(place.agent, place.one.names.container, lambda body: body["HostConfig"].update(PidMode=mode))


LIVE: dict[str, tuple[str, Act]] = {
    # PRIV
    "it is privileged": ("PRIV-01 PRIV-02 KERN-01 KERN-03 KERN-04 FS-05 NET-09", host(Privileged=True)),
    "no capability dropped": ("PRIV-02", host(CapDrop=[])),
    "SYS_ADMIN added": ("PRIV-02 NET-09", host(CapAdd=["SYS_ADMIN"])),
    "privileges to be gained": ("PRIV-03", without_option("no-new-privileges")),
    "root": ("PRIV-04 PRIV-05", config(User="0:0")),
    "a system's group": ("PRIV-05", host(GroupAdd=["10"])),
    "somebody's privileged session": ("PRIV-08", session(privileged=True)),
    "somebody's session as root": ("PRIV-08", session(user="0")),
    # KERN
    "AppArmor turned off": ("KERN-02", security("apparmor=unconfined")),
    "no filter of system calls": ("KERN-01", security("seccomp=unconfined")),
    "SELinux disabled": ("KERN-03", security("label=disable")),
    "nothing of /proc masked": ("KERN-04", host(MaskedPaths=[], ReadonlyPaths=[])),
    "a sysctl that is not safe": ("KERN-05", host(Sysctls={"net.ipv4.ip_forward": "1"})),
    # NS
    "the host's processes": ("NS-01 KERN-03", host(PidMode="host", Init=False)),
    "the host's memory": ("NS-02 KERN-03", host(IpcMode="host")),
    "the host's name": ("NS-04", agent(lambda body: (body["HostConfig"].update(UTSMode="host"), body.pop("Hostname")))),
    "the host's control groups": ("NS-04", host(CgroupnsMode="host")),
    "another container's processes": ("NS-05", in_the_gateways_processes),
    "a port on every address": ("NS-06 NET-11", host(PortBindings={"8080/tcp": [{"HostIp": "", "HostPort": ""}]})),
    # FS
    "a root that can be written to": ("FS-01", host(ReadonlyRootfs=False)),
    "the host's logs": ("FS-02", bind("/var/log")),
    "the host's sockets": ("FS-02 FS-03 SEC-03", bind("/run")),
    "a device": ("FS-05", host(Devices=[
        {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}])),
    "devices by rule": ("FS-05", host(DeviceCgroupRules=["c 10:200 rwm"])),
    "scratch space without a size": ("FS-07", host(Tmpfs={"/scratch": ""})),
    "a directory that shares its mounts with the host": ("FS-06 FS-02", shared_with_the_host("rshared")),
    "a directory that gets the host's mounts": ("FS-06 FS-02", shared_with_the_host("rslave")),
    "another volume": ("FS-08", another_volume),
    "its read-only workspace writable": ("FS-08", agent(writable_workspace)),
    # RES
    "no memory limit": ("RES-01", host(Memory=0, MemorySwap=0, MemoryReservation=0)),
    "no CPU limit": ("RES-02", host(NanoCpus=0)),
    "no process limit": ("RES-03", host(PidsLimit=0)),
    "no limit of open files": ("RES-04", host(Ulimits=[])),
    "started again and again": ("RES-05", host(RestartPolicy={"Name": "always", "MaximumRetryCount": 0})),
    "a log without a bound": ("RES-08", host(LogConfig={"Type": "json-file", "Config": {}})),
    # NET
    "its engine's own resolver": ("NET-06", host(Dns=[])),
    "a resolver elsewhere": ("NET-06", host(Dns=["192.0.2.1", "9.9.9.9"])),
    "the default bridge as well": ("NET-08 NET-13", connected),
    "a network that leads out as well": ("NET-08 NET-13", on_network()),
    "another internal network as well": ("NET-08 NET-13", on_network(internal=True)),
    "the host's network": ("NS-03 NET-08 NET-13", agent(on_the_hosts_network)),
    "somebody else on its network": ("NET-13 ID-04", guest),
    "a port that it publishes itself": ("NET-11", host(
        PortBindings={"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]})),
    "all ports that its image exposes": ("NS-06 NET-11", host(PublishAllPorts=True)),
    "a gateway that is privileged": ("NET-12", gateway(Privileged=True)),
    "a gateway that can be written to": ("NET-12", gateway(ReadonlyRootfs=False)),
    "a gateway with something of the host": ("NET-12", gateway(Binds=["/etc:/host:ro"])),
    "a gateway with all capabilities": ("NET-12", gateway(CapDrop=[])),
    # SEC
    "the key in a variable": ("SEC-01 SEC-05", env(f"ANTHROPIC_API_KEY={KEY}")),
    "the token of a subscription in a variable": ("SEC-01 SEC-05", env("CLAUDE_CODE_OAUTH_TOKEN=abcdefgh1234")),
    "a password of which only the name tells": ("SEC-01", env("DB_PASSWORD=hunter22")),
    "the key in the arguments": ("SEC-01", config(Cmd=["sleep", "infinity", KEY])),
    "the key in a label": ("SEC-01", agent(lambda body: body["Labels"].update(note=KEY))),
    "the host's /etc": ("FS-02 SEC-03", bind("/etc")),
    "everybody's home": ("FS-02 SEC-03", bind("/home")),
    "other managed settings in their volume": ("SEC-04", other_settings),
    "a variable that names other managed settings": ("SEC-04", env("CLAUDE_CODE_MANAGED_SETTINGS_PATH=/tmp/x")),
    # IMG
    "its image by a tag": ("IMG-01 IMG-03", of_an_image(f"{ALLOWED}/claude:1")),
    "an image from elsewhere": ("IMG-01 IMG-02 IMG-03", of_an_image("registry.evil.test/sandboxes/claude:1")),
    "an image from a registry that only begins alike": (
        "IMG-01 IMG-02 IMG-03", of_an_image(f"{ALLOWED}.evil/claude:1")),
    "another image, by its digest": ("IMG-03", of_another_image),
    # OPS
    "a health check turned off": ("OPS-01", config(Healthcheck={"Test": ["NONE"]})),
    "less memory, while it runs": ("OPS-03", less_memory),
}  # fmt: skip
"""What is changed of the sandbox, and the controls that fail then.

Whatever makes the agent's container another one than is asked for makes OPS-03 fail too: but for what is `AROUND` it.
"""
AROUND = frozenset(
    {
        "somebody's privileged session",
        "somebody's session as root",
        "the default bridge as well",
        "a network that leads out as well",
        "another internal network as well",
        "somebody else on its network",
        "other managed settings in their volume",
    }
)
"""Changes around the container, beside those of its gateway."""
STANDING = {
    "PRIV-06": "every sandbox, on an engine that gives containers the machine's own users (one with users of its own,"
    " on which it passes, is in `tests/docker/sandboxes/test_docker_remapped.py`)",
    "KERN-06": "every sandbox, on an engine with runc alone (where the tests run there is no gVisor and no Kata, with"
    " which it would pass)",
}
"""What a sandbox fails on the engines of the tests as the operator makes it, and why."""
DECLARED: dict[str, tuple[str, dict[str, Any]]] = {
    "a secret that could be overwritten": (
        "SEC-02 FS-08",
        {"/srv": {"bind": "/run/secrets/key", "mode": "rw"}},
    ),
}
"""What only a declaration decides: volumes of a container that is no sandbox, and is meant to have them."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(host: EngineDescription) -> AsyncIterator[Place]:
    async with sandbox(host, credentials=BROKERED, **PRODUCTION) as one:
        await one.made()
        await one.started()
        await one.settled()
        place = Place(host, one, one.inspected, one.sdk.api.inspect_container(one.names.gateway))
        place.before = failing(await checked(one, ALLOWED))
        yield place


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """As it was before any test."""
    yield made
    for undo in made.undo:
        undo()
    made.undo.clear()
    for before in (made.gateway, made.agent):
        if (name := before["Name"].removeprefix("/")) in made.changed:
            made.make_anew(before, name)
    made.changed.clear()
    for undo in made.at_last:
        undo()
    made.at_last.clear()


def failing(found: dict[str, Finding]) -> set[str]:
    return {id for id, one in found.items() if one.result is Result.FAIL}


def remedied(found: dict[str, Finding]) -> bool:
    """Whether all that fails has the remedy of its control."""
    checks = {id: one.control.container for id, one in found.items() if one.result is Result.FAIL}
    return all(isinstance(check, ContainerCheck) and found[id].remedy == check.remedy for id, check in checks.items())


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_operator_made_fails_only_what_its_engine_lacks(made: Place) -> None:
    assert made.before == STANDING.keys()
    assert remedied({id: one for id, one in (await checked(made.one)).items() if id in STANDING})


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", LIVE)
async def test_what_is_wrong_with_a_live_container_fails_what_it_is_about(place: Place, name: str) -> None:
    controls, act = LIVE[name]
    expected = set(controls.split())
    around = name in AROUND or name.startswith("a gateway")
    act(place)
    found = await checked(place.one, ALLOWED)
    assert failing(found) - place.before == expected | (set() if around else {"OPS-03"})
    assert remedied(found)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", DECLARED)
async def test_what_is_declared_and_wrong_with_a_live_container_fails_what_it_is_about(place: Place, name: str) -> None:
    controls, volumes = DECLARED[name]
    meant = Declared(mounts=frozenset(one["bind"] for one in volumes.values()), workspaces=frozenset({"/tmp"}))

    async def nobodys(_: Identity) -> str:
        return "it is no sandbox"

    async def fails(**options: Any) -> set[str]:
        made = hardened(place.one.sdk, place.one.image, network_mode="none", ulimits=ULIMITS, **options)
        try:
            found = await survey(place.one.engine, str(made.id), Standard(), meant, nobodys, local=False)
            assert found is not None
            told = {finding.control.id: finding for finding in findings(found.evidence)}
            assert remedied(told)
            return failing(told)
        finally:
            made.remove(force=True)

    assert await fails(volumes=volumes) - await fails() == set(controls.split())
