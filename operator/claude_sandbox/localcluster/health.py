"""Whether a component answers that it is well, asked over TLS with the cluster's own trust."""

import http.client
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.components import log_file, running
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.pki.pki import Files

# Seconds for one question; a healthy component on the same machine answers within milliseconds.
_PATIENCE = 5.0
_LOG_LINES = 12


@dataclass(frozen=True)
class Probe:
    """A health endpoint: where it is, the authority that vouches for it, and who asks."""

    host: str
    port: int
    path: str
    ca: Path
    client: Files

    def __call__(self) -> bool:
        """Whether the endpoint answers 200 now."""
        return self.ask() == http.client.OK

    def ask(self) -> int | None:
        """The status code of the endpoint's answer, or None where there is no answer that can be trusted."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.load_cert_chain(self.client.certificate, self.client.key)
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=_PATIENCE, context=context)
            try:
                connection.request("GET", self.path)
                return connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            # ssl.SSLError is an OSError, and so is a missing file.
            return None


def answers_ok(host: str, port: int, path: str) -> bool:
    """Whether an endpoint without TLS answers 200 now."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def await_healthy(layout: Layout, name: str, probe: Callable[[], bool], seconds: float) -> None:
    """Wait until the component is well.

    Raises LocalClusterError, with the end of its log, where it ends or is not well after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not probe():
        if running(layout, name) is None:
            raise _failure(layout, name, f"{name} ended at its start")
        if time.monotonic() > deadline:
            raise _failure(layout, name, f"{name} was not ready within {seconds:.0f} s")
        time.sleep(0.05)


def _failure(layout: Layout, name: str, what: str) -> LocalClusterError:
    log = log_file(layout, name)
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.exists() else []
    return LocalClusterError(
        "\n".join([f"{what}. The end of {log}:", *(f"  {line}" for line in lines)]),
        f"Mend what the log names and run `claude-sandbox cluster up --name {layout.name}` again, "
        f"or begin afresh after `claude-sandbox cluster down --name {layout.name}`.",
    )
