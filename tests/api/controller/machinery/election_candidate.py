"""A replica for the election's tests: leads when it may, and writes as often as it can while it does."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from claude_sandbox.controller.machinery.election import (
    LeaderElectionConfig,
    LeaderElector,
    LeadershipLostError,
    NotLeadingError,
)
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SERVICE_ACCOUNTS

LEASE = "operator"
TIMING = LeaderElectionConfig(lease_duration=5.0, renew_deadline=2.5, retry_period=0.5)
# For what must not cost the lease, however slow the machine is.
PATIENT = LeaderElectionConfig(lease_duration=60.0, renew_deadline=40.0, retry_period=0.3)


@asynccontextmanager
async def electing(
    credentials: Credentials, namespace: str, identity: str, timing: LeaderElectionConfig = TIMING
) -> AsyncIterator[LeaderElector]:
    """As the operator would: an Api of its own, one attempt, a short time-out."""
    async with Api(credentials, attempts=1, timeout=timing.renew_deadline / 2, pool_size=2) as own:
        yield LeaderElector(own, namespace, LEASE, identity=identity, timing=timing)


async def act(api: Api, namespace: str, identity: str) -> None:
    """Leave as many traces as possible. A refusal by the permit is not hidden from the loop that leads."""
    while True:
        with suppress(ApiError, NotLeadingError):
            await api.create(SERVICE_ACCOUNTS, {"metadata": {"generateName": f"{identity}-"}}, namespace)
        await asyncio.sleep(0.005)


async def main(kubeconfig: str, namespace: str, identity: str) -> None:
    credentials = from_kubeconfig(kubeconfig)
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with (
        electing(credentials, namespace, identity) as election,
        Api(credentials, write_permit=election.permit) as api,
    ):
        print("started", flush=True)
        while True:
            with suppress(LeadershipLostError):
                await election.run(lambda: act(api, namespace, identity))


if __name__ == "__main__":
    with suppress(asyncio.CancelledError):
        asyncio.run(main(*sys.argv[1:]))
