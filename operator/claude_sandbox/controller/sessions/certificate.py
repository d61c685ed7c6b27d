"""The certificate of the sessions' port: one that is given in files, or one of this process's own.

Theory of operation. It holds the TLS context, when its certificate ends, and a digest of the files that it is of. Files
that were changed are loaded into the same context, so that whoever connects then gets the new one and no session ends;
what can't be loaded leaves the one before in place, and its end says how long that goes on well. One of its own is made
anew in time. Called once at the start, and then by one task of the event loop each EVERY seconds. A crash leaves
nothing.
"""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle, good_until, renewed
from claude_sandbox.backends.memory_file import MemoryFile

logger = logging.getLogger(__name__)

EVERY = 600.0
"""Seconds between two looks at the files."""
_NAME = "claude-sandbox-sessions"


class Certificate:
    """`files`: of the certificate and of its key; None: one is made. Raises OSError and ValueError for what is none."""

    def __init__(self, files: tuple[str, str] | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._files = files
        self._now = now
        self._loaded = b""
        self._own: Bundle | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.ends: datetime
        """When it ends, were it not exchanged until then."""
        self._load()

    async def follow(self) -> None:
        """Load what was changed, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """Load what was changed, or is to be renewed. What can't be leaves what there is."""
        try:
            self._load()
        except (OSError, ValueError) as error:
            logger.warning("the certificate of the sessions' port can't be loaded anew: %s", mishap(error))

    def _load(self) -> None:
        if self._files is None:
            self._make()
            return
        # Read each time, and not only where the time of change differs: a mounted Secret is exchanged by links.
        certificate, key = (Path(one).read_bytes() for one in self._files)
        found = hashlib.sha256(certificate + b"\0" + key).digest()
        if found == self._loaded:
            return
        ends = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(certificate))
        # In a context of its own first: a pair that does not belong together must not be half in the one that is used.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
        self.context.load_cert_chain(*self._files)
        self._loaded, self.ends = found, ends

    def _make(self) -> None:
        """One that nobody has to believe: the API server's proxy, the way to it, believes any."""
        if self._own is not None and self._now() < good_until(self._own):
            return
        self._own = renewed(None, _NAME, self._now())
        with MemoryFile(f"{self._own.certificate}{self._own.key}".encode()) as pair:
            self.context.load_cert_chain(pair.path)
        self.ends = x509.load_pem_x509_certificate(self._own.certificate.encode()).not_valid_after_utc
