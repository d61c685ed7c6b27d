"""What this machine's journald keeps of all that the machine writes, where a container's output goes to it.

An engine tells no more than that the driver is journald. How much is kept, journald says when it opens its journal
(the message SD_MESSAGE_JOURNAL_USAGE); once that was dropped as the oldest, its configuration does. That it is the
journal of the engine's host is seen from it: it has lines of this very container, which only that host's engine can
name.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.compliance.evidence.containers import Journal
from claude_sandbox.compliance.evidence.readings import Reading, Unread

_USAGE = "ec387f577b844b8fa948f33cad9a75e6"
"""SD_MESSAGE_JOURNAL_USAGE (systemd, sd-messages.h)."""
_PLACES = (("SystemMaxUse", Path("/var/log/journal")), ("RuntimeMaxUse", Path("/run/log/journal")))
"""The second is of memory, until the first can be written to, and where that is not to be (Storage=volatile)."""
_DEFAULT = 4 << 30
"""At most, of a tenth of the file system (journald.conf(5))."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PATIENCE = 10.0
_HOW = "run the command on the engine's host, as root or as one of the group systemd-journal"


async def journal_of(container: Object, read_at: datetime) -> Reading[Journal] | Unread | None:
    """What is kept; None where the container's output goes elsewhere."""
    log = (container.get("HostConfig") or {}).get("LogConfig") or {}
    if log.get("Type") != "journald":
        return None
    return await asyncio.to_thread(_read, str(container.get("Id")), read_at)


def _read(identifier: str, read_at: datetime) -> Reading[Journal] | Unread:
    if shutil.which("journalctl") is None:
        return Unread(f"there is no journalctl here: {_HOW}")
    try:
        if not _entries(f"CONTAINER_ID_FULL={identifier}"):
            return Unread(f"no journal that may be read here has a line of this container: {_HOW}")
        name, place = next((name, own) for name, path in _PLACES if (own := _own(path)) is not None)
        told = [
            one
            for one in _entries("_TRANSPORT=driver", f"MESSAGE_ID={_USAGE}")
            if one.get("JOURNAL_PATH") == str(place)
        ]
        most = int(told[-1]["LIMIT"]) if told else _configured(name, place)
        files = (file.stat() for file in place.iterdir() if ".journal" in file.name)
        return Reading(Journal(most, sum(file.st_blocks * 512 for file in files)), EvidenceSource.HOST_PROC, read_at)
    except (OSError, StopIteration, KeyError, ValueError, subprocess.SubprocessError) as error:
        return Unread(f"what journald keeps could not be found out ({type(error).__name__}): {_HOW}")


def _entries(*matches: str) -> list[Mapping[str, Any]]:
    """The last entry of this boot that has all of these fields, if there is one. The kernel's word and journald's own
    (_TRANSPORT=driver) nobody else can write."""
    fields = "--output-fields=JOURNAL_PATH,LIMIT"
    said = _printed("journalctl", "--boot", "--quiet", "--lines=1", "--output=json", fields, *matches)
    return [json.loads(line) for line in said.splitlines()]


def _own(directory: Path) -> Path | None:
    """Where journald has its files, of this machine's identity."""
    with suppress(OSError):
        place = directory / Path("/etc/machine-id").read_text().strip()
        return place if any(place.glob("system*.journal")) else None
    return None


def _configured(name: str, place: Path) -> int:
    """By all of its files, the last of which counts. Raises ValueError where a size is not understood."""
    said = dict(_settings(_printed("systemd-analyze", "cat-config", "systemd/journald.conf")))
    if text := said.get(name):
        return size_of(text)
    found = os.statvfs(place)
    return min(found.f_blocks * found.f_frsize // 10, _DEFAULT)


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            yield name.strip(), value.strip()


def size_of(text: str) -> int:
    """Of a setting, in bytes. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if found is None:
        raise ValueError("no size")
    return int(found[1]) * _UNITS[found[2]]


def _printed(*argv: str) -> str:
    variables = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=variables)
    return done.stdout
