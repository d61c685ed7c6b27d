"""What of a Secret is taken for a key: what a gateway could send, and nothing else."""

import base64
from typing import Any, cast

import pytest

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.docker.keys.secrets import SecretKeys
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api


class Secrets:
    def __init__(self, value: bytes) -> None:
        self._value = value

    async def get(self, *_: Any) -> dict[str, Any]:
        data = {"api-key": base64.b64encode(self._value).decode()}
        return {"metadata": {"name": "one", "resourceVersion": "7"}, "type": meta.SECRET_TYPE, "data": data}


async def allowed(_identity: Identity, _name: str, _key: str) -> KeyState:
    return KeyState(generation="7")


def keys(value: bytes) -> SecretKeys:
    return SecretKeys(cast(Api, Secrets(value)), allowed)


async def test_a_key_is_as_it_was_written() -> None:
    assert (await keys(b"sk-ant-1\n").read(Identity("agents", "alice", "1"), "one", "api-key")).value == b"sk-ant-1\n"


@pytest.mark.parametrize(
    "value", [b"", b" \n", b"revoked by Bob", b"sk-1\nsk-2", b"\xff\xfe", b"k" * 20_000], ids=range(6)
)
async def test_what_takes_a_keys_place_and_is_none_withdraws_it(value: bytes) -> None:
    """The reason is one by which a gateway that has the key before it is removed: told of this one, it would refuse
    all that it is told, and go on with the old key."""
    with pytest.raises(KeyUnavailableError) as refused:
        await keys(value).read(Identity("agents", "alice", "1"), "one", "api-key")
    assert refused.value.reason is Reason.SECRET_KEY_MISSING
    assert "Bob" not in str(refused.value)
