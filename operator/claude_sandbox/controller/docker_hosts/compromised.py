"""Which Docker hosts are compromised, and which keys were on them.

Theory of operation. It holds, of each DockerHost that is declared to be compromised, the keys that its status names.
`DockerHosts` tells of every change before a pass sees it, so nothing is asked of an engine from the moment on at which
the watch told of the incident, whatever the host's own pass waits for. Then all its sandboxes are woken, and all others
that share a Secret with them.

Always true: which keys were there is never less than what the status says; what the statuses of its sandboxes say is
added to that, for a pass that was under way may have brought one more. A sandbox that is deleted takes none of it away.
A generation that is not known stands for all. Another generation is another key, so it ends by itself, key by key.

Asked by the passes of sandboxes and hosts, at no cost where no host is compromised. Used on the event loop. A crash
loses all, and the first list of DockerHosts tells it anew.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.docker_hosts.incident import (
    MOST_RAN,
    MOST_SECRETS,
    HostIncidentState,
    HostIncidentStatus,
    HostSecretUse,
    LostSecret,
)
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.named_secrets import secrets_named
from claude_sandbox.api.status_fields.incident import LostKey, RevocationState
from claude_sandbox.backends.base import KeyState
from claude_sandbox.controller.docker_hosts.store import DockerHosts
from claude_sandbox.controller.sandboxes.incidents.declared import is_the_one
from claude_sandbox.controller.sandboxes.incidents.revocation import CompromisedKey, Revocations
from claude_sandbox.controller.sandboxes.store import (
    Key,
    Raw,
    Sandboxes,
    credential_named,
    host_of,
    key_of,
)

STEPS = (
    "Cut the host off from the network, by the switch or the hypervisor, not by itself. The operator has stopped"
    " nothing there: who is root on it would not have to obey.",
    "Stop all that runs there: switch the machine off, or hand it to whoever looks into it.",
    "Revoke each key of status.incident.secrets where it is from, unless its revocation says Revoked, and write another"
    " one into its Secret: with that the work of others that share it goes on. Those of use Other nobody has stopped.",
    "Change what the host itself had: spec.credentialsSecretRef, the registries' passwords of spec.images.credentials,"
    " and the passwords of backups that were made there.",
    "Take nothing from its disks: not the workspaces, and no backup that was kept there.",
    "Those of its sandboxes that declare spec.backup.whenHostCompromised begin anew elsewhere by themselves, or say why"
    " they can't. Delete the others, and make each anew elsewhere, with spec.restoreFrom of a backup that was verified"
    " and was kept somewhere else.",
    "Install the machine anew, from media that were never on it, and make it known as another DockerHost. Then delete"
    " this one.",
)
"""What a person has to do, in the order of the guide."""


class _Mark(NamedTuple):
    """A key that was on a host; without a generation, all of the Secret's."""

    namespace: str
    secret: str
    generation: str | None


def is_compromised(raw: Raw | None) -> bool:
    """Whether a DockerHost is declared to be, whatever else is wrong with its spec."""
    declared = ((raw or {}).get("spec") or {}).get("incident")
    return isinstance(declared, Mapping) and declared.get("state") == HostIncidentState.HOST_COMPROMISED


class CompromisedHosts:
    """Of one operator.

    `wake` is called with a sandbox to look at, `wake_users` with a Secret's namespace and name whose users are to be
    looked at, `sever` with a host that nothing may be connected to any more. `generation_of`: of a Secret of
    repositories or services, as last seen. `revocations` are told of the model's keys.
    """

    def __init__(
        self,
        hosts: DockerHosts,
        sandboxes: Sandboxes,
        wake: Callable[[Key], None] = lambda _: None,
        wake_users: Callable[[str, str], None] = lambda _namespace, _secret: None,
        sever: Callable[[str], None] = lambda _: None,
        generation_of: Callable[[str, str], str | None] = lambda _namespace, _secret: None,
        revocations: Revocations | None = None,
    ) -> None:
        self._hosts = hosts
        self._sandboxes = sandboxes
        self._wake = wake
        self._wake_users = wake_users
        self._sever = sever
        self._generation_of = generation_of
        self._revocations = revocations
        self._marked: dict[str, frozenset[_Mark]] = {}
        # What was declared before, of which nobody tells again; then what comes. Nothing is awaited in between.
        for name in hosts:
            self._changed(name, hosts.get(name))
        hosts.follow(self._changed)

    def __contains__(self, host: object) -> bool:
        return host in self._marked

    def refusal(self, host: str) -> str | None:
        """Why nothing may be asked of a host's engine; None where it may."""
        if host not in self._marked:
            return None
        return f"DockerHost {host} is compromised, by its spec.incident: nothing is asked of it or given to it"

    def holding(self, raw: Raw) -> str | None:
        """The compromised host that a sandbox is placed on; None where it is on none."""
        host = host_of(raw)
        return host if host in self._marked else None

    def settled(self, raw: Raw) -> datetime | None:
        """Since when the host that a sandbox is on counts as compromised, for what was made on it; None until its
        status names the sandbox and its keys, so that neither is forgotten with the sandbox's placement.
        """
        live = self._hosts.get(self.holding(raw) or "")
        told = None if live is None else _told(live)
        if live is None or told is None:
            return None
        # Where there are more than the status can name, it is among those that are counted.
        named = str(key_of(raw)) in told.ran or told.sandboxes > len(told.ran)
        # Where there are more than a status can name, a word of the sandbox's own remembers it (`key_of_lost`).
        marked = told.more_secrets > 0 or set(_keys_of(raw)) <= self._marked[live["metadata"]["name"]]
        return min(told.since, _suspected(live) or told.since) if named and marked else None

    def key_of_lost(self, raw: Raw) -> LostKey | None:
        """The key that a sandbox had on the compromised host that it is on: for its own status, when it leaves."""
        host, marks = self.holding(raw), sorted(_keys_of(raw), key=str)
        if host is None or not marks:
            return None
        mounted = ((raw.get("status") or {}).get("credentials") or {}).get("mountedGeneration")
        mark = next((one for one in marks if one.generation == mounted), marks[0])
        return LostKey(host=host, secret=mark.secret, generation=mark.generation, since=self._since(host))

    def engines(self) -> frozenset[str]:
        """The engines that may be somebody else's, by whatever name one knows them."""
        told = (_told(self._hosts.get(host) or {}) for host in self._marked)
        return frozenset(one.engine_id for one in told if one is not None and one.engine_id)

    def lost_key(self, namespace: str, secret: str, key: KeyState) -> LostKey | None:
        """On which compromised host this key was; None where on none. Without a generation it may be any."""
        for host in sorted(self._marked):
            since = self._since(host)
            for mark in sorted(self._marks(host, namespace, secret), key=str):
                if is_the_one(key, mark.generation, since):
                    return LostKey(host=host, secret=secret, generation=mark.generation, since=since)
        return None

    def _since(self, host: str) -> datetime | None:
        told = _told(self._hosts.get(host) or {})
        return told.since if told is not None else None

    def judged(self, namespace: str, secret: str, key: KeyState) -> tuple[KeyState, LostKey | None]:
        """The state of a key, which may not be used where it was on a compromised host."""
        lost = self.lost_key(namespace, secret, key) if key.problem is None else None
        if lost is None:
            return key, None
        message = (
            f"The key in Secret {namespace}/{secret} was on DockerHost {lost.host}, which is compromised: it is not"
            " used any more. Revoke it, and write another one into the Secret: that ends it."
        )
        return replace(key, problem=Reason.KEY_COMPROMISED, message=message, withdrawn=True), lost

    def status(self, raw: Raw, now: datetime) -> HostIncidentStatus | None:
        """For the status of a DockerHost; None where it is not compromised."""
        if not is_compromised(raw):
            return None
        host, before = raw["metadata"]["name"], _told(raw)
        placed = sorted(self._sandboxes.placed_on(host))
        found = {(one.namespace, one.name, one.generation): one for one in self._secrets(host)}
        known = {(one.namespace, one.name, one.generation): one for one in (before.secrets if before else ())}
        # Those that were named stay named: their sandboxes may be gone.
        secrets = [*known.values(), *(found[key] for key in sorted(found, key=str) if key not in known)]
        ran = [*(before.ran if before else ())]
        ran += [name for name in map(str, placed) if name not in ran]
        since = before.since if before is not None else now
        # All of them, also those that the status can't name.
        secrets = [self._revoked(raw, one, since) for one in secrets]
        return HostIncidentStatus(
            state=HostIncidentState.HOST_COMPROMISED,
            since=since,
            # As it was when it was declared: what the host says of itself afterwards is not believed.
            engine_id=before.engine_id if before is not None else _engine(raw),
            # Never fewer than before: those that left were there.
            sandboxes=max(len(placed), before.sandboxes if before is not None else 0, len(ran)),
            ran=ran[:MOST_RAN],
            secrets=secrets[:MOST_SECRETS],
            more_secrets=max(len(secrets) - MOST_SECRETS, 0),
            steps=list(STEPS),
        )

    def _revoked(self, raw: Raw, one: LostSecret, since: datetime) -> LostSecret:
        """With what came of a key's revocation; what is revoked is not told again, by no later operator either."""
        done = one.revocation is not None and one.revocation.state is RevocationState.REVOKED
        if self._revocations is None or one.use is not HostSecretUse.MODEL or done:
            return one
        metadata = raw["metadata"]
        by = {"dockerHost": {"name": metadata["name"], "uid": metadata["uid"]}}
        key = CompromisedKey.of(one.namespace, one.name, one.generation, since)
        answer = self._revocations.ask(metadata["name"], key, since, by)
        return one.model_copy(update={"revocation": answer}) if answer is not None else one

    def _marks(self, host: str, namespace: str, secret: str) -> set[_Mark]:
        """Of one Secret: what the host's status names, and what those of its sandboxes say."""
        found = {one for one in self._marked[host] if one[:2] == (namespace, secret)}
        for key in self._sandboxes.using(namespace, secret):
            raw = self._sandboxes.get(key) or {}
            if host_of(raw) == host:
                found |= {one for one in _keys_of(raw) if one.secret == secret}
            told = (raw.get("status") or {}).get("lostKey") or {}
            if (told.get("host"), told.get("secret")) == (host, secret):
                # Of more than a host's status can name, the sandboxes that share a key remember it.
                found.add(_Mark(namespace, secret, told.get("generation")))
        return found

    def _secrets(self, host: str) -> Iterator[LostSecret]:
        for key in self._sandboxes.placed_on(host):
            if (raw := self._sandboxes.get(key)) is None:
                continue
            for mark in _keys_of(raw):
                yield LostSecret(
                    namespace=mark.namespace, name=mark.secret, use=HostSecretUse.MODEL, generation=mark.generation
                )
            for name in sorted(set(secrets_named(raw)) - {credential_named(raw)}):
                yield LostSecret(
                    namespace=key.namespace,
                    name=name,
                    use=HostSecretUse.OTHER,
                    generation=self._generation_of(key.namespace, name),
                )

    def _changed(self, host: str, raw: Raw | None) -> None:
        before, now = self._marked.pop(host, None), _marks_told(raw) if is_compromised(raw) else None
        if now is not None:
            self._marked[host] = now
        elif self._revocations is not None:
            self._revocations.forget(host)
        # Before anybody is woken: a pass must find nothing to ask the engine by.
        if now is not None and before is None:
            self._sever(host)
        if (before is None) != (now is None):
            for key in self._sandboxes.placed_on(host):
                self._wake(key)
        for namespace, secret in self._concerned(host, before, now):
            self._wake_users(namespace, secret)

    def _concerned(
        self, host: str, before: frozenset[_Mark] | None, now: frozenset[_Mark] | None
    ) -> set[tuple[str, str]]:
        """The Secrets whose keys may be judged otherwise than before."""
        found = {one[:2] for one in (before or frozenset()) ^ (now or frozenset())}
        # Declared or lifted; or its status, which is written after that, says since when: also of keys not named there.
        if not before or not now:
            placed = (self._sandboxes.get(key) for key in self._sandboxes.placed_on(host))
            found |= {mark[:2] for raw in placed if raw is not None for mark in _keys_of(raw)}
        return found


def _keys_of(raw: Raw) -> Iterator[_Mark]:
    """The keys that a sandbox on a host was given, by its status: the one that it has, and one on its way."""
    secret, told = credential_named(raw), (raw.get("status") or {}).get("credentials")
    if secret is None or not isinstance(told, Mapping):
        return
    namespace, generations = raw["metadata"]["namespace"], {told.get("mountedGeneration"), told.get("generation")}
    # None is told where no generation is known: it stands for all of them.
    for generation in generations - {None} or {None}:
        yield _Mark(namespace, str(told.get("secret") or secret), generation)


def _told(raw: Raw) -> HostIncidentStatus | None:
    said: Any = (raw.get("status") or {}).get("incident")
    try:
        return HostIncidentStatus.model_validate(said) if said else None
    except ValidationError:
        return None


def engine_of_compromised(raw: Raw) -> str | None:
    """The engine that a host stood for when it was declared compromised; None of one that is not, or never had one."""
    told = _told(raw)
    return told.engine_id or None if told is not None else None


def _engine(raw: Raw) -> str | None:
    """The identifier of a host's engine, by its status."""
    return ((raw.get("status") or {}).get("engine") or {}).get("id") or None


def _suspected(raw: Raw) -> datetime | None:
    """Since when a host may have been somebody else's, by who declared it, whatever else is wrong with its spec."""
    declared = (raw.get("spec") or {}).get("incident")
    return utc(declared.get("since")) if isinstance(declared, Mapping) else None


def _marks_told(raw: Raw | None) -> frozenset[_Mark]:
    """Of a host's status: those keys that something is done about."""
    told = _told(raw or {})
    listed = told.secrets if told is not None else ()
    return frozenset(_Mark(one.namespace, one.name, one.generation) for one in listed if one.use is HostSecretUse.MODEL)
