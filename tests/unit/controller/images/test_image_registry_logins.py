"""Private registries: what they are logged in to with, and where that goes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from image_registry import ImageRegistry, PrivateRegistry
from signing import bundle, pem_of, put_bundle, sign

from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.kinds.image_policies import PolicyRegistry
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError, RegistryLogin
from claude_sandbox.controller.images.policies import Demand, Signers
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.registry.reach import RegistryError, Way
from claude_sandbox.controller.images.signatures import public_key
from claude_sandbox.controller.images.verification import Answer, Verification
from claude_sandbox.controller.sandboxes.store import Key

OURS = ec.generate_private_key(ec.SECP256R1())
LOGIN = RegistryLogin("robot", "not-a-password")
WRONG = RegistryLogin("robot", "another-secret-4711")
KEY = Key("agents", "alice")


def way_to(registry: PrivateRegistry, login: RegistryLogin | None = LOGIN, *leads_to: str) -> Way:
    return Way(login=login, authorities=registry.authority, leads_to=leads_to)


@pytest.mark.parametrize("wants", ["Basic", "Bearer"])
async def test_what_is_private_is_told_to_the_login_and_to_nobody_else(wants: str, tmp_path: Path) -> None:
    async with PrivateRegistry(tmp_path, wants) as registry, RegistryClient() as client:
        digest, image = registry.put("team/a", "1"), Reference(registry.host, "team/a", "1")
        assert (await client.manifest(image, "1", way_to(registry))).digest == digest
        # What one login was told opens nothing to who has another, or none.
        for login in (WRONG, None):
            with pytest.raises(RegistryError) as refused:
                await client.manifest(image, "1", way_to(registry, login))
            assert registry.host in str(refused.value)
            assert "4711" not in str(refused.value)
        # The next request does not ask anew.
        before = len(registry.told)
        await client.manifest(image, "1", way_to(registry))
        assert len(registry.told) == before + 1
        assert "4711" not in repr(way_to(registry, WRONG))


async def test_only_an_authority_that_the_policy_names_is_believed(tmp_path: Path) -> None:
    async with PrivateRegistry(tmp_path, "Basic") as registry, RegistryClient() as client:
        registry.put("a", "1")
        with pytest.raises(RegistryError, match="nobody who is believed"):
            await client.manifest(Reference(registry.host, "a", "1"), "1", Way(login=LOGIN))
        assert registry.told == []


async def test_a_login_does_not_follow_to_where_the_registry_leads(tmp_path: Path) -> None:
    async with PrivateRegistry(tmp_path, "Basic") as registry, PrivateRegistry(tmp_path, "Basic") as other:
        image = Reference(registry.host, "a", "1")
        digest = registry.put("a", "1")
        let = registry.elsewhere["/v2"]

        async def led(request: web.Request) -> web.StreamResponse | None:
            refused = await let(request)
            return refused or web.Response(status=307, headers={"Location": f"https://{other.host}/v2/kept/it"})

        async def kept(request: web.Request) -> web.StreamResponse:
            other.told.append(request.headers.get("Authorization", ""))
            return web.Response(body=registry.manifests["a", digest][1])

        registry.elsewhere, other.elsewhere = {"/v2": led}, {"/v2": kept}
        both = replace(way_to(registry, LOGIN, other.host), authorities=registry.authority + other.authority)
        async with RegistryClient() as client:
            assert (await client.manifest(image, "1", both)).digest == digest
            assert other.told == [""]
            with pytest.raises(RegistryError, match="leadsTo"):
                await client.manifest(image, "1", replace(both, leads_to=()))
        assert other.told == [""]


async def test_tokens_are_had_by_tls_and_at_no_private_address_that_no_policy_names(tmp_path: Path) -> None:
    async with PrivateRegistry(tmp_path, "Bearer") as registry, PrivateRegistry(tmp_path, "Bearer") as tokens:
        registry.put("a", "1")
        image, asked = Reference(registry.host, "a", "1"), []

        async def token(request: web.Request) -> web.StreamResponse:
            asked.append(request.headers.get("Authorization"))
            return web.json_response({"token": "for-a"})

        tokens.elsewhere = {"/token": token}
        both = replace(way_to(registry), authorities=registry.authority + tokens.authority)
        async with RegistryClient() as client:
            for realm, why in ((f"https://{tokens.host}/token", "leadsTo"), (f"http://{tokens.host}/token", "no TLS")):
                registry.realm = realm
                with pytest.raises(RegistryError, match=why):
                    await client.manifest(image, "1", replace(both, leads_to=()))
            assert asked == []
            registry.realm = f"https://{tokens.host}/token"
            await client.manifest(image, "1", replace(both, leads_to=(tokens.host,)))
        assert len(asked) == 1


async def test_a_login_is_never_sent_without_tls() -> None:
    told = []
    async with ImageRegistry() as registry, RegistryClient() as client:

        async def asks(request: web.Request) -> web.StreamResponse:
            told.append(request.headers.get("Authorization"))
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})

        registry.elsewhere = {"/v2": asks}
        with pytest.raises(RegistryError):
            await client.manifest(Reference(registry.host, "a", "1"), "1", Way(plain_http=True, login=LOGIN))
    assert told == [None]


@pytest.mark.parametrize("status", [400, 404, 406])
async def test_a_registry_that_keeps_no_list_of_referrers_may_say_so_in_several_ways(status: int) -> None:
    async with ImageRegistry() as registry, RegistryClient() as client:

        async def refuses(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=status) if "/referrers/" in request.path else None

        registry.elsewhere = {"/v2": refuses}
        digest = registry.put("a", "1")
        put_bundle(registry, "a", digest, bundle(OURS, digest))
        found = await client.referrers(Reference(registry.host, "a"), digest, Way(plain_http=True))
    assert len(found) == 1


async def answered(ask: Callable[[], Answer | None], told: asyncio.Event) -> Answer:
    """What comes of a question."""
    while (found := ask()) is None:
        await told.wait()
        told.clear()
    return found


def verification(client: RegistryClient, login: Callable[[str], Awaitable[RegistryLogin]]) -> tuple[Verification, Any]:
    told = asyncio.Event()
    return Verification(client, lambda _key: told.set(), login), told


@pytest.mark.parametrize("wants", ["Basic", "Bearer"])
async def test_tags_and_signatures_are_asked_for_with_the_policys_login(wants: str, tmp_path: Path) -> None:
    names = []

    async def login(name: str) -> RegistryLogin:
        names.append(name)
        return LOGIN

    async with PrivateRegistry(tmp_path, wants) as registry, RegistryClient() as client:
        digest = registry.put("a", "1")
        sign(registry, "a", digest, OURS)
        asked = PolicyRegistry.model_validate(
            {"host": registry.host, "credentialsSecretRef": {"name": "ours"}, "caCertificates": registry.authority}
        )
        signers = (Signers("p", (public_key(pem_of(OURS)),)),)
        demand = Demand(Reference(registry.host, "a", "1"), signers, "words", asked)
        made, told = verification(client, login)
        found = await answered(lambda: made.digest_of(demand, KEY), told)
        assert (found.good, found.digest) == (True, digest)
        signed = replace(demand, image=replace(demand.image, digest=digest))
        assert (await answered(lambda: made.signed(signed, KEY), told)).good
    assert set(names) == {"ours"}


async def test_a_login_that_cannot_be_read_is_told_without_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def login(name: str) -> RegistryLogin:
        raise ClientCredentialsError(HostReason.SECRET_NOT_OPTED_IN, f"Secret x/{name} has not opted in")

    async with PrivateRegistry(tmp_path, "Basic") as registry, RegistryClient() as client:
        asked = PolicyRegistry.model_validate(
            {"host": registry.host, "credentialsSecretRef": {"name": "ours"}, "caCertificates": registry.authority}
        )
        made, told = verification(client, login)
        demand = Demand(Reference(registry.host, "a", "1"), (), "", asked)
        found = await answered(lambda: made.digest_of(demand, KEY), told)
    assert not found.certain
    assert "an administrator has to mend spec.registries" in found.message
    assert "ours" not in found.message
    assert "Secret x/ours has not opted in" in caplog.text
    assert registry.told == []
