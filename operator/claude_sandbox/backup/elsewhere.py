"""A repository on a server elsewhere: a bucket by S3, a directory by SFTP.

Theory of operation. An `Elsewhere` is claimed by nobody alone: helpers on other machines may be at work in the same
repository, which restic's own locks are for. What is in the way of others is waited for; a lock is stale, and taken
away, when its helper had the name of this one, since a sandbox has one helper at a time, or did not renew it for half
an hour. The server is asked for by a name that whoever made this helper gave one address, and is believed by its
certificate, or by the one host key that the Secret has.

What the server lets in is in no file, argument or variable, like the password. restic asks for S3's key at a port of
the helper's own loopback, as programs do in the containers of AWS, and nobody else is in the helper's network. SSH's is
kept by an ssh-agent, which nobody but root can look into. A crash leaves at the server what restic had stored, and
maybe a lock; what gives the keys ends with the container.
"""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from claude_sandbox.backup.bounds import Watch
from claude_sandbox.backup.gate import Beside
from claude_sandbox.backup.loopback import giving, leading
from claude_sandbox.backup.restic import Heard, Repository, RepositoryError, identity_in, reason_of, said
from claude_sandbox.backup.servers import ACCESS_KEY, CA, KNOWN_HOSTS, SECRET_KEY, SSH_KEY, Server

_ANSWER = 60.0
"""Seconds that the server has to answer at all."""
_FIRST = 120.0
"""Seconds for the first request: restic by itself asks for a quarter of an hour."""
_WAIT = 5.0
"""Seconds until it is tried again."""
_SSH_PORT = 22
_RACE = 2.0
"""Seconds in which another that makes the same repository has shown itself."""
_ROOM = 32 << 10
"""KiB of a server's file system with less of which it is full: what restic stores at a time may not find room in it."""
_SSH = (
    "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null",
    "-o", "UpdateHostKeys=no", "-o", "CheckHostIP=no", "-o", "PreferredAuthentications=publickey", "-o",
    "IdentityFile=none", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8",
)  # fmt: skip


class Elsewhere(Repository):
    """Of this server. `ssh`: the directory with its programs, where that is not on the path."""

    def __init__(
        self, server: Server, credentials: Mapping[str, bytes], password: bytes, cache: str, program: str = "restic",
        ssh: str = "",
    ) -> None:  # fmt: skip
        super().__init__("/", password, cache, program)
        self._server = server
        self._credentials = credentials
        self._patience = 0.0
        self._ssh = ssh
        self._by: Sequence[str] = ()
        """What leads to a server of SFTP."""
        self.location = server.location

    @contextmanager
    def claimed(self, patience: float) -> Iterator[None]:
        """With what the server asks for. Raises RepositoryError where it does not answer, or is another."""
        self._patience = patience
        with self._by_s3() if self._server.kind == "S3" else self._by_ssh():
            yield

    def identity(self) -> str | None:
        """See Repository."""
        try:
            return identity_in(self._run(["cat", "--no-lock", "config"], within=_FIRST).stdout)
        except RepositoryError as error:
            if _says_nothing_is_there(str(error)):
                return None
            raise

    def make(self) -> str:
        """See Repository. Raises RepositoryError also where somebody else made one at the same moment."""
        self._run(["init"])
        # Who looks after other clusters can't be kept out meanwhile. Of two that make one, the keys of both are there.
        time.sleep(_RACE)
        try:
            keys = json.loads(self._run(["key", "list", "--no-lock", "--json"]).stdout)
        except RepositoryError as error:
            # restic took the other's key, which opens nothing.
            if error.reason != "RepositoryDamaged":
                raise
            keys = [None, None]
        if len(keys) > 1:
            raise RepositoryError(
                "RepositoryDamaged",
                "two made the repository at the same moment, and nothing is in it: empty it and begin anew",
            )
        return identity_in(self._run(["cat", "--no-lock", "config"]).stdout)

    def unlock(self) -> None:
        """Take away locks of helpers that are gone."""
        self._run(["unlock"])

    def snapshot_names(self) -> list[str]:
        """See Repository."""
        return self.run("list", "--no-lock", "snapshots").split()

    def _run(
        self,
        arguments: Sequence[str],
        ok: Sequence[int] = (0,),
        within: float | None = None,
        more: Mapping[str, str] | None = None,
        beside: Beside | None = None,
        watch: Watch | None = None,
        heard: Heard | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Wait for others that have it."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return super()._run(arguments, ok, within, more, beside, watch, heard)
            except RepositoryError as error:
                if _says_no_more_than_failure(error) and self._has_no_room():
                    raise RepositoryError("TargetFull", f"the server has no room left: {error}") from None
                # Whatever else it is, to wait does not help.
                if error.reason != "RepositoryBusy" or time.monotonic() > until:
                    raise
            time.sleep(min(_WAIT, self._patience))
            # What is asked then tells by itself where this was refused.
            with suppress(RepositoryError):
                super()._run(["unlock"])

    def _given(self, *names: str) -> list[bytes]:
        missing = [name for name in names if not self._credentials.get(name)]
        if missing:
            raise RepositoryError(
                "CredentialsRefused", f"the Secret with what the server lets in has no {' and no '.join(missing)}"
            )
        return [self._credentials[name] for name in names]

    @contextmanager
    def _by_s3(self) -> Iterator[None]:
        key, secret = (one.strip() for one in self._given(ACCESS_KEY, SECRET_KEY))
        if b"\n" in key + secret:
            raise RepositoryError("CredentialsRefused", "a key of the Secret has more than one line")
        authority = self._credentials.get(CA)
        options = ["-o", "s3.bucket-lookup=path"]
        if authority:
            file = Path(self._cache, CA)
            file.write_bytes(authority)
            options += ["--cacert", str(file)]
        self._options = tuple(options)
        try:
            context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        except (ssl.SSLError, ValueError):
            raise RepositoryError("CredentialsRefused", f"{CA} of the Secret is no certificate") from None
        self._reach(context)
        with giving(key.decode(), secret.decode()) as url, leading((self._server.address, self._server.port)) as way:
            self._environment = {
                "AWS_DEFAULT_REGION": self._server.region, "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
                "HTTPS_PROXY": way,
            }  # fmt: skip
            yield

    @contextmanager
    def _by_ssh(self) -> Iterator[None]:
        key, known = self._given(SSH_KEY, KNOWN_HOSTS)
        hosts = Path(self._cache, KNOWN_HOSTS)
        hosts.write_bytes(known)
        self._reach(None)
        with self._agent(key) as agent:
            server, place = self._server, ["-o", f"UserKnownHostsFile={hosts}"]
            known_as = server.host if server.port == _SSH_PORT else f"[{server.host}]:{server.port}"
            place += ["-o", f"HostKeyAlias={known_as}"]
            more = ["-p", str(server.port), "-l", server.user, server.address, "-s", "sftp"]
            command = [self._program_of("ssh"), *_SSH, *place, *more]
            self._options = ("-o", f"sftp.command={' '.join(command)}")
            self._environment = {"SSH_AUTH_SOCK": agent}
            self._by = command
            self._log_in(command)
            yield

    def _log_in(self, command: Sequence[str]) -> None:
        """Once, for restic does not always tell what ssh says. Raises RepositoryError."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=self._environment,
                text=True, errors="replace", timeout=_ANSWER,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RepositoryError("TargetUnreachable", "the server does not let anybody log in") from None
        if done.returncode:
            reason = reason_of(done.stderr)
            raise RepositoryError("TargetUnreachable" if reason == "BackupFailed" else reason, said(done.stderr))

    def _has_no_room(self) -> bool:
        """Whether the file system of a server of SFTP is full: its protocol has no word for that."""
        if not self._by:
            return False
        try:
            asked = subprocess.run(
                [self._program_of("sftp"), "-q", "-b", "-", "-D", " ".join(self._by)], env=self._environment,
                input=f"df {self._server.path}\n", capture_output=True, check=False, text=True, timeout=_ANSWER,
            )  # fmt: skip
            available = int(asked.stdout.splitlines()[-1].split()[2])
        except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
            return False
        return available < _ROOM

    @contextmanager
    def _agent(self, key: bytes) -> Iterator[str]:
        """One that has the key: where it listens."""
        at = f"{self._cache}/agent"
        Path(at).unlink(missing_ok=True)
        running = subprocess.Popen(
            [self._program_of("ssh-agent"), "-D", "-a", at], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={},
        )  # fmt: skip
        try:
            until = time.monotonic() + _ANSWER
            while not Path(at).exists():
                if running.poll() is not None or time.monotonic() > until:
                    raise RepositoryError("BackupFailed", "ssh-agent does not run")
                time.sleep(0.02)
            added = subprocess.run(
                [self._program_of("ssh-add"), "-q", "-"], input=key.rstrip() + b"\n", capture_output=True, check=False,
                env={"SSH_AUTH_SOCK": at, "SSH_ASKPASS_REQUIRE": "never"}, start_new_session=True,
            )  # fmt: skip
            if added.returncode:
                raise RepositoryError(
                    "CredentialsRefused", f"{SSH_KEY} of the Secret is no private key, or has a passphrase"
                )
            yield at
        finally:
            # It has the key, and nobody else has a use for it.
            running.kill()
            running.wait()

    def _program_of(self, name: str) -> str:
        return shutil.which(name, path=self._ssh or None) or name

    def _reach(self, context: ssl.SSLContext | None) -> None:
        """See that the server answers, and that it is the one that is meant."""
        until = time.monotonic() + min(_ANSWER, max(self._patience, 1.0))
        while True:
            try:
                with socket.create_connection((self._server.address, self._server.port), timeout=_ANSWER / 2) as found:
                    if context is not None:
                        with context.wrap_socket(found, server_hostname=self._server.host):
                            return
                    # An ssh server speaks first (RFC 4253, 4.2); what merely forwards connections takes them, and hangs
                    # up.
                    if not found.recv(4):
                        raise ConnectionResetError("it hung up")
                return
            except ssl.SSLCertVerificationError as error:
                raise RepositoryError(
                    "TargetUnreachable", f"the server's certificate is not believed: {error.verify_message}"
                ) from None
            except OSError as error:
                if time.monotonic() > until:
                    why = error.strerror or str(error)
                    raise RepositoryError("TargetUnreachable", f"the server does not answer: {why}") from None
            time.sleep(1.0)


def _says_nothing_is_there(text: str) -> bool:
    lowered = text.lower()
    if "unable to open config file" not in lowered:
        return False
    return any(sign in lowered for sign in ("key does not exist", "file does not exist", "no such file"))


def _says_no_more_than_failure(error: RepositoryError) -> bool:
    return error.reason == "BackupFailed" and "failure" in str(error).lower()
