"""Which keys are compromised: the generations of Secrets that some sandbox of the namespace declares to be.

Theory of operation. It holds, of each namespace, who declares which Secret, and the generation that the status says was
meant; None before that is written down, or where the operator can't see generations: then every generation is. A Secret
whose data was written last before that has the same key, whatever else was written to it.
`Sandboxes` tells of every change, before a pass sees it; all sandboxes that use the Secret are woken by it. A pass asks
at no cost where nothing is declared. It also holds which incident was lifted that a status still tells of: who lifts
one and declares the next, faster than a pass comes by, means the key that there is then. Used on the event loop; a
crash loses all, and the first list tells it anew.

Another generation is another key: it ends by itself when the Secret is written. Who declares it stops its own
namespace's sandboxes alone.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal, InvalidOperation

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status_fields.incident import MOST_USERS, IncidentStatus, KeyUser
from claude_sandbox.backends.base import KeyState
from claude_sandbox.controller.sandboxes.gateways.usage import previous_usage
from claude_sandbox.controller.sandboxes.incidents.declared import Mark, compromised_key, is_the_one, previous, state_of
from claude_sandbox.controller.sandboxes.incidents.revocation import Revocations
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, credential_named, key_of


class CompromisedKeys:
    """Of all namespaces. `wake` is called with namespace and name of a Secret whose users are to be looked at."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        wake: Callable[[str, str], None] = lambda _namespace, _secret: None,
        revocations: Revocations | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._revocations = revocations
        self._wake = wake
        self._marked: dict[str, dict[str, Mark]] = {}
        # Since when they were.
        self._lifted: dict[Key, datetime] = {}
        sandboxes.follow(self._changed)

    def judged(self, namespace: str, secret: str, key: KeyState) -> KeyState:
        """The state of a key, which may not be used where it is compromised."""
        if key.problem is not None:
            return key
        for name, (named, generation, since) in self._marked.get(namespace, {}).items():
            if named == secret and is_the_one(key, generation, since):
                message = (
                    f"The key in Secret {namespace}/{secret} is compromised, by spec.incident of ClaudeSandbox {name}:"
                    " it is not used any more. Revoke it, and write another one into the Secret: that ends it."
                )
                return replace(key, problem=Reason.KEY_COMPROMISED, message=message, withdrawn=True)
        return key

    def status(self, raw: Raw, secret: str, key: KeyState, now: datetime) -> IncidentStatus | None:
        """For the status of the sandbox that declares it; None where it does not."""
        found = self._status(self._without_lifted(raw), secret, key, now)
        return self._revocations.told(raw, secret, found) if self._revocations is not None else found

    def secret_of(self, raw: Raw, named: str) -> str:
        """The Secret whose state `status` is to be given: the one that is compromised, or the one that is `named`."""
        found = compromised_key(self._without_lifted(raw))
        return named if found is None else found[0]

    def _status(self, raw: Raw, secret: str, key: KeyState, now: datetime) -> IncidentStatus | None:
        if state_of(raw) is not IncidentState.KEY_COMPROMISED:
            return None
        before = previous(raw)
        if before is None or before.state is not IncidentState.KEY_COMPROMISED:
            users = self._users(raw, secret)
            before = IncidentStatus(
                state=IncidentState.KEY_COMPROMISED,
                since=now.replace(microsecond=0),
                secret=secret,
                generation=key.generation,
                users=users,
            )
        if before.ended_at is not None:
            return before
        another = None if is_the_one(key, before.generation, before.since) else key.generation
        ended = {"ended_at": now.replace(microsecond=0)} if another is not None else {}
        used = [self._used_since(raw["metadata"]["namespace"], one, another) for one in before.users or ()]
        return before.model_copy(update={**ended, "users": used or None})

    def _users(self, raw: Raw, secret: str) -> list[KeyUser]:
        """Who uses it, and how much they had by then."""
        namespace, found = raw["metadata"]["namespace"], []
        for key in sorted(self._sandboxes.using(namespace, secret)):
            one = self._sandboxes.get(key)
            if one is None or credential_named(one) != secret:
                continue
            usage = previous_usage(one.get("status") or {})
            answered = usage.last_answered if usage is not None else None
            found.append(
                KeyUser(
                    name=key.name,
                    last_used=answered.time if answered is not None else None,
                    requests=usage.requests if usage is not None else None,
                    cost_usd=usage.cost_usd if usage is not None else None,
                )
            )
        return found[:MOST_USERS]

    def _used_since(self, namespace: str, user: KeyUser, another: str | None) -> KeyUser:
        """With what was used since the incident was declared; what is told with another key is not the old one's."""
        one = self._sandboxes.get(Key(namespace, user.name))
        usage = previous_usage(one.get("status") or {}) if one is not None else None
        if usage is None or usage.requests is None:
            return user
        if another is not None and usage.last_answered is not None and usage.last_answered.generation == another:
            return user
        more = usage.requests - (user.requests or 0)
        cost = _cost(usage.cost_usd, user.cost_usd)
        # An account that begins anew, as on another host, tells nothing of before.
        if more <= 0 or cost is None:
            return user
        return user.model_copy(update={"requests_since": more, "cost_usd_since": cost})

    def _changed(self, key: Key, raw: Raw | None) -> None:
        marked = self._marked.setdefault(key.namespace, {})
        self._note_lifted(key, raw)
        before, now = marked.pop(key.name, None), None if raw is None else compromised_key(self._without_lifted(raw))
        if now is not None:
            marked[key.name] = now
        if not marked:
            del self._marked[key.namespace]
        # The users of both Secrets: of the one that was named until now the work goes on.
        if now is None and self._revocations is not None:
            self._revocations.forget(key)
        if before != now:
            for secret in {one[0] for one in (before, now) if one is not None}:
                self._wake(key.namespace, secret)

    def _note_lifted(self, key: Key, raw: Raw | None) -> None:
        told = previous(raw) if raw is not None else None
        if told is None or self._lifted.get(key) != told.since:
            self._lifted.pop(key, None)
        if raw is not None and told is not None and state_of(raw) is IncidentState.NONE:
            self._lifted[key] = told.since

    def _without_lifted(self, raw: Raw) -> Raw:
        """Without what the status says of an incident that was lifted since."""
        told = previous(raw)
        if told is None or self._lifted.get(key_of(raw)) != told.since:
            return raw
        return {**raw, "status": {name: said for name, said in raw["status"].items() if name != "incident"}}


def _cost(now: str | None, before: str | None) -> str | None:
    """What came to it; None where it became less, or a status says what is no amount."""
    with suppress(InvalidOperation):
        cost = Decimal(now or 0) - Decimal(before or 0)
        return f"{cost:f}" if cost >= 0 else None
    return None
