"""Values that show a credential by signs for which the schema has no room: refused before anything runs."""

from typing import Any

import pytest

from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.credentials import refused_credentials
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.controller.sandboxes.accepted_specs import AcceptedSpecs

IDENTITY = Identity("agents", "alice", "11111111-1111-1111-1111-111111111111")
SITE = Site(parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent"))
SECRET = "sword" + "fish1"
EXCEPTION = {"control": "SEC-01", "reason": "a test's own", "owner": "team@example.org", "expires": "2027-03-31"}


def raw(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "alice", "namespace": "agents", "uid": IDENTITY.uid, "generation": 1},
        "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}, **spec},
    }


SHOWN = {
    "by its name": ({"env": [{"name": "A"}, {"name": "YARN_NPM_AUTH_IDENT", "value": f"me:{SECRET}"}]}, "spec.env[1]"),
    "by a client's option": ({"args": ["sh", "-c", f"htpasswd -nb me {SECRET}"]}, "spec.args"),
    "across command and args": ({"command": ["htpasswd"], "args": ["-nb", "me", SECRET]}, "spec.args"),
    "by the command alone": ({"command": ["htpasswd", "-nb", "me", SECRET]}, "spec.command"),
}  # fmt: skip


@pytest.mark.parametrize("how", SHOWN)
def test_one_is_refused_by_its_field_and_never_repeated(how: str) -> None:
    spec, where = SHOWN[how]
    with pytest.raises(InvalidSpec) as refused:
        AcceptedSpecs(SITE, docker=False).of(raw(**spec), IDENTITY)
    said = str(refused.value)
    assert f"{where}: " in said
    assert "SEC-01" in said
    assert SECRET not in said


@pytest.mark.parametrize("how", SHOWN)
def test_an_exception_from_the_control_lets_it_pass(how: str) -> None:
    asked = raw(**SHOWN[how][0], compliance={"exceptions": [EXCEPTION]})
    assert AcceptedSpecs(SITE, docker=False).of(asked, IDENTITY)[1].running
    another = raw(**SHOWN[how][0], compliance={"exceptions": [{**EXCEPTION, "control": "SEC-03"}]})
    with pytest.raises(InvalidSpec):
        AcceptedSpecs(SITE, docker=False).of(another, IDENTITY)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"env": [{"name": "TOKEN_LIMIT", "value": "10"}]},
        {"args": ["claude", "-p", "Add basic authentication/authorization to the web API"]},
        {"command": ["mysql"], "args": ["-p", "-u", "me"]},
    ],
)
def test_ordinary_words_and_settings_are_not(spec: dict[str, Any]) -> None:
    assert not list(refused_credentials(parse_spec(raw(**spec))))
