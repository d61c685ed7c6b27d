"""A real OpenSSH server as a test's own process, with users and keys of its own, on loopback and an ordinary port."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import pytest
from nodekit import report
from process_tree import descendants

from claude_sandbox.backends.docker.engine.connection.client_credentials import SshCredentials
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

OPENSSH = Needed(("openssh-server", "openssh-client"), ("sshd", "ssh", "ssh-keygen"))
DOCKER = Needed(("docker.io",), ("docker",))
PATIENCE = 20.0

STRANGER = "stranger"
"""A user who may log in, and may not open the engine's socket."""
_PASSWD = """\
root:x:0:0::{home}:/bin/sh
stranger:x:4711:4711::/:/bin/sh
sshd:x:4712:65534::/:/bin/false
"""
_SHADOW = "root:*:1::::::\nstranger:*:1::::::\nsshd:*:1::::::\n"

_CONFIG = """\
ListenAddress {address}:{port}
HostKey {directory}/host
AuthorizedKeysFile none
AuthorizedKeysCommand /bin/cat {directory}/authorized_keys
AuthorizedKeysCommandUser root
Banner {directory}/banner
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH={path}
Subsystem sftp internal-sftp
"""

# In a mount namespace of its own: the machine has neither these users nor, perhaps, an engine at the usual place.
_SCRIPT = """\
mount --bind {directory}/passwd /etc/passwd
mount --bind {directory}/shadow /etc/shadow
exec 3<{sockets}
mount -t tmpfs -o mode=0755 own /run
mkdir /run/sshd /run/engine
mount --no-canonicalize --bind /proc/self/fd/3 /run/engine
ln -s engine/docker.sock /run/docker.sock
exec {sshd} -D -e -f {directory}/config
"""


@dataclass
class SshServer:
    """One server, of the machine whose engine has its sockets in `sockets`."""

    directory: Path
    sockets: Path
    port: int
    network: Path | None = None
    """The network namespace in which it listens, if not in the machine's."""
    path: str = ""
    """Where those who log in look for programs; by default where a docker client is."""
    address: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        return self.endpoint_of("root")

    def endpoint_of(self, user: str) -> str:
        return f"ssh://{user}@{self.address}:{self.port}"

    @property
    def credentials(self) -> SshCredentials:
        """What gets in."""
        return SshCredentials(self._read("client"), self.known_hosts("host"))

    def known_hosts(self, key: str) -> bytes:
        """The host as it would be known if that key were its own."""
        kind, public, *_ = self._read(f"{key}.pub").split()
        return b"[%s]:%d %s %s\n" % (self.address.encode(), self.port, kind, public)

    def new_key(self, name: str, *options: str) -> bytes:
        """Make a pair of keys; the private one."""
        program = ensure(OPENSSH, report).path("ssh-keygen")
        arguments = options or ("-t", "ed25519", "-N", "")
        command = [str(program), "-q", "-C", name, "-f", str(self.directory / name), *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return self._read(name)

    def admit(self, name: str, options: str = "") -> None:
        """Let in whoever has this key, and nobody else; `options` as authorized_keys takes them."""
        (self.directory / "authorized_keys").write_bytes(options.encode() + b" " + self._read(f"{name}.pub"))

    def says(self, banner: str) -> None:
        """What it tells everybody who logs in."""
        (self.directory / "banner").write_text(banner)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> None:
        """Return when it listens."""
        programs = ensure(OPENSSH, report)
        path = self.path or f"{ensure(DOCKER, report).path('docker').parent}:/usr/bin:/bin"
        (self.directory / "config").write_text(
            _CONFIG.format(address=self.address, port=self.port, directory=self.directory, path=path)
        )
        script = _SCRIPT.format(
            directory=quote(str(self.directory)),
            sockets=quote(str(self.sockets)),
            sshd=quote(str(programs.path("sshd"))),
        )
        # With processes of its own, too: those of who has logged in end with it, as they do with a machine.
        spaces = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
        network = [] if self.network is None else ["nsenter", f"--net={self.network}", "--"]
        before = self._starts()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*network, "unshare", *spaces, "sh", "-euc", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **programs.environment()},
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while self._starts() == before:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and every session, at once."""
        if self._process is not None:
            # The first process of its namespace: the kernel ends all others before it lets go of this one.
            _signal(list(descendants(self._process.pid))[:1], signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It and every session neither end nor go on."""
        assert self._process is not None
        pids = list(descendants(self._process.pid))
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _starts(self) -> int:
        file = self.directory / "log"
        return file.read_text().count("Server listening on") if file.exists() else 0

    def _read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()


@contextlib.contextmanager
def ssh_server(
    directory: Path, sockets: Path, network: Path | None = None, address: str = "127.0.0.1"
) -> Iterator[SshServer]:
    """A server that lets in whoever has the key of its `credentials`."""
    home = directory / "home"
    home.mkdir()
    (directory / "passwd").write_text(_PASSWD.format(home=home))
    (directory / "shadow").write_text(_SHADOW)
    with socket.create_server((address if network is None else "127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = SshServer(directory, sockets, port, network, address=address)
    for name in ("host", "client"):
        server.new_key(name)
    server.admit("client")
    server.says("")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def ssh_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's ssh, or one that is brought along."""
    programs = ensure(OPENSSH, report)
    if shutil.which("ssh") is None:
        for name, value in programs.environment().items():
            monkeypatch.setenv(name, value)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
