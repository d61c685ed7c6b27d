"""SEC on Docker: where credentials are."""

import posixpath
import re
from collections.abc import Sequence

from claude_sandbox.api import leaks
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Level, Verdict, maps
from claude_sandbox.compliance.docker.container import Container, doubts_of
from claude_sandbox.compliance.docker.filesystem import each_bind, is_home
from claude_sandbox.compliance.docker.measure import decided, docker_only, shared
from claude_sandbox.compliance.docker.mounts import holds

_SECRETS = "/run/secrets"
"""Where Compose and Swarm mount what they call secrets."""
_SECRET_FILE = re.compile(
    r"(?:.*[._-])?(?:secrets?|credentials?|tokens?|api[._-]?key|passw(?:or)?d|private[._-]?key)(?:[._-].*)?"
    r"|\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|jks|kdbx)",
    re.IGNORECASE,
)

# Of the host's users and of its cluster, wherever their home is.
_CREDENTIALS = re.compile(
    r".*/(?:\.ssh|\.kube|\.aws|\.azure|\.oci|\.gnupg|\.docker|\.config/gcloud|\.config/gh|\.password-store"
    r"|\.netrc|\.git-credentials|\.npmrc|\.pypirc|\.vault-token)(?:/.*)?"
    r"|/(?:root|(?:(?:mnt/)?[a-z]/)?(?:home|Users|var/home)/[^/]+)/\.claude(?:\.json|/.*)?"
    r"|/(?:etc/kubernetes|var/lib/kubelet|etc/rancher)(?:/.*)?"
)
_AGENT_SOCKET = re.compile(r".*(?:/ssh-[^/]+/agent\.\d+|ssh-auth\.sock|S\.gpg-agent[^/]*)")
_HOLDERS = ("/root", "/home", "/etc/kubernetes", "/var/lib/kubelet")


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
    workspace = container.declared.workspace
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.is_vague:
            doubts.append(mount.doubt)
        if mount.destination is None or mount.destination == workspace or not _is_secret(mount.destination, mount.host):
            continue
        if mount.destination not in container.declared.mounts:
            doubts.append(f"nothing declares the secret at {mount.destination} (--mount)")
        elif mount.writable is None:
            doubts.append(mount.doubt)
        elif mount.writable:
            problems.append(f"it can overwrite the secret at {mount.destination}")
    return decided(problems, doubts)


def host_credentials(container: Container) -> Verdict:
    """Neither what the host's users log in with elsewhere, nor an agent that signs for them."""
    return decided(*each_bind(container, _credential))


def _credential(host: str, destination: str) -> str | None:
    if is_home(host) or any(holds(host, one) for one in _HOLDERS):
        return f"{destination} holds what users of the host log in with, in its {host}"
    if _CREDENTIALS.fullmatch(host):
        return f"{destination} is the host's {host}"
    if _AGENT_SOCKET.fullmatch(host) or _AGENT_SOCKET.fullmatch(destination):
        return f"{destination} is the socket of an agent that signs for a user of the host"
    return None


def _is_secret(destination: str, host: str | None) -> bool:
    if holds(_SECRETS, destination.removeprefix("/var")):
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
