"""SEC: where credentials are."""

import posixpath
import re
from collections.abc import Iterator, Sequence

from claude_sandbox.api.credentials import addresses, leaks, measured, notes, options
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.binds import each_bind
from claude_sandbox.compliance.containers.container import Container, doubts_of
from claude_sandbox.compliance.control import (
    ContainerCheck,
    Control,
    Level,
    PodCheck,
    Undeclared,
    maps,
)
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.host_files.credential_files import doubtful, login
from claude_sandbox.compliance.host_files.paths import holds, normal
from claude_sandbox.compliance.host_files.sockets import agent, agents_in
from claude_sandbox.compliance.pods.undeclared import undeclared_secrets
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.pods.volumes import TIGHTEST_MODE, loosest_mode, secrets_of
from claude_sandbox.compliance.verdict import Verdict, decided, judged, passed, unknown

_SECRETS = "/run/secrets"
"""Where Compose and Swarm mount what they call secrets."""
_SECRET_FILE = re.compile(
    r"(?:.*[._-])?(?:secrets?|credentials?|tokens?|api[._-]?key|passw(?:or)?d|private[._-]?key)(?:[._-].*)?"
    r"|\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|jks|kdbx)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w./-]{1,128}")
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - the host's


def pod_environment(view: View) -> Verdict:
    """No credential where every process, and everyone who can describe the pod, can read it. Names no value."""
    problems = [problem for container in view.containers for problem in _exposed(container)]
    metadata = view.pod.get("metadata") or {}
    problems += [
        f"the {what} {shown(name)} looks like it holds a credential"
        for what, found in (("label", metadata.get("labels")), ("annotation", metadata.get("annotations")))
        for name, value in (found or {}).items()
        if notes.holds_credential(name, str(value))
    ]
    if problems:
        return judged(problems)
    if unseen := [name for container in view.containers for name in unseen_variables(container)]:
        return unknown(f"what is in {', '.join(unseen)} was not read")
    return passed()


def container_environment(container: Container) -> Verdict:
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
    logging = container.mapping("HostConfig.LogConfig.Config", omissible=True)
    problems = [
        f"the variable {shown(name)} looks like a credential"
        for name, value in variables or ()
        if measured.variable_holds_credential(name, value) or leaks.looks_like_credential(name)
    ]
    problems += [
        f"its {what} looks like it holds a credential"
        for what, line in lines.items()
        if measured.command_line_holds_credential(line)
    ]
    problems += [
        f"the label {shown(name)} looks like it holds a credential"
        for name, value in (labels or {}).items()
        if notes.holds_credential(name, str(value))
    ]
    # A log's driver logs in to where it writes.
    problems += [
        f"the log's option {shown(name)} looks like a credential"
        for name, value in (logging or {}).items()
        if measured.variable_holds_credential(name, str(value))
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


def pod_mounted(view: View) -> Verdict:
    """The declared Secret and no other, as a directory that follows it, for the agent's container only."""
    problems, declared = [], set()
    for volume in view.volumes:
        name = volume.get("name")
        for secret in secrets_of(volume):
            if secret == view.expected.api_key_secret:
                declared.add(name)
                if mode := loosest_mode(volume):
                    problems.append(f"files of volume {name} have the mode {mode:04o} instead of {TIGHTEST_MODE:04o}")
            else:
                problems.append(f"volume {name} holds the Secret {secret or 'of a storage driver'}")
    for container in view.containers:
        for mount in container.spec.get("volumeMounts") or ():
            if mount.get("name") not in declared:
                continue
            if container.name != view.expected.container:
                problems.append(f"container {container.name} mounts the API key")
            if mount.get("subPath") or mount.get("subPathExpr"):
                problems.append(
                    f"container {container.name} mounts the API key by subPath, which a new key never reaches"
                )
    return judged(problems)


def container_mounted(container: Container) -> Verdict:
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


def container_host_credentials(container: Container) -> Verdict:
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


def _exposed(container: PodContainer) -> Iterator[str]:
    for source in container.spec.get("envFrom") or ():
        if secret := source.get("secretRef"):
            yield f"container {container.name} takes all variables of the Secret {secret.get('name')}"
    for variable in container.spec.get("env") or ():
        name = variable.get("name", "")
        if (variable.get("valueFrom") or {}).get("secretKeyRef"):
            yield f"the variable {name} of container {container.name} comes from a Secret"
        elif measured.variable_holds_credential(name, variable.get("value") or ""):
            yield f"the variable {name} of container {container.name} looks like a credential"
    for field, words in _commands(container):
        if measured.command_line_holds_credential(words):
            yield f"the {field} of container {container.name} looks like it holds a credential"
    for field, handler in _handlers(container):
        request = handler.get("httpGet") or {}
        path = str(request.get("path") or "")
        if measured.shows_credential(path) or addresses.holds_credential(path):
            yield f"the {field} of container {container.name} asks for a path with what looks like a credential"
        for header in request.get("httpHeaders") or ():
            if options.header_holds(f"{header.get('name', '')}: {header.get('value', '')}"):
                yield f"the {field} of container {container.name} sends what looks like a credential"


def unseen_variables(container: PodContainer) -> Iterator[str]:
    """Where variables come from whose values the pod does not show."""
    for source in container.spec.get("envFrom") or ():
        if reference := source.get("configMapRef"):
            yield f"the ConfigMap {reference.get('name')}"
    for variable in container.spec.get("env") or ():
        source = variable.get("valueFrom") or {}
        if source.get("configMapKeyRef") or source.get("fileKeyRef"):
            yield f"the variable {variable.get('name')}"


def _commands(container: PodContainer) -> Iterator[tuple[str, Sequence[str]]]:
    command, arguments = (container.spec.get(field) or () for field in ("command", "args"))
    yield ("args" if arguments else "command"), (*command, *arguments)
    for name, handler in _handlers(container):
        yield name, (handler.get("exec") or {}).get("command") or ()


def _handlers(container: PodContainer) -> Iterator[tuple[str, Object]]:
    """What the kubelet runs in a container or asks of it, each by its field."""
    lifecycle = container.spec.get("lifecycle") or {}
    handlers = {probe: container.spec.get(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    for name, handler in (handlers | {hook: lifecycle.get(hook) for hook in ("postStart", "preStop")}).items():
        yield name, handler or {}


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


def shown(name: str) -> str:
    """A name, unless it is itself what must not be shown, or more than a name."""
    hidden = measured.shows_credential(name) or not _NAME.fullmatch(name)
    return "(its name is not shown)" if hidden else name


CONTROLS: tuple[Control, ...] = (
    Control(
        "SEC-01",
        "No credentials in environment or arguments",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning="No variable, argument, label, annotation, log option or probe of the workload holds a credential.",
        why=(
            "Variables are inherited by each process, are written into crash reports and logs, and are shown to "
            "everybody who can describe the pod or inspect the container."
        ),
        pod=PodCheck(
            pod_environment,
            "Remove the variable or argument; let the agent read its key from the mounted file.",
        ),
        container=ContainerCheck(
            container_environment,
            "Run it without the variable or argument, and mount the key as a file.",
        ),
        mappings=maps(
            cis_docker=("4.10",),
            kubescape=("C-0012", "C-0207"),
            trivy=("KSV-0109",),
            cis_kubernetes=("5.4.1",),
            nsa=("Secrets",),
            nist=("4.1.4",),
        ),
    ),
    Control(
        "SEC-02",
        "Only the declared Secret mounted",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "Of Secrets only the declared one is mounted, as files that only the agent can read and that follow "
            "a new key."
        ),
        why="Each further secret is one more that hostile text in a repository can have sent away.",
        pod=PodCheck(
            pod_mounted,
            "Mount only the declared Secret, as a directory with mode 0440, in the agent's container.",
            undeclared=Undeclared(
                undeclared_secrets, "Mount only the declared Secrets, as directories with mode 0440."
            ),
        ),
        container=ContainerCheck(
            container_mounted,
            "Mount only the declared secret, and mount it read-only.",
        ),
        mappings=maps(kubescape=("C-0255",), nsa=("Secrets",), nist=("4.1.4",)),
    ),
    Control(
        "SEC-03",
        "No credentials of the host's users",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning="Neither what the host's users log in with, nor an agent that signs for them, is within reach.",
        why=(
            "An SSH key, a kubeconfig or a cloud's login is worth more than the machine: with it the agent, or "
            "who deceives it, is that user everywhere."
        ),
        container=ContainerCheck(
            container_host_credentials,
            "Run it without the mount that is or holds credentials or an agent's socket.",
        ),
        mappings=maps(kubescape=("C-0020",), nist=("4.5.5",)),
    ),
)
