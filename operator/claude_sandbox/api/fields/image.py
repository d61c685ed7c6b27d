"""Which image a sandbox runs."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, UniqueBy


class PullPolicy(Choice):
    """As a container's imagePullPolicy."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class PullSecretRef(Strict):
    """A registry's login: a Secret of the type kubernetes.io/dockerconfigjson in the sandbox's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""


class Image(Strict):
    """The sandbox's image; without it the operator's own default, pinned by digest."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORY]
    """The image's name, with its registry but without tag and digest."""
    tag: Annotated[str, Field(max_length=128), names.TAG] | None = None
    """The tag. Beside a digest it only informs: the digest decides what runs."""
    digest: Annotated[str, Field(max_length=71), names.DIGEST] | None = None
    """The digest, `sha256:` and 64 hexadecimal digits. Production requires one."""
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the node pulls the image, as a container's imagePullPolicy."""
    pull_secret_refs: Annotated[list[PullSecretRef], Field(max_length=8), UniqueBy("name")] = []
    """What the node logs in to the image's registry with, as a pod's imagePullSecrets.

    The namespace's annotation `claudesandbox.dev/pull-secrets` has to name each: who may create sandboxes could
    otherwise run whatever image a login of the namespace can pull. Without any, those of the sandbox's ServiceAccount
    are used. It is for backend type Kubernetes.
    """

    RULES = (
        Rule(
            "has(self.tag) || has(self.digest)",
            lambda image: image.tag is not None or image.digest is not None,
            "needs a tag or, better, a digest: write spec.image.tag, or spec.image.digest to be certain what runs",
        ),
        Rule(
            # With a tag of 64 digits a runtime takes it for the identifier of whatever image it has.
            "!(self.repository in ['sha256', 'sha384', 'sha512'])",
            lambda image: image.repository not in ("sha256", "sha384", "sha512"),
            "must not be the name of a kind of digest, which with a tag names an image by its identifier: write the"
            " repository with its registry, for example docker.io/library/sha256",
            field="repository",
        ),
    )
