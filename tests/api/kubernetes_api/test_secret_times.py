"""When a Secret's data was written, from metadata alone, as a real API server tells it."""

import asyncio
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import opted_in
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.resources import SECRETS

pytestmark = pytest.mark.controlplane


async def test_a_secret_tells_when_its_data_was_written_and_not_when_its_labels_were(api: Api, namespace: str) -> None:
    async def kept() -> dict[str, Any]:
        found = await api.get(SECRETS, "key", namespace, metadata_only=True)
        assert "data" not in found
        return PROJECTIONS[SECRETS](found)

    labels = {meta.LABEL_SECRET_OPT_IN: meta.LABEL_SECRET_OPT_IN_VALUE}
    await api.create(SECRETS, {"metadata": {"name": "key", "labels": labels}, "data": {"api-key": "YQ=="}}, namespace)
    made = opted_in(await kept()).changed
    assert made is not None
    assert "managedFields" not in str(await kept())
    # The times that are recorded are whole seconds.
    await asyncio.sleep(1.1)
    await api.patch(SECRETS, "key", namespace, {"metadata": {"labels": {"a": "b"}}}, field_manager="labeller")
    assert opted_in(await kept()).changed == made
    await api.patch(SECRETS, "key", namespace, {"data": {"api-key": "Yg=="}})
    written = opted_in(await kept()).changed
    assert written is not None
    assert written > made
