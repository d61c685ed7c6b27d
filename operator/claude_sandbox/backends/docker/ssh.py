"""An engine by ssh: each connection is the OpenSSH client, which runs `docker system dial-stdio` on the host.

A pair of sockets lies between, so that connections have time-outs and can be upgraded as those to a socket can; the
SDK's own ssh connections, by paramiko or by a process's pipes, have none.
"""

import shutil
import socket
import subprocess
from typing import Any

import urllib3
import urllib3.connection
from docker.transport.unixconn import UnixHTTPAdapter

from claude_sandbox.api.endpoints import Address
from claude_sandbox.backends.docker.material import SshMaterial
from claude_sandbox.backends.docker.memory_file import MemoryFile
from claude_sandbox.backends.docker.trouble import ConnectError, Trouble

# Seconds for the client to end by itself once its connection is closed.
_END = 2.0
_LAST_WORDS = 2000
_ANY = "any"

_OPTIONS = {
    "BatchMode": "yes",
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

    def __init__(self, address: Address, material: SshMaterial | None, timeout: int, pool_size: int) -> None:
        program = shutil.which("ssh")
        if program is None:
            raise ConnectError(
                Trouble.UNSUPPORTED, "the operator's machine or image has no ssh client: install OpenSSH's"
            )
        super().__init__("http+unix:///unused", timeout, max_pool_size=pool_size)
        self._files = [] if material is None else [MemoryFile(material.private_key), MemoryFile(material.known_hosts)]
        self._words = MemoryFile()
        self._command = _command(program, address, timeout, *(file.path for file in self._files))

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        # One for all URLs: to log in takes half a second.
        with self.pools.lock:
            if (pool := self.pools.get(_ANY)) is None:
                pool = self.pools[_ANY] = _Pool(self._command, self._words, self.timeout, self.max_pool_size)
            return pool

    def trouble(self) -> ConnectError | None:
        """Why ssh ended, if it has said so since the last time this was asked."""
        return _told(self._words.take(_LAST_WORDS).decode(errors="replace"))

    def close(self) -> None:
        super().close()
        for file in (*self._files, self._words):
            file.close()


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


class _Connection(urllib3.connection.HTTPConnection):
    """One ssh client, and the socket that it reads from and writes to."""

    def __init__(self, command: list[str], words: MemoryFile, timeout: int) -> None:
        super().__init__("localhost", timeout=timeout)
        self._command = command
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            self._process = subprocess.Popen(
                self._command, stdin=end, stdout=end, stderr=self._words.descriptor, start_new_session=True
            )
        ours.settimeout(self.timeout)
        self.sock = ours

    def close(self) -> None:
        super().close()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, command: list[str], words: MemoryFile, timeout: int, maxsize: int) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=maxsize)
        self._command = command
        self._words = words
        self._seconds = timeout

    def _new_conn(self) -> Any:
        return _Connection(self._command, self._words, self._seconds)


def _told(words: str) -> ConnectError | None:
    """What the client's last words mean. Its own, not the server's, decide: a banner can't pretend."""
    if "Host key verification failed" in words or "REMOTE HOST IDENTIFICATION HAS CHANGED" in words:
        message = "the host's key is not the one in known_hosts: see with ssh-keyscan whether it was changed on purpose"
        return ConnectError(Trouble.UNTRUSTED, message)
    if "Permission denied (" in words:
        return ConnectError(
            Trouble.DENIED,
            "the ssh server refuses the operator's key: add its public half to the user's authorized_keys",
        )
    if "docker: not found" in words or "docker: command not found" in words or "system dial-stdio" in words:
        return ConnectError(
            Trouble.UNSUPPORTED, "the host has no docker client (18.09 or newer), which ssh:// needs there"
        )
    if "permission denied while trying to connect" in words.lower():
        return ConnectError(
            Trouble.DENIED, "the ssh user may not open the host's Docker socket: add it to the group docker"
        )
    if "No user exists for uid" in words:
        return ConnectError(Trouble.UNSUPPORTED, "ssh needs a name for the operator's own user in /etc/passwd")
    if words.strip():
        return ConnectError(Trouble.UNREACHABLE, "no connection by ssh: the host does not answer, or ended it")
    return None
