"""A status stays below 46 KiB whatever it has to say."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.clip import clip
from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.docker_hosts.conditions import HostConditionType, HostReason
from claude_sandbox.api.docker_hosts.status import (
    MAX_NAMED,
    Amounts,
    DockerHostStatus,
    DrainStatus,
    EngineStatus,
    HostCondition,
    SecurityOptions,
    Staying,
    StayReason,
)
from claude_sandbox.api.model import Model
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import (
    MAX_CONTROLS,
    MAX_STATUS,
    ClaudeSandboxStatus,
    Compliance,
    Condition,
    ControlStatus,
    CredentialsStatus,
    EvidenceSource,
    EvidenceStatus,
    Heal,
    Heals,
    Placement,
    RepositoryStatus,
    Result,
    Severity,
    Summary,
    Workload,
)
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.api.status_fields.due import MOST_DUE, DueDate, DueSubject
from claude_sandbox.api.status_fields.image import (
    MOST_FAILED,
    ImageAvailable,
    ImageCanary,
    ImageChange,
    ImageResult,
    ImageRolling,
    ImageStatus,
)
from claude_sandbox.api.status_fields.usage import (
    MAX_DENIED,
    MAX_MODELS,
    Answered,
    BudgetLeft,
    BudgetState,
    Denied,
    DeniedEntry,
    ModelUsage,
    Trouble,
    TroubleKind,
    Usage,
    UsedWindow,
)
from claude_sandbox.compliance.docker_hosts.controls import CONTROLS

# As the API server writes JSON (Go's encoding/json): compact, UTF-8, with these escaped.
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def size(status: Model) -> int:
    text = status.model_dump_json(by_alias=True, exclude_none=True)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return len(text.encode())


def worst(text: str, controls: int) -> ClaudeSandboxStatus:
    """The longest of everything, with `text` wherever a text is free."""
    return ClaudeSandboxStatus(
        observed_generation=2**63 - 1,
        conditions=[
            Condition(
                type=kind,
                status=max(ConditionStatus, key=len),
                observed_generation=2**63 - 1,
                last_transition_time=NOW,
                reason=max(Reason, key=len),
                message=text,
            )
            for kind in ConditionType
        ],
        backend=max(BackendType, key=len),
        placement=Placement(host=text, engine_id=text),
        workload=Workload(name=text, uid=text, node=text, host=text, image=text, started_at=NOW),
        credentials=CredentialsStatus(secret=text, generation=text, mounted_generation=text),
        compliance=compliance(text, controls),
        usage=worst_usage(text),
        repositories=[
            RepositoryStatus(path=f"{index}{text * 300}", url=text * 600, commit=text * 64) for index in range(16)
        ],
        backup=BackupStatus(
            last_scheduled=NOW, last_backup=text, last_verified=NOW, verified_backup=text, snapshot=text
        ),
        due=[DueDate(what=max(DueSubject, key=len), name=text, at=NOW, message=text) for _ in range(MOST_DUE)],
        image=worst_image(text),
        heals=Heals(count=2**63 - 1, last=Heal(what=text, at=NOW)),
    )


def worst_image(text: str) -> ImageStatus:
    """One that was tried in vain as often as is remembered, and is tried again."""
    digest = f"sha256:{'a' * 64}"
    return ImageStatus(
        named="a" * 512,
        digest=digest,
        verified=text,
        since=NOW,
        available=ImageAvailable(digest=digest, found_at=NOW, message=text),
        canary=ImageCanary(
            to=digest, started_at=NOW, uid="u" * 128, attempts=5, ready_at=NOW, ended_at=NOW, message=text
        ),
        rolling=ImageRolling(to=digest, started_at=NOW, ready_at=NOW),
        last=ImageChange(result=ImageResult.ROLLED_BACK, before=digest, to=digest, at=NOW, message=text),
        failed=[digest] * MOST_FAILED,
        replaces="u" * 128,
    )


def worst_usage(text: str) -> Usage:
    """The longest that a gateway's reports can make."""
    counts: dict[str, Any] = dict.fromkeys(
        ("requests", "input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens"), 2**63 - 1
    ) | {"cost_usd": text}
    denied = DeniedEntry(what=Denied.DESTINATION, entry=text, count=2**63 - 1, first=NOW, last=NOW)
    return Usage(
        **counts,
        window=UsedWindow(began=NOW, ends=NOW, cost_usd=text, output_tokens=2**63 - 1),
        models=[ModelUsage(model=f"{number}{text}", **counts) for number in range(MAX_MODELS)],
        budget=BudgetLeft(state=BudgetState.SPENT, left_usd=text, left_output_tokens=2**63 - 1, until=NOW),
        last_answered=Answered(time=NOW, generation=text),
        trouble=Trouble(kind=TroubleKind.KEY_REFUSED, since=NOW, generation=text, message=text),
        denials=2**63 - 1,
        denied=[denied] * MAX_DENIED,
        reported_at=NOW,
    )


def worst_host(text: str, controls: int) -> DockerHostStatus:
    """The same of a Docker host."""
    words = {name: text for name, field in EngineStatus.model_fields.items() if field.default == ""}
    amounts = Amounts(sandboxes=2**63 - 1, cpu=text, memory=text)
    return DockerHostStatus(
        observed_generation=2**63 - 1,
        conditions=[
            HostCondition(
                type=kind,
                status=max(ConditionStatus, key=len),
                observed_generation=2**63 - 1,
                last_transition_time=NOW,
                reason=max(HostReason, key=len),
                message=text,
            )
            for kind in HostConditionType
        ],
        engine=EngineStatus.model_validate(words | {"security_options": SecurityOptions(seccomp=text)}),
        capacity=amounts,
        free=amounts,
        sandboxes=2**63 - 1,
        drain=DrainStatus(
            moved=2**63 - 1,
            moving=2**63 - 1,
            staying=[
                Staying(reason=reason, count=2**63 - 1, sandboxes=[text] * MAX_NAMED, message=text)
                for reason in StayReason
            ],
        ),
        last_contact=NOW,
        compliance=compliance(text, controls),
    )


def compliance(text: str, controls: int) -> Compliance:
    control = ControlStatus(
        id=text,
        title=text,
        result=max(Result, key=len),
        severity=max(Severity, key=len),
        required=False,
        evidence=EvidenceStatus(source=max(EvidenceSource, key=len), observed_at=NOW, value=text),
        message=text,
        remedy=text,
    )
    counts: dict[str, Any] = {"pass": 99, "fail": 99, "unknown": 99, "notApplicable": 99, "required": text}
    return Compliance(summary=Summary.model_validate(counts), evaluated_at=NOW, controls=[control] * controls)


@pytest.mark.parametrize("character", ["x", "ü", "😀", '"', "\\", "\n", "\x00", "<", "&", "\u2028"])
def test_the_worst_status_is_below_the_bound(character: str) -> None:
    assert size(worst(character * 100_000, MAX_CONTROLS)) <= MAX_STATUS
    # A host has controls of its own, far fewer than a sandbox may have.
    assert size(worst_host(character * 100_000, len(CONTROLS))) <= MAX_STATUS


def test_more_controls_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_CONTROLS}"):
        worst("x", MAX_CONTROLS + 1)


def test_a_text_that_fits_is_left_alone() -> None:
    assert clip("memory.max is 2147483648", 64) == "memory.max is 2147483648"


def test_a_text_that_is_cut_says_so() -> None:
    assert clip("a" * 100, 10) == "a" * 7 + "…"


@given(st.text(), st.integers(min_value=3, max_value=200))
def test_a_clipped_text_takes_no_more_than_its_limit(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    for character, escape in _ESCAPED.items():
        clipped = clipped.replace(character, escape.replace("\\", "/"))
    encoded = Heal(what="", at=NOW).model_copy(update={"what": clipped}).model_dump_json(include={"what"})
    assert len(encoded.encode()) - len('{"what":""}') <= limit
    assert clip(text, limit) == clip(clip(text, limit), limit)
