"""Where a sandbox runs."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.labels import LabelSelector
from claude_sandbox.api.meta import MAX_HOST_NAME_LENGTH
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, Transition


class BackendType(Choice):
    """What runs the sandbox."""

    KUBERNETES = "Kubernetes"
    DOCKER = "Docker"


class HostRef(Strict):
    """A DockerHost."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_HOST_NAME_LENGTH), names.HOST_REFERENCE]
    """The DockerHost's name."""


def _only_on_docker(name: str) -> Rule:
    attribute = {"hostRef": "host_ref", "hostSelector": "host_selector"}[name]
    return Rule(
        f"self.type == 'Docker' || !has(self.{name})",
        lambda backend: backend.type is BackendType.DOCKER or getattr(backend, attribute) is None,
        "is only for backend type Docker: remove it, or set spec.backend.type to Docker",
        field=name,
    )


class Backend(Strict):
    """Where the sandbox runs. It can't be changed later, since the workspace would be left behind."""

    type: BackendType = BackendType.KUBERNETES
    """What runs the sandbox. Kubernetes: a pod in the sandbox's own namespace. Docker: a container on a DockerHost.

    A DockerHost has to allow the sandbox's namespace.
    """
    host_ref: HostRef | None = None
    """The one DockerHost to run on. Without it and without a selector, any that allows the namespace and has room."""
    host_selector: LabelSelector | None = None
    """Chooses among the DockerHosts by their labels. The choice is made once."""

    RULES = (
        _only_on_docker("hostRef"),
        _only_on_docker("hostSelector"),
        Rule(
            "!has(self.hostRef) || !has(self.hostSelector)",
            lambda backend: backend.host_ref is None or backend.host_selector is None,
            "must not be beside hostRef, which names the host already: remove one of them",
            field="hostSelector",
        ),
    )
    # The API server also tries this on the schema's own default, against an object without any field.
    TRANSITIONS = (
        Transition(
            "!has(oldSelf.type) || self == oldSelf",
            "can't be changed, since the workspace would be left behind: make a new sandbox and copy the files",
        ),
    )
