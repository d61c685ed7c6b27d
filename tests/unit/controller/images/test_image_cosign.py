"""What the real cosign signs counts as signed, in each of its forms; it is built once, which takes a while."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from image_registry import ImageRegistry
from nodekit import report
from own_sigstore import Sigstore
from signing import put_bundles

from claude_sandbox.api.kinds.image_policies import PolicyRegistry
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import RegistryLogin
from claude_sandbox.controller.images.policies import Demand, Signers
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.signatures import public_key
from claude_sandbox.controller.images.verification import Answer, Verification
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.localcluster.programs import builder, tools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FORMS: Mapping[str, tuple[str, ...]] = {
    "at a tag": ("--new-bundle-format=false",),
    "a bundle that refers to the image": (),
}


async def cosign(program: Path, directory: Path, *arguments: str) -> None:
    """Run it with keys in a directory, without a password."""
    environment = {**os.environ, "COSIGN_PASSWORD": "", "HOME": str(directory)}
    process = await asyncio.create_subprocess_exec(
        program, *arguments, cwd=directory, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def no_login(_name: str) -> RegistryLogin:
    raise AssertionError


async def answer(client: RegistryClient, demand: Demand) -> Answer:
    """What comes of asking the registry."""
    told = asyncio.Event()
    verification = Verification(client, lambda _key: told.set(), no_login)
    assert verification.signed(demand, Key("agents", "alice")) is None
    await told.wait()
    found = verification.signed(demand, Key("agents", "alice"))
    assert found is not None
    return found


@pytest.mark.parametrize("form", FORMS)
async def test_what_cosign_signs_is_signed_and_by_nobody_else(form: str, tmp_path: Path) -> None:
    program = await asyncio.to_thread(builder.build, tools.tool("cosign", ""), report)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        await cosign(program, tmp_path / name, "generate-key-pair")
    ours, theirs = (public_key((tmp_path / name / "cosign.pub").read_text()) for name in ("ours", "theirs"))
    async with ImageRegistry() as registry, RegistryClient() as client:
        image = Reference(registry.host, "a", digest=registry.put("a", "1"))
        offline = ("--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", "--yes")
        await cosign(program, tmp_path / "ours", "sign", "--key", "cosign.key", *offline, *FORMS[form], str(image))
        asked = PolicyRegistry(host=registry.host, plain_http=True)
        assert (await answer(client, Demand(image, (Signers("p", (ours,)),), "ours", asked))).good
        refused = await answer(client, Demand(image, (Signers("p", (theirs,)),), "theirs", asked))
        assert (refused.certain, refused.good) == (True, False)


SBOM, SCAN = "https://cyclonedx.org/bom", "https://cosign.sigstore.dev/attestation/vuln/v1"


@pytest.mark.parametrize("form", FORMS)
async def test_what_cosign_attests_is_attested_and_nothing_else(form: str, tmp_path: Path) -> None:
    program = await asyncio.to_thread(builder.build, tools.tool("cosign", ""), report)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        await cosign(program, tmp_path / name, "generate-key-pair")
    ours, theirs = (public_key((tmp_path / name / "cosign.pub").read_text()) for name in ("ours", "theirs"))
    (tmp_path / "ours" / "bom.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}')
    async with ImageRegistry() as registry, RegistryClient() as client:
        image = Reference(registry.host, "a", digest=registry.put("a", "1"))
        offline = ("--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", "--yes")
        said = ("--type", "cyclonedx", "--predicate", "bom.json")
        await cosign(
            program, tmp_path / "ours", "attest", "--key", "cosign.key", *said, *offline, *FORMS[form], str(image)
        )
        asked = PolicyRegistry(host=registry.host, plain_http=True)
        for keys, predicate, good in (
            (ours, SBOM, True), (theirs, SBOM, False), (ours, SCAN, False), (ours, "", False),
        ):  # fmt: skip
            demand = Demand(image, (Signers("p", (keys,), predicate=predicate),), "words", asked)
            assert (await answer(client, demand)).good is good, (predicate, good)


async def test_cosign_takes_what_a_sigstore_of_our_own_signs(tmp_path: Path) -> None:
    """The other tests of signatures without keys rest on that Sigstore, so that somebody else has to believe it too."""
    program = await asyncio.to_thread(builder.build, tools.tool("cosign", ""), report)
    ours, issuer, subject = Sigstore(), "https://token.example", "https://github.com/acme/agents@refs/heads/main"
    (tmp_path / "root.json").write_text(ours.trusted_root)
    async with ImageRegistry() as registry:
        digest = registry.put("a", "1")
        attested = ours.sign(digest, issuer, subject, predicate=SBOM)
        put_bundles(registry, "a", digest, ours.sign(digest, issuer, subject), attested)
        how = ("--trusted-root=root.json", "--allow-http-registry", "--offline", f"{registry.host}/a@{digest}")
        who = (f"--certificate-identity={subject}", f"--certificate-oidc-issuer={issuer}")
        await cosign(program, tmp_path, "verify", *who, *how)
        await cosign(program, tmp_path, "verify-attestation", "--type", SBOM, *who, *how)
        with pytest.raises(AssertionError):
            await cosign(program, tmp_path, "verify-attestation", "--type", SCAN, *who, *how)
        with pytest.raises(AssertionError):
            await cosign(program, tmp_path, "verify", "--certificate-identity=another", who[1], *how)
