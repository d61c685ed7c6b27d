"""SEC: where credentials are."""

from collections.abc import Iterator, Sequence

from claude_sandbox.api.credentials import leaks
from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Control, Level, Verdict, judged, maps, passed, unknown
from claude_sandbox.compliance.pods.evidence import Object
from claude_sandbox.compliance.pods.view import Container, View

TIGHTEST_MODE = 0o440
"""Readable by owner and group: what the kubelet makes of a Secret's files for a user who is not root."""


def environment(view: View) -> Verdict:
    """No credential where every process, and everyone who can describe the pod, can read it. Names no value."""
    problems = [problem for container in view.containers for problem in _exposed(container)]
    if problems:
        return judged(problems)
    if unseen := [name for container in view.containers for name in _unseen(container)]:
        return unknown(f"what is in {', '.join(unseen)} was not read")
    return passed()


def mounted(view: View) -> Verdict:
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


def _exposed(container: Container) -> Iterator[str]:
    for source in container.spec.get("envFrom") or ():
        if secret := source.get("secretRef"):
            yield f"container {container.name} takes all variables of the Secret {secret.get('name')}"
    for variable in container.spec.get("env") or ():
        name = variable.get("name", "")
        if (variable.get("valueFrom") or {}).get("secretKeyRef"):
            yield f"the variable {name} of container {container.name} comes from a Secret"
        elif leaks.variable_holds_credential(name, variable.get("value") or ""):
            yield f"the variable {name} of container {container.name} looks like a credential"
    for field, words in _commands(container):
        if leaks.command_line_holds_credential(words):
            yield f"the {field} of container {container.name} looks like it holds a credential"


def _unseen(container: Container) -> Iterator[str]:
    """Where variables come from whose values the pod does not show."""
    for source in container.spec.get("envFrom") or ():
        if reference := source.get("configMapRef"):
            yield f"the ConfigMap {reference.get('name')}"
    for variable in container.spec.get("env") or ():
        source = variable.get("valueFrom") or {}
        if source.get("configMapKeyRef") or source.get("fileKeyRef"):
            yield f"the variable {variable.get('name')}"


def _commands(container: Container) -> Iterator[tuple[str, Sequence[str]]]:
    command, arguments = (container.spec.get(field) or () for field in ("command", "args"))
    yield ("args" if arguments else "command"), (*command, *arguments)
    lifecycle = container.spec.get("lifecycle") or {}
    handlers = {probe: container.spec.get(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    for name, handler in (handlers | {hook: lifecycle.get(hook) for hook in ("postStart", "preStop")}).items():
        yield name, ((handler or {}).get("exec") or {}).get("command") or ()


def secrets_of(volume: Object) -> Iterator[str]:
    """The names of the Secrets that a volume shows or uses; empty for one whose name the pod does not tell."""
    if secret := volume.get("secret"):
        yield str(secret.get("secretName", ""))
    for source in (volume.get("projected") or {}).get("sources") or ():
        if secret := source.get("secret"):
            yield str(secret.get("name", ""))
    if csi := volume.get("csi"):
        if reference := csi.get("nodePublishSecretRef"):
            yield str(reference.get("name", ""))
        elif "secrets-store" in str(csi.get("driver", "")):
            yield ""
    for kind, source in volume.items():
        # The in-tree drivers of network file systems.
        if kind in ("secret", "projected", "csi") or not isinstance(source, dict):
            continue
        if reference := source.get("secretRef"):
            yield str(reference.get("name", ""))
        elif name := source.get("secretName"):
            yield str(name)


def loosest_mode(volume: Object) -> int | None:
    """A mode of the volume's files that is looser than it may be; None where all are tight."""
    source = volume.get("secret") or volume.get("projected") or {}
    items = [*(source.get("items") or ())]
    for part in source.get("sources") or ():
        items += (part.get("secret") or {}).get("items") or ()
    # What the API server fills in is 0644.
    modes = [source.get("defaultMode", 0o644), *(item["mode"] for item in items if item.get("mode") is not None)]
    return next((mode for mode in modes if mode & ~TIGHTEST_MODE), None)


CONTROLS = (
    Control(
        "SEC-01",
        "No credentials in environment or arguments",
        Severity.CRITICAL,
        Level.SANDBOX,
        "Remove the variable or argument; let the agent read its key from the mounted file.",
        environment,
        mappings=maps(
            cis_docker=("4.10",),
            kubescape=("C-0012", "C-0207"),
            trivy=("KSV-0109",),
        ),
    ),
    Control(
        "SEC-02",
        "Only the declared Secret mounted",
        Severity.HIGH,
        Level.SANDBOX,
        "Mount only the declared Secret, as a directory with mode 0440, in the agent's container.",
        mounted,
        mappings=maps(kubescape=("C-0255",)),
    ),
)
