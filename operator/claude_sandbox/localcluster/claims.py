"""What clusters and engines of this user have of what there is once on a machine: TCP ports, and slots of addresses.

Both are counted whether they run or not, for they have them again when they are up again; the machine's own sockets and
routes tell of those alone that run. Who chooses does so within `choosing`, from the look at what is taken until its
record can be read by others, so that no two ever choose the same.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_sandbox.localcluster.layout import ENGINE_RECORD, Layout, clusters_dir, engines_dir, state_dir
from claude_sandbox.localcluster.locks import locked


@dataclass(frozen=True)
class Claim:
    """What one cluster or engine has. `slot`: see network.Addresses; None where it has no addresses."""

    what: str
    """For a person: `cluster 'alice'`."""
    ports: frozenset[int]
    slot: int | None


@dataclass(frozen=True)
class Claims:
    """What all of them have together."""

    all: tuple[Claim, ...]

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(port for one in self.all for port in one.ports)

    @property
    def slots(self) -> frozenset[int]:
        return frozenset(one.slot for one in self.all if one.slot is not None)


@contextmanager
def choosing() -> Iterator[None]:
    """Hold what there is against everybody else who chooses of it."""
    # One lock for both: a cluster and an engine that come up at the same moment choose from the same.
    with locked(state_dir()):
        yield


def held(but: Layout | None = None) -> Claims:
    """What all of them have, `but` for one that is left out."""
    return Claims(tuple(claim for root, claim in _found() if but is None or root != but.root))


def _found() -> Iterator[tuple[Path, Claim]]:
    records = [("cluster", Layout(root).record) for root in _entries(clusters_dir())]
    records += [("engine", root / ENGINE_RECORD) for root in _entries(engines_dir())]
    for kind, record in records:
        # What is gone since, or can't be read, is taken for no cluster and no engine by whoever else reads it, too.
        with suppress(OSError, ValueError, TypeError, AttributeError):
            yield record.parent, _claim(f"{kind} {record.parent.name!r}", json.loads(record.read_text()))


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _claim(what: str, document: dict[str, Any]) -> Claim:
    # A cluster has a port for each component; an engine has one, or None.
    ports = (*document.get("ports", {}).values(), document.get("port"))
    return Claim(what, frozenset(port for port in ports if port is not None), document.get("slot"))
