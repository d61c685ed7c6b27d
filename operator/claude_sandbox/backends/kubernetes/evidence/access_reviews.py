"""What a sandbox's ServiceAccount may do, as the API server's own authorizers answer it.

Asked once when the sandbox is made, together with the first writes, and again when the answer has grown old: rights
change rarely, and nothing tells when they do.

Theory of operation. It holds the last answer of each account, or why there was none, and when to ask again. A question
that failed replaces the answer: what is not known now is Unknown, whatever it was before. Used by the one pass at work
on a sandbox, on the event loop. A crash forgets all, and the next pass asks.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence.pods import Access
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import LOCAL_ACCESS_REVIEWS

MAX_AGE = 240.0
"""Seconds for which an answer is good: less than evidence may be old, so that no look finds one that is too old."""
RETRY_AFTER = 30.0

Question = tuple[str, str, str, str]
"""verb, API group, resource, subresource"""


@dataclass(frozen=True)
class _Answer:
    reading: Reading[tuple[Access, ...]] | Unread
    due: float


class AccessReviews:
    """The answers of each ServiceAccount, by (namespace, name)."""

    def __init__(self, api: Api, questions: Iterable[Question]) -> None:
        self._api = api
        self._questions = tuple(questions)
        self._answers: dict[tuple[str, str], _Answer] = {}

    def known(self, namespace: str, account: str) -> Reading[tuple[Access, ...]] | Unread:
        """The last answer."""
        answer = self._answers.get((namespace, account))
        return answer.reading if answer else Unread("the ServiceAccount's rights have not been asked for yet")

    def due(self, namespace: str, account: str) -> bool:
        """Whether it is time to ask."""
        answer = self._answers.get((namespace, account))
        return answer is None or time.monotonic() >= answer.due

    async def ask(self, namespace: str, account: str) -> None:
        """Ask now. Never raises ApiError: a question that was not answered is Unread."""
        try:
            # All or none: a part of the answers would look like the whole.
            found = await asyncio.gather(*(self._one(namespace, account, question) for question in self._questions))
        except ApiError as error:
            reading: Reading[tuple[Access, ...]] | Unread = Unread(f"LocalSubjectAccessReview: {error.reason}")
            wait = RETRY_AFTER
        else:
            reading = Reading(tuple(found), EvidenceSource.ACCESS_REVIEW, datetime.now(UTC))
            # Spread out, so that sandboxes made together are not asked about together for ever.
            wait = MAX_AGE * random.uniform(0.8, 1.0)  # noqa: S311
        self._answers[namespace, account] = _Answer(reading, time.monotonic() + wait)

    def forget(self, namespace: str, account: str) -> None:
        """The sandbox is gone."""
        self._answers.pop((namespace, account), None)

    async def _one(self, namespace: str, account: str, question: Question) -> Access:
        verb, group, resource, subresource = question
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        if subresource:
            attributes["subresource"] = subresource
        user = f"system:serviceaccount:{namespace}:{account}"
        # As the API server itself gives them to a ServiceAccount's token; without them no binding to a group counts.
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        review = {
            "apiVersion": LOCAL_ACCESS_REVIEWS.api_version,
            "kind": LOCAL_ACCESS_REVIEWS.kind,
            "metadata": {"namespace": namespace},
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        }
        answer = await self._api.create(LOCAL_ACCESS_REVIEWS, review, namespace)
        return Access(verb, group, resource, subresource, bool(answer["status"].get("allowed")))
