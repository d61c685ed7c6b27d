"""Whether the Secret that a sandbox names may be used by it: from what the watches tell, or by asking.

Holds, in memory only: since when Secrets that sandboxes name have been missing, and which ones an administrator was
seen to list in a namespace's annotation. A crash forgets both, which can only make a withdrawal count later. Called by
the passes of sandboxes, on the event loop. A Secret's data is never asked for.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.kubernetes.watches import secret_opt_in
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS

GONE_AFTER = 1.0
"""Seconds for which a Secret has to be missing before what runs with it ends: `kubectl replace --force` and others
delete one and make it again at once."""
_REMEMBERED = 4096

_Where = tuple[str, str]
"""Namespace and name of a Secret."""


class SecretStates:
    """Of one cluster's Secrets."""

    def __init__(self, api: Api, watches: Watches, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._watches = watches
        self._clock = clock
        self._missing: dict[_Where, float] = {}
        self._listed: set[_Where] = set()

    async def of(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret."""
        namespace = identity.namespace
        where = namespace, secret
        readable, seen = self._watches.opted_in(namespace, secret)
        # What was seen before a right was lost goes on counting: nobody's work ends for that.
        if seen is None and not readable:
            return self._by_namespace(where)
        try:
            live = seen if seen is not None else await self._asked(where)
        except ApiError as error:
            if error.is_not_found:
                return self._gone(where, secret_opt_in.not_found(namespace, secret, key))
            message = f"Secret {namespace}/{secret} could not be looked at: {error.reason}."
            return KeyState(problem=Reason.OBSERVATION_FAILED, message=message, followed=False)
        # It is there, or was not asked for: a later loss is another one.
        self._missing.pop(where, None)
        return secret_opt_in.opted_in(live) if live is not None else secret_opt_in.not_opted_in(namespace, secret)

    async def _asked(self, where: _Where) -> secret_opt_in.Metadata | None:
        """The metadata of a Secret that opted in, and that no watch has told of yet; None of one that did not.

        Raises ApiError.
        """
        namespace, name = where
        found = await self._api.get(SECRETS, name, namespace, metadata_only=True)
        if secret_opt_in.has_opted_in(found):
            return found
        # Of the type, metadata says nothing.
        selector = f"metadata.name={name},type={meta.SECRET_TYPE}"
        listed = await self._api.list(SECRETS, namespace, field_selector=selector, metadata_only=True)
        return next(iter(listed.items), None)

    def _gone(self, where: _Where, state: KeyState) -> KeyState:
        now = self._clock()
        if where not in self._missing and len(self._missing) >= _REMEMBERED:
            # The one that has been missing longest. Should it be asked about again, it counts as gone a second later.
            del self._missing[next(iter(self._missing))]
        left = self._missing.setdefault(where, now) + GONE_AFTER - now
        return replace(state, withdrawn=False, again=left) if left > 0 else state

    def _by_namespace(self, where: _Where) -> KeyState:
        """Not named is certainly not meant where Secrets are not looked at by choice, or where it was named before.

        Else the operator may merely have lost a right, and nobody's work is ended for that.
        """
        namespace, name = where
        certain = not self._watches.look_at_secrets or where in self._listed
        state = secret_opt_in.by_namespace(namespace, name, self._watches.namespace(namespace)[1], certain=certain)
        if state.problem is None:
            self._listed.add(where)
        return state
