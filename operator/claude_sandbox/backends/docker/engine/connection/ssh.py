"""An engine by ssh: each connection is the OpenSSH client, which runs `docker system dial-stdio` on the host.

A pair of sockets lies between, so that connections have time-outs and can be upgraded as those to a socket can; the
SDK's own ssh connections, by paramiko or by a process's pipes, have none.

Theory of operation. An adapter holds the key and the known hosts in files that are on no disk, what ssh said last, and
one pool of connections, each with its process; all go with `close()`, those in use when their calls are done.
Connections are made and used in the threads of calls. Only so many log in at a time, since a server turns others away
by chance. What ssh says on its error output is kept until somebody asks why a connection failed. A crash ends the
sockets, and with them the processes; the files are this process's own.
"""

import re
import shutil
import socket
import subprocess
import threading
from typing import Any

import urllib3
import urllib3.connection
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from docker.transport.unixconn import UnixHTTPAdapter

from claude_sandbox.api.docker_hosts.endpoints import Address
from claude_sandbox.backends.docker.engine.client import AbortableConnection
from claude_sandbox.backends.docker.engine.connection.client_credentials import SshCredentials
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.backends.memory_file import MemoryFile

# Seconds for the client to end by itself once its connection is closed.
_END = 2.0
_LAST_WORDS = 2000
"""Bytes of what ssh said last in which the reason is looked for."""
# A server begins to turn connections away by chance where more than 10 are logging in (MaxStartups of sshd_config(5)).
_LOGINS = 6
_ANY = "any"

_OPTIONS = {
    "BatchMode": "yes",
    # Neither the server's banner nor a hint is to be taken for the client's last words.
    "LogLevel": "ERROR",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "2",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
}


class SshAdapter(UnixHTTPAdapter):
    """Makes connections for requests. To be closed, with all of them."""

    def __init__(self, address: Address, credentials: SshCredentials | None, timeout: int, pool_size: int) -> None:
        program = shutil.which("ssh")
        if program is None:
            raise ConnectError(
                ConnectErrorReason.UNSUPPORTED,
                "where the operator runs there is no ssh client, which ssh:// needs: install OpenSSH's (in Debian"
                " openssh-client), or use tcp:// with mutual TLS",
            )
        super().__init__("http+unix:///unused", timeout, max_pool_size=pool_size)
        contents = () if credentials is None else (_private_key(credentials), credentials.known_hosts)
        self._files = [MemoryFile(content) for content in contents]
        self._words = MemoryFile()
        self._from_secret = credentials is not None
        self._command = _command(program, address, timeout, *(file.path for file in self._files))

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        # One for all URLs: to log in takes half a second.
        with self.pools.lock:
            if (pool := self.pools.get(_ANY)) is None:
                pool = self.pools[_ANY] = _Pool(self._command, self._words, self.timeout, self.max_pool_size)
            return pool

    def error(self) -> ConnectError | None:
        """Why ssh ended, if it has said so since the last time this was asked."""
        return _told(self._words.take(_LAST_WORDS).decode(errors="replace"), self._from_secret)

    def close(self) -> None:
        super().close()
        for file in (*self._files, self._words):
            file.close()


def _private_key(credentials: SshCredentials) -> bytes:
    """The key as ssh reads it. Raises ConnectError where it can't be one: ssh would go without, and be refused."""
    # What was pasted has often lost its last line's end, or got another system's; ssh takes neither.
    key = credentials.private_key.replace(b"\r\n", b"\n").strip() + b"\n"
    try:
        (load_ssh_private_key if b"BEGIN OPENSSH" in key else load_pem_private_key)(key, None)
    except UnsupportedAlgorithm:
        pass  # ssh may know it
    except (ValueError, TypeError):
        raise ConnectError(
            ConnectErrorReason.BAD_CREDENTIALS,
            "ssh-privatekey in the Secret is no private key without a passphrase, as ssh-keygen -N '' makes one",
        ) from None
    return key


def _command(program: str, address: Address, timeout: int, key: str = "", known_hosts: str = "") -> list[str]:
    options = _OPTIONS | {"ConnectTimeout": f"{timeout}", "Port": f"{address.port}"}
    if address.user is not None:
        options["User"] = address.user
    configuration = []
    if key:
        # Nothing of the user's own: neither configuration, nor keys, nor known hosts, nor an agent.
        configuration = ["-F", "none"]
        options |= {
            "IdentityFile": key,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "none",
        }
    given = [argument for name, value in options.items() for argument in ("-o", f"{name}={value}")]
    return [program, "-T", *configuration, *given, "--", address.host, "docker system dial-stdio"]


class _SshConnection(urllib3.connection.HTTPConnection):
    """One ssh client, and the socket that it reads from and writes to.

    It has logged in when its first answer comes; until then it takes one of the `logins`.
    """

    def __init__(self, command: list[str], words: MemoryFile, timeout: int, logins: threading.BoundedSemaphore) -> None:
        super().__init__("localhost", timeout=timeout)
        self._command = command
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._logins = logins
        self._logging_in = False

    def connect(self) -> None:
        self._logging_in = self._logins.acquire(timeout=self.timeout)
        if not self._logging_in:
            raise TimeoutError
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            self._process = subprocess.Popen(
                self._command, stdin=end, stdout=end, stderr=self._words.descriptor, start_new_session=True
            )
        ours.settimeout(self.timeout)
        self.sock = ours

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        finally:
            self._logged_in()

    def close(self) -> None:
        super().close()
        self._logged_in()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _logged_in(self) -> None:
        if self._logging_in:
            self._logging_in = False
            self._logins.release()


class _Connection(AbortableConnection, _SshConnection):
    pass


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, command: list[str], words: MemoryFile, timeout: int, maxsize: int) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=maxsize)
        self._command = command
        self._words = words
        self._seconds = timeout
        self._logins = threading.BoundedSemaphore(_LOGINS)

    def _new_conn(self) -> Any:
        return _Connection(self._command, self._words, self._seconds, self._logins)


# In the order in which they count: ssh says more than one of them at a time. Shells have words of their own for a
# program that is missing; an old docker client quotes the command that it does not know.
_MEANINGS = (
    (
        "remote host identification has changed",
        ConnectErrorReason.UNTRUSTED,
        "the host shows another key than {known} has for it, so it may be somebody else: only if its key was changed on"
        " purpose, replace that line with what `ssh-keyscan -p PORT HOST` prints",
    ),
    (
        "host key verification failed",
        ConnectErrorReason.UNTRUSTED,
        "{known} has no valid key of the host: add what `ssh-keyscan -p PORT HOST` prints, once that is known to be the"
        " host's own",
    ),
    ("load key ", ConnectErrorReason.BAD_CREDENTIALS, "ssh can't read {key}"),
    (
        r"permission denied \(",
        ConnectErrorReason.DENIED,
        "the ssh server refuses {key}: add its public half to authorized_keys of the user that the endpoint names",
    ),
    (
        "docker: (?:command )?not found|not found: docker|unknown command:? docker|system dial-stdio",
        ConnectErrorReason.UNSUPPORTED,
        "the host has no docker client (18.09 or newer), which ssh:// needs there",
    ),
    (
        "permission denied",
        ConnectErrorReason.DENIED,
        "the ssh user may not open the host's Docker socket: add it to the group docker",
    ),
    (
        "raw stream connection",
        ConnectErrorReason.UNREACHABLE,
        "the host answers by ssh, but no Docker Engine does there: is dockerd running?",
    ),
    (
        "no user exists for uid",
        ConnectErrorReason.UNSUPPORTED,
        "ssh needs a name for the operator's own user in /etc/passwd",
    ),
    ("could not resolve hostname", ConnectErrorReason.UNREACHABLE, "the host's name is not known to the resolver"),
    (r"\S", ConnectErrorReason.UNREACHABLE, "no connection by ssh: the host does not answer, or ended it"),
)
_OF_SECRET = {"known": "known_hosts in the Secret", "key": "ssh-privatekey in the Secret"}
_OF_USER = {"known": "the known_hosts of the operator's own user", "key": "the key of the operator's own user"}


def _told(words: str, from_secret: bool) -> ConnectError | None:
    """What ssh's last words mean, or those of the docker client that it ran on a host that had proved to be itself.

    Without the host's name, since who has a sandbox there may read it too.
    """
    for pattern, reason, message in _MEANINGS:
        if re.search(pattern, words, re.IGNORECASE):
            return ConnectError(reason, message.format(**(_OF_SECRET if from_secret else _OF_USER)))
    return None
