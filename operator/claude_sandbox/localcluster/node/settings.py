"""Kernel settings of the machine that nodes change, put back when the last node is gone.

The kubelet sets some of them itself, packets can only be forwarded by a machine that forwards, and its
programs watch many files. They can't be confined to a namespace, so the values from before the first node
are kept outside of any cluster.
"""

import contextlib
import json
from pathlib import Path

from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.node.names import RUN

_DIRECTORY = RUN / "machine"
_SYSCTL = Path("/proc/sys")
# The kubelet's (its container manager's kernel tunables), and forwarding.
_CHANGED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
    "fs/inotify/max_user_instances",
)
# A cluster takes about 25 of the 128 inotify instances that Linux lets a user have by default, and a kubelet
# that gets none ends.
_INOTIFY_INSTANCES = 1024


def prepare(node: str) -> None:
    """Note that the node uses the machine, let the machine forward packets and watch files."""
    with locked(_DIRECTORY):
        record = _DIRECTORY / "before.json"
        if not record.exists():
            before = {name: (_SYSCTL / name).read_text().strip() for name in _CHANGED if (_SYSCTL / name).exists()}
            partial = record.with_suffix(".partial")
            partial.write_text(json.dumps(before))
            # Half a record would put nothing back.
            partial.replace(record)
        (_DIRECTORY / f"{node}.user").touch()
        (_SYSCTL / "net/ipv4/ip_forward").write_text("1")
        instances = _SYSCTL / "fs/inotify/max_user_instances"
        if int(instances.read_text()) < _INOTIFY_INSTANCES:
            instances.write_text(str(_INOTIFY_INSTANCES))


def restore(node: str) -> None:
    """Note that the node is gone; the last one's end puts the values back. Nothing happens for an unknown node."""
    if not _DIRECTORY.exists():
        return
    with locked(_DIRECTORY):
        (_DIRECTORY / f"{node}.user").unlink(missing_ok=True)
        if any(_DIRECTORY.glob("*.user")):
            return
        record = _DIRECTORY / "before.json"
        with contextlib.suppress(FileNotFoundError):
            for name, value in json.loads(record.read_text()).items():
                if (_SYSCTL / name).read_text().strip() != value:
                    (_SYSCTL / name).write_text(value)
        for file in _DIRECTORY.iterdir():
            file.unlink()
        _DIRECTORY.rmdir()
    with contextlib.suppress(OSError):
        RUN.rmdir()
