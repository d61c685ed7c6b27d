"""Why an engine can't be used, told from what the libraries below raise.

Messages are of our own making: those of the libraries quote URLs, headers and file names.
"""

import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum

import docker.errors
import requests.exceptions
import urllib3.exceptions

from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.docker.engine.client import UntrustedAnswerError

UNREADABLE = (AttributeError, LookupError, TypeError, RecursionError)
"""What reading a document raises that is of another shape than an engine's, or nested deeper than any."""


class ConnectErrorReason(StrEnum):
    """Why an engine can't be used. Only the first two pass by themselves."""

    UNREACHABLE = "Unreachable"
    """Nobody answers, or not in time."""
    SLOW = "Slow"
    """It answers when it is asked whether it is there, and not when it is asked for work."""
    DENIED = "Denied"
    """The socket, the engine or the ssh server refuses the operator."""
    UNTRUSTED = "Untrusted"
    """Who answers could not prove to be the host."""
    UNSUPPORTED = "Unsupported"
    """It is no Docker Engine that sandboxes can run on."""
    BAD_CREDENTIALS = "BadCredentials"
    """What the operator is to connect with is no certificate or key."""


class ConnectError(Exception):
    """An engine can't be used. The message names no secret, and says what to do where that is known."""

    def __init__(self, reason: ConnectErrorReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def passes(self) -> bool:
        """Whether it may pass without anybody doing anything."""
        return self.reason in (ConnectErrorReason.UNREACHABLE, ConnectErrorReason.SLOW)


def connect_error_of(error: BaseException, seconds: float) -> ConnectError:
    """What a failed request means. `seconds`: how long it was allowed to wait."""
    if isinstance(error, ConnectError):
        return error
    for cause in _causes(error):
        if isinstance(cause, docker.errors.APIError):
            return _refused(cause)
        if isinstance(cause, UntrustedAnswerError):
            return ConnectError(ConnectErrorReason.UNSUPPORTED, f"what answers is no Docker Engine: {cause}")
        if found := _from_the_system(cause, seconds):
            return found
    if isinstance(error, UNREADABLE):
        return ConnectError(ConnectErrorReason.UNSUPPORTED, f"what answers is no Docker Engine: {mishap(error)}")
    return ConnectError(ConnectErrorReason.UNREACHABLE, "the connection broke before the engine had answered")


def _from_the_system(cause: BaseException, seconds: float) -> ConnectError | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return ConnectError(
                ConnectErrorReason.UNTRUSTED,
                f"the engine's certificate is not accepted ({cause.verify_message}): ca.crt has to be of the authority"
                " that signed it, and the certificate of the endpoint's own host name",
            )
        case ssl.SSLEOFError():
            return ConnectError(ConnectErrorReason.UNREACHABLE, "the connection ended before the engine had answered")
        case ssl.SSLError() if "ALERT" in (cause.reason or ""):
            return ConnectError(
                ConnectErrorReason.DENIED,
                "the engine refuses the operator's certificate: tls.crt has to be signed by the authority that dockerd"
                " --tlscacert names",
            )
        case ssl.SSLError():
            return ConnectError(
                ConnectErrorReason.UNTRUSTED, "no TLS connection could be made: does the engine speak TLS there?"
            )
        case TimeoutError() | requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError():
            return ConnectError(ConnectErrorReason.UNREACHABLE, f"the engine did not answer within {seconds:.0f} s")
        case PermissionError():
            return ConnectError(
                ConnectErrorReason.DENIED,
                "the engine's socket may not be opened: that takes root, or a user of the socket's group (docker)",
            )
        case FileNotFoundError():
            return ConnectError(
                ConnectErrorReason.UNREACHABLE,
                "there is no socket at that path: is Docker installed, and dockerd running?",
            )
        case socket.gaierror():
            return ConnectError(ConnectErrorReason.UNREACHABLE, "the host's name is not known to the resolver")
        case ConnectionRefusedError():
            return ConnectError(ConnectErrorReason.UNREACHABLE, "nobody listens there: is dockerd running?")
        # What `requests` raises is an OSError as well, without a word of the system's.
        case OSError() if cause.strerror and not isinstance(cause, requests.exceptions.RequestException):
            return ConnectError(ConnectErrorReason.UNREACHABLE, f"the connection failed: {cause.strerror}")
    return None


def _refused(error: docker.errors.APIError) -> ConnectError:
    status = error.status_code
    if status in (401, 403):
        return ConnectError(ConnectErrorReason.DENIED, f"the engine refuses the operator (HTTP {status})")
    # As servers made with Go answer who does not speak TLS with one that wants it.
    if status == 400 and "HTTPS server" in str(error.explanation):
        return ConnectError(
            ConnectErrorReason.UNTRUSTED, "the engine wants TLS: name a Secret in spec.credentialsSecretRef"
        )
    if status is not None and status >= 500:
        return ConnectError(ConnectErrorReason.UNREACHABLE, f"the engine has an error of its own (HTTP {status})")
    return ConnectError(ConnectErrorReason.UNSUPPORTED, f"what answers is no Docker Engine (HTTP {status})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it came from, the innermost first: that one knows best."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or one in found:
            continue
        found.append(one)
        # urllib3 and requests keep what they wrap in their arguments.
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return reversed(found)
