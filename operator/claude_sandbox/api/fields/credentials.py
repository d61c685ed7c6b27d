"""How the agent authenticates to the Claude API."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule


class SecretKeyRef(Strict):
    """A key of a Secret in the sandbox's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_KEY] = "api-key"
    """Which of the Secret's keys holds the credential."""


class Delivery(Choice):
    """Who holds the key."""

    MOUNTED = "Mounted"
    BROKERED = "Brokered"


# It may be absent while an installation brings a new version: see install/crds.py.
_BROKERED = "(!has(self.delivery) || self.delivery == 'Brokered')"


class Credentials(Strict):
    """How the agent authenticates to the Claude API: by an API key, or by the token of a subscription."""

    api_key_secret_ref: SecretKeyRef | None = None
    """A Claude API key, in a Secret that opted in.

    A Secret opts in by its type `claudesandbox.dev/api-key`, or by the label `claudesandbox.dev/api-key: "true"`.
    """
    oauth_token_secret_ref: SecretKeyRef | None = None
    """Instead of an API key: a token of a Claude subscription, as `claude setup-token` makes it, in a Secret that opted
    in as for an API key. Only with delivery Brokered.
    """
    delivery: Delivery = Delivery.BROKERED
    """Who holds the key. Brokered: the sandbox's gateway, which adds the key to its requests to the Claude API and is
    its only way out. Mounted: the sandbox itself, in a file in memory; refused in profile Production.

    With Brokered the sandbox has what its gateway knows it by, which is worth nothing elsewhere.
    """

    RULES = (
        Rule(
            "has(self.apiKeySecretRef) || has(self.oauthTokenSecretRef)",
            lambda found: found.api_key_secret_ref is not None or found.oauth_token_secret_ref is not None,
            "is missing: name the Secret with the Claude API key, or one with the token of a subscription in"
            " oauthTokenSecretRef",
            field="apiKeySecretRef",
        ),
        Rule(
            "!has(self.apiKeySecretRef) || !has(self.oauthTokenSecretRef)",
            lambda found: found.api_key_secret_ref is None or found.oauth_token_secret_ref is None,
            "can't be there beside apiKeySecretRef, since a sandbox has one credential: remove one of the two",
            field="oauthTokenSecretRef",
        ),
        Rule(
            f"!has(self.oauthTokenSecretRef) || {_BROKERED}",
            lambda found: found.oauth_token_secret_ref is None or found.brokered,
            "is for a sandbox with a gateway, which sends the token as the provider wants it: set"
            " spec.credentials.delivery to Brokered, or use apiKeySecretRef",
            field="oauthTokenSecretRef",
        ),
    )

    @property
    def brokered(self) -> bool:
        """Whether the sandbox never holds the key."""
        return self.delivery is Delivery.BROKERED

    @property
    def oauth(self) -> bool:
        """Whether it is the token of a subscription, and no API key."""
        return self.oauth_token_secret_ref is not None

    @property
    def secret_ref(self) -> SecretKeyRef:
        """Where the credential is, whichever it is."""
        found = self.oauth_token_secret_ref or self.api_key_secret_ref
        assert found is not None  # noqa: S101 - the rules see to it
        return found
