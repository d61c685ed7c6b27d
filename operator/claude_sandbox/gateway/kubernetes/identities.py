"""Which sandbox presents a token: the one whose status names the pod that the token is bound to.

Theory of operation: holds the cluster's keys, fetched now and then and, at a bounded pace, when a token names one that
is not known; the tokens that were verified, by their digests, until they end or the keys change; which pod is whose;
and how many tokens each address had verified in vain, so that who makes tokens up takes nobody else's time. What was
verified before is known whatever else came from its address.
A token says for certain whose pod it was made for. Whether that pod is a sandbox's is looked up each time, in what the
API server tells of the sandboxes: with the sandbox, or its pod, the identity is gone at once, whatever the token says.
A crash leaves nothing.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.identity import IdentityError
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError
from claude_sandbox.gateway.kubernetes.contact import Contact
from claude_sandbox.gateway.kubernetes.declared import Declared, Pod
from claude_sandbox.gateway.kubernetes.tokens import BoundPod, Keys, TokenError, UnknownKeyError, read_keys, verify
from claude_sandbox.gateway.shares import Attempts

REFRESH = 300.0
"""Seconds between two looks at the keys: one that is withdrawn is not believed for longer."""
UNKNOWN_PACE = 5.0
"""Seconds between two looks that tokens of unknown keys bring about."""
WRONG_A_MINUTE = 120
"""Tokens a minute that one address may have verified in vain: to verify one takes some 0.1 ms."""
_CACHED = 4096
"""Tokens that need not be verified again; of more the oldest is forgotten."""


class ClusterKeys:
    """The keys of the cluster's tokens. `keys`: None before they are known."""

    def __init__(
        self, api: ApiServer, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.keys: Keys | None = None
        self.contact = Contact()
        self._api = api
        self._changed = changed
        self._clock = clock
        self._fetching: asyncio.Task[None] | None = None
        self._not_before = float("-inf")

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            try:
                await self._fetch()
                wait = REFRESH
            except ApiServerError as error:
                wait = self.contact.failed(str(error))
            await asyncio.sleep(wait)

    async def look_again(self) -> None:
        """Fetch them because one is not known; not again within `UNKNOWN_PACE`. All who ask meanwhile wait for one, and
        none of them longer than that."""
        if self._fetching is None:
            if self._clock() < self._not_before:
                return
            # By the attempt, not by its answer: tokens of made-up keys can't have the API server asked without end.
            self._not_before = self._clock() + UNKNOWN_PACE
            self._fetching = asyncio.create_task(self._try())
        with suppress(TimeoutError):
            async with asyncio.timeout(UNKNOWN_PACE):
                await asyncio.shield(self._fetching)

    async def _try(self) -> None:
        try:
            await self._fetch()
        except ApiServerError as error:
            self.contact.failed(str(error))
        finally:
            self._fetching = None

    async def _fetch(self) -> None:
        discovery = await self._api.get("/.well-known/openid-configuration")
        try:
            found = read_keys(discovery, await self._api.get("/openid/v1/jwks"))
        except ValueError as error:
            raise ApiServerError(200, str(error)) from None
        self.contact.made()
        if self.keys is None or found != self.keys:
            self.keys = found
            self._changed()


class TokenIdentities:
    """See Identify. `follow` says which sandboxes there are, `pod_at` whose an address certainly is."""

    def __init__(
        self,
        keys: ClusterKeys,
        audience: str,
        namespace: str,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
        pod_at: Callable[[str], Pod | None] = lambda _: None,
    ) -> None:
        self._keys = keys
        self._pod_at = pod_at
        self._audience = audience
        self._namespace = namespace
        self._clock = clock
        self._pace = pace
        self._attempts = Attempts(WRONG_A_MINUTE)
        self._by_pod: dict[Pod, Sandbox] = {}
        self._by_address: dict[str, Sandbox | None] = {}
        self._verified: OrderedDict[bytes, BoundPod] = OrderedDict()
        self._by_keys: Keys | None = None

    def follow(self, declared: Iterable[Declared]) -> None:
        """These are the sandboxes that there are now."""
        found = list(declared)
        self._by_pod = {one.pod: one.sandbox for one in found if one.pod is not None}
        by_address: dict[str, Sandbox | None] = {}
        for one in found:
            for address in one.addresses:
                # Of two that claim it, none has it: one of the two statuses is behind.
                by_address[address] = None if address in by_address else one.sandbox
        self._by_address = by_address

    async def __call__(self, presented: str, sender: str) -> Sandbox:
        """See Identify. Raises IdentityError."""
        try:
            pod = await self._bound(presented, sender)
        except TokenError as error:
            raise IdentityError(error.reason) from None
        if pod.namespace != self._namespace:
            raise IdentityError("OtherNamespace", pod.uid)
        # Its ServiceAccount has its name, too, as the operator makes both.
        found = self._by_pod.get(Pod(pod.name, pod.uid))
        if found is None or pod.service_account != pod.name:
            raise IdentityError("NoSandboxsPod", pod.uid)
        others = self._by_address.get(sender)
        # An address of nobody's is no contradiction: a status may be behind.
        if others is not None and others.uid != found.uid:
            # A token that another sandbox got hold of.
            raise IdentityError("Borrowed", pod.uid)
        return found

    def by_address(self, sender: str) -> Sandbox | None:
        """See Identify."""
        return self._by_address.get(sender)

    def certainly_at(self, sender: str) -> Sandbox | None:
        """See Identify. A status may be behind, so what the API server says of the pods themselves decides."""
        pod = self._pod_at(sender)
        return self._by_pod.get(pod) if pod is not None else None

    async def _bound(self, presented: str, sender: str) -> BoundPod:
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        self._forget_with_keys()
        now, known = self._clock(), self._verified.get(digest)
        if known is not None:
            if known.expires > now:
                return known
            del self._verified[digest]
            raise TokenError("Expired")
        found = await self._verify(presented, sender, now)
        self._forget_with_keys()
        # Whose it is alone: whether that pod is a sandbox's is looked up each time.
        self._verified[digest] = found
        if len(self._verified) > _CACHED:
            self._verified.popitem(last=False)
        return found

    def _forget_with_keys(self) -> None:
        """What a key that is no longer there has signed is not believed either."""
        if self._by_keys is not self._keys.keys:
            self._verified.clear()
            self._by_keys = self._keys.keys

    async def _verify(self, presented: str, sender: str, now: float) -> BoundPod:
        if self._keys.keys is None:
            await self._keys.look_again()
        if self._keys.keys is None:
            raise TokenError("NoKeys")
        # Before the signature, which is what costs; one that is right is given back.
        if not self._attempts.begin(sender, self._pace()):
            raise TokenError("TooMany")
        found = await self._verified_by(self._keys.keys, presented, now)
        self._attempts.right(sender)
        return found

    async def _verified_by(self, before: Keys, presented: str, now: float) -> BoundPod:
        try:
            return verify(presented, before, self._audience, now)
        except UnknownKeyError:
            await self._keys.look_again()
            if self._keys.keys is None or self._keys.keys is before:
                raise
        return verify(presented, self._keys.keys, self._audience, now)
