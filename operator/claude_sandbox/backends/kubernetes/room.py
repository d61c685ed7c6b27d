"""Room for files as a part of a pod's readiness: without any, the agent can't work, and the kubelet says where. Pure.

The operator itself can't see how full a volume of a pod is. The kubelet's statistics, behind `nodes/proxy`, would tell,
and with them come rights over every pod of a node; the words of a probe are in Events, which it may not read. So the
probe fails, the pod is not ready, and `kubectl describe pod` has the words. An agent can forge them and gains nothing.
"""

import shlex

from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.blueprint.tools import BUSYBOX

# A file system of which less than a hundredth is free is full: `df -P` rounds up (POSIX).
_SCRIPT = """\
full=$({df} -P {places} 2>/dev/null | while read -r _ _ _ _ used at; do [ "$used" != 100% ] || echo "$at"; done)
[ -z "$full" ] || {{ echo "no room left in" $full; exit 1; }}
exec "$@"
"""


def with_room(blueprint: Blueprint, command: tuple[str, ...]) -> list[str]:
    """A probe's command, which is asked only where there is room in all places that the sandbox may write to."""
    shell, df = (("/bin/sh",), "df") if blueprint.tools is None else ((BUSYBOX, "sh"), f"{BUSYBOX} df")
    script = _SCRIPT.format(df=df, places=shlex.join(blueprint.writable))
    return [*shell, "-c", script, "room", *command]
