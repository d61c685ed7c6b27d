"""What the gateway goes by in a cluster: the configuration from its file, all that is about sandboxes from the cluster.

Theory of operation: holds the parts that follow (sandboxes, their credentials, the keys of tokens) and the last `Live`
made of what they know. A part that learns something marks it as old; one task makes it anew and tells. Parts never end
by themselves: should one, so does the gateway. A crash leaves nothing.
"""

import asyncio
import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable

from claude_sandbox.gateway.audit import plain
from claude_sandbox.gateway.config.cluster import Cluster, GitSecret, SecretKey, ServiceSecret
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.follow import Credential, Follower, Lack, Live
from claude_sandbox.gateway.git import repositories as git
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError
from claude_sandbox.gateway.kubernetes.credentials import Credentials, MountedSecrets, Wanted, WatchedSecrets
from claude_sandbox.gateway.kubernetes.identities import ClusterKeys, TokenIdentities
from claude_sandbox.gateway.kubernetes.pods import Pods
from claude_sandbox.gateway.kubernetes.sandboxes import Sandboxes
from claude_sandbox.gateway.services.declared import Header, Service, Services, Unopened, open_services


class ClusterFollower:
    """See Follows. `ready` once the sandboxes, the keys of their tokens, and each credential have been looked at."""

    def __init__(self, files: Follower, cluster: Cluster) -> None:
        self._files = files
        self._api = ApiServer(cluster.service_account, cluster.server)
        try:
            namespace = self._api.namespace()
        except ApiServerError as error:
            raise ConfigError("kubernetes.serviceAccountDirectory", str(error)) from None
        self._old = asyncio.Event()
        self._sandboxes = Sandboxes(self._api, namespace, self._old.set)
        self._keys = ClusterKeys(self._api, self._old.set)
        self._pods = Pods(self._api, namespace)
        self._identities = TokenIdentities(self._keys, cluster.audience, namespace, pod_at=self._pods.certainly_at)
        self._credentials: Credentials = (
            WatchedSecrets(self._api, namespace, self._old.set)
            if cluster.secrets is None
            else MountedSecrets(cluster.secrets, self._old.set)
        )
        self._problems: dict[str, str] = {}
        self.ready = False
        self.live = self._made()

    def report(self) -> dict[str, object]:
        """See Follows. `behindSeconds`: for how long nothing was heard of the sandboxes, or of the keys."""
        contacts = {"sandboxes": self._sandboxes.contact, "keys": self._keys.contact}
        behind = {name: round(age, 1) for name, one in contacts.items() if (age := one.behind()) is not None}
        return {
            **self._files.report(),
            "ready": self.ready,
            "behindSeconds": behind,
            "behindBecause": {name: contacts[name].why for name in behind},
            "problems": self._problems,
        }

    async def follow(self, changed: Callable[[Live], Awaitable[None]]) -> None:
        """See Follows."""

        async def file_changed(_live: Live) -> None:
            self._old.set()

        try:
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._files.follow(file_changed), self._sandboxes.run(), self._keys.run(), self._credentials.run(),
                    self._pods.run(), self._tell(changed),
                ):  # fmt: skip
                    group.create_task(part)
        finally:
            await self._api.close()

    async def _tell(self, changed: Callable[[Live], Awaitable[None]]) -> None:
        while True:
            await self._old.wait()
            # Before it is made anew: what is learned meanwhile makes it old again.
            self._old.clear()
            # First, so that none is used in the next `Live` that nobody wants any more.
            self._credentials.want(self._wanted())
            self._pods.need(any(one.sandbox.services for one in self._sandboxes.declared.values()))
            self.live = self._made()
            looked = all(self._credentials.get(key) is not None for key in self._wanted())
            # For good: a gateway that loses the API server goes on with what it knows, and a restart would know less.
            self.ready = self.ready or (self._sandboxes.synced and self._keys.keys is not None and looked)
            await changed(self.live)

    def _wanted(self) -> set[Wanted]:
        sandboxes = [one.sandbox for one in self._sandboxes.declared.values()]
        keys: set[Wanted] = {one.credential for one in sandboxes if isinstance(one.credential, SecretKey)}
        headers = (service.header for one in sandboxes for service in one.services)
        keys |= {one.credential for one in headers if one and isinstance(one.credential, ServiceSecret)}
        repositories = (repository for one in sandboxes for repository in one.repositories)
        return keys | {one.credential for one in repositories if isinstance(one.credential, GitSecret)}

    def _made(self) -> Live:
        declared = self._sandboxes.declared
        self._identities.follow(declared.values())
        problems = dict(self._sandboxes.refused)
        credentials, repositories, services = {}, {}, dict[str, Services]()
        lacking = dict[str, Lack]()
        for name, one in declared.items():
            opened = [each for wish in one.sandbox.repositories if (each := self._repository(wish)) is not None]
            repositories[one.sandbox.uid] = {each.repository.at: each for each in opened}
            services[one.sandbox.uid], wrong = self._services(one.sandbox.services)
            if wrong := [*wrong, *(each.problem for each in opened if each.problem)]:
                problems[name] = "; ".join(wrong)
            key = one.sandbox.credential
            found = self._credentials.get(key) if isinstance(key, SecretKey) else None
            if found is None or not isinstance(key, SecretKey):
                continue
            if self._sandboxes.compromised(key.secret, found.generation, found.changed):
                problems[name] = f"the key in Secret {key.secret} is compromised: write another one into it"
            elif found.text is None:
                problems[name] = found.problem
                if found.why is Unopened.NO_KEY:
                    lacking[one.sandbox.uid] = self._lack(one.sandbox.uid, found.problem)
            else:
                credentials[one.sandbox.uid] = Credential(found.text, one.sandbox.oauth, found.generation)
        self._say(problems)
        return dataclasses.replace(
            self._files.live,
            identify=self._identities,
            by_address=True,
            cloning=frozenset(one.sandbox.uid for one in declared.values() if one.cloning),
            sandboxes={one.sandbox.uid: one.sandbox for one in declared.values()},
            credentials=credentials,
            lacking=lacking,
            services=services,
            repositories=repositories,
        )

    def _lack(self, uid: str, why: str) -> Lack:
        """Since it was seen first: a report that says the same is not written again."""
        before = self.live.lacking.get(uid)
        return before if before is not None and before.why == why else Lack(why, time.time())

    def _services(self, services: tuple[Service, ...]) -> tuple[Services, list[str]]:
        """The services, and what is wrong with the credentials of those that can't be used."""
        wrong: list[str] = []

        def secret_of(_service: Service, header: Header) -> str | Unopened | None:
            where = header.credential
            found = self._credentials.get(where) if isinstance(where, ServiceSecret) else None
            if found is None or found.text is not None:
                return found.text if found is not None else None
            wrong.append(found.problem)
            return found.why

        return open_services(services, secret_of), wrong

    def _repository(self, repository: git.Repository) -> git.Opened | None:
        """The repository with its credential, or with why it has none; None where that was not looked at yet."""
        key = repository.credential
        if not isinstance(key, GitSecret):
            return git.Opened(repository)
        found = self._credentials.get(key)
        if found is None:
            return None
        if found.git is None:
            return git.Opened(repository, problem=found.problem)
        return git.opened(repository, key, found.git, found.scope)

    def _say(self, problems: dict[str, str]) -> None:
        """Tell of what is new among what is wrong with single sandboxes."""
        before, self._problems = self._problems, {name: plain(text, 300) or "" for name, text in problems.items()}
        for name, text in self._problems.items():
            if before.get(name) != text:
                print(f"gateway: sandbox {name}: {text}", file=sys.stderr, flush=True)
