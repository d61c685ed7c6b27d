"""What a registry has of signed statements about an image: signatures and attestations, in each form of cosign's.

Somebody who may push to the repository, and may not sign, decides how many there are and what is in them. So what is
not as it should be is passed over and hides nothing beside it, only so many are looked at, and one is held at a time:
all together could be larger than the operator's memory.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from claude_sandbox.api.references import Reference
from claude_sandbox.controller.images import keyless, signatures
from claude_sandbox.controller.images.policies import Signers
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.registry.reach import UnusableError, Way

MOST = 64
"""Statements of one image that are looked at, of each form."""

Says = Callable[[Signers], bool]
"""Whether it is what they have to have signed, by one of them. Raises TrustRootError."""


async def statements(
    client: RegistryClient, image: Reference, predicates: Iterable[str], way: Way
) -> AsyncGenerator[Says]:
    """All that may matter to who asks for these predicates, one by one. Raises RegistryError."""
    wanted = frozenset(predicates)
    if "" in wanted:
        async for one in _at_tag(client, image, "sig", way):
            yield one
    if wanted - {""}:
        async for one in _at_tag(client, image, "att", way):
            yield one
    async for one in _bundles(client, image, wanted, way):
        yield one


async def _at_tag(client: RegistryClient, image: Reference, kind: str, way: Way) -> AsyncGenerator[Says]:
    """The older form."""
    try:
        manifest = await client.manifest(image, f"{image.digest.replace(':', '-')}.{kind}", way)
    except UnusableError:
        return
    for layer in _layers(manifest.content):
        said = _mapping(layer.get("annotations")).get(signatures.SIGNATURE)
        media = layer.get("mediaType")
        if media == signatures.SIMPLE_SIGNING and isinstance(said, str):
            payload = await _blob(client, image, layer, way)
            if payload is not None:
                yield _statement(payload, said, image.digest)
        elif media == signatures.ENVELOPE:
            payload = await _blob(client, image, layer, way)
            if payload is not None:
                yield _envelope(payload, image.digest)


async def _bundles(client: RegistryClient, image: Reference, wanted: frozenset[str], way: Way) -> AsyncGenerator[Says]:
    """The newer form."""
    try:
        referring = await client.referrers(image, image.digest, way)
    except UnusableError:
        return
    likely = [one for one in referring if _may_be_bundle(one)]
    # Those that say to be what is asked for come first: of the rest there may be many.
    likely.sort(key=lambda one: _mapping(one.get("annotations")).get(signatures.PREDICATE) not in _called(wanted))
    for one in likely[:MOST]:
        try:
            manifest = await client.manifest(image, str(one.get("digest")), way)
        except UnusableError:
            continue
        for layer in _layers(manifest.content)[:1]:
            if not str(layer.get("mediaType")).startswith(signatures.BUNDLE):
                continue
            content = await _blob(client, image, layer, way)
            if content is not None:
                yield _bundle(content, image.digest)


def _may_be_bundle(described: Mapping[str, Any]) -> bool:
    kind = described.get("artifactType")
    return kind is None or str(kind).startswith(signatures.BUNDLE)


def _called(wanted: frozenset[str]) -> frozenset[str]:
    return frozenset(one or signatures.SIGNED for one in wanted)


async def _blob(client: RegistryClient, image: Reference, layer: Mapping[str, Any], way: Way) -> bytes | None:
    try:
        return await client.blob(image, str(layer.get("digest")), way)
    except UnusableError:
        return None


def _statement(payload: bytes, said: str, digest: str) -> Says:
    return lambda who: not who.predicate and signatures.is_statement(payload, said, digest, who.keys)


def _envelope(content: bytes, digest: str) -> Says:
    # A signature of this form is none: cosign makes none, at this tag.
    return lambda who: bool(who.predicate) and signatures.is_envelope(content, digest, who.predicate, who.keys)


def _bundle(content: bytes, digest: str) -> Says:
    def says(who: Signers) -> bool:
        predicate = who.predicate or signatures.SIGNED
        if signatures.is_bundle(content, digest, predicate, who.keys):
            return True
        # The library takes longer: it is asked only of what says to be what is looked for.
        may_be = bool(who.identities) and signatures.says_to_state(content, digest, predicate)
        return may_be and keyless.is_signed_by(content, digest, predicate, who.identities, who.trust_root)

    return says


def _layers(manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    found = manifest.get("layers")
    # The last ones: cosign appends, so that is where the newest are.
    return tuple(one for one in found if isinstance(one, dict))[-MOST:] if isinstance(found, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
