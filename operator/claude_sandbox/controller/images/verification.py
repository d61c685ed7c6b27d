"""Asks registries what tags stand for and who has signed what, in the background.

Theory of operation. A pass asks and never waits: what is not known yet is asked for by a task of its own, and the
sandboxes that wait for it are woken when it ends. Held, in memory: an answer for each question, with the time until
which it is good. That a digest is signed stays so. All else is asked again after a while, and until that answer comes
the one before is given, so that nothing flaps. A question is about an image, the words of the policies that ask, and
the registry as they describe it: an answer never outlives a change of a policy. The oldest answers go when there are
too many. So many questions at a time, and so many of them for one namespace: who names many images waits for himself.
Used on one event loop; a crash loses all, and what is asked again is the same.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError, RegistryLogin
from claude_sandbox.controller.images.keyless import TrustRootError
from claude_sandbox.controller.images.policies import Demand, Signers
from claude_sandbox.controller.images.registry.client import NotThereError, RegistryClient
from claude_sandbox.controller.images.registry.reach import RegistryError, Way
from claude_sandbox.controller.images.statements import Says, statements
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.kubernetes_api.errors import ApiError

Login = Callable[[str], Awaitable[RegistryLogin]]
"""Reads a Secret by its name. Raises ClientCredentialsError and ApiError."""

logger = logging.getLogger(__name__)

AT_A_TIME, SHARE = 8, 2
_KEPT = 2048
_ANSWERED_WITHIN = 120.0
"""Seconds for one question, however many requests it takes: a registry that is slow keeps others waiting."""
REFUSED_FOR, SILENT_FOR = 120.0, 15.0
"""Seconds until an image without a signature, or a registry that does not answer, is asked for again."""


@dataclass(frozen=True)
class Answer:
    """`certain`: it is what the registry has; else it could not be asked. `digest`: what a tag stands for.

    `message`: why not, a sentence for people. `refused`: by the policies of these signers. `again`: seconds for which
    it is good; None: for ever.
    """

    certain: bool
    digest: str = ""
    message: str = ""
    refused: tuple[Signers, ...] = ()
    again: float | None = None

    @property
    def good(self) -> bool:
        """Whether it is a yes."""
        return self.certain and not self.message


@dataclass
class _Question:
    waiters: set[Key] = field(default_factory=set)
    answer: Answer | None = None
    asked: float = 0.0
    task: "asyncio.Task[None] | None" = None


class Verification:
    """Of one operator. `wake` is told of each sandbox that waited for an answer that is there.

    `login` reads what to log in with from a Secret of the operator's own namespace, each time anew.
    """

    def __init__(
        self,
        client: RegistryClient,
        wake: Callable[[Key], None],
        login: Login,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = login
        self._client = client
        self._wake = wake
        self._clock = clock
        self._questions: OrderedDict[tuple[object, ...], _Question] = OrderedDict()
        self._all = asyncio.Semaphore(AT_A_TIME)
        # Each for as long as a question of its namespace holds it: namespaces come and go.
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def close(self) -> None:
        """End what is under way."""
        for one in self._questions.values():
            if one.task is not None:
                one.task.cancel()

    def digest_of(self, demand: Demand, key: Key, lasts: float = SILENT_FOR) -> Answer | None:
        """What the image's tag stands for; None: it is being asked. `lasts`: seconds for which an answer is good."""
        # By the tag alone, so that all sandboxes that name it share one answer.
        image = replace(demand.image, digest="")
        return self._ask(("tag", str(image), _asked(demand)), key, lambda: self._resolve(image, demand, lasts))

    def signed(self, demand: Demand, key: Key) -> Answer | None:
        """Whether the image's digest is signed as the demand says; None: that is being asked."""
        question = ("signed", demand.image.repository, demand.image.digest, demand.words, _asked(demand))
        return self._ask(question, key, lambda: self._verify(demand))

    def _ask(self, question: tuple[object, ...], key: Key, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        known = self._questions.setdefault(question, _Question())
        # Asked last, forgotten last.
        self._questions.move_to_end(question)
        self._tidy()
        answer = known.answer
        due = answer is None or (answer.again is not None and self._clock() - known.asked >= answer.again)
        if due:
            known.waiters.add(key)
            if known.task is None:
                known.task = asyncio.create_task(self._answered(known, key.namespace, ask), name="image")
        if answer is None or answer.again is None:
            return answer
        left = answer.again - (self._clock() - known.asked)
        return replace(answer, again=max(left, 1.0))

    def _tidy(self) -> None:
        for question in [one for one in self._questions if self._questions[one].task is None]:
            if len(self._questions) <= _KEPT:
                break
            del self._questions[question]

    async def _answered(self, known: _Question, namespace: str, ask: Callable[[], Awaitable[Answer]]) -> None:
        share = self._shares.setdefault(namespace, asyncio.Semaphore(SHARE))
        try:
            # The namespace's share first, and the time last: who waits for his own share holds no place of others, and
            # waiting counts towards no time-out.
            async with share, self._all, asyncio.timeout(_ANSWERED_WITHIN):
                known.answer = await ask()
        except TimeoutError:
            message = f"The registry does not give all that it is asked for within {_ANSWERED_WITHIN:.0f} s."
            known.answer = Answer(certain=False, message=message, again=SILENT_FOR)
        except RegistryError as error:
            known.answer = Answer(certain=False, message=f"The registry can't be asked: {error}.", again=SILENT_FOR)
        except Exception as error:
            logger.warning("an image could not be verified", exc_info=True)
            message = f"It could not be verified: {mishap(error)}."
            known.answer = Answer(certain=False, message=message, again=SILENT_FOR)
        finally:
            # Whatever came of it, also where it was cancelled: else nobody would ever ask this again.
            known.asked, known.task = self._clock(), None
            waiters, known.waiters = known.waiters, set()
            for key in waiters:
                self._wake(key)

    async def _resolve(self, image: Reference, demand: Demand, lasts: float) -> Answer:
        try:
            found = await self._client.manifest(image, image.tag, await self._way(demand))
        except NotThereError:
            message = f"{image.registry} has no image {image}: write a tag that it has."
            return Answer(certain=True, message=message, again=REFUSED_FOR)
        return Answer(certain=True, digest=found.digest, again=lasts)

    async def _verify(self, demand: Demand) -> Answer:
        """Raises RegistryError."""
        way = await self._way(demand)
        missing, found = demand.signers, False
        predicates = (one.predicate for one in demand.signers)
        try:
            async with aclosing(statements(self._client, demand.image, predicates, way)) as saying:
                async for says in saying:
                    found = True
                    # What it takes to verify a certificate, and to import what does, holds up nobody else.
                    missing = await asyncio.to_thread(_left, missing, says)
                    if not missing:
                        return Answer(certain=True, digest=demand.image.digest)
        except TrustRootError as error:
            message = f"The trustRoot of a ClaudeImagePolicy {error}: have its administrator mend it."
            return Answer(certain=True, message=message, refused=demand.signers, again=REFUSED_FOR)
        message = _missing(demand, missing[0], found=found)
        return Answer(certain=True, message=message, refused=missing, again=REFUSED_FOR)

    async def _way(self, demand: Demand) -> Way:
        """How the image's registry may be asked. Raises RegistryError."""
        asked = demand.registry
        if asked is None:
            return Way()
        login = None
        if asked.credentials_secret_ref is not None:
            try:
                login = await self._login(asked.credentials_secret_ref.name)
            except (ClientCredentialsError, ApiError) as error:
                logger.warning("what to log in to %s with can't be read: %s", asked.host, error)
                message = (
                    "what to log in with can't be read: an administrator has to mend spec.registries of the"
                    " ClaudeImagePolicy; why is in the operator's log"
                )
                raise RegistryError(message) from None
        return Way(asked.plain_http, login, asked.ca_certificates or "", tuple(asked.leads_to))


def _asked(demand: Demand) -> str:
    """How the registry is asked, to tell questions apart by."""
    return "" if demand.registry is None else demand.registry.model_dump_json()


def _left(signers: tuple[Signers, ...], says: Says) -> tuple[Signers, ...]:
    """Who has not signed this either. Raises TrustRootError."""
    return tuple(one for one in signers if not says(one))


def _missing(demand: Demand, signers: Signers, *, found: bool) -> str:
    """`found`: whether there is anything that could be a signature."""
    who = "public keys and identities" if signers.identities else "public keys"
    key = "" if signers.identities else " --key"
    if signers.predicate:
        return (
            f"ClaudeImagePolicy {signers.policy}: {demand.image} has no attestation {signers.predicate} by any of its"
            f" {who}. Have it attested by who may (cosign attest{key}), or name an image that is."
        )
    has = "has no signature" if found else "is not signed"
    how = f"cosign sign{key}"
    return (
        f"ClaudeImagePolicy {signers.policy}: {demand.image} {has} by any of its {who}. Have it signed by who may"
        f" ({how}), or name an image that is."
    )
