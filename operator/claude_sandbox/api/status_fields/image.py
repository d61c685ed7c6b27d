"""Which image a sandbox runs by the digest that was found for it: the models of `ClaudeSandbox.status.image`."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Choice, Model

MOST_FAILED = 8

_Controls = Annotated[list[Annotated[str, Clip(8)]], Field(max_length=64)]
_Digest = Annotated[str, Field(max_length=71)]


class ImageResult(Choice):
    """How a change of the image ended."""

    ROLLED = "Rolled"
    """The workload is of the newer one, which works."""
    ROLLED_BACK = "RolledBack"
    """The newer one did not work."""
    NOT_ROLLED = "NotRolled"
    """The newer one did not work beside the workload, which was never touched."""


class ImageAvailable(Model):
    """A newer image under the tag."""

    digest: _Digest
    """Its digest."""
    found_at: datetime
    """When it was found."""
    message: Annotated[str, Clip(256)] = ""
    """What it waits for, or why it is not taken."""


class ImageCanary(Model):
    """A newer image is tried beside the workload, or was."""

    to: _Digest
    """Its digest."""
    started_at: datetime
    """Since when."""
    uid: Annotated[str, Field(max_length=128)] | None = None
    """Of what it is tried in: a pod's UID, or a container's identifier."""
    attempts: Annotated[int, Field(ge=1)] | None = None
    """How often that was made: what is ended from outside says nothing of the image, and is made again a few times."""
    ready_at: datetime | None = None
    """Since when that is ready."""
    ended_at: datetime | None = None
    """When that was over, so that the workload may be replaced."""
    message: Annotated[str, Clip(256)] = ""
    """What came of it, or why it was not tried."""


class ImageRolling(Model):
    """A newer image is being tried."""

    to: _Digest
    """Its digest; the one before is the digest of status.image."""
    started_at: datetime
    """Since when."""
    replaced_at: datetime | None = None
    """Since when the workload before it is gone."""
    ready_at: datetime | None = None
    """Since when its workload is ready."""
    generation: int | None = None
    """The spec's, when it was begun: what goes wrong after another change is not taken for the image's doing."""
    failed_before: _Controls | None = None
    """Required controls that failed with the image before, where the gate asks for Compliant."""
    unknown_before: _Controls | None = None
    """Those that were Unknown."""


class ImageChange(Model):
    """The last change of the image."""

    result: ImageResult
    """Rolled, or RolledBack."""
    before: _Digest = Field(alias="from")
    """The digest before it."""
    to: _Digest
    """The digest that was tried."""
    at: datetime
    """When it ended."""
    message: Annotated[str, Clip(256)] = ""
    """Why."""


class ImageStatus(Model):
    """What spec.image stands for. It counts for as long as the spec names that repository, tag and digest."""

    named: Annotated[str, Field(max_length=512)]
    """The image as spec.image names it, with its registry."""
    digest: _Digest
    """The digest that runs, or will; while a newer one is tried, the one that comes back where that does not work."""
    verified: Annotated[str, Clip(64)] = ""
    """By which ClaudeImagePolicies the digest was found to be signed, as a digest of their words; empty where none asks
    for a signature.
    """
    since: datetime | None = None
    """When it became that digest."""
    available: ImageAvailable | None = None
    """A newer image under the tag."""
    canary: ImageCanary | None = None
    """Where it is tried beside the workload."""
    rolling: ImageRolling | None = None
    """The one that is being tried."""
    last: ImageChange | None = None
    """The last change by spec.updatePolicy."""
    failed: Annotated[list[_Digest], Field(max_length=MOST_FAILED)] | None = None
    """Digests that did not work, which are not tried again. To try one all the same, write it into spec.image."""
    replaces: Annotated[str, Field(max_length=128)] | None = None
    """The UID of the workload that is to be replaced by one of another digest, or was last."""
