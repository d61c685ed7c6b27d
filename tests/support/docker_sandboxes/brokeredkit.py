"""Sandboxes with a gateway, without an operator, and the provider that they are led to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider_process import ProviderProcess, provider_on

from claude_sandbox.localcluster.engine import EngineDescription


def brokered(**spec: Any) -> dict[str, Any]:
    return {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}, **spec}


@pytest.fixture
def provider(host: EngineDescription, tmp_path: Path) -> Iterator[ProviderProcess]:
    with provider_on(host, tmp_path) as found:
        yield found
