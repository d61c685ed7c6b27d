"""HOST: whether a Docker Engine and its host are a place for sandboxes."""

from collections.abc import Mapping
from ipaddress import ip_network

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import untold
from claude_sandbox.compliance.control import OPTIONAL, Control, HostCheck, Level, maps
from claude_sandbox.compliance.conventions import HARDENED_HANDLERS
from claude_sandbox.compliance.docker_hosts.host import Host, Numbers, numbers
from claude_sandbox.compliance.verdict import Verdict, decided, failed, not_applicable, passed, unknown

ICC = "com.docker.network.bridge.enable_icc"

# With what the engine's own warnings about its API begin (docker info, since 18.09).
_PLAIN = "API is accessible on http://"
_ANYONE = "without TLS client verification"

# Names of the seccomp profile that every engine has built in.
_BUILT_IN = frozenset({"builtin", "default"})

_LIMITS = {"MemoryLimit": "memory", "SwapLimit": "swap", "CpuCfsQuota": "CPU", "PidsLimit": "the number of processes"}

# From here on a port that is published on 127.0.0.1 can't be reached from the local network (moby#45610), and a
# network can be without any address of the host (gateway mode `isolated`).
_ISOLATING = (28, 0)

# An engine of 20.10 that has the setting does not tell of it; of those between nothing is known.
_TELLS_PRIVILEGES = (24, 0)

# Where the known ways out of a container through runc are closed: CVE-2024-21626, and CVE-2025-31133,
# CVE-2025-52565 and CVE-2025-52881 (runc's security advisories).
_RUNC_FIXED: dict[Numbers, Numbers] = {(1, 2): (1, 2, 8), (1, 3): (1, 3, 3)}
_RUNC_NEWER: Numbers = (1, 4)
_RUNC_FLAWED = frozenset({"1.4.0-rc.1", "1.4.0-rc.2"})


_RUNC_PROBLEM = "its runc lets a container's process out to the host (CVE-2025-31133 and others)"


def protected(host: Host) -> Verdict:
    """Only who has a certificate, an account or the socket's permission reaches the API, here and elsewhere."""
    problems = []
    if host.scheme == "tcp" and not host.mutual_tls:
        problems.append("the operator reaches the engine by tcp without TLS, as everyone else can")
    warnings = host.info.strings("Warnings", omissible=True)
    for warning in warnings or ():
        if _PLAIN in warning:
            problems.append("the engine listens on tcp without TLS")
        elif _ANYONE in warning:
            problems.append("the engine asks clients for no certificate")
    return decided(problems, [untold("Warnings")] if warnings is None else [], host.scheme)


def registries(host: Host) -> Verdict:
    """Images come from registries that proved who they are. The engine trusts its own loopback addresses always."""
    config = host.info.mapping("RegistryConfig")
    if not config:
        return unknown(untold("RegistryConfig"))
    networks = host.info.strings("RegistryConfig.InsecureRegistryCIDRs")
    if networks is None:
        return unknown(untold("RegistryConfig.InsecureRegistryCIDRs"))
    names = host.info.mapping("RegistryConfig.IndexConfigs") or {}
    insecure = sorted(
        [network for network in networks if not _loopback(network)]
        + [
            name
            for name, index in names.items()
            if isinstance(index, Mapping) and index.get("Secure") is False and not _loopback(_host(name))
        ]
    )
    return decided([f"{name} is trusted without a certificate" for name in insecure])


def seccomp(host: Host) -> Verdict:
    """System calls are filtered by default."""
    if host.security is None:
        return unknown(untold("SecurityOptions"))
    if "seccomp" not in host.security:
        return failed("the engine filters no system calls: its kernel or its build lacks seccomp")
    profile = host.security["seccomp"].get("profile", "")
    if profile == "unconfined":
        return failed("the engine's default profile lets every system call pass")
    if profile in _BUILT_IN:
        return passed(profile)
    return unknown("the engine's default profile is a file of its host, whose content it does not show", profile)


def mandatory_access(host: Host) -> Verdict:
    """AppArmor or SELinux confines containers too."""
    if host.security is None:
        return unknown(untold("SecurityOptions"))
    found = sorted(host.security.keys() & {"apparmor", "selinux"})
    return passed(", ".join(found)) if found else failed("the engine uses neither AppArmor nor SELinux")


def root_is_nobody(host: Host) -> Verdict:
    """Root in a container, or the engine itself, is not root on the host."""
    if host.security is None:
        return unknown(untold("SecurityOptions"))
    found = sorted(host.security.keys() & {"rootless", "userns"})
    return passed(", ".join(found)) if found else failed("root in a container is root on the host")


def no_new_privileges(host: Host) -> Verdict:
    """For containers that don't ask for it themselves; sandboxes do."""
    if host.security is None:
        return unknown(untold("SecurityOptions"))
    if "no-new-privileges" in host.security:
        return passed()
    release = numbers(host.release or "")
    if release is None or release < _TELLS_PRIVILEGES:
        return unknown("an engine of this version does not tell")
    return failed("containers that don't say otherwise can gain privileges")


def limits(host: Host) -> Verdict:
    """The kernel enforces what a sandbox's limits say."""
    read = {field: host.info.flag(field) for field in _LIMITS}
    return decided(
        [f"it can't limit {_LIMITS[field]}" for field, value in read.items() if value is False],
        [untold(field) for field, value in read.items() if value is None],
    )


def cgroup_v2(host: Host) -> Verdict:
    """Limits hold for all of a container at once, and can be delegated safely."""
    version = host.info.text("CgroupVersion")
    if not version:
        return unknown(untold("CgroupVersion"))
    return passed(version) if version == "2" else failed(f"its cgroups are of version {version}", version)


def published_ports(host: Host) -> Verdict:
    """What is published on 127.0.0.1 is reached from the host only."""
    return _since(host, "the local network reaches ports that are published on 127.0.0.1 only (moby#45610)")


def isolated_networks(host: Host) -> Verdict:
    """An internal network need not have an address of the host on it."""
    return _since(host, "containers reach the host's own services by the address that it has on their network")


def runc(host: Host) -> Verdict:
    """What starts the containers has no known way out of them."""
    runtime = host.info.text("DefaultRuntime")
    if runtime is not None and runtime.startswith(HARDENED_HANDLERS):
        return not_applicable(f"the default runtime is {runtime}")
    version = host.component("runc")
    read = numbers(version) if version else None
    if version is None or read is None:
        return unknown("the engine does not tell the version of runc")
    if version in _RUNC_FLAWED:
        return failed(_RUNC_PROBLEM, version)
    if read >= _RUNC_NEWER or read >= _RUNC_FIXED.get(read[:2], _RUNC_NEWER):
        return passed(version)
    # A plain number is upstream's own; a distribution's has more behind it, and may have the fix under an older one.
    if set(version) <= set("0123456789."):
        return failed(_RUNC_PROBLEM, version)
    return unknown(f"whether a distribution mended runc {version} is not told by its version", version)


def live_restore(host: Host) -> Verdict:
    """Sandboxes go on while the engine is restarted, for example to mend it."""
    return _flag(host, "LiveRestoreEnabled", good=True, problem="containers end with the engine")


def not_experimental(host: Host) -> Verdict:
    """What is not finished is off."""
    return _flag(host, "ExperimentalBuild", good=False, problem="the engine's experimental features are on")


def logs_kept(host: Host) -> Verdict:
    """What containers say is kept, by default."""
    driver = host.info.text("LoggingDriver")
    if not driver:
        return unknown(untold("LoggingDriver"))
    return failed("containers' output is thrown away by default", driver) if driver == "none" else passed(driver)


def default_bridge(host: Host) -> Verdict:
    """Other containers of the host can't speak with each other unasked. Sandboxes are never on that network."""
    if host.bridge is None:
        return passed("there is no default bridge")
    options = host.bridge.mapping("Options")
    if options is None:
        return unknown(untold("Options"))
    if options.get(ICC) == "false":
        return passed()
    return failed("containers on the default bridge can connect to each other")


def _since(host: Host, problem: str) -> Verdict:
    release = host.release
    read = numbers(release) if release else None
    if release is None or read is None:
        return unknown("the engine does not tell its version")
    return passed(release) if read >= _ISOLATING else failed(problem, release)


def _flag(host: Host, field: str, *, good: bool, problem: str) -> Verdict:
    value = host.info.flag(field)
    if value is None:
        return unknown(untold(field))
    return passed() if value is good else failed(problem)


def _host(registry: str) -> str:
    """Without the port: `localhost:5000`, `[::1]:5000`."""
    host, colon, _ = registry.rpartition(":")
    return (host if colon else registry).strip("[]")


def _loopback(network: str) -> bool:
    if network == "localhost":
        return True
    try:
        return ip_network(network, strict=False).is_loopback
    except ValueError:
        return False


_UPGRADE = "Upgrade the engine to 28.0 or newer."

CONTROLS: tuple[Control, ...] = (
    Control(
        "HOST-01",
        "The engine's API is protected",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="Only who has a certificate, an account or the socket's permission reaches the engine.",
        why=(
            "The engine's API is root on the host. On a plain TCP port it is root for everybody who can "
            "connect, and such ports are found within hours."
        ),
        host=HostCheck(protected, "Use ssh:// or mutual TLS; start dockerd with --tlsverify, or without -H tcp://."),
        mappings=maps(cis_docker=("2.7",), nist=("4.5.4",)),
    ),
    Control(
        "HOST-02",
        "No insecure registries",
        Severity.HIGH,
        Level.BASELINE,
        meaning="Images come from registries that proved who they are.",
        why="From a registry without a certificate whoever is on the way chooses what the host runs.",
        host=HostCheck(registries, "Remove insecure-registries from daemon.json, and give the registry a certificate."),
        mappings=maps(cis_docker=("2.5",), nist=("4.2.1",)),
    ),
    Control(
        "HOST-03",
        "System calls are filtered by default",
        Severity.CRITICAL,
        Level.BASELINE,
        meaning="Containers that don't ask for anything get a filter of system calls.",
        why=(
            "Sandboxes bring their own wish, and an engine or kernel without seccomp can't grant it. What else "
            "runs there, relays and gateways of others too, has only the default."
        ),
        host=HostCheck(seccomp, "Remove seccomp-profile from daemon.json, on a kernel with seccomp."),
        mappings=maps(cis_docker=("2.17",), nist=("4.4.3",)),
    ),
    Control(
        "HOST-04",
        "AppArmor or SELinux is in use",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="The kernel's mandatory access control confines containers too.",
        why="It denies by what a process is, whoever it runs as: the second lock where a runtime has a flaw.",
        host=HostCheck(mandatory_access, "Turn on AppArmor, or SELinux and selinux-enabled in daemon.json."),
        required=OPTIONAL,
        mappings=maps(nist=("4.4.3",)),
    ),
    Control(
        "HOST-05",
        "Root in a container is not root on the host",
        Severity.MEDIUM,
        Level.HARDENED,
        meaning="Root in a container, or the engine itself, is not root on the host.",
        why="A process that gets out of a container is then nobody there.",
        host=HostCheck(root_is_nobody, "Set userns-remap in daemon.json, or run the engine rootless."),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.1", "2.9"), nist=("4.4.3",)),
    ),
    Control(
        "HOST-06",
        "Limits can be enforced",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="The kernel can enforce limits of memory, swap, CPU time and processes.",
        why=(
            "An engine takes limits that its kernel can't enforce with no more than a warning; the sandbox's "
            "limits would be words."
        ),
        host=HostCheck(limits, "Turn on the cgroup controllers; with cgroup v1 boot with swapaccount=1."),
    ),
    Control(
        "HOST-07",
        "Cgroups are of version 2",
        Severity.LOW,
        Level.SANDBOX,
        meaning="Control groups are of version 2.",
        why=(
            "In version 1 each resource has a tree of its own, swap is seldom counted, and release_agent has "
            "been a way out of containers."
        ),
        host=HostCheck(cgroup_v2, "Boot with systemd.unified_cgroup_hierarchy=1."),
        required=OPTIONAL,
    ),
    Control(
        "HOST-08",
        "Ports on 127.0.0.1 are the host's alone",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="A port that is published on 127.0.0.1 can be reached from the host only.",
        why=("Before 28.0 neighbours in the local network could reach such ports by routing to them (moby#45610)."),
        host=HostCheck(published_ports, _UPGRADE),
    ),
    Control(
        "HOST-09",
        "Networks can be without an address of the host",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="The engine can make networks on which the host has no address.",
        why=(
            "Before 28.0 even an internal network gives the host an address, by which a container reaches "
            "whatever listens on all of the host's addresses."
        ),
        host=HostCheck(isolated_networks, _UPGRADE),
    ),
    Control(
        "HOST-10",
        "The runtime has no known way out",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="The version of runc has none of the known ways out of a container.",
        why=(
            "With one of these flaws an image or a mount is enough to be root on the host, whatever the "
            "container's options say."
        ),
        host=HostCheck(runc, "Upgrade runc to 1.2.8, 1.3.3 or newer, or the distribution's package."),
        mappings=maps(nist=("4.4.1",)),
    ),
    Control(
        "HOST-11",
        "Containers outlive a restart of the engine",
        Severity.LOW,
        Level.SANDBOX,
        meaning="Containers go on while the engine is restarted or upgraded.",
        why="An engine whose restart ends everybody's work is one that is upgraded late.",
        host=HostCheck(live_restore, "Set live-restore in daemon.json."),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.15",)),
    ),
    Control(
        "HOST-12",
        "No experimental features",
        Severity.LOW,
        Level.SANDBOX,
        meaning="The engine's experimental features are off.",
        why="They are neither finished nor looked after with fixes as the others are.",
        host=HostCheck(not_experimental, "Remove experimental from daemon.json."),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.18",), nist=("4.5.1",)),
    ),
    Control(
        "HOST-13",
        "Output is kept by default",
        Severity.LOW,
        Level.SANDBOX,
        meaning="What containers write is kept by default.",
        why="Without it nobody can tell afterwards what happened.",
        host=HostCheck(logs_kept, "Set log-driver in daemon.json to local, json-file or a collector's."),
        required=OPTIONAL,
    ),
    Control(
        "HOST-14",
        "The default bridge keeps containers apart",
        Severity.LOW,
        Level.SANDBOX,
        meaning="Containers on the default bridge can't talk with each other.",
        why=(
            "It is where containers are that nobody gave a network. Sandboxes never are; their neighbours on "
            "the host may be."
        ),
        host=HostCheck(default_bridge, "Set icc to false in daemon.json."),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.2",), nist=("4.3.3",)),
    ),
    Control(
        "HOST-15",
        "No new privileges by default",
        Severity.LOW,
        Level.SANDBOX,
        meaning="Containers that don't ask for it can't gain privileges either.",
        why="Sandboxes ask for it themselves. It is for the others on the same kernel.",
        host=HostCheck(no_new_privileges, "Set no-new-privileges in daemon.json."),
        required=OPTIONAL,
        mappings=maps(cis_docker=("2.14",), nist=("4.4.3",)),
    ),
)
"""All controls of a host, in the order in which they are reported."""
