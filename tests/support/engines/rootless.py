"""A real rootless Docker Engine as a test's own process: dockerd as a user that is nobody else's, under RootlessKit."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import pytest
from nodekit import report
from process_tree import command_of, descendants

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription, api
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

ROOTLESS = Needed(("rootlesskit", "slirp4netns", "uidmap"), ("rootlesskit", "slirp4netns", "newuidmap", "newgidmap"))
USER = 4711
OTHERS = 200_000
"""Whom the user may have others stand for: user 1 of a container is this one, and so on."""
PATIENCE = 90.0

# In a mount namespace of its own: the machine has no such user, and may let root alone use the tun device.
_MACHINE = f"""
mount -t tmpfs -o mode=0755 own /run
mkdir -p /run/etc/upper /run/etc/work /run/programs /run/user /run/lock
cd /run/etc/upper
cat /etc/passwd - >passwd <<<'rootless:x:{USER}:{USER}::/srv:/bin/sh'
cat /etc/group - >group <<<'rootless:x:{USER}:'
tee subuid subgid >/dev/null <<<'rootless:{OTHERS}:65536'
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work own /etc
mknod -m 0666 /run/tun c 10 200
mount --bind /run/tun /dev/net/tun
"""
_BIND = "mkdir -p {place}\nmount --no-canonicalize --bind /proc/self/fd/{number} {place}\n"
_AS_USER = f"""
chown {USER}:{USER} /srv /run/user
cd /srv
exec setpriv --reuid {USER} --regid {USER} --clear-groups env -i HOME=/srv XDG_RUNTIME_DIR=/run/user \\
"""
# As dockerd-rootless.sh does. What is copied up are links to what is there, and these are other engines'.
_DOCKERD = """\
rm -f /run/docker /run/containerd /run/xtables.lock
exec dockerd --rootless --data-root /srv/docker --exec-root /run/docker --pidfile /run/docker.pid \
 --host unix:///run/user/docker.sock --init-path "$(command -v tini-static)" --userland-proxy=false
"""


@dataclass(frozen=True)
class RootlessEngine(EngineDescription):
    """Its files are below `directory`; it has no namespaces that could be entered by name."""

    directory: Path = Path()
    # Of `unshare`, whose only child is the first of the engine's processes.
    pid: int = 0

    @property
    def socket_path(self) -> Path:
        return self.directory / "user" / "docker.sock"

    @property
    def socket(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def first(self) -> int:
        """The process with which all others end."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text())

    @property
    def network(self) -> Path:
        """The engine's own network namespace, for `nsenter`."""
        daemons = (pid for pid in descendants(self.pid) if command_of(pid).split(b"\0")[0].endswith(b"dockerd"))
        return Path(f"/proc/{next(daemons)}/ns/net")

    def beside(self, argv: list[str]) -> list[str]:
        """A command in the engine's own network namespace."""
        within = 'exec nsenter --net="/proc/$(cat /run/user/rootlesskit/child_pid)/ns/net" -- "$@"'
        return ["nsenter", f"--target={self.first}", "--mount", "--pid", "--", "sh", "-c", within, "sh", *argv]


@contextlib.contextmanager
def rootless(directory: Path, release: str) -> Iterator[RootlessEngine]:
    """A rootless engine of the release, until the block is left."""
    _require()
    spaces = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["unshare", *spaces, "bash", "-euc", _script(directory, release)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    made = RootlessEngine("rootless", release, directory=directory, pid=process.pid)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (made.socket_path.exists() and api.answers(made.socket_path)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield made
    finally:
        # The first process of its namespace: the kernel ends all others with it.
        if process.poll() is None:
            os.kill(made.first, 9)
        process.wait()


def _script(directory: Path, release: str) -> str:
    """The programs and directories are mounted where a user may go who is let into nobody's home."""
    home, runtime = directory / "home", directory / "user"
    for made in (home, runtime):
        made.mkdir()
    programs, tools = engine.build(release, report), ensure(ROOTLESS, report)
    roots = [*programs.directories, *(tree.root for tree in (*programs.trees, tools) if tree.root.is_dir())]
    places = {"/srv": home, "/run/user": runtime} | {f"/run/programs/{n}": root for n, root in enumerate(roots)}
    opened = {place: number for number, place in enumerate(places, start=3)}
    environment = programs.environment()
    for name, value in tools.environment().items():
        environment[name] = f"{environment[name]}:{value}" if name in environment else value
    for place, root in places.items():
        environment = {name: value.replace(str(root), place) for name, value in environment.items()}
    kit = (
        "rootlesskit --state-dir=/run/user/rootlesskit --net=slirp4netns --mtu=65520 --disable-host-loopback"
        f" --copy-up=/etc --copy-up=/run --propagation=rslave sh -c {quote(_DOCKERD)}"
    )
    return "".join(
        [
            *(f"exec {number}<{quote(str(places[place]))}\n" for place, number in opened.items()),
            _MACHINE,
            *(_BIND.format(place=place, number=number) for place, number in opened.items()),
            _AS_USER,
            " ".join(f"{name}={quote(value)}" for name, value in environment.items()),
            f" {kit}\n",
        ]
    )


def _require() -> None:
    """Skip where the kernel has not what it takes."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("a rootless engine needs /dev/net/tun")
    users = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "unshare", "--user", "true"]
    if subprocess.run(users, capture_output=True, check=False).returncode != 0:
        pytest.skip("a rootless engine needs user namespaces for everybody")
