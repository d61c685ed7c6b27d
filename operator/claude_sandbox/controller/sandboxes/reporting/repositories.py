"""What is said of a sandbox's repositories: the condition RepositoriesReady, and status.repositories. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import RepositoryStatus
from claude_sandbox.backends.base import Cloning, WorkloadState
from claude_sandbox.blueprint.agent import WORKSPACE
from claude_sandbox.blueprint.model import Clone
from claude_sandbox.gateway.git.repositories import parse_url

Said = tuple[ConditionStatus, Reason, str]

_MIB = 1 << 20
_TOLD = 2
"""Repositories of which it is told how far they are, and, beside a first one, why they can't be cloned."""
_SHORTER = 300
"""Characters of the reason of a further one that can't be cloned."""
_FALSE, _TRUE, _UNKNOWN = ConditionStatus.FALSE, ConditionStatus.TRUE, ConditionStatus.UNKNOWN


def condition(declared: Sequence[Clone], found: WorkloadState) -> Said:
    """What RepositoriesReady says of the declared repositories, with the remedy."""
    if found.workload is None and found.cloning is None:
        return _UNKNOWN, found.reason if found.status is _UNKNOWN else Reason.NO_WORKLOAD, found.message
    cloning = found.cloning or Cloning(())
    if not cloning.done and cloning.wished:
        return _under_way(cloning, found.report.fetching if found.report is not None else {})
    wished, outcomes = dict(cloning.wished), _by_path(cloning)
    paths = {one.path.removeprefix(f"{WORKSPACE}/"): one.url for one in declared}
    missing = sorted(path for path in paths if path not in wished)
    if missing:
        message = f"Only a new workload clones {_listed(missing)}: see the condition Drifted."
        return _FALSE, Reason.NOT_CLONED, message
    others = sorted(path for path, url in paths.items() if wished[path] != url or outcomes.get(path) == "Other")
    if others:
        message = (
            f"{_listed(others)}: what is there was cloned from another URL than spec.repositories names, and is left as"
            " it is. Put the URL back, or move what is there away and have a new workload made."
        )
        return _FALSE, Reason.OTHER_REPOSITORY, message
    kept = sum(outcome == "Kept" for outcome in outcomes.values())
    before = f" {kept} of them were there before." if kept else ""
    return _TRUE, Reason.CLONED, f"{len(paths)} of {len(paths)} are in the workspace.{before}"


def reported(
    previous: Sequence[Mapping[str, Any]] | None, declared: Sequence[Clone] | None, found: WorkloadState
) -> list[RepositoryStatus] | None:
    """What is in the workspace, by what was said when it was cloned; as before where nothing new is known."""
    before = [RepositoryStatus.model_validate(one) for one in previous or ()]
    if declared is not None and not declared:
        return None
    if found.cloning is None or not found.cloning.done:
        return before or None
    known = {one.path: one for one in before}
    now = []
    for path, url in found.cloning.wished:
        outcome, _, commit = _by_path(found.cloning).get(path, "").partition(" ")
        fresh = RepositoryStatus(path=path, url=url, commit=commit if outcome == "Cloned" else None)
        now.append(known.get(fresh.path, fresh) if outcome in ("Kept", "Other") else fresh)
    return now or None


def _under_way(cloning: Cloning, fetching: Mapping[str, int]) -> Said:
    failed = [(path, why) for path, outcome in _by_path(cloning).items() if (why := _failure(outcome)) is not None]
    if cloning.waits:
        return _FALSE, Reason.CLONE_FAILED, f"The repositories can't be cloned: {cloning.waits}"
    if failed:
        first, *further = failed
        told = [f"{first[0]} can't be cloned, and is tried again: {_ended(first[1])}"]
        told += [f"{path} can't either: {_ended(why[:_SHORTER])}" for path, why in further[:_TOLD]]
        told += [f"Nor can {_listed([path for path, _ in further[_TOLD:]])}."] if further[_TOLD:] else []
        return _FALSE, Reason.CLONE_FAILED, " ".join(told)
    progress = _progress(cloning, fetching)
    return _FALSE, Reason.CLONING, f"{_listed([path for path, _ in cloning.wished])}: being cloned{progress}."


def _progress(cloning: Cloning, fetching: Mapping[str, int]) -> str:
    """What has come of those that are being fetched, as the gateway sees it. A server tells nobody how much will."""
    sizes = [(path, fetching[at]) for path, url in cloning.wished if (at := _named(url)) in fetching]
    told = ", ".join(f"{path}: {size / _MIB:.1f} MiB received" for path, size in sizes[:_TOLD])
    return f" ({told})" if told else ""


def _named(url: str) -> str:
    """By what gateways name the repository of a URL; empty for one that they serve nobody with."""
    try:
        return parse_url(url)[2]
    except ValueError:
        return ""


def _by_path(cloning: Cloning) -> dict[str, str]:
    return {path: outcome for (path, _), outcome in zip(cloning.wished, cloning.outcomes or (), strict=False)}


def _failure(outcome: str) -> str | None:
    kind, _, why = outcome.partition(" ")
    return why if kind == "Failed" else None


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return ", ".join(paths[:4]) + more
