"""Where the API server is and how to prove who we are: from a kubeconfig or from inside the cluster.

Theory of operation. What is found is frozen but for the value of one header, which `Authorization` holds. It is read
again when it is TOKEN_MAX_AGE seconds old and used, and got anew when the server refused it, REFRESH_RETRY seconds
apart at most. One task at a time does so, in a thread, since a file or a credential plugin blocks; the others wait for
it, and who was refused with an older value than there is now simply tries again. Where it fails, the old value stays in
use: it may still be good. Used from one event loop. A crash leaves nothing: inline keys are in files only while they
are read.
"""

import asyncio
import ipaddress
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes.client import Configuration
from kubernetes.config import ConfigException, list_kube_config_contexts, load_kube_config
from kubernetes.config.incluster_config import InClusterConfigLoader

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet replaces a bound token when 20% of its life is left, and client-go re-reads the file every minute.
TOKEN_MAX_AGE = 45.0
REFRESH_RETRY = 10.0


class CredentialsError(Exception):
    """No usable credentials; the message names the place that was looked at and the remedy."""


class Authorization:
    """The value of the Authorization header, kept fresh. It is never printed.

    `refresh(force)` returns the value to use now and may block (it runs in a thread): with `force` false it does
    what is cheap (a file is read, a plugin runs only when its credential has expired), with `force` true it gets a
    new one whatever the old one says.
    """

    def __init__(self, value: str | None, refresh: Callable[[bool], str | None]) -> None:
        self._value = value
        self._refresh = refresh
        self._lock = asyncio.Lock()
        self._checked = time.monotonic()
        self._forced = float("-inf")

    def __repr__(self) -> str:
        return f"<Authorization {'present' if self._value else 'absent'}>"

    @property
    def value(self) -> str | None:
        """The value as last read; `fresh()` says whether it may be used without `renew()`."""
        return self._value

    def fresh(self) -> bool:
        """Whether the value was checked less than 45 seconds ago."""
        return time.monotonic() - self._checked < TOKEN_MAX_AGE

    async def renew(self) -> str | None:
        """Check the source again, cheaply. A failure is logged and the old value stays in use."""
        async with self._lock:
            # Asked again: of all that waited for the lock, the first has done it.
            if not self.fresh():
                await self._run(force=False)
        return self._value

    async def refused(self, value: str | None) -> bool:
        """The server answered 401 to `value`: get another, at most every 10 seconds; whether to try again."""
        async with self._lock:
            if self._value != value:
                return True  # someone else has got one meanwhile
            if time.monotonic() - self._forced < REFRESH_RETRY:
                return False
            # Before the attempt: one that fails counts too.
            self._forced = time.monotonic()
            return await self._run(force=True)

    async def _run(self, *, force: bool) -> bool:
        try:
            self._value = await asyncio.to_thread(self._refresh, force)
        except Exception as error:  # noqa: BLE001 (a plugin may fail in any way; the old value may still be good)
            logger.warning("cannot refresh the API server's credentials: %s", type(error).__name__)
            # Fresh for that long only, but so long: else each request until then would try it, in a row.
            self._checked = time.monotonic() - TOKEN_MAX_AGE + REFRESH_RETRY
            return False
        self._checked = time.monotonic()
        return True


@dataclass(frozen=True)
class Credentials:
    """Everything needed to open a connection. Holds secrets, prints none."""

    server: str
    """Base URL, without a trailing slash."""
    authorization: Authorization
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    """None for a plain http:// server."""
    server_name: str | None = None
    """The name to expect in the server's certificate, where it isn't the host of `server`."""
    proxy: str | None = field(default=None, repr=False)
    namespace: str = "default"
    """The namespace of the kubeconfig's context, or of the pod."""


def load(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Credentials from `kubeconfig` where given, else from the pod, else from $KUBECONFIG or ~/.kube/config.

    Blocks: reads files and may run a credential plugin. Raises `CredentialsError`.
    """
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return from_pod()
    return from_kubeconfig(kubeconfig, context)


def from_pod(directory: Path = SERVICE_ACCOUNT_DIR, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Credentials of the pod's ServiceAccount. The token's file is read again every 45 seconds while in use.

    Raises `CredentialsError` where the token, the CA or the API server's address is missing.
    """

    def configuration() -> Configuration:
        result = Configuration()
        loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token_filename=str(directory / "token"),
            cert_filename=str(directory / "ca.crt"),
            # `refresh` below reads the token, and the authority too, and does so in a thread.
            try_refresh_token=False,
            environ=environ,
        )
        loader.load_and_set(result)  # type: ignore[no-untyped-call]
        return result

    try:
        first = configuration()
    except (ConfigException, OSError) as error:
        raise CredentialsError(
            f"no credentials in {directory}: {error}. Give a kubeconfig, or let the pod have its ServiceAccount's"
            " token (automountServiceAccountToken: true)"
        ) from None
    context = _tls(first)

    def refresh(_force: bool) -> str | None:
        now = configuration()
        if context is not None:
            # A cluster's authority may be replaced while we run. What was trusted before stays so until the next start.
            context.load_verify_locations(now.ssl_ca_cert)
        return _header(now)

    namespace = directory / "namespace"
    return Credentials(
        server=first.host.rstrip("/"),
        authorization=Authorization(_header(first), refresh),
        ssl_context=context,
        proxy=_proxy(first),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )


def from_kubeconfig(path: str | None = None, context: str | None = None) -> Credentials:
    """Credentials of a context (the current one by default) of a kubeconfig ($KUBECONFIG or ~/.kube/config).

    Credential plugins run when their credential expires, and again when the server answers 401.
    Raises `CredentialsError`.
    """
    path = path or os.environ.get("KUBECONFIG") or "~/.kube/config"

    def configuration(tls: ssl.SSLContext | None) -> tuple[Configuration, ssl.SSLContext | None]:
        # The library writes inline keys to files; they live only until the SSL context has read them.
        with tempfile.TemporaryDirectory(prefix="claude-sandbox-") as scratch:
            result = Configuration()
            load_kube_config(  # type: ignore[no-untyped-call]
                path, context, result, persist_config=False, temp_file_path=scratch
            )
            return result, _tls(result, tls)

    where = f"kubeconfig {path}" + (f", context {context}" if context else "")
    try:
        current, tls = configuration(None)
        namespace = _namespace(path, context)
    except (ConfigException, OSError, ssl.SSLError, ValueError, TypeError, KeyError) as error:
        raise CredentialsError(
            f"cannot use {where}: {_why(error, path)}. Check it with: kubectl --kubeconfig {path} config view --minify"
        ) from None
    if tls is not None and not (_header(current) or current.cert_file):
        # The library only logs it when a credential plugin fails, and would go on as system:anonymous.
        raise CredentialsError(
            f"{where} gives no credential. Log in again, or check that its user has a certificate, a token"
            " or a credential plugin that works"
        )

    def refresh(force: bool) -> str | None:
        nonlocal current
        if force:
            # Into the same context: the session's connections are made with that one.
            current, _ = configuration(tls)
        elif current.refresh_api_key_hook is not None:
            current.refresh_api_key_hook(current)
        return _header(current)

    return Credentials(
        server=current.host.rstrip("/"),
        authorization=Authorization(_header(current), refresh),
        ssl_context=tls,
        server_name=current.tls_server_name,
        proxy=_proxy(current),
        namespace=namespace,
    )


def _why(error: Exception, path: str) -> str:
    """What is wrong with it. An error that may quote the file, and so a key, is not repeated."""
    files = [Path(one).expanduser() for one in path.split(os.pathsep) if one]
    if not any(one.exists() for one in files):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or path}: {error.strerror}"
    if isinstance(error, ConfigException):
        # The library's words begin all alike, some end with a full stop.
        return str(error).removeprefix("Invalid kube-config file. ").rstrip(".")
    return f"it is no kubeconfig ({type(error).__name__})"


def _namespace(path: str, context: str | None) -> str:
    contexts, active = list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
    if context is not None:
        active = next(c for c in contexts if c["name"] == context)
    return str(active["context"].get("namespace") or "default")


def _header(configuration: Configuration) -> str | None:
    value: str | None = configuration.api_key.get("BearerToken")
    return value.strip() if value else None


def _tls(configuration: Configuration, context: ssl.SSLContext | None = None) -> ssl.SSLContext | None:
    """An SSL context, or the given one with the certificates read again; None for a plain http:// server."""
    if not configuration.host.startswith("https:"):
        return None
    if context is None:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        # Since Python 3.13 the default refuses CAs without an Authority Key Identifier, which many clusters have.
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if not configuration.verify_ssl:
            logger.warning("the kubeconfig says insecure-skip-tls-verify: the API server's identity is not checked")
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _proxy(configuration: Configuration) -> str | None:
    host = urlsplit(configuration.host).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    # As Go does it with the environment's proxy, and so kubectl.
    if not configuration.proxy or loopback:
        return None
    exempt = [name.strip().lstrip(".") for name in (configuration.no_proxy or "").split(",") if name.strip()]
    if any(name in ("*", host) or host.endswith("." + name) for name in exempt):
        return None
    return str(configuration.proxy)
