"""What a container has for managed settings, as its engine reads it now: nothing remembered counts."""

import posixpath
from datetime import datetime

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.blueprint.model import SettingsFile
from claude_sandbox.compliance.evidence.containers import SettingsContent
from claude_sandbox.compliance.evidence.readings import Reading, Unread


async def settings_of(
    engine: Engine, container: Object, wanted: SettingsFile, now: datetime
) -> Reading[SettingsContent] | Unread:
    """The file as the container sees it; Unread where it does not run or the engine can't tell."""
    if not running(container):
        return Unread("the container does not run")
    try:
        found = await engine.read_file(str(container["Id"]), posixpath.join(wanted.directory, wanted.file))
    except EngineError:
        return Unread("the engine could not read them")
    return Reading(SettingsContent(found.decode(errors="replace") if found else None), EvidenceSource.INSPECT, now)
