"""Whose a connection is, and of which sandbox: decided by the session object, which the API server let somebody make.

Theory of operation. It holds nothing; what decides is in the API server, read anew for each connection. A session is
claimed by a write of its status, with its resourceVersion as a precondition: of two connections with the same secret
one is the first, whichever replica it comes to, and after a restart of the operator, too. A follower's write is
refused, so it claims nothing. From the claim on the object is deleted whatever happens: by who admitted it when the
session ends, or, after a crash, by `tidying`.

Always true: no sandbox is meant but one in the session's own namespace, with the UID that the session names; who does
not have the secret learns nothing, not even whether there is a session of the name.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api import meta
from claude_sandbox.api.kinds.sessions import UNUSED, ClaudeSandboxSessionSpec, Opening
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.machinery.election import NotLeadingError
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, host_of, on_docker
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SESSIONS

_AGAIN = "Try again: each command makes a session of its own, which is good for two minutes and for one connection."


class Refused(Exception):  # noqa: N818 - it is an answer
    """The session is not opened: why, and what may help, for who asked."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Admitted:
    """A session that is this connection's, and no other's any more."""

    namespace: str
    session: str
    uid: str
    """Of the session."""
    sandbox: Raw
    """As last seen."""
    host: str
    """The DockerHost on which it is placed."""

    @property
    def identity(self) -> Identity:
        """The sandbox's."""
        metadata = self.sandbox["metadata"]
        return Identity(metadata["namespace"], metadata["name"], metadata["uid"])


class Admission:
    """Decides it for all connections. `clock` is compared with the API server's."""

    def __init__(
        self, api: Api, sandboxes: Sandboxes, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._api = api
        self._sandboxes = sandboxes
        self._clock = clock

    async def admit(self, opening: Opening) -> Admitted:
        """Claim the session. Raises Refused."""
        live = await self._session(opening)
        # First the secret: everything that is refused after it tells something.
        spec = _spec_of(live, opening)
        metadata = live["metadata"]
        if (live.get("status") or {}).get("openedAt"):
            raise Refused("The session was used already.", _AGAIN)
        # A secret that was left behind somewhere is of no use for long.
        if (self._clock() - datetime.fromisoformat(metadata["creationTimestamp"])).total_seconds() > UNUSED:
            raise Refused(f"The session is older than {UNUSED:.0f} s.", _AGAIN)
        raw = self._sandbox(opening.namespace, spec)
        host = host_of(raw)
        if host is None:
            raise Refused("The sandbox was not placed on a Docker host yet.", "kubectl describe says why.")
        # Last, so that what is refused for another reason may be tried again with the same session.
        await self._claim(opening, metadata)
        return Admitted(opening.namespace, opening.session, metadata["uid"], raw, host)

    async def ended(self, admitted: Admitted) -> str:
        """Why a session that is open has to end now; an empty text where it may go on."""
        identity = admitted.identity
        now = self._sandboxes.get(Key(identity.namespace, identity.name))
        if now is None or now["metadata"]["uid"] != identity.uid:
            return "the sandbox is gone"
        if host_of(now) != admitted.host:
            return "the sandbox was moved to another Docker host"
        try:
            live = await self._api.get(SESSIONS, admitted.session, admitted.namespace, metadata_only=True)
        except ApiError as error:
            # An API server that is away for a moment ends nothing.
            return "the session was deleted" if error.is_not_found else ""
        return "" if live["metadata"]["uid"] == admitted.uid else "the session was deleted"

    async def _session(self, opening: Opening) -> Mapping[str, Any]:
        try:
            return await self._api.get(SESSIONS, opening.session, opening.namespace)
        except ApiError as error:
            if error.is_not_found:
                raise _unknown() from None
            raise Refused("The operator can't read sessions now.", "Try again; then see the operator's log.") from None

    def _sandbox(self, namespace: str, spec: ClaudeSandboxSessionSpec) -> Raw:
        raw = self._sandboxes.get(Key(namespace, spec.sandbox))
        if raw is None or raw["metadata"]["uid"] != spec.sandbox_uid:
            raise Refused(
                f"There is no ClaudeSandbox {namespace}/{spec.sandbox} with the UID that the session names, as far as"
                " the operator knows.",
                f"See that the operator looks after the namespace: kubectl describe {meta.SINGULAR} {spec.sandbox}",
            )
        if not on_docker(raw):
            raise Refused(
                f"ClaudeSandbox {namespace}/{spec.sandbox} is on Kubernetes.", "Sessions there go by pods/exec."
            )
        if raw["metadata"].get("deletionTimestamp"):
            raise Refused(f"ClaudeSandbox {namespace}/{spec.sandbox} is being deleted.", "Make another sandbox.")
        return raw

    async def _claim(self, opening: Opening, metadata: Mapping[str, Any]) -> None:
        status = {"openedAt": self._clock().isoformat(), "observedGeneration": metadata.get("generation", 1)}
        try:
            await self._api.patch_status(
                SESSIONS, opening.session, opening.namespace, status,
                uid=metadata["uid"], resource_version=metadata["resourceVersion"],
            )  # fmt: skip
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                raise Refused("The session was used already.", _AGAIN) from None
            raise Refused("The operator can't open sessions now.", "Try again; see the operator's log.") from None
        except NotLeadingError:
            raise Refused("This replica of the operator does not lead any more.", "Try again.") from None


def _spec_of(live: Mapping[str, Any], opening: Opening) -> ClaudeSandboxSessionSpec:
    """Raises Refused where the secret is another."""
    try:
        spec = ClaudeSandboxSessionSpec.model_validate(live.get("spec"))
    except ValidationError:
        raise _unknown() from None
    digest = hashlib.sha256(opening.key.encode()).hexdigest()
    # In a time that tells nothing of how much of it was right.
    if not hmac.compare_digest(digest, spec.key_digest):
        raise _unknown()
    return spec


def _unknown() -> Refused:
    return Refused("There is no such session, or its secret is another.", _AGAIN)
