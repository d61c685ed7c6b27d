"""Which image a sandbox is let run by the policies, and by which digest."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gate_place import NOW, GatePlace, refused, wants_signatures
from image_registry import ImageRegistry
from signing import attest, bundle, pem_of, put_bundle, put_statement, sign, signed, statement

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.references import Reference
from claude_sandbox.api.status_fields.image import ImageCanary, ImageStatus
from claude_sandbox.backends.base import Trial, WorkloadState
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.controller.images.canaries import under_way
from claude_sandbox.controller.images.measured import Measured
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.registry.reach import RegistryError, Way
from claude_sandbox.controller.images.updates import NO_WORK, Work
from claude_sandbox.kubernetes_api.resources import IMAGE_POLICIES

OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


Places = Callable[..., GatePlace]


@pytest.fixture
async def places() -> AsyncIterator[Places]:
    made: list[GatePlace] = []

    def make(*arguments: Any) -> GatePlace:
        made.append(GatePlace(*arguments))
        return made[-1]

    yield make
    for one in made:
        await one.gate.close()


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry() as found:
        yield found


def signing(registry: ImageRegistry, *keys: ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    return wants_signatures(registry, *(keys or (OURS,)), **more)


async def test_without_policies_nothing_changes_and_nothing_is_asked(places: Places) -> None:
    found = places().ask(repository="registry.test/a", tag="1")
    assert (found.image.reference, found.status, found.held) == ("registry.test/a:1", None, False)


async def test_a_repository_that_no_policy_permits_is_refused_and_below_one_permitted(places: Places) -> None:
    place = places()
    place.policy(permitted=[{"repository": "registry.test/team"}])
    message = refused(place.ask(repository="registry.test/teamsters", tag="1"))
    assert "ClaudeImagePolicy ours" in message
    assert "registry.test/team" in message
    # Docker's own registry by its shortest name is no way around.
    refused(place.ask(repository="python", tag="3"))
    assert not place.ask(repository="registry.test/team/x", tag="1").held
    assert not place.ask().held


async def test_of_several_repositories_the_longest_counts_and_of_several_policies_each(places: Places) -> None:
    place = places()
    place.policy(permitted=[{"repository": "*"}, {"repository": "registry.test/team", "requireDigest": True}])
    refused(place.ask(repository="registry.test/team/x", tag="1"))
    assert not place.ask(repository="registry.test/y", tag="1").held
    assert not place.ask(repository="registry.test/team/x", tag="1", digest=DIGEST).held
    place.policy("theirs", permitted=[{"repository": "registry.test/team"}])
    assert "theirs" in refused(place.ask(repository="registry.test/y", tag="1"))


async def test_a_policy_is_about_the_namespaces_that_it_selects_and_about_those_that_nothing_is_known_of(
    places: Places,
) -> None:
    for labels, about in (({"team": "a"}, True), ({"team": "b"}, False), (None, True)):
        place = places(labels)
        place.policy(permitted=[{"repository": "registry.test/a"}], namespaceSelector={"matchLabels": {"team": "a"}})
        assert place.ask(repository="registry.test/b", tag="1").held is about


async def test_a_policy_that_cannot_be_understood_permits_nothing(places: Places) -> None:
    place = places()
    place.policy(permitted=[{"repository": "*"}], fieldOfTomorrow=True)
    assert "can't be understood" in refused(place.ask(repository="registry.test/b", tag="1"))
    place = places()
    key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    place.policy(permitted=[{"repository": "*", "publicKeys": [key]}])
    assert "publicKeys" in refused(place.ask(repository="registry.test/b", tag="1"))


async def test_a_pinned_tag_runs_the_digest_and_another_is_refused(places: Places) -> None:
    place = places()
    pins = [{"repository": "registry.test/a", "tag": "1", "digest": DIGEST}]
    place.policy(permitted=[{"repository": "*", "requireDigest": True}], pins=pins)
    found = place.ask(repository="registry.test/a", tag="1")
    assert (found.image.reference, found.image.digest) == (f"registry.test/a:1@{DIGEST}", DIGEST)
    assert found.status is not None
    assert found.status.digest == DIGEST
    assert DIGEST in refused(place.ask(repository="registry.test/a", tag="1", digest=OTHER))
    refused(place.ask(repository="registry.test/a", tag="2"))


async def test_what_runs_and_is_refused_is_told_to_who_measures_it(places: Places, registry: ImageRegistry) -> None:
    place = places()
    place.policy(permitted=[{"repository": "registry.test/a"}])
    assert "registry.test/b" in place.ask(repository="registry.test/b", tag="1").refused
    assert not place.ask(repository="registry.test/a", tag="1").refused
    # A silence is no refusal.
    registry.silent = True
    place.policy(**signing(registry))
    assert not (await place.told(repository=f"{registry.host}/a", tag="1")).refused


async def test_the_policy_says_whether_what_runs_ends(places: Places) -> None:
    place = places()
    place.policy(permitted=[{"repository": "registry.test/a"}])
    assert not place.ask(repository="registry.test/b", tag="1").ends
    place.policy(permitted=[{"repository": "registry.test/a"}], running="End")
    assert place.ask(repository="registry.test/b", tag="1").ends


async def test_the_operators_own_image_is_judged_only_where_a_policy_says_so(places: Places) -> None:
    place = places()
    place.policy(permitted=[{"repository": "registry.test/a"}], operatorImage="Judged")
    # Beside an image of its own it is mounted.
    assert "registry.test/operator" in refused(place.ask(repository="registry.test/a", tag="1"))
    assert "registry.test/operator" in refused(place.ask())
    place.policy(permitted=[{"repository": "registry.test"}], operatorImage="Judged")
    assert not place.ask(repository="registry.test/a", tag="1").held


async def test_so_is_another_release_s_where_a_sandbox_asks_for_that(places: Places) -> None:
    place = places()
    place.site = replace(place.site, releases={"3": parse_image("elsewhere.test/operator:3", "IfNotPresent")})
    place.policy(permitted=[{"repository": "registry.test"}], operatorImage="Judged")
    assert not place.ask(repository="registry.test/a", tag="1").held
    place.more = {"claudeCode": {"version": "3"}}
    assert "elsewhere.test/operator" in refused(place.ask(repository="registry.test/a", tag="1"))
    assert "elsewhere.test/operator" in refused(place.ask())


async def test_a_registry_that_no_policy_names_is_not_asked(places: Places, registry: ImageRegistry) -> None:
    place = places()
    place.policy(**signing(registry, registries=[]))
    assert registry.host in refused(place.ask(repository=f"{registry.host}/a", tag="1"))
    assert registry.asked == []


@pytest.mark.parametrize("form", ["statement", "bundle"])
async def test_a_signed_tag_runs_by_the_digest_that_was_verified_wherever_the_tag_goes(
    places: Places, registry: ImageRegistry, form: str
) -> None:
    place, first = places(), registry.put("a", "1", "first")
    if form == "statement":
        sign(registry, "a", first, OURS)
    else:
        put_bundle(registry, "a", first, bundle(OURS, first))
    place.policy(**signing(registry, THEIRS, OURS))
    found = await place.told(repository=f"{registry.host}/a", tag="1")
    assert found.image.reference == f"{registry.host}/a:1@{first}"
    assert found.image.digest == first
    # Somebody moves the tag. What was verified stays what runs.
    registry.put("a", "1", "second")
    assert (await place.told(repository=f"{registry.host}/a", tag="1")).image.digest == first
    # Another operator, later, knows it from the status and verifies it again.
    later = places()
    later.status = place.status
    later.policy(**signing(registry, THEIRS, OURS))
    assert (await later.told(repository=f"{registry.host}/a", tag="1")).image.digest == first


async def test_what_is_not_signed_or_not_by_who_may_is_refused(places: Places, registry: ImageRegistry) -> None:
    place, digest = places(), registry.put("a", "1")
    place.policy(**signing(registry))
    assert "is not signed" in refused(await place.told(repository=f"{registry.host}/a", tag="1"))
    wrong = registry.put("b", "1")
    sign(registry, "b", wrong, THEIRS)
    assert "no signature" in refused(await place.told(repository=f"{registry.host}/b", tag="1"))
    # Signed, but another image.
    other = registry.put("c", "1", "c")
    put_statement(registry, "c", other, statement(digest), signed(OURS, statement(digest)))
    refused(await place.told(repository=f"{registry.host}/c", tag="1"))
    # By its digest no less than by its tag.
    refused(await place.told(repository=f"{registry.host}/c", tag="1", digest=other))


async def test_each_policy_needs_a_signature_of_its_own(places: Places, registry: ImageRegistry) -> None:
    place, digest = places(), registry.put("a", "1")
    sign(registry, "a", digest, OURS)
    put_bundle(registry, "a", digest, bundle(THEIRS, digest))
    place.policy("one", **signing(registry, OURS))
    place.policy("two", **signing(registry, THEIRS))
    assert not (await place.told(repository=f"{registry.host}/a", tag="1")).held
    third = ec.generate_private_key(ec.SECP256R1())
    place.policy("three", **signing(registry, third))
    assert "ClaudeImagePolicy three" in refused(await place.told(repository=f"{registry.host}/a", tag="1"))


async def test_a_silent_registry_holds_what_is_new_and_is_no_news_of_what_runs(
    places: Places, registry: ImageRegistry
) -> None:
    place, digest = places(), registry.put("a", "1")
    sign(registry, "a", digest, OURS)
    place.policy(**signing(registry))
    registry.silent = True
    found = await place.told(repository=f"{registry.host}/a", tag="1")
    assert found.held
    assert found.failure is not None
    assert (found.failure.permanent, found.before) == (False, False)
    registry.silent = False
    fresh = places()
    fresh.policy(**signing(registry))
    await fresh.told(repository=f"{registry.host}/a", tag="1")
    registry.silent = True
    restarted = places()
    restarted.status = fresh.status
    restarted.policy(**signing(registry))
    found = await restarted.told(repository=f"{registry.host}/a", tag="1")
    assert (found.held, found.before) == (True, True)


async def test_while_policies_are_not_known_nothing_is_started(places: Places) -> None:
    place = places()
    place.gate._informer.settled.clear()
    found = place.ask(repository="registry.test/a", tag="1")
    assert (found.held, found.failure) == (True, None)
    place.gate._informer.settled.set()
    place.gate._informer.readable, place.gate._informer.why_not = False, "Forbidden (403): no"
    found = place.ask(repository="registry.test/a", tag="1")
    assert found.failure is not None
    assert (found.held, found.failure.reason) == (True, Reason.PERMISSION_DENIED)
    assert not place.ask().held
    # A server that does not know the kind has none of them.
    place.gate._informer.why_not = "NotFound (404): no"
    assert not place.ask(repository="registry.test/a", tag="1").held
    assert str(IMAGE_POLICIES) == "claudeimagepolicies.claudesandbox.dev"


async def test_a_registry_that_gives_something_else_than_it_was_asked_for_is_not_believed(
    registry: ImageRegistry,
) -> None:
    digest, other = registry.put("a", "1"), registry.put("a", "2", "other")
    registry.manifests["a", digest] = registry.manifests["a", other]
    registry.blobs[digest] = b"other"
    image = Reference(registry.host, "a")
    async with RegistryClient() as client:
        with pytest.raises(RegistryError, match="something else"):
            await client.manifest(image, digest, Way(plain_http=True))
        with pytest.raises(RegistryError, match="something else"):
            await client.blob(image, digest, Way(plain_http=True))
        with pytest.raises(RegistryError, match="no digest"):
            await client.blob(image, "../../etc", Way(plain_http=True))


SBOM, SCAN = "https://cyclonedx.org/bom", "https://cosign.sigstore.dev/attestation/vuln/v1"


@pytest.mark.parametrize("form", ["layer", "bundle"])
async def test_what_a_policy_wants_attested_has_to_be_by_who_may_and_just_that(
    places: Places, registry: ImageRegistry, form: str
) -> None:
    def attested(repository: str, digest: str, key: ec.EllipticCurvePrivateKey, predicate: str) -> None:
        if form == "layer":
            attest(registry, repository, digest, key, predicate)
        else:
            put_bundle(registry, repository, digest, bundle(key, digest, predicate))

    place = places()
    wanted = [{"predicateType": SBOM, "publicKeys": [pem_of(THEIRS)]}]
    place.policy(**signing(registry, permitted=[{"repository": registry.host}], attestations=wanted))
    wrong = {
        "nothing": (),
        "another-predicate": (THEIRS, SCAN),
        "another-key": (OURS, SBOM),
        "a-signature": (THEIRS, "https://sigstore.dev/cosign/sign/v1"),
    }
    for name, said in wrong.items():
        digest = registry.put(name, "1", name)
        if said:
            attested(name, digest, *said)
        message = refused(await place.told(repository=f"{registry.host}/{name}", tag="1"))
        assert f"no attestation {SBOM}" in message
    # That of another image, put beside this one.
    digest, other = registry.put("replayed", "1", "replayed"), registry.put("other", "1", "other")
    attested("other", other, THEIRS, SBOM)
    suffix = ".att" if form == "layer" else ""
    kept = registry.manifests["other", other.replace(":", "-") + suffix]
    registry.manifests["replayed", digest.replace(":", "-") + suffix] = kept
    if form == "bundle":
        named = json.loads(kept[1])["manifests"][0]["digest"]
        registry.manifests["replayed", named] = registry.manifests["other", named]
    refused(await place.told(repository=f"{registry.host}/replayed", tag="1"))
    good = registry.put("good", "1", "good")
    attested("good", good, THEIRS, SBOM)
    assert (await place.told(repository=f"{registry.host}/good", tag="1")).image.digest == good


async def test_an_attestation_is_asked_of_its_repositories_and_is_no_signature(
    places: Places, registry: ImageRegistry
) -> None:
    place = places()
    wanted = [{"repository": f"{registry.host}/team", "predicateType": SBOM, "publicKeys": [pem_of(OURS)]}]
    place.policy(**signing(registry, attestations=wanted))
    beside = registry.put("beside", "1")
    sign(registry, "beside", beside, OURS)
    assert not (await place.told(repository=f"{registry.host}/beside", tag="1")).held
    mine = registry.put("team/a", "1", "a")
    attest(registry, "team/a", mine, OURS, SBOM)
    assert "no signature" in refused(await place.told(repository=f"{registry.host}/team/a", tag="1"))
    sign(registry, "team/a", mine, OURS)
    later = places()
    later.policy(**signing(registry, attestations=wanted))
    assert not (await later.told(repository=f"{registry.host}/team/a", tag="1")).held


async def test_of_a_namespace_whose_questions_are_answered_nothing_but_the_answers_is_held(
    places: Places, registry: ImageRegistry
) -> None:
    place = places()
    place.policy(**signing(registry))
    registry.put("a", "1")
    assert "is not signed" in refused(await place.told(repository=f"{registry.host}/a", tag="1"))
    assert not place.gate.verification._shares


async def test_who_comes_next_begins_the_time_of_what_is_tried_anew_and_only_then(
    places: Places, registry: ImageRegistry
) -> None:
    digest, image = registry.put("a", "1"), {"repository": f"{registry.host}/a", "tag": "1"}
    place = places()
    place.policy(permitted=[{"repository": "*"}], registries=[{"host": registry.host, "plainHttp": True}])
    place.more = {"updatePolicy": {"strategy": "Auto", "healthGate": {"stableFor": "1m"}}}
    canary = ImageCanary(to=digest, started_at=NOW, uid="c", attempts=1, ready_at=NOW)
    told = ImageStatus(named=f"{registry.host}/a:1", digest=OTHER, canary=canary)
    place.status = {"image": told.model_dump(mode="json", by_alias=True, exclude_none=True)}
    place.work = replace(NO_WORK, trial=Trial("c", ready=True))
    came = NOW + timedelta(hours=1)
    for seconds in (0, 20, 40, 59):
        place.now = came + timedelta(seconds=seconds)
        found = (await place.told(**image)).status
        assert found is not None
        assert under_way(found) == canary.model_copy(update={"started_at": came, "ready_at": came})
    # What this process was to say, and could not write, counts for nothing either.
    said, place.work = place.status, replace(place.work, trial=Trial("d", ready=True))
    place.ask(**image)
    place.status, place.work = said, replace(place.work, trial=Trial("c", ready=True))
    for seconds, goes_on in ((60, True), (90, True), (119, True), (120, False)):
        place.now = came + timedelta(seconds=seconds)
        assert (under_way(place.ask(**image).status) is not None) == goes_on, seconds


@pytest.mark.parametrize(
    ("level", "requires", "compared"),
    [("Hardened", None, True), ("Sandbox", None, False), ("Hardened", "Ready", False), ("Sandbox", "Compliant", True)],
)
async def test_controls_count_by_default_where_the_profile_or_the_level_asks_for_more(
    places: Places, registry: ImageRegistry, level: str, requires: str | None, compared: bool
) -> None:
    newer, image = registry.put("a", "1"), {"repository": f"{registry.host}/a", "tag": "1"}
    place = places()
    place.policy(permitted=[{"repository": "*"}], registries=[{"host": registry.host, "plainHttp": True}])
    gate = {"healthGate": {"requires": requires}} if requires else {}
    update = {"strategy": "Auto", "canary": "None", "maxAge": "0m", **gate}
    place.more = {"compliance": {"level": level}, "updatePolicy": update}
    told = ImageStatus(named=f"{registry.host}/a:1", digest=OTHER)
    place.status = {"image": told.model_dump(mode="json", by_alias=True, exclude_none=True)}
    state = WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "it is")
    place.work = Work(state, measured=Measured(frozenset({"RES-07"})))
    rolling = None
    async with asyncio.timeout(60):
        while rolling is None:
            found = (await place.told(**image)).status
            rolling = found.rolling if found is not None else None
            await asyncio.sleep(0.01)
    assert rolling.to == newer
    assert rolling.failed_before == (["RES-07"] if compared else None)
