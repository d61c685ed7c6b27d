"""Where the loop's findings go: the status, Kubernetes Events, metrics."""

import logging
from collections.abc import Mapping
from typing import Any

from claude_sandbox.backends.kubernetes.client import Api
from claude_sandbox.backends.kubernetes.errors import ApiError
from claude_sandbox.backends.kubernetes.resources import SANDBOXES
from claude_sandbox.controller.sandboxes import Key, Raw

logger = logging.getLogger(__name__)


class KubernetesReporter:
    """Reports to the API server that the sandbox came from."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status of this very object, not of a later one of the same name."""
        metadata = raw["metadata"]
        try:
            return await self._api.patch_status(
                SANDBOXES, metadata["name"], metadata["namespace"], patch, uid=metadata["uid"]
            )
        except ApiError as error:
            if error.is_not_found or error.is_conflict:
                return None
            raise

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event about the sandbox."""
        logger.log(logging.WARNING if warning else logging.INFO, "%s: %s", reason, message)

    def observe(self, key: Key, status: Mapping[str, Any] | None, healed: tuple[str, ...]) -> None:
        """Bring the metrics of the sandbox up to date."""
