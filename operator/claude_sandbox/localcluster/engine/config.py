"""The configuration files of an engine's programs. Nothing is read or run here."""

import json
from pathlib import Path
from typing import Any

from claude_sandbox.localcluster.engine.places import EngineNames, Places
from claude_sandbox.localcluster.engine.record import EngineDescription, Tcp
from claude_sandbox.localcluster.pki.pki import Files

# In the engine's own /run.
EXEC_ROOT = "/run/docker"


def containerd(places: Places, names: EngineNames) -> str:
    """containerd's configuration: its own directories, and nothing that a Docker Engine has no use for."""
    return f"""\
version = 2
root = "{places.containerd}"
state = "/run/containerd"
# "opt" would make /opt/containerd on the machine.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.erofs",
]

[grpc]
address = "{names.sockets}/containerd.sock"
"""


def dockerd(engine: EngineDescription, places: Places, names: EngineNames, init: Path) -> str:
    """dockerd's configuration: its own directories, sockets and control group; all else as it is by default."""
    settings: dict[str, Any] = {
        "data-root": str(places.data),
        "exec-root": EXEC_ROOT,
        "pidfile": "/run/docker.pid",
        "hosts": [engine.socket, *([] if engine.tcp is Tcp.NONE else ["fd://"])],
        "containerd": f"{names.sockets}/containerd.sock",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{names.cgroup}",
        "init-path": str(init),
        "live-restore": engine.live_restore,
    }
    if engine.release == "20.10":
        # It signs nothing with this key, and would make it in the machine's /etc/docker.
        settings["deprecated-key-path"] = str(places.config / "key.json")
    if engine.tcp is Tcp.TLS:
        serving = Files(places.pki, "server")
        settings |= {
            "tlsverify": True,
            "tlscacert": str(Files(places.pki, "ca").certificate),
            "tlscert": str(serving.certificate),
            "tlskey": str(serving.key),
        }
    return json.dumps({**settings, **json.loads(engine.settings)}, indent=2)
