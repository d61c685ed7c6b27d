"""The Strict filter as the file that a kubelet gives the runtime, which is the OCI's form of it. Pure.

A runtime takes the file as it is (containerd, contrib/seccomp: `WithProfile`), and knows neither `archMap` nor
`includes`. What those keep from other architectures than the two, nothing does here: on another the filter would be
wrong (the arguments of `clone` have another order on some), so the file is for nodes on x86-64 and arm64.
"""

import json
from typing import Any

from claude_sandbox.seccomp.profile import ARCHITECTURES, document


def text() -> str:
    """The file."""
    return json.dumps(_document(), indent=2) + "\n"


def _document() -> dict[str, Any]:
    found = document()
    return {
        "defaultAction": found["defaultAction"],
        # Its own as well is no matter to a kernel; a call by any other's way in ends the process.
        "architectures": list(ARCHITECTURES.values()),
        "syscalls": [{key: value for key, value in rule.items() if key != "includes"} for rule in found["syscalls"]],
    }
