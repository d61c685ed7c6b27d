"""A blueprint as documents of the Engine API. Pure: golden documents for the tests."""

import hashlib
import shlex
from dataclasses import dataclass

import orjson

from claude_sandbox.api import quantity
from claude_sandbox.api.spec import SeccompProfileType
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.cloning import beside
from claude_sandbox.backends.docker.cloning import within as repositories
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.documents.hardening import (
    APP_ARMOR,
    ICC,
    NO_NEW_PRIVILEGES,
    NO_RESOLVER,
    confined,
    limited_memory,
    no_core_dump,
)
from claude_sandbox.backends.docker.documents.health import NOT_ALIVE
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest
from claude_sandbox.backends.docker.gateway.gateways import NO_BROKERING, Brokering, Gateway, gateway_of
from claude_sandbox.backends.docker.holding import holder as holding
from claude_sandbox.backends.docker.holding.holder import Holder
from claude_sandbox.backends.docker.images import tools
from claude_sandbox.backends.docker.names import Names, labels_of, names_of
from claude_sandbox.backends.docker.relay.relays import NO_PUBLISHING, Publishing, Relay, relay_of
from claude_sandbox.blueprint.model import Amounts, Blueprint, Image, User
from claude_sandbox.compliance.containers.networks import GATEWAY_MODE, INHIBIT
from claude_sandbox.seccomp.profile import STRICT

_MIB = 1 << 20
_SECOND = 1_000_000_000
_MILLICORE = 1_000_000
"""A thousandth of a CPU, in the engine's NanoCpus."""

# As many as a pod gets from `podPidsLimit` in the documentation of the Kubernetes backend.
PIDS = 512
SHARED_MEMORY = 64 * _MIB
"""The engine's own default for /dev/shm, said so that an administrator's other default does not count."""
# The kernel's own scale goes from -1000 to 1000: sandboxes go before the engine, and before what else runs there.
OOM_SCORE_ADJUSTMENT = 500
# An engine without CAP_SYS_RESOURCE can give no more than it has itself: this is what the smallest ones have.
OPEN_FILES = (4096, 8192)
LOG_SIZE, LOG_FILES = "10m", "3"
KEY_SIZE = "64k"

# Whether programs in a tmpfs can be run. Said either way: an engine takes one for noexec where nothing is said.
_PROGRAMS = {True: "exec", False: "noexec"}

# An image may bring the same first process along, which complains where the engine's own is the first.
_INIT = (("TINI_SUBREAPER", "1"),)

# Without this, an engine that can't check a starting container more often would be asked 30 s later for the first time.
_INTERVAL_WITHOUT_START = 10


@dataclass(frozen=True)
class Documents:
    """Everything that a sandbox should have on an engine.

    `workspace` and `home` are None where they are in memory, `relay` where no port can be published, `gateway` where
    the sandbox holds its key itself, `empty_dir` where its workspace is not in memory; `holder` there too, and where
    there is no image for it.
    """

    names: Names
    container: Manifest
    network: Manifest
    key: Manifest
    settings: Manifest
    workspace: Manifest | None
    home: Manifest | None
    relay: Relay | None = None
    gateway: Gateway | None = None
    # The volume with Claude Code, which the sandbox shares; None where its image has that itself.
    tools: Manifest | None = None
    # What clones into the workspace before the sandbox's own container is made; None where nothing has to be.
    cloner: Manifest | None = None
    # The workspace in memory, and what holds it.
    empty_dir: Manifest | None = None
    holder: Holder | None = None

    @property
    def volumes(self) -> tuple[Manifest, ...]:
        accounts = self.gateway.accounts if self.gateway is not None else None
        found = (self.key, self.settings, self.workspace, self.empty_dir, self.home, accounts)
        return tuple(volume for volume in found if volume is not None)


def documents(
    blueprint: Blueprint,
    cluster: str,
    capabilities: EngineCapabilities,
    publishing: Publishing = NO_PUBLISHING,
    brokering: Brokering = NO_BROKERING,
) -> Documents:
    """The documents for the engine's creates, which also say what is desired of live objects."""
    called, kept = names_of(cluster, blueprint.identity), blueprint.kept_home
    gateway = gateway_of(blueprint, cluster, called, brokering, capabilities)
    relay = relay_of(blueprint.identity, cluster, called, blueprint.network.ports, publishing, capabilities)
    empty_dir = _empty_dir(blueprint, cluster, called.empty_dir, capabilities)
    return Documents(
        names=called,
        container=container(blueprint, cluster, capabilities),
        network=network(blueprint, cluster, capabilities, shared=relay is not None or gateway is not None),
        key=_volume(blueprint, cluster, called.key, names.KEY, _in_memory(blueprint.user, capabilities)),
        settings=_settings(blueprint, cluster, called.settings),
        workspace=(
            _volume(blueprint, cluster, called.workspace, names.WORKSPACE, sizes.options(blueprint.workspace.size))
            if blueprint.workspace.volume
            else None
        ),
        home=(
            _volume(blueprint, cluster, called.home, names.HOME, sizes.options(quantity.bytes_of(kept.volume.size)))
            if kept is not None
            else None
        ),
        relay=relay,
        gateway=gateway,
        tools=tools.volume(cluster, blueprint.tools) if blueprint.tools is not None else None,
        cloner=_cloner(blueprint, cluster, capabilities),
        empty_dir=empty_dir,
        holder=_holder(blueprint, cluster, empty_dir, brokering.image, capabilities),
    )


def network(blueprint: Blueprint, cluster: str, capabilities: EngineCapabilities, *, shared: bool = False) -> Manifest:
    """A bridge of the sandbox's own without a way out, and without an address of the host on it.

    `shared` with the relay, which then can connect to the sandbox, or with the gateway, to which it then can connect;
    there is nobody else, and on the relay nothing listens.
    """
    called = names_of(cluster, blueprint.identity)
    # Either keeps the host's address off the bridge; the newer one also keeps one from being reserved.
    hostless = {GATEWAY_MODE: "isolated"} if capabilities.isolated_gateway else {INHIBIT: "true"}
    return {
        "Name": called.network,
        "Driver": "bridge",
        "Internal": True,
        "Attachable": False,
        "Ingress": False,
        "EnableIPv6": False,
        "Options": {ICC: "true" if shared else "false", **hostless},
        "Labels": labels_of(cluster, blueprint.identity, names.NETWORK),
    }


def container(blueprint: Blueprint, cluster: str, capabilities: EngineCapabilities) -> Manifest:
    """The workload. The engine never starts it by itself: that would be without its key."""
    called = names_of(cluster, blueprint.identity)
    document: Manifest = {
        "Hostname": blueprint.identity.name,
        "Image": blueprint.image.reference,
        "User": f"{blueprint.user.uid}:{blueprint.user.gid}",
        "WorkingDir": blueprint.workspace.path,
        "Env": [
            f"{name}={value}" for name, value in (*blueprint.environment, *repositories.variables(blueprint), *_INIT)
        ],
        "Labels": labels_of(cluster, blueprint.identity, names.AGENT),
        "Healthcheck": _health(blueprint, capabilities),
        "StopTimeout": blueprint.grace_seconds,
        "HostConfig": {
            **_privileges(blueprint, capabilities),
            **limits(blueprint, capabilities),
            "ReadonlyRootfs": True,
            "Tmpfs": _tmpfs(blueprint),
            "Mounts": _labelled_mounts(blueprint, cluster, capabilities),
            "ShmSize": SHARED_MEMORY,
            "OomScoreAdj": OOM_SCORE_ADJUSTMENT,
            "Ulimits": [
                no_core_dump(),
                {"Name": "nofile", "Soft": OPEN_FILES[0], "Hard": OPEN_FILES[1]},
            ],
            # What the agent prints is on the host's disk; the engine's default (json-file) has no bound.
            "LogConfig": {"Type": "local", "Config": {"max-size": LOG_SIZE, "max-file": LOG_FILES}},
            "NetworkMode": called.network,
            "Dns": [NO_RESOLVER],
        },
        "NetworkingConfig": {"EndpointsConfig": {called.network: {}}},
    }
    if blueprint.command:
        document["Entrypoint"] = list(blueprint.command)
    if blueprint.args:
        document["Cmd"] = list(blueprint.args)
    document["Labels"][names.LABEL_SPEC_HASH] = spec_hash(blueprint, cluster)
    return document


def _cloner(blueprint: Blueprint, cluster: str, capabilities: EngineCapabilities) -> Manifest | None:
    wanted = beside.cloner_of(blueprint)
    if wanted is None:
        return None
    document = container(wanted, cluster, capabilities)
    made_of = {names.LABEL_SPEC_HASH: document["Labels"][names.LABEL_SPEC_HASH]}
    document["Labels"] = {**labels_of(cluster, blueprint.identity, names.CLONER), **made_of}
    # As the agent's: whether what it is for can run at all. How far it is it tells by its log and its end.
    alive = blueprint.liveness
    document["Healthcheck"] = {
        "Test": ["CMD", "git", "--version"],
        "Interval": alive.period * _SECOND,
        "Timeout": alive.timeout * _SECOND,
        "Retries": alive.failures,
    }
    return document


def _empty_dir(blueprint: Blueprint, cluster: str, name: str, capabilities: EngineCapabilities) -> Manifest | None:
    if blueprint.workspace.volume is not None:
        return None
    return _volume(blueprint, cluster, name, names.EMPTY_DIR, holding.options_of(blueprint, capabilities))


def _holder(
    blueprint: Blueprint,
    cluster: str,
    volume: Manifest | None,
    image: Image | None,
    capabilities: EngineCapabilities,
) -> Holder | None:
    if volume is None or image is None:
        return None
    held = mount(volume["Name"], blueprint.workspace.path, True, volume["DriverOpts"])
    held["VolumeOptions"]["Labels"] = volume["Labels"]
    called = names_of(cluster, blueprint.identity)
    return holding.holder_of(blueprint.identity, cluster, called, image, held, capabilities)


def limits(blueprint: Blueprint, capabilities: EngineCapabilities) -> Manifest:
    """What of a container can be changed while it runs: each said, since none can be taken back by not saying it."""
    most, promised = blueprint.limits, blueprint.requests
    return {
        **limited_memory(most.memory, limits_swap=capabilities.limits_swap),
        "MemoryReservation": promised.memory,
        "NanoCpus": most.cpu_millicores * _MILLICORE,
        "CpuShares": _shares(promised),
        "PidsLimit": PIDS,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }


def spec_hash(blueprint: Blueprint, cluster: str) -> str:
    """Tells whether a container was made from what is asked for now, but for what can be changed in place.

    The same on all engines, so that an engine's upgrade does not look like another spec.
    """
    capabilities = EngineCapabilities()
    called = names_of(cluster, blueprint.identity)
    parts = [
        *(blueprint.identity.uid, blueprint.image.reference, blueprint.command, blueprint.args, blueprint.environment),
        *(
            _tmpfs(blueprint),
            _mounts(blueprint, cluster, capabilities),
            called.network,
            _health(blueprint, capabilities),
        ),
        *(
            blueprint.grace_seconds,
            blueprint.settings.pins,
            *blueprint.settings.files,
            *_filters(blueprint),
            *_runtime(blueprint).items(),
            *repositories.variables(blueprint),
        ),
    ]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def security_options(blueprint: Blueprint) -> list[str]:
    """For every container in which something of the sandbox's image runs."""
    return [NO_NEW_PRIVILEGES, *_filters(blueprint)]


def _filters(blueprint: Blueprint) -> tuple[str, ...]:
    """Where no filter and no profile is named, an engine uses its own."""
    seccomp = (f"seccomp={STRICT}",) if blueprint.seccomp is SeccompProfileType.STRICT else ()
    profile = blueprint.app_armor.localhost_profile if blueprint.app_armor is not None else None
    return seccomp if profile is None else (*seccomp, f"{APP_ARMOR}{profile}")


def _privileges(blueprint: Blueprint, capabilities: EngineCapabilities) -> Manifest:
    return {
        **confined(),
        "Privileged": False,
        "SecurityOpt": security_options(blueprint),
        # The sandbox image has one of its own; this is for images that don't.
        "Init": capabilities.has_init,
        **_runtime(blueprint),
    }


def _runtime(blueprint: Blueprint) -> Manifest:
    """Where none is named, an engine uses its own."""
    return {} if blueprint.runtime_class is None else {"Runtime": blueprint.runtime_class}


def _health(blueprint: Blueprint, capabilities: EngineCapabilities) -> Manifest:
    """Liveness and readiness in one: an engine has one check only, and does nothing about a container that fails it.

    The exit code tells which of the two it was.
    """
    ready, alive, startup = blueprint.readiness, blueprint.liveness, blueprint.startup
    script = f"{shlex.join(alive.command)} >/dev/null 2>&1 || exit {NOT_ALIVE}; exec {shlex.join(ready.command)}"
    pace = (
        {"Interval": ready.period * _SECOND, "StartInterval": startup.period * _SECOND}
        if capabilities.start_interval
        else {"Interval": min(ready.period, _INTERVAL_WITHOUT_START) * _SECOND}
    )
    return {
        "Test": ["CMD", "/bin/sh", "-c", script],
        "Timeout": (alive.timeout + ready.timeout) * _SECOND,
        "Retries": ready.failures,
        "StartPeriod": startup.period * startup.failures * _SECOND,
        **pace,
    }


def _tmpfs(blueprint: Blueprint) -> dict[str, str]:
    user = blueprint.user
    return {
        scratch.path: f"rw,nosuid,nodev,{_PROGRAMS[scratch.executable]},size={scratch.size},"
        f"uid={user.uid},gid={user.gid},mode=0700"
        for scratch in blueprint.scratch
    }


def _labelled_mounts(blueprint: Blueprint, cluster: str, capabilities: EngineCapabilities) -> list[Manifest]:
    """The mounts, with what an engine labels a volume with that it makes because it is missing.

    One that somebody removed a moment before would else come back as nobody's, and be in the way.
    """
    called = names_of(cluster, blueprint.identity)
    components = {called.key: names.KEY, called.settings: names.SETTINGS, **called.kept}
    components[called.empty_dir] = names.EMPTY_DIR
    mounts = _mounts(blueprint, cluster, capabilities)
    for one in mounts:
        component = components.get(one["Source"])
        owner = labels_of(cluster, blueprint.identity, component) if component else tools.labels_of(cluster)
        one["VolumeOptions"]["Labels"] = owner
    return mounts


def _mounts(blueprint: Blueprint, cluster: str, capabilities: EngineCapabilities) -> list[Manifest]:
    called = names_of(cluster, blueprint.identity)
    mounts = [
        mount(called.key, blueprint.key.directory, True, _in_memory(blueprint.user, capabilities)),
        mount(called.settings, blueprint.settings.directory, True, {}),
    ]
    if blueprint.workspace.volume is not None:
        mounts.append(mount(called.workspace, blueprint.workspace.path, blueprint.workspace.read_only, {}))
    else:
        options = holding.options_of(blueprint, capabilities)
        mounts.append(mount(called.empty_dir, blueprint.workspace.path, False, options))
    if blueprint.kept_home is not None:
        mounts.append(mount(called.home, blueprint.kept_home.path, False, {}))
    if blueprint.tools is not None:
        mounts.append(mount(tools.volume_of(cluster, blueprint.tools), blueprint.tools.directory, True, {}))
    return mounts


def mount(volume: str, path: str, read_only: bool, options: dict[str, str]) -> Manifest:
    """A volume in a container. Says what kind it is, since an engine makes one that is missing without asking."""
    # Else an engine copies what the image has at that path into a volume that is empty.
    wanted: Manifest = {"NoCopy": True}
    if options:
        wanted["DriverConfig"] = {"Name": "local", "Options": options}
    return {"Type": "volume", "Source": volume, "Target": path, "ReadOnly": read_only, "VolumeOptions": wanted}


def _in_memory(user: User, capabilities: EngineCapabilities) -> dict[str, str]:
    """A volume that is never on a disk, for its owner alone.

    Where an engine remaps users, the number that the agent has on the host is not known; then anyone may enter, but
    only the engine's own root comes that far on the host, and in the sandbox it is mounted read-only.
    """
    owner = "mode=1777" if capabilities.remaps_users else f"uid={user.uid},gid={user.gid},mode=0700"
    noswap = ",noswap" if capabilities.keeps_from_swap else ""
    return {"type": "tmpfs", "device": "tmpfs", "o": f"nosuid,nodev,noexec,size={KEY_SIZE},{owner}{noswap}"}


def _volume(blueprint: Blueprint, cluster: str, name: str, component: str, options: dict[str, str]) -> Manifest:
    return {
        "Name": name,
        "Driver": "local",
        "DriverOpts": options,
        "Labels": labels_of(cluster, blueprint.identity, component),
    }


def _settings(blueprint: Blueprint, cluster: str, name: str) -> Manifest:
    """The volume of the managed settings; its label tells which files are beside them, so that none stays that is not
    wanted any more."""
    document = _volume(blueprint, cluster, name, names.SETTINGS, {})
    if blueprint.settings.files:
        found = hashlib.sha256(orjson.dumps(blueprint.settings.files)).hexdigest()[:32]
        document["Labels"] |= {names.LABEL_FILES: found}
    return document


def _shares(promised: Amounts) -> int:
    """Relative weight as the kubelet computes it: 1024 for a whole CPU, and never less than 2."""
    return max(promised.cpu_millicores * 1024 // 1000, 2)
