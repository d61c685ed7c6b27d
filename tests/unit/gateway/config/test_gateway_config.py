"""The configuration: what is wrong is named with its remedy; and identities that can't be borrowed."""

import base64
import hashlib
import json
from typing import Any

import pytest

from claude_sandbox.gateway.budget.prices import NANO
from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.identity import Placeholders, presented_to_broker, presented_to_proxy

DIGEST = hashlib.sha256(b"placeholder").hexdigest()


def document(**sandbox: Any) -> dict[str, Any]:
    one = {"uid": "u-1", "identitySHA256": [DIGEST], "credential": {"file": "/run/key"}, **sandbox}
    return {"version": 1, "listen": {"broker": {"port": 1}}, "sandboxes": [one]}


def refused(found: dict[str, Any] | str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(found if isinstance(found, str) else json.dumps(found))
    return str(error.value)


def test_a_whole_document() -> None:
    found = document(
        allowedDomains=["github.com", "*.example.org:8443", {"domain": "git.example.org:22", "protocol": "Any"}],
        budget={"maxCostUSD": "0.50", "maxOutputTokens": 10, "window": "24h"}, apis=["Messages", "Files"],
    )  # fmt: skip
    found["egress"] = {"privateNetworks": ["10.0.0.0/8"], "deniedDomains": ["*.bad.org"],
                       "hosts": {"A.Example.org": ["10.0.0.1"]},
                       "upstreamProxy": "http://proxy.example.org:8080"}  # fmt: skip
    config = parse(json.dumps(found))
    sandbox = config.sandboxes[0]
    assert [str(one) for one in sandbox.allowed] == ["github.com", "*.example.org:8443", "git.example.org:22"]
    assert [one.opaque for one in sandbox.allowed] == [False, False, True]
    assert (sandbox.budget.cost, sandbox.budget.output, sandbox.budget.window) == (NANO // 2, 10, 86400.0)
    assert config.egress.upstream_proxy == ("proxy.example.org", 8080)
    assert list(config.egress.hosts) == ["a.example.org"]
    assert config.provider.base_url == "https://api.anthropic.com"


@pytest.mark.parametrize(
    ("sandbox", "says"),
    [
        ({"uid": "../x"}, "sandboxes[0].uid: write what matches"),
        ({"identitySHA256": ["x"]}, "sandboxes[0].identitySHA256[0]: write the SHA-256"),
        ({"identitySHA256": []}, "sandboxes[0].identitySHA256: it is missing"),
        ({"credential": {}}, "sandboxes[0].credential.file: it is missing"),
        ({"credential": {"file": "/k", "value": "sk-ant"}}, "sandboxes[0].credential.value: there is no such field"),
        ({"allowedDomains": ["10.0.0.1"]}, "sandboxes[0].allowedDomains[0]: addresses can't be allowed"),
        (
            {"allowedDomains": [{"domain": "a.org", "protocol": "tls"}]},
            "allowedDomains[0].protocol: write one of TLS, Any",
        ),
        ({"repositories": [{}]}, "repositories[0].url: it is missing"),
        ({"repositories": [{"url": "http://a.org/x"}]}, "repositories[0].url: write https://HOST/PATH"),
        ({"repositories": [{"url": "https://a.org"}]}, "url: write the repository's own path"),
        ({"repositories": [{"url": "https://a.org/x/../y"}]}, "url: write the repository's own path"),
        ({"repositories": [{"url": "https://a.org/x%2fy"}]}, "url: write the repository's own path"),
        ({"repositories": [{"url": "https://u@a.org/x"}]}, "url: write https://HOST/PATH, without a user"),
        ({"repositories": [{"url": "https://a.org/x?y"}]}, "url: write https://HOST/PATH, without a user"),
        ({"repositories": [{"url": "https://127.1/x"}]}, "url: write https://HOST/PATH, with the name of a host"),
        ({"repositories": [{"url": "https://[::1]/x"}]}, "url: write https://HOST/PATH, with the name of a host"),
        ({"repositories": [{"url": "https://a.org:x/x"}]}, "url: write https://HOST/PATH, with the name of a host"),
        ({"repositories": [{"url": "https://a.org/x"}, {"url": "https://A.org:443/x.git/"}]}, "is there twice"),
        ({"repositories": [{"url": "https://a.org/x", "push": {}}]}, "push.branches: write patterns"),
        ({"repositories": [{"url": "https://a.org/x", "push": {"branches": ["a b"]}}]}, "push.branches[0]: write"),
        (
            {"repositories": [{"url": "https://a.org/x", "push": {"branches": ["a"], "force": "no"}}]},
            "push.force: write true or false",
        ),
        ({"budget": {"maxCostUSD": 20}}, "sandboxes[0].budget.maxCostUSD: write a string"),
        ({"budget": {"maxCostUSD": "-1"}}, "sandboxes[0].budget.maxCostUSD: write an amount in USD above 0"),
        ({"budget": {"window": "1w"}}, "sandboxes[0].budget.window: write a number and s, m, h or d"),
        ({"budget": {"window": "24h"}}, "sandboxes[0].budget.maxCostUSD: a budget has no limit"),
        ({"budget": {}}, "sandboxes[0].budget.maxCostUSD: a budget has no limit"),
        ({"apis": ["Everything"]}, "sandboxes[0].apis: write some of"),
        ({"allowed": []}, "sandboxes[0].allowed: there is no such field"),
    ],
)
def test_what_is_wrong_with_a_sandbox_is_named(sandbox: dict[str, Any], says: str) -> None:
    assert says in refused(document(**sandbox))


def test_what_is_wrong_elsewhere_is_named() -> None:
    assert refused("{") == "the document: it is no JSON (line 1, column 2): mend it"
    assert refused("[" * 100_000).startswith("the document: it is no JSON")
    assert refused('{"version":1,"version":1}') == "the document: a field is there twice: remove one"
    assert refused({**document(), "version": 2}).startswith("version: ")
    assert refused({**document(), "egress": {"privateNetworks": ["10.0.0.1/8"]}}).startswith(
        "egress.privateNetworks[0]: "
    )
    assert refused({**document(), "provider": {"baseURL": "ftp://x"}}).startswith("provider.baseURL: ")
    assert refused({**document(), "limits": {"streamIdleSeconds": 60}}).startswith("limits.streamIdleSeconds: ")
    assert "certificateFile" in refused({**document(), "listen": {"broker": {"certificateFile": "/c"}}})
    twice = document()
    twice["sandboxes"] *= 2
    assert "two have the same uid" in refused(twice)
    twice["sandboxes"][1] = {**twice["sandboxes"][0], "uid": "u-2"}
    assert "two have the same identitySHA256" in refused(twice)
    twice["sandboxes"][1] = {**twice["sandboxes"][1], "identitySHA256": ["0" * 64], "proxyIdentity": "Network"}
    assert "gateway of one sandbox" in refused(twice)


async def test_a_placeholder_is_known_by_its_digest_alone() -> None:
    identify = Placeholders(parse(json.dumps(document())).sandboxes)
    found = await identify("placeholder", "10.0.0.1")
    assert found is not None
    assert found.uid == "u-1"
    for other in ("", "placeholder ", "Placeholder", DIGEST, "placeholde\udcff"):
        assert await identify(other, "10.0.0.1") is None


def test_what_is_presented() -> None:
    assert presented_to_broker({"x-api-key": "a"}) == "a"
    assert presented_to_broker({"authorization": "bearer a"}) == "a"
    assert presented_to_broker({"x-api-key": "a", "authorization": "Bearer a"}) == "a"
    for headers in ({}, {"x-api-key": "a", "authorization": "Bearer b"}, {"authorization": "Basic a"},
                    {"x-api-key": "a", "authorization": "Basic a"}):  # fmt: skip
        assert presented_to_broker(headers) is None
    assert presented_to_proxy("Basic " + base64.b64encode(b"sandbox:a:b").decode()) == "a:b"
    assert presented_to_proxy("Bearer a") == "a"
    for text in (None, "", "Basic", "Basic ?", "Basic " + base64.b64encode(b"sandbox").decode(), "Digest a"):
        assert presented_to_proxy(text) is None
