"""A tenant runs what it may not: images of private registries, of the host's own, with labels that others act upon.

Images were pulled with whatever credentials the operator's own user had for a registry; any image that a host had could
be run; the labels of an image became the container's, so that a hostile one gave itself a route in a reverse proxy, a
place in a Compose project, or the operator's own labels; and what was pulled stayed for ever. Now a DockerHost says
which images may be named and what is logged in with, labels of images are made empty, forged ones refused, and images
that the operator had pulled go when nothing needs them, and no others.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_world import desired_of, live_of
from dockerkit import CLUSTER, IMAGE, Sandbox, make_stand_in, sandbox
from small_registry import registry

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.docker_hosts.spec import HostImages
from claude_sandbox.api.references import Reference
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError, RegistryLogin
from claude_sandbox.backends.docker.images.pulls import SHARE, ImageMissingError, ImagePendingError, ImagePulls
from claude_sandbox.backends.docker.images.registry_auth import RegistryLogins
from claude_sandbox.backends.docker.images.store import MARKER, ImageStore
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.node.namespaces import enter_network

PORT = 5012
DIGEST = "sha256:" + "a" * 64
HOSTILE = {
    "traefik.enable": "true",
    "traefik.http.routers.bank.rule": "Host(`bank.example`)",
    "com.docker.compose.project": "bank",
    "com.docker.swarm.service.name": "bank",
    "ofelia.enabled": "true",
}


def images(*allowed: str, digest: bool = False, **logins: str) -> HostImages:
    return HostImages.model_validate(
        {
            "allowed": [{"repository": one, "requireDigest": digest} for one in allowed],
            "credentials": [{"repository": one, "secretRef": {"name": name}} for name, one in logins.items()],
        }
    )


def named(repository: str, tag: str | None = "1", digest: str | None = None) -> NamedImage:
    return NamedImage.model_validate({"repository": repository, "tag": tag, "digest": digest})


@pytest.mark.parametrize(
    ("allowed", "repository", "may"),
    [
        ((), "ghcr.io/acme/claude", False),
        (("ghcr.io/acme",), "ghcr.io/acme/claude", True),
        (("ghcr.io/acme",), "ghcr.io/acmes/claude", False),
        (("ghcr.io/acme",), "GHCR.io/acme/claude", False),
        (("ghcr.io/acme",), "acme/claude", False),
        (("docker.io/acme",), "Acme/claude", False),
        (("docker.io/acme",), "acme/claude", True),
        (("docker.io/library/python",), "python", True),
        # What somebody built on the host, or loaded.
        (("ghcr.io",), "localhost/build", False),
        (("ghcr.io",), "vault", False),
        (("*",), "vault", True),
    ],
)
def test_a_host_has_the_images_run_that_its_administrator_allows(
    allowed: tuple[str, ...], repository: str, may: bool
) -> None:
    assert images(*allowed).permits(named(repository)) is may
    assert images(*allowed, digest=True).permits(named(repository)) is False
    assert images(*allowed, digest=True).permits(named(repository, None, DIGEST)) is may
    assert images(*allowed).permits(None), "the operator's own default"


class Secrets:
    def __init__(self) -> None:
        self.read: list[str] = []

    async def login(self, name: str) -> RegistryLogin:
        self.read.append(name)
        if name == "gone":
            raise ClientCredentialsError(HostReason.SECRET_NOT_FOUND, "There is no Secret ops/gone")
        return RegistryLogin(name, "pw")


@pytest.mark.parametrize(
    ("repository", "whose"),
    [
        ("ghcr.io/acme/team/x", "team"),
        ("ghcr.io/acme/other", "acme"),
        ("ghcr.io/acme-evil/x", None),
        ("ghcr.io.evil.example/acme/x", None),
        ("evil.example/ghcr.io/acme/x", None),
    ],
)
def test_a_registry_is_logged_in_to_for_the_repositories_that_an_administrator_names(
    repository: str, whose: str | None
) -> None:
    secrets = Secrets()
    said = images("*", acme="ghcr.io/acme", team="ghcr.io/acme/team")
    registry_, _, path = repository.partition("/")
    found = asyncio.run(RegistryLogins("h", secrets, lambda: said).of(Reference(registry_, path, "1")))
    assert (found or {}).get("username") == whose
    assert secrets.read == ([whose] if whose else [])


def test_a_secret_for_a_registry_is_not_named_to_tenants() -> None:
    of = RegistryLogins("h", Secrets(), lambda: images("*", gone="ghcr.io/acme")).of
    with pytest.raises(ImageMissingError) as error:
        asyncio.run(of(Reference("ghcr.io", "acme/x", "1")))
    assert "gone" not in str(error.value)


def test_a_label_that_the_operator_did_not_give_is_drift() -> None:
    desired = desired_of()
    live = live_of(desired)
    assert live.container is not None

    def differences(labels: dict[str, str]) -> tuple[str, ...]:
        assert live.container is not None
        config = live.container["Config"]
        changed = {**live.container, "Config": {**config, "Labels": {**config["Labels"], **labels}}}
        found = drift.container_differences(desired.documents.container, changed, live.image, desired.capabilities)
        return tuple(path for path in found.fixed if "Labels" in path)

    assert differences({}) == ()
    assert differences(dict.fromkeys(HOSTILE, "")) == ()
    assert differences({"traefik.enable": "true"}) == ("Config.Labels.traefik.enable",)


@contextlib.contextmanager
def labelled(one: Sandbox, labels: dict[str, str]) -> Any:
    """An image as the sandbox's, with labels."""
    made = one.sdk.api.create_container(IMAGE)
    try:
        changes = [f"LABEL {key}={value}" for key, value in labels.items()]
        found = one.sdk.api.commit(made["Id"], changes=changes)["Id"]
    finally:
        one.sdk.api.remove_container(made["Id"])
    try:
        yield found
    finally:
        one.sdk.api.remove_image(found, force=True)


@pytest.mark.engine
async def test_nothing_acts_upon_the_labels_of_an_image(host: EngineDescription) -> None:
    async with sandbox(host, "labels") as one:
        with labelled(one, HOSTILE) as found:
            one.image = found
            await one.made()
            labels = one.inspected["Config"]["Labels"]
            assert {key: labels.get(key) for key in HOSTILE} == dict.fromkeys(HOSTILE, "")
            assert not one.sdk.api.containers(filters={"label": ["com.docker.compose.project=bank"]})
            assert not one.sdk.api.containers(filters={"label": ["traefik.enable=true"]})
            # And that is no drift.
            last = (await one.settled())[-1]
            assert not last.drifted
            await one.backend.remove(one.identity, retain=False)


@pytest.mark.by_turns
@pytest.mark.engine
async def test_an_image_with_labels_of_the_operators_is_refused(host: EngineDescription) -> None:
    async with sandbox(host, "forged") as one:
        with labelled(one, {"claudesandbox.dev/component": "helper"}) as found:
            one.image = found
            outcome = await one.once()
            assert outcome.failure is not None
            assert outcome.failure.reason is Reason.IMAGE_NOT_ALLOWED
            assert not one.sdk.api.containers(all=True, filters={"name": [one.names.container]})


@pytest.mark.by_turns
@pytest.mark.engine
async def test_an_image_that_is_on_the_host_is_not_run_unless_it_is_allowed(host: EngineDescription) -> None:
    repository, _, tag = IMAGE.rpartition(":")
    said = images("ghcr.io")

    def permits(image: NamedImage | None) -> bool:
        return image is None or said.permits(image)

    wanted = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    async with sandbox(host, "local", permits=permits, image=wanted) as one:
        outcome = await one.once()
        assert outcome.failure is not None
        assert (outcome.failure.reason, outcome.failure.permanent) == (Reason.IMAGE_NOT_ALLOWED, True)
        assert "spec.images.allowed" in outcome.failure.message
        assert not one.running
        said = images(repository.partition("/")[0])
        await one.made()
        # It goes on when it is not allowed any more, and that is a failing control.
        said = images()
        await one.settled()
        assert one.running
        compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
        assert "IMG-02" in [control.id for control in compliance.controls if control.result == "Fail"]
        # Once it has ended it is not started again.
        one.sdk.api.kill(one.names.container)
        await asyncio.sleep(1)
        await one.once()
        assert not one.running


@pytest.mark.by_turns
@pytest.mark.engine
async def test_images_that_the_operator_had_pulled_go_and_no_others(host: EngineDescription, tmp_path: Path) -> None:
    archive = await asyncio.to_thread(make_stand_in, tmp_path, "pulled")
    theirs, ours = (Image(f"127.0.0.1:{PORT}/{name}:1", None, "IfNotPresent") for name in ("theirs", "ours"))
    now = [time.time()]
    async with _pulling(host, archive.path, tmp_path / "gate") as one:
        store = ImageStore(one.engine, CLUSTER, lambda: now[0])
        pulls = ImagePulls(one.engine, store=store)
        await _provided(pulls, ours)
        mine = one.sdk.images.get(ours.reference)
        assert any(tag.startswith(MARKER) for tag in mine.tags)
        try:
            assert await store.tidy(24) == ()
            # As long as a container is of it, however old.
            container = one.sdk.api.create_container(ours.reference)["Id"]
            now[0] += 100 * 3600
            assert await store.tidy(24) == ()
            assert one.sdk.images.get(ours.reference).id == mine.id
            one.sdk.api.remove_container(container)
            # From then on another day: the store of an operator that was started meanwhile.
            after = ImageStore(one.engine, CLUSTER, lambda: now[0])
            assert await after.tidy(24) == ()
            # Another control plane's are not ours.
            now[0] += 26 * 3600
            assert await ImageStore(one.engine, "another", lambda: now[0]).tidy(24) == ()
            # One that an administrator gave a name stays.
            mine.tag("administrators/own", "1")
            await after.tidy(24)
            assert {*one.sdk.images.get("administrators/own:1").tags} == {"administrators/own:1", ours.reference}
            one.sdk.images.remove("administrators/own:1", force=True)
            one.sdk.images.remove(ours.reference, force=True) if _has(one, ours.reference) else None
            # Of what was there before nothing is remembered.
            one.sdk.images.pull(theirs.reference)
            await _provided(pulls, Image(theirs.reference, None, "Always"))
            assert not any(tag.startswith(MARKER) for tag in one.sdk.images.get(theirs.reference).tags)
            now[0] += 1000 * 3600
            assert await after.tidy(0) == ()
            assert _has(one, theirs.reference)
            one.sdk.images.remove(theirs.reference, force=True)
            # And in the end.
            await _provided(pulls, ours)
            now[0] += 26 * 3600
            assert ours.reference in await after.tidy(24)
            assert not _has(one, ours.reference)
            assert not one.sdk.images.list(name=f"{MARKER}/*")
        finally:
            for image in one.sdk.images.list():
                if any(f":{PORT}/" in tag or tag.startswith(MARKER) for tag in image.tags):
                    one.sdk.images.remove(image.id, force=True)


def _has(one: Sandbox, reference: str) -> bool:
    return any(reference in image.tags for image in one.sdk.images.list())


@contextlib.asynccontextmanager
async def _pulling(host: EngineDescription, archive: Path, gate: Path) -> AsyncIterator[Sandbox]:
    with registry(enter_network(host.names), archive, PORT, gate):
        async with sandbox(host, "puller") as one:
            yield one


async def _provided(pulls: ImagePulls, image: Image) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await pulls.provide(image, ("agents", "puller"))
            except ImagePendingError:
                await asyncio.sleep(0.1)


@pytest.mark.by_turns
@pytest.mark.engine
async def test_a_registry_that_trickles_holds_up_no_other_tenant_of_the_host(
    host: EngineDescription, tmp_path: Path
) -> None:
    archive = await asyncio.to_thread(make_stand_in, tmp_path, "trickling")
    gate = tmp_path / "gate"
    gate.touch()
    async with _pulling(host, archive.path, gate) as alice:
        await alice.made()
        pulls = ImagePulls(alice.engine)
        for number in range(24):
            with pytest.raises(ImagePendingError):
                await pulls.provide(
                    Image(f"127.0.0.1:{PORT}/m{number}:1", None, "IfNotPresent"), ("mallory", f"{number}")
                )
        await asyncio.sleep(1)
        took = []
        for _ in range(100):
            began = time.monotonic()
            outcome = await alice.once()
            took.append(time.monotonic() - began)
            assert outcome.failure is None
        assert sorted(took)[98] < 1.0, sorted(took)[90:]
        assert [pull.task is not None and not pull.task.done() for pull in pulls._pulls.values()].count(True) == SHARE
        assert not any(pull.task is not None and pull.task.done() for pull in pulls._pulls.values())
        await pulls.close()
        gate.unlink()
