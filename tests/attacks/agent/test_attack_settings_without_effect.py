"""Settings of a sandbox that are accepted and have no effect: a proxy, an authority, a provider in `spec.env`.

Before, `HTTPS_PROXY` and `NODE_EXTRA_CA_CERTS` were accepted, and managed settings took their effect away without a
word: whoever relied on a proxy that sees everything had one that saw nothing. `SSL_CERT_FILE` had an effect, the
wrong one: a file of the workspace said who the API is. Each is refused now, by the API server and by the models
(tests/api/contract compares the two), and a program that a person may choose is pinned to what was chosen.
"""

import json
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.claudecode import pinned

_KEY = {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}


def _spec(name: str) -> dict[str, object]:
    return {"credentials": _KEY, "env": [{"name": name, "value": "x"}]}


@pytest.mark.parametrize("spelled", [str.upper, str.lower], ids=["upper", "lower"])
@pytest.mark.parametrize("name", sorted({*pinned.environment(), *pinned.TRUSTS} - set(pinned.CHOICES)))
def test_no_variable_that_managed_settings_override_is_accepted(name: str, spelled: Callable[[str], str]) -> None:
    with pytest.raises(ValidationError, match=r"leave it out|Secret"):
        ClaudeSandboxSpec.model_validate(_spec(spelled(name)))


def test_every_variable_that_is_accepted_arrives_as_it_was_written() -> None:
    site = Site(parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent"))
    for name in (*pinned.CHOICES, "PIP_INDEX_URL", "GIT_SSH_COMMAND", "AWS_REGION"):
        made = build(Identity("agents", "alice", "1"), ClaudeSandboxSpec.model_validate(_spec(name)), site)
        assert dict(made.environment)[name] == "x"
        assert json.loads(made.settings.content)["env"].get(name, "x") == "x"
