"""One thing wrong at a time: exactly the controls that are about it change. `NET-08?` is Unknown, `KERN-02-` n/a."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from compliant_container import DIGEST, World, changed, compliant, different, written

from claude_sandbox.api.spec import AppArmorProfile, AppArmorProfileType, SeccompProfileType
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS
from claude_sandbox.compliance.containers.seccomp_filters import DANGEROUS
from claude_sandbox.compliance.control import ContainerCheck
from claude_sandbox.compliance.evidence.containers import Companion, DeclaredPort, KeyPlace
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings
from claude_sandbox.seccomp.profile import STRICT

Mutate = Callable[[World], Any]


def host(**fields: Any) -> Mutate:
    """Set fields of HostConfig."""
    return lambda world: world.host.update(fields)


def config(**fields: Any) -> Mutate:
    """Set fields of Config."""
    return lambda world: world.config.update(fields)


def top(**fields: Any) -> Mutate:
    """Set fields of the document itself."""
    return lambda world: world.container.update(fields)


def without(path: str) -> Mutate:
    """Take a field away."""

    def mutate(world: World) -> None:
        *parents, key = path.split(".")
        target = world.container
        for parent in parents:
            target = target[parent]
        del target[key]

    return mutate


def security(*options: str) -> Mutate:
    """Add security options."""
    return lambda world: world.host["SecurityOpt"].extend(options)


def declared_strict(world: World) -> None:
    """Its sandbox asks for the Strict filter."""
    world.declare(seccomp=SeccompProfileType.STRICT)


def env(*variables: str) -> Mutate:
    return lambda world: world.config["Env"].extend(variables)


def asks_for_app_armor(name: str | None = None) -> Mutate:
    """One whose sandbox asks for this profile, or for the engine's own."""
    kind = AppArmorProfileType.RUNTIME_DEFAULT if name is None else AppArmorProfileType.LOCALHOST
    return lambda world: world.declare(app_armor=AppArmorProfile(type=kind, localhost_profile=name))


def bind(source: str, destination: str = "/mnt/x", *, declared: bool = True, **fields: Any) -> Mutate:
    """Mount a path of the host, and declare it, so that only what it is speaks against it."""

    def mutate(world: World) -> None:
        world.bind(source, destination, **fields)
        if declared:
            world.declare(mounts=frozenset({destination}))

    return mutate


def of_size(size: str | None) -> Mutate:
    """Have the engine enforce this size of the workspace's volume."""
    return lambda world: world.volumes[0].update(Options=None if size is None else {"size": size})


def published(*addresses: str) -> Mutate:
    return lambda world: world.publish("8080/tcp", *addresses)


def privileged(number: str) -> Mutate:
    """Ask for this port of the host's."""
    return lambda world: world.host["PortBindings"].update({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": number}]})


def undeclared(world: World) -> None:
    """Nothing says which ports it is to have."""
    world.declare(ports=None)


def relayed(
    address: str = "127.0.0.1",
    declared: tuple[DeclaredPort, ...] = (DeclaredPort(8080, "127.0.0.1"),),
    user: str = "65532:65532",
    differences: tuple[str, ...] = (),
    **host: Any,
) -> Mutate:
    """A hardened relay publishes port 8080 on an address, but for what is changed of its HostConfig."""
    bindings = {"8080/tcp": [{"HostIp": address, "HostPort": "8080"}]}
    hardened = {
        "Privileged": False, "CapDrop": ["ALL"], "CapAdd": None, "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": True, "Binds": None, "NetworkMode": "outer", "PidMode": "", "IpcMode": "private",
        "UTSMode": "", "PortBindings": bindings,
    }  # fmt: skip
    ports = {"Ports": bindings}
    document = {"HostConfig": hardened | host, "Config": {"User": user}, "Mounts": [], "NetworkSettings": ports}

    def mutate(world: World) -> None:
        world.relay = Companion(document, differences)
        world.declare(ports=declared)

    return mutate


def accounts(name: str = "accounts", **changes: Any) -> dict[str, list[dict[str, Any]]]:
    """A gateway's one volume, as it is asked for and as the engine lists it, with what is changed of the former."""
    asked = {"Type": "volume", "Source": name, "Target": "/var/lib/claude-sandbox/accounts"}
    return {"Mounts": [asked | changes], "listed": [{"Type": "volume", "Name": name}]}


def brokered(differences: tuple[str, ...] = (), listed: Any = None, **host: Any) -> Mutate:
    """A hardened gateway is its way out, but for what is changed of the gateway's HostConfig."""

    def mutate(world: World) -> None:
        relayed(**({"PortBindings": None} | host))(world)
        assert world.relay is not None
        document = {
            **world.relay.document,
            "NetworkSettings": {"Ports": host.get("PortBindings") or {}},
            "Mounts": listed or [],
        }
        world.gateway, world.relay = Companion(document, differences, volume="accounts"), None
        world.declare(ports=(), gateway=True, peers=frozenset({"gateway"}))
        world.networks[0]["Containers"]["5" * 64] = {"Name": "gateway"}
        world.host["Dns"] = ["192.0.2.1"]
        world.key_place = KeyPlace(placeholder=True, current=True)

    return mutate


def held(world: World) -> None:
    """It holds its key itself."""
    world.declare(gateway=False)
    world.key_place = KeyPlace(placeholder=False, current=True)


def network(**fields: Any) -> Mutate:
    """Set fields of the document of the container's network."""
    return lambda world: world.networks[0].update(fields)


def volume(**mount: Any) -> Mutate:
    """Mount another volume."""
    listed = {"Type": "volume", "Name": "x", "Source": "/var/lib/docker/volumes/x/_data", "Destination": "/data"}
    document = {"Name": "x", "Driver": "local", "Mountpoint": "/var/lib/docker/volumes/x/_data", "Options": None}

    def mutate(world: World) -> None:
        world.container["Mounts"].append(listed | {"Mode": "z", "RW": True, "Propagation": ""} | mount)
        world.volumes.append(document)

    return mutate


def asked(**mount: Any) -> Mutate:
    """Ask for a mount as `--mount` does."""
    return lambda world: world.host["Mounts"].append(mount)


def of_volume(**options: str) -> Mutate:
    """The workspace's volume was made with these options."""
    return lambda world: world.volumes[0].update(Options=options)


def both(*mutations: Mutate) -> Mutate:
    def mutate(world: World) -> None:
        for each in mutations:
            each(world)

    return mutate


def never_started(world: World) -> None:
    """As `docker create` leaves it."""
    world.container["State"] |= {"Status": "created", "Running": False, "Pid": 0}
    del world.container["State"]["Health"]


_KEY = "sk-ant-api03-" + "x" * 40
_MASKED = compliant().host["MaskedPaths"]

MUTATIONS: dict[str, tuple[Mutate, str]] = {
    # PRIV
    "--privileged": (host(Privileged=True), "PRIV-01 PRIV-02 KERN-01 KERN-04 FS-05 NET-09"),
    "privileged as a text": (host(Privileged="false"), "PRIV-01? PRIV-02? KERN-01? KERN-04? FS-05?"),
    "no capability dropped": (host(CapDrop=None), "PRIV-02"),
    "an empty list of dropped capabilities": (host(CapDrop=[]), "PRIV-02"),
    "one capability dropped": (host(CapDrop=["CAP_NET_RAW"]), "PRIV-02"),
    "SYS_ADMIN added": (host(CapAdd=["SYS_ADMIN"]), "PRIV-02 NET-09"),
    "SYS_ADMIN added as the kernel spells it": (host(CapAdd=["CAP_SYS_ADMIN"]), "PRIV-02 NET-09"),
    "ALL added, which outweighs what is dropped": (host(CapAdd=["ALL"]), "PRIV-02 NET-09"),
    "all added, in lower case": (host(CapAdd=["all"]), "PRIV-02 NET-09"),
    "dropped capabilities not told": (without("HostConfig.CapDrop"), "PRIV-02?"),
    "no security option": (host(SecurityOpt=None), "PRIV-03"),
    "no-new-privileges:false": (host(SecurityOpt=["no-new-privileges:false"]), "PRIV-03"),
    "no-new-privileges=false": (host(SecurityOpt=["no-new-privileges=false"]), "PRIV-03"),
    "no-new-privileges=0": (host(SecurityOpt=["no-new-privileges=0"]), "PRIV-03"),
    "no-new-privileges turned on and off again": (security("no-new-privileges:false"), "PRIV-03"),
    "no-new-privileges with a value that is none": (host(SecurityOpt=["no-new-privileges=yes"]), "PRIV-03?"),
    "security options not told": (
        without("HostConfig.SecurityOpt"),
        "PRIV-03? KERN-01? KERN-02? KERN-03? KERN-04?",
    ),
    "no user": (config(User=""), "PRIV-04 PRIV-05"),
    "user root": (config(User="root"), "PRIV-04 PRIV-05"),
    "user 0": (config(User="0"), "PRIV-04 PRIV-05"),
    "user 00 in an ordinary group": (config(User="00:1000"), "PRIV-04"),
    "a user by name": (config(User="claude"), "PRIV-04? PRIV-05?"),
    "a user by name, a group by number": (config(User="claude:1000"), "PRIV-04?"),
    "a number in another script": (config(User="\u0660:1000"), "PRIV-04?"),
    "user 1000 in root's group": (config(User="1000:0"), "PRIV-05"),
    "user 1000 in the group called root": (config(User="1000:root"), "PRIV-05"),
    "user 1000 without a group": (config(User="1000"), "PRIV-05?"),
    "user 1000 in a group by name": (config(User="1000:users"), "PRIV-05?"),
    "root's group added": (host(GroupAdd=["0"]), "PRIV-05"),
    "the group of the host's engine added": (host(GroupAdd=["998"]), "PRIV-05"),
    "a group added by name": (host(GroupAdd=["docker"]), "PRIV-05?"),
    "the host's users": (host(UsernsMode="host"), "PRIV-06"),
    "an exec session": (top(ExecIDs=["5" * 64]), "PRIV-08?"),
    "exec sessions not told": (without("ExecIDs"), "PRIV-08?"),
    # KERN
    "seccomp=unconfined": (security("seccomp=unconfined"), "KERN-01"),
    "seccomp:unconfined": (security("seccomp:unconfined"), "KERN-01"),
    "seccomp=Unconfined": (security("seccomp=Unconfined"), "KERN-01"),
    "a profile, then none": (security('seccomp={"defaultAction":"SCMP_ACT_ERRNO"}', "seccomp=unconfined"), "KERN-01"),
    "a profile that lets everything pass": (security('seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'), "KERN-01"),
    "a profile that only logs": (
        security('seccomp={"defaultAction":"SCMP_ACT_LOG","syscalls":[{"names":["mount"],"action":"SCMP_ACT_LOG"}]}'),
        "KERN-01",
    ),
    "a profile that denies one call": (
        security(
            'seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}'
        ),
        "KERN-01",
    ),
    "a profile that is cut off": (security('seccomp={"defaultAction":'), "KERN-01"),
    "a profile that is not shown": (security("seccomp=/etc/docker/mine.json"), "KERN-01?"),
    "a profile of its own where the Strict one is asked for": (
        both(security('seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'), declared_strict),
        "KERN-01",
    ),
    "the engine's own where the Strict one is asked for": (declared_strict, "KERN-01"),
    "none where the Strict one is asked for": (both(security("seccomp=unconfined"), declared_strict), "KERN-01"),
    "apparmor=unconfined": (both(security("apparmor=unconfined"), top(AppArmorProfile="unconfined")), "KERN-02"),
    "apparmor:unconfined, asked for since the last start": (security("apparmor:unconfined"), "KERN-02"),
    "a host without AppArmor": (top(AppArmorProfile=""), "KERN-02-"),
    "the engine's own AppArmor profile where another is asked for": (asks_for_app_armor("claude"), "KERN-02"),
    "a host without AppArmor where it is asked for": (both(asks_for_app_armor(), top(AppArmorProfile="")), "KERN-02"),
    "AppArmor not told": (without("AppArmorProfile"), "KERN-02?"),
    "label=disable": (security("label=disable"), "KERN-03"),
    "label:disable": (security("label:disable"), "KERN-03"),
    "disable, as old clients wrote it": (security("disable"), "KERN-03"),
    "label=type:spc_t": (security("label=type:spc_t"), "KERN-03"),
    "label=user:root": (security("label=user:root"), "KERN-03"),
    "a process that SELinux does not confine": (top(ProcessLabel="system_u:system_r:unconfined_t:s0"), "KERN-03"),
    "a host without SELinux": (top(ProcessLabel=""), "KERN-03-"),
    "systempaths=unconfined, as the client sends it": (host(MaskedPaths=[], ReadonlyPaths=[]), "KERN-04"),
    "nothing masked": (host(MaskedPaths=[]), "KERN-04"),
    "nothing of /proc read-only": (host(ReadonlyPaths=[]), "KERN-04"),
    "all masked but for one": (host(MaskedPaths=[one for one in _MASKED if one != "/proc/kcore"]), "KERN-04"),
    "masks not told": (host(MaskedPaths=None), "KERN-04?"),
    "cgroups writable": (security("writable-cgroups=true"), "KERN-04"),
    "a sysctl of the host's": (host(Sysctls={"kernel.core_pattern": "|/x"}), "KERN-05"),
    "runc": (host(Runtime="runc"), "KERN-06"),
    "runc as a shim of containerd": (host(Runtime="io.containerd.runc.v2"), "KERN-06"),
    "the engine's default runtime": (host(Runtime=""), "KERN-06?"),
    "a runtime that is not known": (host(Runtime="mine"), "KERN-06?"),
    # NS
    "--pid=host": (host(PidMode="host"), "NS-01"),
    "--ipc=host": (host(IpcMode="host"), "NS-02"),
    "--network=host": (host(NetworkMode="host"), "NS-03 NET-08"),
    "--uts=host": (host(UTSMode="host"), "NS-04"),
    "--cgroupns=host": (host(CgroupnsMode="host"), "NS-04"),
    "an engine that knows no cgroup namespace": (without("HostConfig.CgroupnsMode"), "NS-04?"),
    "the processes of another container": (host(PidMode="container:abc"), "NS-01? NS-05"),
    "the IPC namespace of another container": (host(IpcMode="container:abc"), "NS-02? NS-05"),
    "the network of another container": (host(NetworkMode="container:abc"), "NS-03? NS-05 NS-06? NET-08? NET-11?"),
    "the cgroup of another container": (host(Cgroup="container:abc"), "NS-05"),
    "a port on every IPv4 address": (published("0.0.0.0"), "NS-06 NET-11"),  # noqa: S104
    "a port on every IPv6 address": (published("::"), "NS-06 NET-11"),
    "a port on loopback and on every IPv6 address": (published("127.0.0.1", "::"), "NS-06 NET-11"),
    "a port on one of the host's addresses": (published("192.0.2.1"), "NS-06 NET-11"),
    "a port asked for and not published yet": (
        both(never_started, host(PortBindings={"80/tcp": [{"HostIp": "", "HostPort": "80"}]})),
        "NS-06 NET-11",
    ),
    "all ports": (host(PublishAllPorts=True), "NS-06 NET-11"),
    "a port on loopback, of an engine that lets neighbours in": (
        both(published("127.0.0.1"), without("NetworkSettings.Networks.sandbox-alice.GwPriority")),
        "NS-06? NET-11",
    ),
    "a port somewhere": (
        lambda world: world.container["NetworkSettings"]["Ports"].update({"80/tcp": [{"HostPort": "8080"}]}),
        "NS-06? NET-11",
    ),
    "ports not told": (without("NetworkSettings.Ports"), "NS-06? NET-11?"),
    "a port on loopback, published by itself": (published("127.0.0.1"), "NET-11"),
    "a port on IPv6's loopback, published by itself": (published("::1"), "NET-11"),
    "a port on the engine's default address, which is loopback": (
        both(published("127.0.0.1"), lambda world: world.host["PortBindings"]["8080/tcp"][0].update(HostIp="")),
        "NET-11",
    ),
    "a privileged port of the host's on loopback": (privileged("80"), "NS-06 NET-11"),
    "a range of ports that begins below 1024": (privileged("1023-1030"), "NS-06 NET-11"),
    "a port of which nobody says anything": (both(published("127.0.0.1"), undeclared), "NET-11-"),
    # The relay
    "a relay for a port that is not declared": (relayed(declared=()), "NET-11"),
    "a relay on another address of loopback than declared": (relayed(address="::1"), "NET-11"),
    "a relay on every address": (relayed(address=""), "NS-06 NET-11"),
    "a relay on an address that the administrator has not allowed": (
        relayed(address="192.0.2.1", declared=(DeclaredPort(8080, "192.0.2.1"),)),
        "NS-06",
    ),
    "a relay on an address of which is not known whether it is allowed": (
        both(
            relayed(address="192.0.2.1", declared=(DeclaredPort(8080, "192.0.2.1"),)),
            lambda world: world.declare(addresses=None),
        ),
        "NS-06?",
    ),
    "a relay on loopback, of an engine that lets neighbours in": (
        both(relayed(), without("NetworkSettings.Networks.sandbox-alice.GwPriority")),
        "NS-06?",
    ),
    "a relay that is privileged": (relayed(Privileged=True), "NET-11"),
    "a relay with a capability": (relayed(CapAdd=["NET_ADMIN"]), "NET-11"),
    "a relay that keeps capabilities": (relayed(CapDrop=None), "NET-11"),
    "a relay that may gain privileges": (relayed(SecurityOpt=None), "NET-11"),
    "a relay without a filter of system calls": (
        relayed(SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]),
        "NET-11",
    ),
    "a relay that can be written to": (relayed(ReadonlyRootfs=False), "NET-11"),
    "a relay with something of the host": (relayed(Binds=["/etc:/etc"]), "NET-11"),
    "a relay in the host's network": (relayed(NetworkMode="host"), "NET-11"),
    "a relay that runs as root": (relayed(user="0"), "NET-11"),
    "a relay that is not the desired one": (relayed(differences=("Networks.other",)), "NET-11"),
    "a relay with a gateway's accounts": (relayed(Mounts=accounts()["Mounts"]), "NET-11"),
    # FS
    "a writable root": (host(ReadonlyRootfs=False), "FS-01"),
    "the host's root": (bind("/"), "FS-02 FS-03 SEC-03"),
    "the host's root, spelled otherwise": (bind("/var/lib/../.."), "FS-02 FS-03 SEC-03"),
    "the host's /etc": (bind("/etc"), "FS-02 SEC-03"),
    "a part of the host's /etc, writable": (bind("/etc/cron.d", writable=True), "FS-02 FS-08"),
    "a part of the host's /etc, not declared": (bind("/etc/localtime", declared=False), "FS-02"),
    "the host's /proc": (bind("/proc"), "FS-02"),
    "the host's /sys": (bind("/sys/fs/cgroup", writable=True), "FS-02 FS-08"),
    "the host's logs": (bind("/var/log"), "FS-02"),
    "everybody's home": (bind("/home"), "FS-02 SEC-03"),
    "a home": (bind("/home/me"), "FS-02 SEC-03"),
    "a home on macOS, as Docker Desktop shows it": (bind("/host_mnt/Users/me"), "KERN-01? FS-02 SEC-03"),
    "a home on Windows": (bind("C:\\Users\\me"), "KERN-01? FS-02 SEC-03"),
    "a project that nobody declared": (bind("/home/me/project", declared=False), "FS-02?"),
    "a project that nobody declared, only asked for": (host(Binds=["/home/me/project:/mnt/x:ro"]), "FS-02?"),
    "the workspace writable against its declaration": (
        lambda world: world.declare(workspaces=frozenset(), keeps_nothing=True),
        "FS-08 RES-07-",
    ),
    "a project, writable and not the workspace": (bind("/home/me/project", writable=True), "FS-08"),
    "a volume that is the host's root": (
        of_volume(type="none", o="bind", device="/"),
        "FS-02 FS-03 RES-07- SEC-03",
    ),
    "a volume, made with the container, that is the host's /etc": (
        asked(
            Type="volume",
            Target="/mnt/x",
            ReadOnly=True,
            VolumeOptions={"DriverConfig": {"Options": {"type": "none", "o": "bind", "device": "/etc"}}},
        ),
        # It may be that volume, or have been there before with other options.
        "FS-02 FS-03? FS-05? SEC-03",
    ),
    "a bind without its source": (
        both(bind("/srv/x"), host(Binds=None), lambda world: world.container["Mounts"][-1].pop("Source")),
        "FS-02? FS-03? FS-05? FS-07? FS-08? SEC-02? SEC-03?",
    ),
    "mounts not told": (
        without("Mounts"),
        "FS-02? FS-03? FS-05? FS-06? FS-07? FS-08? RES-07? SEC-02? SEC-03?",
    ),
    "docker.sock": (bind("/var/run/docker.sock"), "FS-03"),
    "docker.sock, only in Binds": (host(Binds=["/var/run/docker.sock:/var/run/docker.sock"]), "FS-02 FS-03 FS-08"),
    "docker.sock, only in HostConfig.Mounts": (
        asked(Type="bind", Source="/run/docker.sock", Target="/x", ReadOnly=True),
        "FS-02 FS-03",
    ),
    "docker.sock under another name": (bind("/var/run/docker.sock", "/tmp/x"), "FS-03"),
    "something mounted as docker.sock": (bind("/srv/filtered", "/var/run/docker.sock"), "FS-03"),
    "containerd.sock": (bind("/run/containerd/containerd.sock"), "FS-03"),
    "the directory of containerd.sock": (bind("/run/containerd"), "FS-03"),
    "the host's /run": (bind("/run"), "FS-02 FS-03 SEC-03"),
    "the host's /var/run": (bind("/var/run"), "FS-02 FS-03 SEC-03"),
    "the host's /var": (bind("/var"), "FS-02 FS-03 SEC-03"),
    "the directory of a rootless engine": (bind("/run/user/1000"), "FS-03 SEC-03"),
    "the socket of a rootless engine": (bind("/run/user/1000/docker.sock"), "FS-03"),
    "the socket of Docker Desktop": (bind("/Users/me/.docker/run/docker.sock"), "KERN-01? FS-03 SEC-03"),
    "a socket that DOCKER_HOST names": (
        both(bind("/srv/engine", "/engine"), env("DOCKER_HOST=unix:///engine/api.sock")),
        "FS-03",
    ),
    "a socket that nobody declared": (bind("/srv/proxy.sock", declared=False), "FS-02? FS-03?"),
    "a named pipe of the engine": (
        lambda world: world.container["Mounts"].append(
            {
                "Type": "npipe",
                "Source": r"\\.\pipe\docker_engine",
                "Destination": r"\\.\pipe\docker_engine",
                "Mode": "",
                "RW": False,
                "Propagation": "",
            }
        ),
        "FS-03",
    ),
    "a device": (
        host(Devices=[{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rwm"}]),
        "FS-05",
    ),
    "devices by rule": (host(DeviceCgroupRules=["b 8:* rwm"]), "FS-05"),
    "all GPUs": (
        host(DeviceRequests=[{"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}]),
        "FS-05",
    ),
    "a device by mount": (bind("/dev/fuse"), "FS-05"),
    "devices not told": (without("HostConfig.Devices"), "FS-05?"),
    "shared propagation": (bind("/srv/x", propagation="rshared"), "FS-06"),
    "slave propagation": (bind("/srv/x", propagation="slave"), "FS-06"),
    "shared propagation, only in Binds": (
        both(host(Binds=["/srv/x:/mnt/x:ro,rshared"]), lambda world: world.declare(mounts=frozenset({"/mnt/x"}))),
        "FS-06",
    ),
    "scratch space without a size": (host(Tmpfs={"/tmp": "rw,noexec,nosuid,nodev"}), "FS-07"),
    "scratch space without any option": (host(Tmpfs={"/tmp": ""}), "FS-07"),
    "scratch space of size 0, which is none": (host(Tmpfs={"/tmp": "size=0"}), "FS-07"),
    "scratch space with a size, and then without": (host(Tmpfs={"/tmp": "size=1g,size=0"}), "FS-07"),
    "scratch space with devices": (host(Tmpfs={"/tmp": "size=1g,dev"}), "FS-07"),
    "scratch space with setuid files": (host(Tmpfs={"/tmp": "size=1g,suid"}), "FS-07"),
    "scratch space in which programs run, and nothing is said": (host(Tmpfs={"/tmp": "size=1g,exec"}), ""),
    "scratch space in which programs run against the declaration": (
        both(host(Tmpfs={"/tmp": "size=1g,exec"}), lambda world: world.declare(without_programs=frozenset({"/tmp"}))),
        "FS-07",
    ),
    "scratch space in which none run, which is elsewhere": (
        both(host(Tmpfs={"/t": "size=1g"}), lambda world: world.declare(without_programs=frozenset({"/tmp"}))),
        "FS-07",
    ),
    "scratch space by --mount without a size": (
        lambda world: world.host["Mounts"][1].pop("TmpfsOptions"),
        "FS-07",
    ),
    "scratch space of which nothing is told": (lambda world: world.host["Mounts"].pop(), "FS-07?"),
    "another volume, writable": (volume(), "FS-08"),
    "the workspace elsewhere": (lambda world: world.declare(workspaces=frozenset({"/work"})), "FS-08 RES-07-"),
    "no workspace declared": (lambda world: world.declare(workspaces=frozenset()), "FS-08? RES-07-"),
    "whether the workspace is writable not told": (
        lambda world: world.container["Mounts"][0].pop("RW"),
        "FS-08?",
    ),
    # RES
    "a project as the declared workspace": (
        both(
            lambda world: world.container["Mounts"].pop(0),
            lambda world: world.host["Mounts"].pop(0),
            bind("/home/me/project", "/workspace", declared=False, writable=True),
        ),
        "RES-07-",
    ),
    "a workspace without a size": (of_size(None), "RES-07"),
    "a workspace of size 0": (of_size("0"), "RES-07"),
    "no memory limit": (host(Memory=0), "RES-01"),
    "a memory limit of -1": (host(Memory=-1), "RES-01"),
    "memory not told": (without("HostConfig.Memory"), "RES-01?"),
    "no CPU limit": (host(NanoCpus=0), "RES-02"),
    "a CPU quota of -1": (host(NanoCpus=0, CpuQuota=-1), "RES-02"),
    "CPUs not told": (without("HostConfig.NanoCpus"), "RES-02?"),
    "no process limit": (host(PidsLimit=None), "RES-03"),
    "a process limit of 0": (host(PidsLimit=0), "RES-03"),
    "a process limit of -1": (host(PidsLimit=-1), "RES-03"),
    "a process limit that is no number": (host(PidsLimit="512"), "RES-03?"),
    "no ulimits": (host(Ulimits=None), "RES-04"),
    "open files unlimited": (host(Ulimits=[{"Name": "nofile", "Hard": -1, "Soft": 1024}]), "RES-04"),
    "other ulimits only": (host(Ulimits=[{"Name": "core", "Hard": 0, "Soft": 0}]), "RES-04"),
    "a log without a bound": (host(LogConfig={"Type": "json-file", "Config": {}}), "RES-08"),
    "a log of size -1": (host(LogConfig={"Type": "json-file", "Config": {"max-size": "-1"}}), "RES-08"),
    "a log whose driver bounds it": (host(LogConfig={"Type": "local", "Config": None}), ""),
    "no log": (host(LogConfig={"Type": "none", "Config": {}}), ""),
    "a log in the host's journal": (host(LogConfig={"Type": "journald", "Config": {}}), "RES-08?"),
    "a log of which nothing is told": (without("HostConfig.LogConfig"), "RES-08?"),
    "--restart=always": (host(RestartPolicy={"Name": "always", "MaximumRetryCount": 0}), "RES-05"),
    "--restart=unless-stopped": (host(RestartPolicy={"Name": "unless-stopped", "MaximumRetryCount": 0}), "RES-05"),
    "--restart=on-failure": (host(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 0}), "RES-05"),
    "six restarts": (host(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 6}), "RES-05"),
    # NET
    "the default bridge": (
        lambda world: world.container["NetworkSettings"].update(
            Networks={"bridge": {"NetworkID": "9", "GwPriority": 0}}
        ),
        "NET-08",
    ),
    "the default bridge as well": (
        lambda world: world.container["NetworkSettings"]["Networks"].update(bridge={"NetworkID": "9"}),
        "NET-08",
    ),
    "a network that leads out": (network(Internal=False), "NET-08"),
    "a network whose document was not given": (lambda world: world.networks.clear(), "NET-08?"),
    "the document of another network of that name": (network(Id="8" * 64), "NET-08?"),
    "which network it is on not told": (
        without("NetworkSettings.Networks.sandbox-alice.NetworkID"),
        "NET-08?",
    ),
    "a second network, of which nothing is told": (
        lambda world: world.container["NetworkSettings"]["Networks"].update(other={"NetworkID": "9"}),
        "NET-08?",
    ),
    "somebody else on its network": (
        lambda world: world.networks[0]["Containers"].update({"7" * 64: {"Name": "bob"}}),
        "NET-08?",
    ),
    "the default bridge, once it starts": (
        both(
            never_started,
            host(NetworkMode="default"),
            lambda world: world.container["NetworkSettings"].update(Networks={}),
        ),
        "NET-08",
    ),
    # SEC
    "the key in the environment": (env(f"ANTHROPIC_API_KEY={_KEY}"), "SEC-01"),
    "the guide's name for the key": (env(f"CLAUDE_API_KEY={_KEY}"), "SEC-01"),
    "the key under a harmless name": (env(f"EDITOR={_KEY}"), "SEC-01"),
    "a password of which only the name tells": (env("DB_PASSWORD=hunter22"), "SEC-01"),
    "the key as the name of a variable": (env(_KEY), "SEC-01"),
    "the key in the command": (config(Cmd=["claude", "--api-key", _KEY]), "SEC-01"),
    "the key in the arguments": (top(Args=["-c", f"export TOKEN={_KEY}"]), "SEC-01"),
    "the key in the health check": (config(Healthcheck={"Test": ["CMD-SHELL", f"curl -H {_KEY}"]}), "SEC-01"),
    "the key in a label": (config(Labels={"note": _KEY}), "SEC-01"),
    "managed settings that are not there": (
        lambda world: world.declare(
            managed_settings=ManagedSettings("/etc/claude-code", "managed-settings.json", "{}")
        ),
        "SEC-04",
    ),
    "the environment not told": (without("Config.Env"), "FS-03? SEC-01?"),
    "a secret of Compose, not declared": (bind("/srv/key", "/run/secrets/key", declared=False), "FS-02? SEC-02?"),
    "a secret that could be overwritten": (bind("/srv/key", "/run/secrets/key", writable=True), "FS-08 SEC-02"),
    "a file called .env, not declared": (bind("/srv/.env", declared=False), "FS-02? SEC-02?"),
    "SSH keys": (bind("/home/me/.ssh"), "SEC-03"),
    "one SSH key": (bind("/home/me/.ssh/id_ed25519"), "SEC-03"),
    "a kubeconfig": (bind("/root/.kube/config"), "SEC-03"),
    "the keys of a cloud": (bind("/home/me/.aws"), "SEC-03"),
    "the login of gcloud": (bind("/home/me/.config/gcloud"), "SEC-03"),
    "the host's own login to Claude": (bind("/home/me/.claude"), "SEC-03"),
    "an SSH agent": (bind("/tmp/ssh-abc/agent.123"), "SEC-03"),
    # IMG
    "an image by its tag": (config(Image="registry.example/sandboxes/claude:1"), "IMG-01"),
    "an image by nothing": (config(Image="registry.example/sandboxes/claude"), "IMG-01"),
    "another digest than declared": (config(Image="registry.example/sandboxes/claude@sha256:" + "b" * 64), "IMG-01"),
    "a digest that is cut off": (config(Image="registry.example/sandboxes/claude@sha256:abc"), "IMG-01 IMG-02?"),
    "Claude Code that is not brought": (
        lambda world: world.declare(
            claude_code=ClaudeCode("x", "/opt/claude-sandbox", True, ("entry",), ("csb-tools-1",))
        ),
        "IMG-03",
    ),
    "an image from elsewhere": (config(Image=f"ghcr.io/x/claude@{DIGEST}"), "IMG-02"),
    "an image from Docker's own registry": (config(Image=f"claude@{DIGEST}"), "IMG-02"),
    "an image from a registry that only begins alike": (
        config(Image=f"registry.example.evil.test/sandboxes/claude@{DIGEST}"),
        "IMG-02",
    ),
    # OPS
    "no health check": (without("Config.Healthcheck"), "OPS-01"),
    "a health check turned off": (config(Healthcheck={"Test": ["NONE"]}), "OPS-01"),
    "not what its sandbox asks for": (lambda world: setattr(world, "drift", ("HostConfig.Privileged",)), "OPS-03"),
    "nobody's sandbox": (lambda world: setattr(world, "drift", None), "OPS-03-"),
}

BROKERED: dict[str, tuple[Mutate, str]] = {
    "a gateway that is privileged": (brokered(Privileged=True), "NET-12"),
    "a gateway that publishes its ports": (
        brokered(PortBindings={"3128/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3128"}]}),
        "NET-12",
    ),
    "a gateway that is not the desired one": (brokered(differences=("Networks.other",)), "NET-12"),
    "a gateway with another's accounts": (brokered(**accounts("others")), "NET-12"),
    "a gateway whose accounts are a directory": (brokered(**accounts(Type="bind")), "NET-12"),
    "a gateway whose accounts are made of a directory": (
        brokered(**accounts(VolumeOptions={"DriverConfig": {"Options": {"o": "bind", "device": "/etc"}}})),
        "NET-12",
    ),
    "a gateway with more than its accounts": (
        brokered(Mounts=accounts()["Mounts"], listed=[*accounts()["listed"], {"Type": "volume", "Name": "more"}]),
        "NET-12",
    ),
    "a gateway with its accounts twice": (brokered(Mounts=2 * accounts()["Mounts"]), "NET-12"),
    "a gateway with something of the host": (brokered(Binds=["/etc:/etc"]), "NET-12"),
    "somebody else on its network": (
        lambda world: world.networks[0]["Containers"].update({"7" * 64: {"Name": "bob"}}),
        "NET-08? NET-13 ID-04",
    ),
    "a network that leads out": (network(Internal=False), "NET-08 NET-13"),
    "an address of the host on its network": (network(Options={}), "NET-08 NET-13"),
    "another internal network": (
        lambda world: (
            world.networks.append({**world.networks[0], "Name": "other", "Id": "6" * 64, "Containers": {}}),
            world.container["NetworkSettings"]["Networks"].update({"other": {"NetworkID": "6" * 64}}),
        ),
        "NET-13",
    ),
    "the host's network": (host(NetworkMode="host"), "NS-03 NET-08 NET-13"),
    "the document of its network not given": (lambda world: world.networks.clear(), "NET-08? NET-13?"),
    "its engine's own resolver": (host(Dns=[]), "NET-06"),
    "a resolver of the host's": (host(Dns=["127.0.0.1"]), "NET-06"),
    "a resolver elsewhere": (host(Dns=["192.0.2.1", "9.9.9.9"]), "NET-06"),
    "a resolver that is no address": (host(Dns=["dns.example.org"]), "NET-06"),
    "a resolver that is not told": (without("HostConfig.Dns"), "NET-06?"),
    "a placeholder for another key": (
        lambda world: setattr(world, "key_place", KeyPlace(placeholder=True, current=False)),
        "ID-04",
    ),
    "a key in the placeholder's place": (
        lambda world: setattr(world, "key_place", KeyPlace(placeholder=False, current=False)),
        "ID-04 SEC-05?",
    ),
    "nobody looked what is in the key's place": (
        lambda world: setattr(world, "key_place", None),
        "ID-04? SEC-05?",
    ),
    "the key in a variable": (env("ANTHROPIC_API_KEY=abcdefgh1234"), "SEC-01 SEC-05"),
    "the token of a subscription in a variable": (env("CLAUDE_CODE_OAUTH_TOKEN=abcdefgh1234"), "SEC-01 SEC-05"),
    "the key under a harmless name": (env(f"EDITOR={_KEY}"), "SEC-01 SEC-05"),
    "it holds its key itself": (held, "NET-12- NET-13- ID-04- SEC-05"),
    "nothing declares that it has a gateway": (
        lambda world: world.declare(gateway=None),
        "NET-06- NET-12- NET-13- ID-04- SEC-05-",
    ),
}
"""Of one with a gateway."""

NOT_DECIDED = {"PRIV-06", "PRIV-07", "KERN-07", "NET-03", "NET-04", "NET-07", "NET-09", "OPS-02"}
"""Unknown whatever the document says, unless it is worse: it takes the engine's settings, a probe or the kernel."""


def test_a_compliant_container_passes_everything_that_its_document_can_decide() -> None:
    found = compliant().results()
    undeclared = {"SEC-04", "IMG-03", "NET-06", "NET-12", "NET-13", "ID-04", "SEC-05"}
    assert {id for id, result in found.items() if result is Result.UNKNOWN} == NOT_DECIDED
    assert {id for id, result in found.items() if result is Result.NOT_APPLICABLE} == undeclared
    assert {id for id, result in found.items() if result is Result.PASS} == found.keys() - NOT_DECIDED - undeclared


@pytest.mark.parametrize("name", MUTATIONS)
def test_exactly_the_controls_change_that_are_about_it(name: str) -> None:
    mutate, expected = MUTATIONS[name]
    world = changed(mutate)
    assert written(different(compliant().results(), world.results())) == expected
    for finding in world.found():
        if finding.result is Result.FAIL:
            assert finding.verdict.message
            assert finding.remedy


@pytest.mark.parametrize("name", BROKERED)
def test_exactly_the_controls_change_that_are_about_it_where_there_is_a_gateway(name: str) -> None:
    mutate, expected = BROKERED[name]
    before, world = changed(brokered()), changed(brokered(), mutate)
    assert written(different(before.results(), world.results())) == expected
    assert all(one.verdict.message and one.remedy for one in world.found() if one.result is Result.FAIL)


def test_every_control_that_can_fail_is_seen_failing() -> None:
    seen = {id for _, expected in (*MUTATIONS.values(), *BROKERED.values()) for id in expected.split()}
    # Whose exec sessions are in a container, its document can't tell, nor what can be reached or is refused
    # (test_probe_denial.py), nor what listens in it or is in its image (test_container_kernel.py); what was not read
    # lately decides nothing at all.
    assert {control.id for control in CONTAINER_CONTROLS if isinstance(control.container, ContainerCheck)} - seen == {
        "PRIV-07",
        "PRIV-08",
        "NET-03",
        "NET-04",
        "NET-07",
        "KERN-07",
        "OPS-02",
        "OPS-04",
    }


PERMITTED: dict[str, Mutate] = {
    "the one capability that the standard allows": host(CapAdd=["CAP_NET_BIND_SERVICE"]),
    "all dropped, in lower case": host(CapDrop=["all"]),
    "no-new-privileges=true": host(SecurityOpt=["no-new-privileges=true"]),
    "no-new-privileges:true": host(SecurityOpt=["no-new-privileges:true"]),
    "no-new-privileges turned off and on again": host(SecurityOpt=["no-new-privileges:false", "no-new-privileges"]),
    "another ordinary user": config(User="1001:1001"),
    "an ordinary group added": host(GroupAdd=["2000"]),
    "a filter of its own": security('seccomp={"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}'),
    "a filter that denies what is dangerous": security(
        "seccomp="
        + json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": sorted(DANGEROUS), "action": "SCMP_ACT_ERRNO"}],
            }
        )
    ),
    "the engine's own filter by name": security("seccomp=builtin"),
    "the Strict filter": security(f"seccomp={STRICT}"),
    "the Strict filter, as it is asked for": both(security(f"seccomp={STRICT}"), declared_strict),
    "another profile of AppArmor": top(AppArmorProfile="claude"),
    "the AppArmor profile that its sandbox asks for": both(
        asks_for_app_armor("claude"), top(AppArmorProfile="claude"), security("apparmor=claude")
    ),
    "the engine's AppArmor profile where its sandbox asks for that": asks_for_app_armor(),
    "an SELinux level": security("label=level:s0:c1,c2"),
    "fewer masks, as older engines have them": host(
        MaskedPaths=[one for one in _MASKED if one not in ("/proc/interrupts", "/sys/devices/virtual/powercap")]
    ),
    "a safe sysctl": host(Sysctls={"net.ipv4.ip_unprivileged_port_start": "0"}),
    "a shim of gVisor": host(Runtime="io.containerd.runsc.v1"),
    "an IPC namespace that others may join": host(IpcMode="shareable"),
    "no IPC namespace to speak of": host(IpcMode="none"),
    "a port that is exposed and not published": lambda world: world.container["NetworkSettings"]["Ports"].update(
        {"80/tcp": None}
    ),
    "a relay on loopback, of an engine that keeps it there": relayed(),
    "a relay on IPv6's loopback": relayed("::1", (DeclaredPort(8080, "::1"),)),
    "a relay on an address that the administrator allows": both(
        relayed("192.0.2.1", (DeclaredPort(8080, "192.0.2.1"),)),
        lambda world: world.declare(addresses=frozenset({"192.0.2.1"})),
    ),
    "a declared directory, read-only": bind("/srv/data"),
    "a declared file of the system, read-only": bind("/etc/localtime"),
    "a declared socket that is no engine's": bind("/srv/proxy.sock"),
    "a declared secret": bind("/srv/key", "/run/secrets/key"),
    "a project's own settings of Claude": bind("/home/me/project/.claude"),
    "another volume, read-only": volume(RW=False),
    "an image's volume": volume(Type="image", RW=False),
    "a volume on a network file system": of_volume(type="nfs", o="addr=192.0.2.1", device=":/export"),
    "scratch space as a share of the memory": host(Tmpfs={"/tmp": "size=10%"}),
    "scratch space from which programs may run": host(Tmpfs={"/tmp": "size=1g,exec"}),
    "no scratch space": both(
        without("HostConfig.Tmpfs"),
        lambda world: world.container["Mounts"].pop(),
        lambda world: world.host["Mounts"].pop(),
    ),
    "a quota of CPU time": host(NanoCpus=0, CpuQuota=100000, CpuPeriod=100000),
    "no restart": host(RestartPolicy={"Name": "no", "MaximumRetryCount": 0}),
    "no restart, as older engines write it": host(RestartPolicy={"Name": "", "MaximumRetryCount": 0}),
    "no network": both(
        host(NetworkMode="none"),
        lambda world: world.container["NetworkSettings"].update(Networks={"none": {"GwPriority": 0}}),
    ),
    "a proxy that is declared": both(
        lambda world: world.networks[0]["Containers"].update({"7" * 64: {"Name": "proxy"}}),
        lambda world: world.declare(peers=frozenset({"proxy"})),
    ),
    "somebody else who can't be connected to": both(
        lambda world: world.networks[0]["Containers"].update({"7" * 64: {"Name": "bob"}}),
        lambda world: world.networks[0]["Options"].update({"com.docker.network.bridge.enable_icc": "false"}),
    ),
    "a network that is not internal, of others": lambda world: world.networks.append(
        {"Name": "other", "Id": "6" * 64, "Internal": False}
    ),
    "a path in a variable that is called a token": env("TOKEN_FILE=/run/token"),
    "a prompt that speaks of keys": config(Cmd=["-p", "Explain why the api key and the token are not in env"]),
    "a health check that fails": lambda world: world.container["State"]["Health"].update(Status="unhealthy"),
    "labels of null": config(Labels=None),
}


@pytest.mark.parametrize(
    "mutate",
    [brokered(), brokered(**accounts()), lambda world: world.declare(gateway=True)],
    ids=["hardened", "with accounts", "none"],
)
def test_a_hardened_gateway_passes_and_so_does_none_by_which_nothing_gets_out(mutate: Mutate) -> None:
    assert changed(mutate).results()["NET-12"] is Result.PASS


def test_one_with_a_gateway_passes_what_is_about_it() -> None:
    found = changed(brokered()).results()
    assert {found[one] for one in ("NET-06", "NET-12", "NET-13", "ID-04", "SEC-05")} == {Result.PASS}


@pytest.mark.parametrize("name", PERMITTED)
def test_what_is_not_wrong_changes_nothing(name: str) -> None:
    assert written(different(compliant().results(), changed(PERMITTED[name]).results())) == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "the engine's default"),
        ((f"seccomp={STRICT}",), "Strict"),
        (("seccomp=" + STRICT.replace('"accept",', '"accept","ptrace",'),), "a profile of its own"),
        (('seccomp={"defaultAction":"SCMP_ACT_ERRNO"}',), "a profile of its own"),
        ((f"seccomp={STRICT}", 'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'), "a profile of its own"),
    ],
    ids=["none", "strict", "loosened", "another", "another after it"],
)
def test_which_filter_it_has_is_told(options: tuple[str, ...], told: str) -> None:
    (found,) = [one for one in changed(security(*options)).found() if one.control.id == "KERN-01"]
    assert found.verdict.value == told


def test_an_image_named_by_the_engine_s_own_identifier_must_be_the_one_that_runs() -> None:
    def named(running: str) -> str:
        world = changed(config(Image=DIGEST), top(Image=running), lambda world: world.declare(image_digest=None))
        return written(different(compliant().results(), world.results()))

    assert named(DIGEST) == "IMG-02?"
    assert named("sha256:" + "b" * 64) == "IMG-01 IMG-02?"


def test_the_same_evidence_is_judged_the_same_and_left_alone() -> None:
    world = compliant()
    before = copy.deepcopy(world.container)
    assert world.found() == world.found()
    assert world.container == before
