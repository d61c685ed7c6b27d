"""SEC-05: whether the agent holds what its model's provider takes, or only what its gateway takes."""

from collections.abc import Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container, doubts_of
from claude_sandbox.compliance.control import PRODUCTION, ContainerCheck, Control, Level, PodCheck, Undeclared, maps
from claude_sandbox.compliance.controls.secrets import shown, unseen_variables
from claude_sandbox.compliance.pods.undeclared import nobodys_provider
from claude_sandbox.compliance.pods.view import PodContainer, View
from claude_sandbox.compliance.pods.volumes import secrets_of
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, not_applicable, passed, unknown

_PROVIDER_VARIABLES = frozenset(
    {
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_IDENTITY_TOKEN"),
        *("CLAUDE_CODE_OAUTH_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_FOUNDRY_API_KEY"),
    }
)
"""Variables from which Claude Code takes a credential for its model."""


def pod_no_key(view: View) -> Verdict:
    """The agent has nothing that its model's provider takes: its gateway adds that."""
    expected = view.expected
    if expected.gateway is None:
        return failed(f"it holds its key itself, from the Secret {expected.api_key_secret or expected.provider_secret}")
    problems = [
        f"volume {volume.get('name')} holds the key of its model's provider"
        for volume in view.volumes
        if expected.provider_secret in secrets_of(volume)
    ]
    for container in view.containers:
        problems += _provider_variables(container, expected.provider_secret)
    if problems:
        return judged(problems)
    if unseen := [name for container in view.containers for name in unseen_variables(container)]:
        return unknown(f"what is in {', '.join(unseen)} was not read")
    return passed()


def container_no_key(container: Container) -> Verdict:
    """The agent has nothing that its model's provider takes: in the key's place is what its own gateway takes."""
    if container.declared.gateway is None:
        return not_applicable("nothing declares who holds its key; SEC-01 and SEC-02 tell what it has itself")
    if not container.declared.gateway:
        return failed("it holds its key itself")
    variables, place = container.environment, container.key_place
    problems = [
        f"the variable {shown(name)} holds what its model's provider takes"
        for name, value in variables or ()
        if _is_providers(name, value)
    ]
    doubts = list(doubts_of(("Config.Env", variables)))
    if container.running and place is None:
        doubts.append("what is in the place of its key was not read")
    elif place is not None and not place.placeholder:
        # One of the two, for as long as it takes to bring the other.
        doubts.append("what is in the place of its key is not known to be a placeholder")
    return decided(problems, doubts)


def _provider_variables(container: PodContainer, secret: str) -> Iterator[str]:
    for source in container.spec.get("envFrom") or ():
        if (source.get("secretRef") or {}).get("name") == secret:
            yield f"container {container.name} has the key of its model's provider in variables"
    for variable in container.spec.get("env") or ():
        name, source = str(variable.get("name", "")), variable.get("valueFrom") or {}
        by_name = (source.get("secretKeyRef") or {}).get("name") == secret
        if by_name or _is_providers(name, variable.get("value") or ("from elsewhere" if source else "")):
            yield f"the variable {name} of container {container.name} holds what its model's provider takes"


def _is_providers(name: str, value: str) -> bool:
    """Whether a variable is one that Claude Code takes a credential from, or holds a key of the Claude API."""
    return "sk-ant-" in value or (bool(value) and name in _PROVIDER_VARIABLES)


CONTROLS: tuple[Control, ...] = (
    Control(
        "SEC-05",
        "No key of the model's provider",
        Severity.CRITICAL,
        Level.SANDBOX,
        meaning="The agent has no key that its model's provider takes: its gateway adds that to each request.",
        why=(
            "A key that the agent does not have can't be stolen from it, and it ends nowhere when the agent is "
            "deceived."
        ),
        pod=PodCheck(
            pod_no_key,
            "Set spec.credentials.delivery to Brokered, and remove the variable or volume named.",
            unseen="a copy of the key in another Secret (SEC-02), or in a file of the image or the workspace.",
            undeclared=Undeclared(nobodys_provider),
        ),
        container=ContainerCheck(
            container_no_key,
            "Set spec.credentials.delivery to Brokered, and remove the container where a variable is named.",
        ),
        required=PRODUCTION,
        mappings=maps(nsa=("Secrets",), nist=("4.1.4",)),
    ),
)
