"""Evaluating the controls without holding up everybody else.

Most evaluations take a millisecond or two and are done at once. Where tenants made much to look at (long policies, many
of them, a pod of unusual size) it is done in a thread, so that health, the lease and other sandboxes are looked after
meanwhile; and no longer than a deadline is waited for it.

Holds a pool of one thread, and how many evaluations of each namespace wait for it: few, so that one namespace can't
take up all workers. Used from the event loop. A crash leaves nothing. What is waited for in vain goes on in its thread
until its end, which the bounds of what is kept (`kubernetes_api/informers/cache_limits.py`) and judged
(`compliance/pods/policies.py`) make sure of.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from claude_sandbox.api.mishap import Told
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods.plugin_policies import FEW, readable
from claude_sandbox.compliance.pods.policy_size import entries

T = TypeVar("T")

DEADLINE = 5.0
"""Seconds that an evaluation may take, with the wait for others. The longest that can be made takes a tenth of one."""
AT_ONCE = 4
"""Evaluations of one namespace that may wait for the thread: a sixth of the operator's workers."""

# What is looked at on the event loop: about five milliseconds' worth.
LIGHT_ENTRIES = 400
LIGHT_OBJECTS = 1000
LIGHT_POD = 32 * 1024


class EvaluationError(Told):
    """The controls were not evaluated; the message says why."""


class Evaluations:
    """`evaluate` is `compliance.reports.pods.measure`, or what stands for it."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._pool = ThreadPoolExecutor(1, "evaluation")
        self._waiting: Counter[str] = Counter()

    async def run(self, namespace: str, evaluate: Callable[[], T]) -> T:
        """What `evaluate` gives, computed in the thread. Raises EvaluationError where it takes too long."""
        if self._waiting[namespace] >= AT_ONCE:
            raise EvaluationError("other evaluations of the namespace take too long: it has too much to look at")
        future = self._pool.submit(evaluate)
        self._waiting[namespace] += 1
        # With the thread's own end, not with the wait's: what is waited for in vain still takes the thread.
        future.add_done_callback(self._leaving(namespace, asyncio.get_running_loop()))
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            message = f"the evaluation took more than {self._deadline:g} s: the namespace has too much to look at"
            raise EvaluationError(message) from None

    def close(self) -> None:
        """Begin no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leaving(self, namespace: str, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def leave() -> None:
            self._waiting[namespace] -= 1
            if not self._waiting[namespace]:
                del self._waiting[namespace]

        def left(_: object) -> None:
            # A thread may end after the operator has: nothing is counted then.
            if not loop.is_closed():
                loop.call_soon_threadsafe(leave)

        return left


def is_light(evidence: KubernetesEvidence, pod_size: int, gateway_size: int = 0) -> bool:
    """Whether the evaluation takes a few milliseconds at most.

    `pod_size`: of the sandbox's pod, `gateway_size`: of the pods with its gateway's labels; in bytes of JSON.
    """
    lists = [evidence.policies, evidence.services, evidence.slices, evidence.quotas]
    lists += [evidence.plugin_policies] if evidence.plugin_policies is not None else []
    if max(pod_size, gateway_size) > LIGHT_POD:
        return False
    if any(not isinstance(one, Unread) and len(one.value) > LIGHT_OBJECTS for one in lists):
        return False
    plugins = evidence.plugin_policies
    if isinstance(plugins, Reading) and not readable(plugins.value, FEW)[1]:
        return False
    gateway = None if isinstance(evidence.gateway, Unread) else evidence.gateway.value
    if gateway is not None and not _is_light(gateway):
        return False
    if isinstance(evidence.pod, Unread) or isinstance(evidence.policies, Unread):
        return True
    return entries(evidence.policies.value, evidence.pod.value, LIGHT_ENTRIES) <= LIGHT_ENTRIES


def _is_light(gateway: Gateway) -> bool:
    if gateway.size > LIGHT_OBJECTS:
        return False
    if isinstance(gateway.policies, str):
        return True
    pod = {"metadata": {"labels": gateway.meant.labels}}
    return entries(gateway.policies, pod, LIGHT_ENTRIES) <= LIGHT_ENTRIES
