"""Servers with repositories of backups: S3 by versitygw, which checks signatures, and SFTP by OpenSSH."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodekit import report
from sshkit import OPENSSH, SshServer, ssh_server

from claude_sandbox.localcluster.pki.certificates import Subject, issue, new_ca
from claude_sandbox.localcluster.programs.builder import build
from claude_sandbox.localcluster.programs.os_packages import ensure
from claude_sandbox.localcluster.programs.tools import tool

ACCESS, SECRET = "not-really-an-access-key", "not-really-a-secret-4711"
BUCKET = "backups"
SERVERS = "10.99.99.98"
"""Where they are, in the network of an engine or a node."""
PATIENCE = 30.0


@dataclass
class Server:
    """One that is there."""

    kind: str
    address: str
    port: int
    directory: Path
    """What it keeps."""
    credentials: dict[str, bytes]
    """As a Secret has them."""
    files: dict[str, Path] = field(default_factory=dict)

    def order(self, **more: Any) -> dict[str, Any]:
        """As a helper is told."""
        path = f"{BUCKET}/of-tests" if self.kind == "S3" else str(self.directory)
        user = {} if self.kind == "S3" else {"user": "root"}
        found = {"kind": self.kind, "host": self.address, "port": self.port, "address": self.address, "path": path}
        return found | user | more

    def target(self, secret: str, **more: Any) -> dict[str, Any]:
        """As a spec has it."""
        if self.kind == "S3":
            where = {"endpoint": f"https://{self.address}:{self.port}", "bucket": BUCKET, "prefix": "of-tests"}
            return {"type": "S3", "s3": where | more, "credentialsSecretRef": {"name": secret}}
        place = {"host": self.address, "port": self.port, "user": "root", "path": str(self.directory)}
        return {"type": "SFTP", "sftp": place | more, "credentialsSecretRef": {"name": secret}}

    @property
    def repository(self) -> Path:
        """As a directory."""
        return self.directory / ("of-tests/" if self.kind == "S3" else "") / "claude-sandbox-backups"


def ssh_programs() -> str:
    """The directory with ssh and its agent."""
    return str(ensure(OPENSSH, report).path("ssh").parent)


def _inside(network: Path | None, address: str) -> list[str]:
    """What runs a command in a network namespace that has this address, too."""
    if network is None:
        return []
    inside = ["nsenter", f"--net={network}", "--"]
    subprocess.run([*inside, "ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    return inside


@contextlib.contextmanager
def s3_server(
    directory: Path, address: str = "127.0.0.1", network: Path | None = None, *others: Path
) -> Iterator[Server]:
    """A bucket of one, with a certificate of an authority of its own; on an address of its own in a `network`, and in
    the `others` as well."""
    program = build(tool("versitygw", ""), report)
    (kept := directory / "s3" / BUCKET).mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    authority = new_ca("of backups", now)
    pair = issue(authority, Subject("s3", server=True, client=False, names=(address,)), now)
    (directory / "s3.crt").write_bytes(pair.certificate)
    (directory / "s3.key").write_bytes(pair.key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    signed = ["--cert", str(directory / "s3.crt"), "--key", str(directory / "s3.key")]
    command = [str(program), "--quiet", "--port", f"{address}:{port}", *signed, "posix", str(kept.parent)]
    with contextlib.ExitStack() as running:
        for place in (network, *others):
            running.enter_context(_serving(command, _inside(place, address), f"{address}/{port}", directory / "s3.log"))
        credentials = {
            "access-key-id": ACCESS.encode(), "secret-access-key": SECRET.encode(), "ca.crt": authority.certificate,
        }  # fmt: skip
        files = {"crt": directory / "s3.crt", "key": directory / "s3.key"}
        yield Server("S3", address, port, kept, credentials, files)


@contextlib.contextmanager
def _serving(command: list[str], inside: list[str], address: str, said: Path) -> Iterator[None]:
    """One process of it, once it listens."""
    # What its keys are it takes from its environment: arguments can be read by everybody.
    environment = os.environ | {"ROOT_ACCESS_KEY_ID": ACCESS, "ROOT_SECRET_ACCESS_KEY": SECRET}
    with said.open("ab") as log:
        running = subprocess.Popen(
            [*inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        until = time.monotonic() + PATIENCE
        connect = [*inside, "bash", "-c", f"</dev/tcp/{address}"]
        while subprocess.run(connect, stderr=subprocess.DEVNULL, check=False).returncode:
            assert running.poll() is None and time.monotonic() < until, said.read_text()  # noqa: PT018
            time.sleep(0.05)
        yield
    finally:
        running.kill()
        running.wait()


@contextlib.contextmanager
def sftp_server(
    directory: Path, address: str = "127.0.0.1", network: Path | None = None, *others: Path
) -> Iterator[Server]:
    """A directory of one; on an address of its own in a `network`, and in the `others` as well."""
    for place in (network, *others):
        _inside(place, address)
    (kept := directory / "sftp").mkdir()
    (lab := directory / "sshd").mkdir()
    with contextlib.ExitStack() as running:
        found = running.enter_context(ssh_server(lab, lab, network, address=address))
        for place in others:
            other = SshServer(lab, lab, found.port, place, address=address)
            other.start()
            running.callback(other.stop)
        key = (lab / "client").read_bytes()
        credentials = {"ssh-privatekey": key, "known_hosts": found.known_hosts("host")}
        yield Server("SFTP", address, found.port, kept, credentials)
