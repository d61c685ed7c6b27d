"""The API server, as the options of a command say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[tuple[Api, str]]:
    """A connection, and the namespace that is meant where none is said. Raises WorkError."""
    try:
        credentials = await asyncio.to_thread(load, where.kubeconfig, where.context)
    except CredentialsError as error:
        raise WorkError(f"{error}.", "Name the cluster with --kubeconfig or --context.") from None
    async with Api(credentials, user_agent="claude-sandbox") as api:
        yield api, credentials.namespace
