"""Somebody gets an image to run that no policy permits, or has the operator ask what it should not.

Who creates sandboxes names images; who may push to a repository, or runs a registry, decides what is answered about
them. For each way around, the check that one would write first is here too, and is seen to be fooled: a tag that is
verified and then pulled, a name that begins as a permitted one, one signed part of an index, any signature by the right
key, answers that are read whole and redirects that are followed. What closes them: a digest is verified and that digest
runs; names are compared as runtimes complete them; what is signed has to name the very digest; and what is asked for is
bounded in size, number and place.
"""

import contextlib
import gzip
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from cryptography.hazmat.primitives.asymmetric import ec
from gate_place import GatePlace, refused, wants_signatures
from image_registry import MANIFEST, ImageRegistry, PrivateRegistry, digest_of
from pydantic import ValidationError
from signing import bundle, put_bundle, put_statement, sign, signed, statement

from claude_sandbox.api.references import Reference
from claude_sandbox.controller.images import signatures
from claude_sandbox.controller.images.registry import reach
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.registry.reach import LARGEST, RegistryError, Way
from claude_sandbox.controller.images.statements import MOST

OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
INDEX = "application/vnd.oci.image.index.v1+json"
PLAIN = Way(plain_http=True)


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry() as found:
        yield found


@pytest.fixture
async def place() -> AsyncIterator[GatePlace]:
    found = GatePlace()
    yield found
    await found.gate.close()


def is_signed(registry: ImageRegistry, repository: str, digest: str, key: ec.EllipticCurvePrivateKey = OURS) -> bool:
    """The check that one would write first: there is a signature by the key."""
    found = registry.manifests.get((repository, f"{digest.replace(':', '-')}.sig"))
    if found is None:
        return False
    for layer in json.loads(found[1])["layers"]:
        payload, said = registry.blobs[layer["digest"]], layer["annotations"][signatures.SIGNATURE]
        named = json.loads(payload)["critical"]["image"]["docker-manifest-digest"]
        if signatures.is_statement(payload, said, named, [key.public_key()]):
            return True
    return False


def pulled(registry: ImageRegistry, reference: str) -> str:
    """The digest of what a runtime pulls by a name."""
    name = reference.removeprefix(f"{registry.host}/")
    repository, _, digest = name.partition("@")
    repository, _, tag = repository.partition(":")
    return digest_of(registry.manifests[repository, digest or tag][1])


async def test_a_tag_that_is_moved_between_the_look_and_the_pull(registry: ImageRegistry, place: GatePlace) -> None:
    good = registry.put("a", "1", "good")
    sign(registry, "a", good, OURS)
    place.policy(**wants_signatures(registry, OURS))
    assert is_signed(registry, "a", pulled(registry, f"{registry.host}/a:1"))
    found = await place.told(repository=f"{registry.host}/a", tag="1")
    evil = registry.put("a", "1", "evil")
    assert pulled(registry, f"{registry.host}/a:1") == evil
    assert pulled(registry, found.image.reference) == good
    # Nor is it another one for the sandbox's next workload.
    assert pulled(registry, (await place.told(repository=f"{registry.host}/a", tag="1")).image.reference) == good


async def test_a_digest_beside_a_tag_that_is_good(registry: ImageRegistry, place: GatePlace) -> None:
    """The tag is what people read, the digest what runs: a check of the tag says nothing."""
    sign(registry, "a", registry.put("a", "1", "good"), OURS)
    evil = registry.put("a", "2", "evil")
    place.policy(**wants_signatures(registry, OURS))
    assert is_signed(registry, "a", pulled(registry, f"{registry.host}/a:1"))
    assert pulled(registry, f"{registry.host}/a:1@{evil}") == evil
    refused(await place.told(repository=f"{registry.host}/a", tag="1", digest=evil))


async def test_the_digest_of_another_repository(registry: ImageRegistry, place: GatePlace) -> None:
    """What a node or an engine has already, of a repository that may not be named, by a name that may."""
    evil = registry.put("evil", "1", "evil")
    place.policy(**wants_signatures(registry, OURS))
    refused(await place.told(repository=f"{registry.host}/good", digest=evil))
    # Who signs for one repository does not sign for another whose key is another one.
    sign(registry, "evil", evil, THEIRS)
    registry.manifests["good", f"{evil.replace(':', '-')}.sig"] = registry.manifests[
        "evil", f"{evil.replace(':', '-')}.sig"
    ]
    assert is_signed(registry, "good", evil, THEIRS)
    later = GatePlace()
    later.policy(**wants_signatures(registry, OURS))
    refused(await later.told(repository=f"{registry.host}/good", digest=evil))
    await later.gate.close()


@pytest.mark.parametrize("form", ["statement", "bundle"])
async def test_the_signature_of_another_image(registry: ImageRegistry, place: GatePlace, form: str) -> None:
    good, evil = registry.put("a", "1", "good"), registry.put("a", "2", "evil")
    if form == "statement":
        put_statement(registry, "a", evil, statement(good), signed(OURS, statement(good)))
        assert is_signed(registry, "a", evil)
    else:
        put_bundle(registry, "a", evil, bundle(OURS, good))
    place.policy(**wants_signatures(registry, OURS))
    refused(await place.told(repository=f"{registry.host}/a", tag="2"))


def begins_as(permitted: str, name: str) -> bool:
    """The check that one would write first."""
    return name.startswith(permitted)


@pytest.mark.parametrize(
    ("permitted", "name"),
    [
        ("ghcr.io/acme", "ghcr.io/acme-evil/x"),
        ("ghcr.io/acme", "ghcr.io/acme/../evil/x"),
        ("ghcr.io/acme", "ghcr.io/acme@evil.example/x"),
        ("ghcr.io", "ghcr.io.evil.example/x"),
        ("ghcr.io", "ghcr.io:8443/x"),
        ("ghcr.io", "ghcr.io:pass@evil.example/x"),
        ("docker.io/library/python", "docker.io/library/python-evil"),
        ("registry", "registry.evil.example/x"),
    ],
)
async def test_a_name_that_begins_as_one_that_is_permitted(place: GatePlace, permitted: str, name: str) -> None:
    assert begins_as(permitted, name)
    place.policy(permitted=[{"repository": permitted}])
    try:
        refused(place.ask(repository=name, tag="1"))
    except ValidationError:
        return  # It names no image at all.


@pytest.mark.parametrize(
    "name", ["python", "docker.io/python", "index.docker.io/library/python", "index.docker.io/python", "library/python"]
)
async def test_another_name_of_an_image_that_is_pinned(place: GatePlace, name: str) -> None:
    pinned, evil = "sha256:" + "a" * 64, "sha256:" + "e" * 64
    full = "docker.io/library/python"
    assert name != full
    pins = [{"repository": full, "tag": "3", "digest": pinned}]
    place.policy(permitted=[{"repository": full}], pins=pins)
    assert place.ask(repository=name, tag="3").image.digest == pinned
    refused(place.ask(repository=name, tag="3", digest=evil))
    refused(place.ask(repository=f"{name}-evil", tag="3"))


@pytest.mark.parametrize("name", ["GHCR.IO/acme/x", "ghcr.io:443/acme/x", "Acme/x", "ghcr.io./acme/x"])
async def test_another_spelling_of_a_registry_is_another_registry(place: GatePlace, name: str) -> None:
    """A node may have other mirrors and logins for it, so that what is said of one says nothing of the other."""
    place.policy(permitted=[{"repository": "ghcr.io/acme"}, {"repository": "docker.io/acme"}])
    try:
        refused(place.ask(repository=name, tag="1"))
    except ValidationError:
        return


async def test_an_index_of_which_one_part_is_signed(registry: ImageRegistry, place: GatePlace) -> None:
    """The tag becomes an index: what is signed for a platform that no node has, and something else for the others."""
    good, evil = registry.put("a", "good", "good"), registry.put("a", "evil", "evil")
    sign(registry, "a", good, OURS)

    def part(digest: str, architecture: str) -> dict[str, Any]:
        platform = {"os": "linux", "architecture": architecture}
        return {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": platform}

    parts = [part(good, "s390x"), part(evil, "amd64"), part(evil, "arm64")]
    index = registry.put_manifest("a", "1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": parts})
    assert any(is_signed(registry, "a", one["digest"]) for one in parts)
    place.policy(**wants_signatures(registry, OURS))
    refused(await place.told(repository=f"{registry.host}/a", tag="1"))
    # What is signed as a whole has only the parts that it had then.
    sign(registry, "a", index, OURS)
    later = GatePlace()
    later.policy(**wants_signatures(registry, OURS))
    assert (await later.told(repository=f"{registry.host}/a", tag="1")).image.digest == index
    await later.gate.close()


async def test_a_registry_that_gives_something_else_under_a_digest(registry: ImageRegistry, place: GatePlace) -> None:
    good, evil = registry.put("a", "1", "good"), registry.put("a", "2", "evil")
    sign(registry, "a", good, OURS)
    registry.manifests["a", "1"] = registry.manifests["a", "2"]

    async def lies(request: web.Request) -> web.StreamResponse | None:
        """By its header the tag is still what it was."""
        if not request.path.endswith("/manifests/1"):
            return None
        headers = {"Docker-Content-Digest": good, "Content-Type": MANIFEST}
        return web.Response(body=registry.manifests["a", "2"][1], headers=headers)

    registry.elsewhere = {"/v2": lies}
    async with aiohttp.ClientSession() as session, session.get(f"http://{registry.host}/v2/a/manifests/1") as answer:
        assert is_signed(registry, "a", answer.headers["Docker-Content-Digest"])
    place.policy(**wants_signatures(registry, OURS))
    assert evil in refused(await place.told(repository=f"{registry.host}/a", tag="1"))


class Endless:
    """Answers that have no end; `sent`: bytes of them."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": MANIFEST})
        await answer.prepare(request)
        while self.sent < 64 << 20:
            await answer.write(b" " * (1 << 20))
            self.sent += 1 << 20
        return answer


async def test_an_answer_without_an_end(registry: ImageRegistry) -> None:
    endless = Endless()
    registry.elsewhere = {"/v2": endless}
    async with aiohttp.ClientSession() as session, session.get(f"http://{registry.host}/v2/a/manifests/1") as answer:
        assert len(await answer.read()) == 64 << 20
    endless.sent = 0
    async with RegistryClient() as client:
        with pytest.raises(RegistryError, match="more than 4 MiB"):
            await client.manifest(Reference(registry.host, "a", "1"), "1", PLAIN)
    # What the kernel takes beyond it is some megabytes.
    assert endless.sent < 40 << 20


async def test_an_answer_that_becomes_large_when_it_is_unpacked(registry: ImageRegistry) -> None:
    packed = gzip.compress(b" " * (256 << 20), 9)
    assert len(packed) < LARGEST

    async def packs(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    registry.elsewhere = {"/v2": packs}
    async with aiohttp.ClientSession() as session, session.get(f"http://{registry.host}/v2/a/manifests/1") as answer:
        assert len(await answer.read()) == 256 << 20
    async with RegistryClient() as client:
        with pytest.raises(RegistryError, match="can't be read"):
            await client.manifest(Reference(registry.host, "a", "1"), "1", PLAIN)


async def test_an_answer_that_is_deep(registry: ImageRegistry, place: GatePlace) -> None:
    async def deep(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b'{"a":' * 500_000)

    registry.elsewhere = {"/v2": deep}
    place.policy(**wants_signatures(registry, OURS))
    found = await place.told(repository=f"{registry.host}/a", tag="1")
    assert found.held


class Internal(PrivateRegistry):
    """A server of the operator's network that no policy names. `reached`: what it was asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "Basic")
        self.reached: list[str] = []

        async def tells(request: web.Request) -> web.StreamResponse:
            self.reached.append(request.path)
            return web.json_response({"token": "a-token-of-the-network"})

        self.elsewhere = {"/": tells}

    @property
    def port(self) -> str:
        return self.host.rpartition(":")[2]


INSIDE = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0.0.0.0"]  # noqa: S104


@pytest.mark.parametrize("where", ["a redirect", "a token server"])
async def test_a_registry_that_leads_the_operator_into_its_network(tmp_path: Path, where: str) -> None:
    async with Internal(tmp_path) as internal, PrivateRegistry(tmp_path, "Bearer") as registry:
        registry.put("a", "1")
        target = ""

        async def redirects(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": target})

        if where == "a redirect":
            registry.elsewhere = {"/v2": redirects}
        way = Way(authorities=registry.authority + internal.authority)
        # Nothing stops who follows what he is told.
        target = f"https://127.0.0.1:{internal.port}/inside"
        if where == "a redirect":
            async with aiohttp.ClientSession() as session:
                await session.get(f"https://{registry.host}/v2/a/manifests/1", ssl=False)
            assert internal.reached == ["/inside"]
            internal.reached.clear()
        async with RegistryClient() as client:
            for host in INSIDE:
                for scheme in ("https", "http"):
                    target = registry.realm = f"{scheme}://{host}:{internal.port}/inside"
                    with pytest.raises(RegistryError):
                        await client.manifest(Reference(registry.host, "a", "1"), "1", way)
            assert internal.reached == []
            # It is there, for who was let.
            target = registry.realm = f"https://127.0.0.1:{internal.port}/inside"
            let = replace(way, leads_to=(internal.host,))
            with pytest.raises(RegistryError) if where == "a token server" else contextlib.nullcontext():
                await client.manifest(Reference(registry.host, "a", "1"), "1", let)
        assert internal.reached == ["/inside"]


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.1.1", "::1", "fd00::1", "fe80::1%eth0", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:808:808::1", "2002:a00:1::1", "224.0.0.1",
     "240.0.0.1", "168.63.129.16", "2a00:1450::5efe:a00:1", "::ffff:0:10.0.0.1"],
)  # fmt: skip
async def test_a_name_that_has_an_address_inside_beside_a_public_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a name's addresses may change them at any time: what is connected to is what was judged."""

    def resolved(host: str) -> ResolveResult:
        return {"hostname": "evil.example", "host": host, "port": 443, "family": 2, "proto": 0, "flags": 0}

    # The second is the same behind a network's NAT64, where a cluster of IPv6 alone sees it.
    found = [resolved("93.184.215.14"), resolved("64:ff9b::5db8:d70e")]

    async def resolve(*_: Any) -> list[ResolveResult]:
        return found

    resolver = reach._PublicResolver()
    monkeypatch.setattr(resolver._all, "resolve", resolve)
    assert await resolver.resolve("evil.example") == found
    found.append(resolved(address))
    with pytest.raises(OSError, match="not public"):
        await resolver.resolve("evil.example")


async def test_redirects_without_an_end(registry: ImageRegistry) -> None:
    asked = 0

    async def leads_on(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=302, headers={"Location": f"{request.path}x"})

    registry.elsewhere = {"/v2": leads_on}
    async with RegistryClient() as client:
        with pytest.raises(RegistryError, match="from one place to the next"):
            await client.manifest(Reference(registry.host, "a", "1"), "1", PLAIN)
    assert asked < 6


def junk(registry: ImageRegistry, count: int, *, there: bool = True) -> list[dict[str, Any]]:
    """Signatures by nobody of anybody."""
    found = []
    for number in range(count):
        payload = statement("sha256:" + f"{number:064x}")
        if there:
            registry.blobs[digest_of(payload)] = payload
        said = {signatures.SIGNATURE: "bm8="}
        found.append({"mediaType": signatures.SIMPLE_SIGNING, "digest": digest_of(payload), "annotations": said})
    return found


@pytest.mark.parametrize("there", [True, False], ids=["which are there", "which are not"])
async def test_signatures_in_the_hundreds(registry: ImageRegistry, place: GatePlace, *, there: bool) -> None:
    """Who may push and not sign buries what is signed, or keeps the operator busy."""
    digest = registry.put("a", "1")
    sign(registry, "a", digest, OURS)
    tag = f"{digest.replace(':', '-')}.sig"
    good = json.loads(registry.manifests["a", tag][1])["layers"]
    layers = junk(registry, 500, there=there) + good
    registry.put_manifest("a", tag, {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers})
    place.policy(**wants_signatures(registry, OURS))
    # Asking for each of them works too, and costs what somebody else decides.
    registry.asked.clear()
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == digest
    assert len(registry.asked) < MOST + 10


async def test_attestations_and_broken_bundles_hide_no_signature(registry: ImageRegistry, place: GatePlace) -> None:
    digest = registry.put("a", "1")
    put_bundle(registry, "a", digest, bundle(OURS, digest))
    index = json.loads(registry.manifests["a", digest.replace(":", "-")][1])
    sbom = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "artifactType": "application/vnd.cyclonedx+json"}
    broken = {"mediaType": MANIFEST, "digest": "no digest at all", "artifactType": f"{signatures.BUNDLE}.v0.3+json"}
    mine = index["manifests"][0] | {"annotations": {signatures.PREDICATE: signatures.SIGNED}}
    many = [sbom] * 200 + [broken] * 200 + [mine]
    registry.put_manifest("a", digest.replace(":", "-"), index | {"manifests": many})
    registry.asked.clear()
    place.policy(**wants_signatures(registry, OURS))
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == digest
    assert len(registry.asked) < MOST + 10


def filled(number: int) -> bytes:
    return b"%04d" % number * (512 << 10)


@pytest.mark.parametrize("where", ["blobs", "values"])
async def test_what_is_large_together_is_never_in_memory_at_once(
    registry: ImageRegistry, place: GatePlace, where: str
) -> None:
    """Who may push and not sign has as many statements looked at as there may be, each as large as one may be."""
    digest = registry.put("a", "1")
    sign(registry, "a", digest, OURS)
    tag = f"{digest.replace(':', '-')}.sig"
    good = json.loads(registry.manifests["a", tag][1])["layers"]
    # Twice 2 MiB make a small part of what is held by who keeps all 60; a value of two bytes takes sixty.
    large = {f"sha256:{hashlib.sha256(filled(one)).hexdigest()}": one for one in range(60 if where == "blobs" else 0)}

    async def given(request: web.Request) -> web.StreamResponse:
        content = filled(large[request.path.rpartition("/")[2]])
        return web.Response(body=content)

    registry.elsewhere = {f"/v2/a/blobs/{one}": given for one in large}
    said = {signatures.SIGNATURE: "bm8="}
    layers = [{"mediaType": signatures.SIMPLE_SIGNING, "digest": one, "annotations": said} for one in large]
    registry.put_manifest("a", tag, {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [*layers, *good]})
    if where == "values":
        registry.put_manifest("a", digest.replace(":", "-"), {"manifests": [[]] * 900_000})
    place.policy(**wants_signatures(registry, THEIRS if where == "values" else OURS))
    tracemalloc.start()
    try:
        found = await place.told(repository=f"{registry.host}/a", tag="1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (where == "blobs") == (found.image.digest == digest and found.failure is None)
    assert peak < 40 << 20
