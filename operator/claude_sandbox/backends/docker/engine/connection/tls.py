"""Mutual TLS with an engine: the keys are in this process's memory only."""

import contextlib
import socket
import ssl
from typing import Any

from claude_sandbox.api.docker_hosts.endpoints import Address
from claude_sandbox.backends.docker.engine.client import TcpAdapter
from claude_sandbox.backends.docker.engine.connection.client_credentials import TlsCredentials
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.backends.memory_file import MemoryFile


def context_of(credentials: TlsCredentials) -> ssl.SSLContext:
    """Trusts the authority of the Secret and no other, and shows the Secret's certificate. Raises ConnectError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=credentials.ca.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ConnectError(ConnectErrorReason.BAD_CREDENTIALS, "ca.crt is no certificate in PEM") from None
    with MemoryFile(credentials.certificate) as certificate, MemoryFile(credentials.key) as key:
        try:
            # A key with a passphrase must fail, not ask a terminal.
            context.load_cert_chain(certificate.path, key.path, password=lambda: "")
        except (ssl.SSLError, ValueError, OSError):
            message = "tls.crt and tls.key are not a certificate and its own key, in PEM and without a passphrase"
            raise ConnectError(ConnectErrorReason.BAD_CREDENTIALS, message) from None
    return context


def handshake(address: Address, credentials: TlsCredentials, timeout: float) -> None:
    """Raise what the engine has to say of our certificate: an ssl.SSLError, or an OSError.

    It closes the connection as soon as it has said so, and who is still sending then hears of a broken connection
    only. Here what it said is read although sending failed; with TLS 1.2, since a 1.3 client is done before that.
    """
    context = context_of(credentials)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=address.host)
    with socket.create_connection((address.host, address.port), timeout) as plain:
        while not _shaken(tls):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                plain.sendall(outgoing.read())
            if received := plain.recv(65536):
                incoming.write(received)
            else:
                incoming.write_eof()


def _shaken(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


class TlsAdapter(TcpAdapter):
    """Connects with the given context, whatever else requests has been told about certificates."""

    def __init__(self, context: ssl.SSLContext, pool_size: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add nothing: requests would have public authorities trusted as well."""
        conn.cert_reqs = "CERT_REQUIRED"
