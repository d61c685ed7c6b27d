"""The Strict filter as the file that a kubelet gives the runtime, which is the OCI's form of it; and as the object by
which the Security Profiles Operator brings that file to the nodes. Pure.

A runtime takes the file as it is (containerd, contrib/seccomp: `WithProfile`), and knows neither `archMap` nor
`includes`. What those keep from other architectures than the two, nothing does here: on another the filter would be
wrong (the arguments of `clone` have another order on some), so the file is for nodes on x86-64 and arm64.
"""

import json
from typing import Any

from claude_sandbox.seccomp.profile import ARCHITECTURES, document

_OBJECT = {
    # Of cluster scope since 1.0. Before 0.8 `errnoRet` was text there, which no runtime takes in the file.
    "apiVersion": "security-profiles-operator.x-k8s.io/v1",
    "kind": "SeccompProfile",
    "metadata": {"name": "claude-sandbox-strict"},
}


def text() -> str:
    """The file."""
    return _written(_document())


def profile() -> str:
    """The object, to be applied. Its operator writes what is in `spec` to each node, under its own name."""
    return _written({**_OBJECT, "spec": _document()})


def _written(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _document() -> dict[str, Any]:
    found = document()
    return {
        "defaultAction": found["defaultAction"],
        # Its own as well is no matter to a kernel; a call by any other's way in ends the process.
        "architectures": list(ARCHITECTURES.values()),
        "syscalls": [{key: value for key, value in rule.items() if key != "includes"} for rule in found["syscalls"]],
    }
