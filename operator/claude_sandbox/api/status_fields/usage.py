"""What the gateway of a sandbox has told of it: the models of `ClaudeSandbox.status.usage`.

A hostile agent chooses names that come into it. Whoever fills these in has read them by a strict grammar
(`backends/gateway_reports.py`); every text is clipped here as well.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Choice, Model
from claude_sandbox.api.rules import UniqueBy

MAX_MODELS = 7
MAX_DENIED = 8
MAX_SERVICES = 16

Amount = Annotated[str, Clip(32)]
"""USD, as a decimal number."""


class BudgetState(Choice):
    """Whether the budget lets the agent use the model."""

    FREE = "Free"
    SHORT = "Short"
    SPENT = "Spent"


class Denied(Choice):
    """A destination, as in spec.network.egress.allowedDomains, a model, as in spec.model.allowed, or a request to a
    service, as spec.services would have to allow it: its name, a method and a path."""

    DESTINATION = "Destination"
    MODEL = "Model"
    SERVICE = "Service"


class TroubleKind(Choice):
    """Why no request to the model is answered."""

    KEY_MISSING = "KeyMissing"
    KEY_REFUSED = "KeyRefused"
    NO_ANSWER = "NoAnswer"


class ServiceTrouble(Choice):
    """Why a service has no credential: there is no such Secret; the Secret has not opted in; it is for another host;
    it has no such key, or one that could not be in a header; the gateway could not read it."""

    NO_SECRET = "NoSecret"
    NOT_OPTED_IN = "NotOptedIn"
    OTHER_HOST = "OtherHost"
    NO_KEY = "NoKey"
    NOT_READ = "NotRead"


class UnopenedService(Model):
    """A service of spec.services whose credential can't be had: requests to it are answered with 503."""

    name: Annotated[str, Clip(30)]
    """Its name in spec.services."""
    why: ServiceTrouble
    """NoSecret, NotOptedIn, OtherHost, NoKey or NotRead. CredentialsCurrent has the remedy."""


class UsedWindow(Model):
    """What was used in the window of the budget; without a window, since the first request."""

    began: datetime | None = None
    """When it began; not there where a new one begins with the next request."""
    ends: datetime | None = None
    """When it ends."""
    cost_usd: Amount = Field(alias="costUSD")
    """What its requests have cost, in USD."""
    output_tokens: int
    """What the model has written in it, in tokens."""


class ModelUsage(Model):
    """What was used of one model."""

    model: Annotated[str, Clip(64)]
    """The model, or `other` for all that are not told apart."""
    requests: int
    """Requests that were answered."""
    input_tokens: int
    """Tokens that were read."""
    output_tokens: int
    """Tokens that were written."""
    cache_write_tokens: int
    """Tokens that were put into the provider's cache."""
    cache_read_tokens: int
    """Tokens that were read from it."""
    cost_usd: Amount = Field(alias="costUSD")
    """What they have cost, in USD."""


class BudgetLeft(Model):
    """What is left of the budget."""

    state: BudgetState
    """Spent: nothing is left. Short: too little was left for the last request. Else Free."""
    left_usd: Amount | None = Field(default=None, alias="leftUSD")
    """What requests may still cost in this window, in USD."""
    left_output_tokens: int | None = None
    """How many tokens the model may still write in this window."""
    until: datetime | None = None
    """When a new window begins."""


class Answered(Model):
    """The last request that the provider took with the credential, whatever it answered."""

    time: datetime
    """When it was over."""
    generation: Annotated[str, Clip(64)] | None = None
    """The generation of the credential that was used."""


class Trouble(Model):
    """Why no request to the model is answered now."""

    kind: TroubleKind
    """KeyMissing: the Secret has no such key, or nothing under it that could be one. KeyRefused: the provider refuses
    the key that is used now. NoAnswer: it does not answer at all."""
    since: datetime
    """Since when."""
    generation: Annotated[str, Clip(64)] | None = None
    """The generation of the credential that is refused."""
    message: Annotated[str, Clip(256)] = ""
    """The provider's own words, without the credential; or how it does not answer; or which key is missing."""


class DeniedEntry(Model):
    """What the sandbox asked for and was not let, as it would have to stand in its spec to be let."""

    what: Denied
    """Destination, Model or Service."""
    entry: Annotated[str, Clip(100)]
    """The entry that is missing in the spec."""
    count: int
    """How often it was denied."""
    first: datetime
    """The first time."""
    last: datetime
    """The last time."""


class Usage(Model):
    """What the sandbox has used of the model, as its gateway counts it. Written once a minute at most."""

    requests: int | None = None
    """Requests that were answered, ever since."""
    input_tokens: int | None = None
    """Tokens that were read, ever since."""
    output_tokens: int | None = None
    """Tokens that were written, ever since."""
    cache_write_tokens: int | None = None
    """Tokens that were put into the provider's cache, ever since."""
    cache_read_tokens: int | None = None
    """Tokens that were read from it, ever since."""
    cost_usd: Amount | None = Field(default=None, alias="costUSD")
    """What all of it has cost, in USD, by the gateway's price table."""
    window: UsedWindow | None = None
    """What was used in the window of the budget."""
    models: Annotated[list[ModelUsage], Field(max_length=MAX_MODELS), UniqueBy("model")] | None = None
    """The same by model, ever since: those that cost the most."""
    budget: BudgetLeft | None = None
    """What is left of the budget."""
    last_answered: Answered | None = None
    """The last request that the provider took with the credential."""
    trouble: Trouble | None = None
    """Why no request is answered now."""
    denials: int | None = None
    """How often the sandbox was not let to a destination or a model that its spec does not have."""
    denied: Annotated[list[DeniedEntry], Field(max_length=MAX_DENIED)] | None = None
    """The last of these, the newest first."""
    unopened_services: Annotated[list[UnopenedService], Field(max_length=MAX_SERVICES), UniqueBy("name")] | None = None
    """Services whose credentials can't be had now."""
    reported_at: datetime
    """When the newest of these was told."""
