"""What a cluster, or an engine, could leave on the machine, as far as the machine itself tells."""

import os
import re
from pathlib import Path

from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node.names import Names

# Where programs of a node would keep things if they were not told otherwise.
_DIRECTORIES = (
    "/run", "/run/netns", "/run/containerd", "/var/lib", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni",
    "/var/log", "/var/lib/docker", "/run/docker", "/etc/docker", "/opt", "/etc", "/etc/cni/net.d", "/usr/libexec",
    "/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
)  # fmt: skip
_SETTINGS = (
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes", "net/ipv4/ip_forward", "fs/inotify/max_user_instances", "net/ipv4/conf/all/forwarding",
    "net/netfilter/nf_conntrack_max", "net/bridge/bridge-nf-call-iptables", "net/ipv4/conf/all/route_localnet",
    "net/ipv6/conf/all/forwarding",
)  # fmt: skip


def of_machine(layout: Layout) -> set[str]:
    """One line for everything that could be left, other clusters' own parts excepted.

    Other tests may have clusters on the machine at the same time, so what is called after another node's id does not
    count, nor what an image's build, a machine with systemd, or the directory of another process of this run has.
    """
    lines = {f"mount {line.split(' ')[4]}" for line in _read("/proc/self/mountinfo")}
    lines |= {f"interface {path.name}" for path in Path("/sys/class/net").iterdir()}
    lines |= {f"route {line}" for line in _read("/proc/net/route")}
    lines |= {f"file {path}" for directory in _DIRECTORIES for path in _list(directory)}
    lines |= {f"setting {name} {_read(f'/proc/sys/{name}')}" for name in _SETTINGS}
    lines |= {f"process {pid}" for pid in _processes(layout)}
    other = _of_others(Names.of(layout).id)
    return {line for line in lines if not other.search(line)}


def _of_others(own: str) -> re.Pattern[str]:
    this = os.environ.get("PYTEST_XDIST_WORKER", "")  # pytest-xdist's own name of this one: gw0
    return re.compile(
        rf"(csb|node-|engine-|claude-sandbox-)(?!{own})[0-9a-f]{{8}}"
        r"|claude-sandbox-build-|/tests-machine-[0-9]+"
        rf"|/popen-(?!{this}/)gw[0-9]+/"
    )


def _processes(layout: Layout) -> list[str]:
    """Processes that the cluster's directory occurs in, or that run in a control group of its node."""
    wanted = (os.fsencode(layout.root), Names.of(layout).cgroup.encode())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            told = b"".join((entry / name).read_bytes() for name in ("cmdline", "environ", "cgroup"))
        except OSError:
            continue
        if state not in "ZX" and any(one in told for one in wanted):
            found.append(f"{entry.name} {(told.split(bytes(1))[0]).decode()}")
    return found


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _list(directory: str) -> list[Path]:
    try:
        return list(Path(directory).iterdir())
    except OSError:
        return []
