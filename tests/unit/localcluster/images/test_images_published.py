"""What is published is what was built, and the real cosign and the operator's own policies believe who signed it."""

import asyncio
import os
from pathlib import Path

import pytest
from image_registry import ImageRegistry
from nodekit import report

from claude_sandbox.api.kinds.image_policies import PolicyRegistry
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import RegistryLogin
from claude_sandbox.controller.images.policies import Demand, Signers
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.signatures import public_key
from claude_sandbox.controller.images.verification import Verification
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import NAMES, build_image
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.images.publish import Publisher
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE
from claude_sandbox.localcluster.images.sbom import MEDIA_TYPE, document
from claude_sandbox.localcluster.programs import builder, tools
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

SKOPEO = Needed(("skopeo",), ("skopeo",))


async def no_login(_name: str) -> RegistryLogin:
    raise AssertionError


async def is_believed(client: RegistryClient, image: Reference, signers: Signers) -> bool:
    """Whether a policy that asks for it permits the image."""
    told = asyncio.Event()
    verification = Verification(client, lambda _key: told.set(), no_login)
    asked = PolicyRegistry(host=image.registry, plain_http=True)
    demand = Demand(image, (signers,), "words", asked)
    assert verification.signed(demand, Key("agents", "alice")) is None
    await told.wait()
    found = verification.signed(demand, Key("agents", "alice"))
    assert found is not None
    return found.good


def test_without_what_pushes_the_remedy_is_said(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"program")
    image = of_programs({"/program": program}, tmp_path / "a.tar", "example.test/thing:1", "amd64", ("/program",))
    publisher = Publisher("registry.test/ours", None, report, environment={"PATH": str(tmp_path)})
    with pytest.raises(LocalClusterError, match="skopeo is not there"):
        publisher.publish(image)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_what_is_published_is_signed_and_its_parts_are_attested(tmp_path: Path) -> None:
    cosign = await asyncio.to_thread(builder.build, tools.tool("cosign", ""), report)
    skopeo = await asyncio.to_thread(ensure, SKOPEO, report)
    found = skopeo.environment()
    own = {"PATH": f"{tmp_path}:{found['PATH']}", "COSIGN_PASSWORD": "", "HOME": str(tmp_path)}
    environment = {**os.environ, **found, **own}
    (tmp_path / "cosign").symlink_to(cosign)

    async def run(*command: str) -> int:
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment)
        return await process.wait()

    assert await run("cosign", "generate-key-pair") == 0
    program = tmp_path / "program"
    program.write_bytes(b"program")
    image = of_programs({"/program": program}, tmp_path / "a.tar", "example.test/thing:1", "amd64", ("/program",))
    async with ImageRegistry() as registry, RegistryClient() as client:
        to = f"{registry.host}/ours"
        publisher = Publisher(to, tmp_path / "cosign.key", report, True, environment)
        pinned = await asyncio.to_thread(publisher.publish, image)
        assert pinned == f"{to}/thing@{image.digest}"
        how = ("--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry")
        assert await run("cosign", "verify", *how, pinned) == 0
        assert await run("cosign", "verify-attestation", "--type", "cyclonedx", *how, pinned) == 0
        ours = (public_key((tmp_path / "cosign.pub").read_text()),)
        there = Reference(registry.host, "ours/thing", digest=image.digest)
        for predicate in ("", MEDIA_TYPE):
            assert await is_believed(client, there, Signers("p", ours, predicate=predicate)), predicate


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(3600)
def test_of_each_image_it_is_said_what_it_is_made_of() -> None:
    parts = {name: document(build_image(name, report), CLAUDE_CODE)["components"] for name in NAMES}
    packages = {name: {one["purl"].partition("@")[0] for one in found} for name, found in parts.items()}
    assert {"pkg:deb/debian/git", "pkg:npm/%40anthropic-ai/claude-code"} <= packages["sandbox"]
    assert {"pkg:deb/debian/restic", "pkg:pypi/kopf", "pkg:pypi/claude-sandbox-operator"} <= packages["operator"]
    assert all(one["version"] for found in parts.values() for one in found)
