"""A machine of its own for tests of what systemd runs: Debian's packages, and a real systemd as its first process.

It is a file system, and namespaces in which systemd boots; it has no network but its own loopback. Turned off, its
processes are gone and its files stay, as those of any machine.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodekit import report

from claude_sandbox.localcluster.images.base import bootstrap
from claude_sandbox.localcluster.layout import cache_dir

_PACKAGES = ("dbus", "procps", "python3", "systemd", "systemd-sysv")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNIFIED = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_PATIENCE = 90.0
# A control group of its own, as the root of what systemd sees of them.
_ENTER = 'mkdir -p "$1" && echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
# Once the namespaces are made: a root of its own with what systemd expects (systemd.io/CONTAINER_INTERFACE).
_BOOT = """
set -eu
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
shift
while [ $# -gt 0 ]; do mkdir -p "./$2"; mount --bind "$1" "./$2"; shift 2; done
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,size=4m tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mkdir -p .outside
pivot_root . .outside
umount -l .outside
mount --make-rshared /
exec env -i container=tests PATH={path} /lib/systemd/systemd --log-target=null --unit=multi-user.target
""".replace("{path}", _PATH)


@dataclass
class Machine:
    """The machine with the file system below `root`; `shared` are directories of this machine, by their places there.

    They are there from one boot to the next as `shared` says at that boot.
    """

    root: Path
    shared: dict[Path, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, directory: Path) -> "Machine":
        """A fresh one, off."""
        root = directory / "machine"
        root.mkdir()
        subprocess.run(["tar", "--extract", "--file", bootstrap(_PACKAGES, report), "--directory", root], check=True)
        project = Path(__file__).parents[3]
        packages = Path(sysconfig.get_path("purelib"))
        shared = {project: "opt/project", packages: "opt/packages", cache_dir(): "opt/claude-sandbox"}
        return cls(root, shared)

    def boot(self) -> None:
        """Turn it on, and return when systemd has started everything."""
        for directory in ("run", "tmp"):
            _empty(self.root / directory)
        pairs = [text for source, target in self.shared.items() for text in (str(source), target)]
        self._process = subprocess.Popen(
            ["sh", "-c", _ENTER, "sh", str(self._cgroup()),
             "unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child=KILL",
             "sh", "-c", _BOOT, "sh", str(self.root), *pairs],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE
        while (state := self._state()) not in ("running", "degraded"):
            assert time.monotonic() < deadline, f"the machine is {state!r}"
            assert self._process.poll() is None, "the machine did not boot"
            time.sleep(0.2)

    def off(self) -> None:
        """Cut its power."""
        if self._process is not None:
            if (first := self._first()) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None
        group = self._cgroup()
        for parent, _, _ in os.walk(group, topdown=False):
            _remove_cgroup(Path(parent))

    def reboot(self) -> None:
        """As a person would."""
        assert self._process is not None
        self.run("systemctl", "reboot", check=False)
        self._process.wait(_PATIENCE)
        self.off()
        self.boot()

    def run(
        self, *argv: str, check: bool = True, stdin: str = "", variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine as root; standard output and errors in one."""
        done = subprocess.run(
            self.command(argv, variables or {}), input=stdin, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done

    def out(self, *argv: str) -> str:
        """What a program prints."""
        return self.run(*argv).stdout.strip()

    def command(self, argv: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """The command line, on this machine, of a program on that one."""
        first = self._first()
        assert first is not None, "the machine is off"
        return [
            "nsenter", f"--target={first}", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd",
            "env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8",
            *(f"{name}={value}" for name, value in variables.items()), *argv,
        ]  # fmt: skip

    def from_the_clone(self, *arguments: str, check: bool = True) -> str:
        """What `claude-sandbox` prints, run as from a clone with its virtual environment and cache."""
        variables = {"PYTHONPATH": "/opt/project/operator:/opt/packages", "XDG_CACHE_HOME": "/opt",
                     "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        argv = ("python3", "-m", "claude_sandbox.cli.main", *arguments)
        return self.run(*argv, check=check, variables=variables).stdout

    def file(self, path: str) -> Path:
        """A file of that machine, from outside."""
        return self.root / path.lstrip("/")

    def _state(self) -> str:
        if self._first() is None:
            return "off"
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def _first(self) -> int | None:
        """The process that is the machine's first, as this one numbers it."""
        if self._process is None:
            return None
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except FileNotFoundError:
            return None
        return int(children[0]) if children else None

    def _cgroup(self) -> Path:
        top = next(place for place in _UNIFIED if (place / "cgroup.procs").exists())
        return top / f"tests-machine-{os.getpid()}"


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_cgroup(group: Path) -> None:
    # The kernel takes a moment to let go of processes that were killed.
    for _ in range(50):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
