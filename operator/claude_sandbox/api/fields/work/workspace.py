"""The agent's working directory."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.quantity import Quantity, at_least, at_most
from claude_sandbox.api.rules import Rule, Transition

MOST_INSTANCES = 99
"""How many workspaces a sandbox may have had."""


class WorkspaceType(Choice):
    """What holds /workspace."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EMPTY_DIR = "EmptyDir"


class Retention(Choice):
    """What becomes of the workspace's claim when the sandbox is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


def _only_with_claim(name: str) -> Rule:
    attribute = {"storageClassName": "storage_class_name", "keepHome": "keep_home"}.get(name, name)
    return Rule(
        f"self.type == 'PersistentVolumeClaim' || !has(self.{name})",
        lambda workspace: (
            workspace.type is WorkspaceType.PERSISTENT_VOLUME_CLAIM or getattr(workspace, attribute) is None
        ),
        "is only for workspaces of type PersistentVolumeClaim: an EmptyDir is gone with its pod; remove it, or change"
        " spec.workspace.type",
        field=name,
    )


class KeptHome(Strict):
    """What Claude Code itself keeps of its work: sessions, history, todos, its memory."""

    size: Annotated[Quantity, at_least("16Mi", ": write a unit, for example 1Gi"), at_most("1Pi")]
    """How large it is, for example 1Gi. It can only grow."""


class Workspace(Strict):
    """The agent's working directory, /workspace."""

    type: WorkspaceType = WorkspaceType.PERSISTENT_VOLUME_CLAIM
    """What holds the workspace: a PersistentVolumeClaim, on Docker a volume of the host, or something short-lived.

    An EmptyDir is gone with its pod, on Docker when the sandbox is suspended, moved or deleted; there it is in memory,
    and no larger than half of spec.resources.memory. The type can't be changed later.
    """
    size: Annotated[Quantity, at_least("16Mi", ": write a unit, for example 10Gi"), at_most("1Pi")] = "10Gi"
    """How large the workspace is. That of a PersistentVolumeClaim can only grow."""
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253), names.STORAGE_CLASS] | None = None
    """The claim's StorageClass; without it the cluster's default. It can't be changed later."""
    read_only: bool | None = None
    """Read-only for the agent. Default: false in Development, true in Production, where false takes a writableReason.
    """
    writable_reason: Annotated[str, Field(min_length=1, max_length=256), *NO_CREDENTIAL] | None = None
    """Why the agent may write to its workspace in profile Production. It is readable by everyone who may read the
    sandbox, and changes nothing else.
    """
    retention: Retention | None = None
    """What becomes of the claim when the sandbox is deleted. Default: Retain. Only for a PersistentVolumeClaim."""

    instance: Annotated[int, Field(ge=1, le=MOST_INSTANCES)] | None = None
    """Which of the sandbox's workspaces it has: each number has one of its own, which begins empty, and a kept home as
    well. Default: the first. Only for a PersistentVolumeClaim.

    The others are kept aside, and are mounted by nothing until their number is written here. A sandbox that says no
    number is refused where there is any but the first already.
    """
    keep_home: KeptHome | None = None
    """Keep what Claude Code keeps in its home: with it, `claude --continue` works after the sandbox was suspended, or
    got another pod or container. A volume of its own, of the workspace's class and with its retention. Only for a
    PersistentVolumeClaim.

    Without it, and of everything else in the home (credentials, caches, what programs install there), nothing outlives
    the workload.
    """

    RULES = (
        _only_with_claim("retention"),
        _only_with_claim("storageClassName"),
        _only_with_claim("keepHome"),
        _only_with_claim("instance"),
        Rule(
            "self.type != 'EmptyDir' || !has(self.readOnly) || !self.readOnly",
            lambda workspace: workspace.type is not WorkspaceType.EMPTY_DIR or not workspace.read_only,
            "must not be true for an EmptyDir, which starts empty and would stay so: remove it, or set"
            " spec.workspace.type to PersistentVolumeClaim",
            field="readOnly",
        ),
    )
    # The API server also tries these on the schema's own default, against an object without any field.
    TRANSITIONS = (
        Transition(
            "!has(oldSelf.type) || self.type == oldSelf.type",
            "can't be changed, since the files would be left behind: make a new sandbox and copy them",
            field="type",
        ),
        Transition(
            "has(self.storageClassName) == has(oldSelf.storageClassName)"
            " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "can't be changed, as a claim's can't: make a new sandbox and copy the files",
            field="storageClassName",
        ),
        Transition(
            "self.type == 'EmptyDir' || !has(oldSelf.size)"
            " || !isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size))"
            " || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
            "can only grow, as a claim can: write the old size or a larger one",
            field="size",
        ),
        Transition(
            "!has(oldSelf.keepHome) || !has(self.keepHome) || !has(oldSelf.keepHome.size)"
            " || !isQuantity(string(self.keepHome.size)) || !isQuantity(string(oldSelf.keepHome.size))"
            " || quantity(string(self.keepHome.size)).compareTo(quantity(string(oldSelf.keepHome.size))) >= 0",
            "can only grow, as a claim can: write the old size or a larger one",
            field="keepHome.size",
        ),
    )

    @property
    def effective_retention(self) -> Retention:
        """What becomes of the claim: Retain where the user did not say."""
        return self.retention or Retention.RETAIN
