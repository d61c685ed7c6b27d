"""SEC on Docker: where credentials are."""

import posixpath
import re
from collections.abc import Sequence

from claude_sandbox.api.credentials import leaks
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of
from claude_sandbox.compliance.containers.credential_files import doubtful, login
from claude_sandbox.compliance.containers.mounts import holds, normal
from claude_sandbox.compliance.control import Level, Verdict, maps
from claude_sandbox.compliance.docker.filesystem import each_bind
from claude_sandbox.compliance.docker.measure import decided, docker_only, shared
from claude_sandbox.compliance.sockets import agent, agents_in

_SECRETS = "/run/secrets"
"""Where Compose and Swarm mount what they call secrets."""
_SECRET_FILE = re.compile(
    r"(?:.*[._-])?(?:secrets?|credentials?|tokens?|api[._-]?key|passw(?:or)?d|private[._-]?key)(?:[._-].*)?"
    r"|\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|jks|kdbx)",
    re.IGNORECASE,
)


_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - the host's


def environment(container: Container) -> Verdict:
    """No credential where every process, and everyone who may inspect the container, can read it. Names no value."""
    variables = container.environment
    entrypoint, command = container.strings("Config.Entrypoint"), container.strings("Config.Cmd")
    arguments, check = container.strings("Args"), _health_check(container)
    # What runs is the entrypoint with the command after it, and the path with its arguments.
    lines = {
        "command": (*(entrypoint or ()), *(command or ())),
        "arguments": (container.text("Path") or "", *(arguments or ())),
        "health check": check or (),
    }
    labels = container.mapping("Config.Labels")
    problems = [
        f"the variable {_shown(name)} looks like a credential"
        for name, value in variables or ()
        if leaks.variable_holds_credential(name, value) or leaks.looks_like_credential(name)
    ]
    problems += [
        f"its {what} looks like it holds a credential"
        for what, line in lines.items()
        if leaks.command_line_holds_credential(line)
    ]
    problems += [
        f"the label {_shown(name)} looks like it holds a credential"
        for name, value in (labels or {}).items()
        if leaks.looks_like_credential(str(value)) or leaks.looks_like_credential(name)
    ]
    return decided(
        problems,
        doubts_of(
            ("Config.Env", variables),
            ("Config.Cmd", command),
            ("Config.Entrypoint", entrypoint),
            ("Args", arguments),
            ("Config.Healthcheck.Test", check),
            ("Config.Labels", labels),
        ),
    )


def mounted(container: Container) -> Verdict:
    """No secret but the declared ones, and none that could be overwritten."""
    workspaces = container.declared.workspaces
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.is_vague:
            doubts.append(mount.doubt)
        if (
            mount.destination is None
            or mount.destination in workspaces
            or not _is_secret(mount.destination, mount.host)
        ):
            continue
        if mount.destination not in container.declared.mounts:
            doubts.append(f"nothing declares the secret at {mount.destination} (--mount)")
        elif mount.writable is None:
            doubts.append(mount.doubt)
        elif mount.writable:
            problems.append(f"it can overwrite the secret at {mount.destination}")
    return decided(problems, doubts)


def host_credentials(container: Container) -> Verdict:
    """Neither what the host's users log in with elsewhere, nor an agent that signs for them, under whatever name."""
    named = agents_in(container.environment or ())

    def problem(host: str, place: str) -> str | None:
        found = login(host) or agent(host, place)
        if not found and any(holds(normal(place), normal(one)) for one in named):
            found = "is what a variable names as the socket of an agent that signs for a user of the host"
        return f"{place} {found}" if found else None

    problems, doubts = each_bind(container, problem)
    pipes = (mount for mount in container.mounts if mount.kind == "npipe")
    problems += [f"{mount.place} may be an agent's named pipe" for mount in pipes if "agent" in mount.place.lower()]
    # Where a session is forwarded to, its agent has its socket in a directory of another name each time.
    shared = (mount for mount in container.mounts if mount.host in _SCRATCH)
    doubts += [
        f"{mount.place} {doubt}"
        for mount in container.mounts
        if mount.host is not None and mount.destination not in container.declared.mounts
        if (doubt := doubtful(mount.host))
    ]
    doubts += [f"{mount.place} may hold the socket of a user's agent, in the host's {mount.host}" for mount in shared]
    if any(mount.host is not None for mount in container.mounts):
        doubts += doubts_of(("Config.Env", container.environment))
    return decided(problems, doubts)


def _is_secret(destination: str, host: str | None) -> bool:
    if holds(_SECRETS, normal(destination)):
        return True
    names = map(posixpath.basename, (destination, host)) if host is not None else ()
    return any(_SECRET_FILE.fullmatch(name) for name in names)


def _health_check(container: Container) -> Sequence[str] | None:
    check = container.mapping("Config.Healthcheck", omissible=True)
    return (
        ()
        if check is not None and "Test" not in check
        else container.strings("Config.Healthcheck.Test", omissible=True)
    )


def _shown(name: str) -> str:
    """A name, unless it is itself what must not be shown."""
    return "(its name is not shown)" if leaks.looks_like_credential(name) else name


MEASURES = (
    shared("SEC-01", environment, "Run it without the variable or argument, and mount the key as a file."),
    shared("SEC-02", mounted, "Mount only the declared secret, and mount it read-only."),
    docker_only(
        "SEC-03",
        "No credentials of the host's users",
        Severity.CRITICAL,
        Level.SANDBOX,
        "Run it without the mount that is or holds credentials or an agent's socket.",
        host_credentials,
        mappings=maps(kubescape=("C-0020",)),
    ),
)
