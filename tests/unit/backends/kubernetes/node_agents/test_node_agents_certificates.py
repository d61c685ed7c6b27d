"""When what the nodes' agents are known by ends: that of what there is, whether another could be written or not."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from claude_sandbox.backends.kubernetes.gateway import certificates
from claude_sandbox.backends.kubernetes.node_agents.certificates import Certificates
from claude_sandbox.kubernetes_api.errors import ApiError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Secrets:
    """Those of the agents' namespace, of which none can be written where the server is too busy."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, Any]] = {}
        self.busy = False

    async def get(self, _resource: object, name: str, _namespace: str) -> dict[str, Any]:
        if name not in self.there:
            raise ApiError(404, "NotFound", "there is none")
        return self.there[name]

    async def apply(self, _resource: object, body: dict[str, Any]) -> None:
        if self.busy:
            raise ApiError(503, "ServiceUnavailable", "not now")
        self.there[body["metadata"]["name"]] = body


def certificate_of(secrets: Secrets) -> datetime:
    text = base64.b64decode(secrets.there["claude-sandbox-node-agent-tls"]["data"]["tls.crt"])
    return x509.load_pem_x509_certificate(text).not_valid_after_utc


async def test_it_is_told_and_stays_what_it_is_where_another_can_not_be_written() -> None:
    secrets, now = Secrets(), NOW
    found = Certificates(secrets, lambda: now)  # type: ignore[arg-type]
    assert found.ends is None
    await found.context()
    assert found.ends == certificate_of(secrets)
    first = found.ends
    # Another process, when it is to be renewed.
    now = first - certificates.RENEW_BEFORE + timedelta(days=1)
    secrets.busy = True
    later = Certificates(secrets, lambda: now)  # type: ignore[arg-type]
    with pytest.raises(ApiError):
        await later.context()
    assert later.ends == first
    secrets.busy = False
    await later.context()
    assert later.ends is not None
    assert later.ends == certificate_of(secrets) > first
