"""What ClaudeImagePolicies say of an image: refused, or permitted if it is signed. Pure."""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from claude_sandbox.api.kinds.image_policies import (
    ClaudeImagePolicySpec,
    OperatorImage,
    PermittedImages,
    PolicyRegistry,
    RequiredAttestation,
    RunningImages,
)
from claude_sandbox.api.references import Reference
from claude_sandbox.api.validate import InvalidSpec, parse_image_policy_spec
from claude_sandbox.controller.images.keyless import Identity, TrustRootError, check_trust_root
from claude_sandbox.controller.images.signatures import KeyRefusedError, PublicKey, public_key

NOT_ASKED = (
    "spec.updatePolicy follows a tag of {registry}, and no ClaudeImagePolicy for the namespace names that as a registry"
    " that the operator may ask: have an administrator add it to spec.registries, or write strategy None."
)
"""Why a sandbox that follows a tag is not started."""


class ImageRefusedError(Exception):
    """A policy refuses the image; the message says by which rule, and what to do. `ends`: what runs of it has to end.

    `image`: what is refused.
    """

    def __init__(self, message: str, *, ends: bool) -> None:
        super().__init__(message)
        self.ends = ends


@dataclass(frozen=True)
class Policy:
    """One policy, understood; `wrong` says why it is not, and then it refuses all that it may be about."""

    name: str
    version: str
    spec: ClaudeImagePolicySpec | None
    keys: Mapping[str, PublicKey]
    wrong: str = ""

    @property
    def ends(self) -> bool:
        """Whether what runs and is refused has to end."""
        return self.spec is not None and self.spec.running is RunningImages.END

    def about(self, labels: dict[str, str] | None) -> bool:
        """Whether it is about a namespace with these labels; None: they are not known."""
        return self.spec is None or self.spec.about(labels)

    @property
    def judges_operator(self) -> bool:
        """Whether the operator's own image needs its permission."""
        return self.spec is not None and self.spec.operator_image is OperatorImage.JUDGED


@dataclass(frozen=True)
class Signers:
    """One of these has to have signed, says the policy of this name; with `predicate`, an attestation of that.

    `identities` sign without keys, as `trust_root` tells.
    """

    policy: str
    keys: tuple[PublicKey, ...]
    ends: bool = False
    predicate: str = ""
    identities: tuple[Identity, ...] = ()
    trust_root: str = ""


@dataclass(frozen=True)
class Demand:
    """An image that is permitted if it has a signature of each of these. `image` has a digest where one is known.

    `words`: a digest of what asks for signatures; empty where nothing does. `registry`: how the image's may be asked.
    `at_a_time`: how many sandboxes of a namespace may try a newer one at once; None: as many as like.
    """

    image: Reference
    signers: tuple[Signers, ...] = ()
    words: str = ""
    registry: PolicyRegistry | None = None
    at_a_time: int | None = None

    @property
    def wants_signature(self) -> bool:
        """Whether the image itself has to be signed. Who attests something of an image does not vouch for it."""
        return any(not one.predicate for one in self.signers)


def understood(raw: Mapping[str, Any]) -> Policy:
    """The policy as the API server has it."""
    metadata = raw["metadata"]
    name, version = str(metadata["name"]), f"{metadata['uid']}/{metadata.get('generation', 0)}"
    try:
        spec = parse_image_policy_spec(raw)
        pems = [one.public_keys for one in spec.permitted] + [one.public_keys for one in spec.attestations]
        keys = {pem: public_key(pem) for those in pems for pem in those}
        if spec.trust_root is not None:
            check_trust_root(spec.trust_root)
    except KeyRefusedError as error:
        return Policy(name, version, None, {}, f"one of its publicKeys {error}")
    except TrustRootError as error:
        return Policy(name, version, None, {}, f"its trustRoot {error}")
    except InvalidSpec as error:
        return Policy(name, version, None, {}, str(error))
    return Policy(name, version, spec, keys)


def judged(policies: Iterable[Policy], image: Reference) -> Demand:
    """What the policies, all of which are about the sandbox, ask of an image. Raises ImageRefusedError."""
    demand, words, unsaid = Demand(image), hashlib.sha256(), []
    # By name, so that messages and `words` are the same from pass to pass.
    for policy in sorted(policies, key=lambda one: one.name):
        permission, spec = _permission(policy, image)
        demand = replace(demand, image=_pinned(policy, spec, demand.image))
        demand = replace(demand, registry=demand.registry or _registry(spec, image))
        if spec.rollout is not None:
            most = spec.rollout.max_concurrent
            # Of several the strictest.
            demand = replace(demand, at_a_time=min(demand.at_a_time or most, most))
        if permission.require_digest:
            unsaid.append(policy)
        for one in _asked(policy, spec, permission, image.repository):
            demand = replace(demand, signers=(*demand.signers, one))
            words.update(_words(one).encode())
    if unsaid and not demand.image.digest:
        message = (
            f"ClaudeImagePolicy {unsaid[0].name} permits {image.repository} by digest only: write spec.image.digest, or"
            " have its administrator pin the tag."
        )
        raise ImageRefusedError(message, ends=any(one.ends for one in unsaid))
    if demand.signers and demand.registry is None:
        first = demand.signers[0]
        message = (
            f"ClaudeImagePolicy {first.policy} asks for a signature of {image.repository}, and no policy names"
            f" {image.registry} as a registry that the operator may ask: have its administrator add it to"
            " spec.registries."
        )
        raise ImageRefusedError(message, ends=any(one.ends for one in demand.signers))
    return replace(demand, words=f"sha256:{words.hexdigest()[:32]}") if demand.signers else demand


def _asked(
    policy: Policy, spec: ClaudeImagePolicySpec, permission: PermittedImages, repository: str
) -> Iterator[Signers]:
    """What has to be signed, and by whom."""
    if permission.public_keys or permission.identities:
        yield _signers(policy, spec, permission)
    for one in spec.attestations:
        if one.is_of(repository):
            yield _signers(policy, spec, one, one.predicate_type)


def _signers(
    policy: Policy, spec: ClaudeImagePolicySpec, who: PermittedImages | RequiredAttestation, predicate: str = ""
) -> Signers:
    identities = tuple(Identity(one.issuer, one.subject) for one in who.identities)
    keys = tuple(policy.keys[pem] for pem in who.public_keys)
    trust_root = (spec.trust_root or "") if identities else ""
    return Signers(policy.name, keys, policy.ends, predicate, identities, trust_root)


def _words(signers: Signers) -> str:
    """What is asked, so that nothing else has the same words."""
    keys = [
        base64.b64encode(one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
        for one in signers.keys
    ]
    return json.dumps([signers.policy, signers.predicate, keys, signers.identities, signers.trust_root])


def _permission(policy: Policy, image: Reference) -> tuple[PermittedImages, ClaudeImagePolicySpec]:
    if policy.spec is None:
        message = f"ClaudeImagePolicy {policy.name} can't be understood, and permits nothing: {policy.wrong}."
        # A mistake in a policy stops what is new, and ends nobody's work.
        raise ImageRefusedError(message, ends=False)
    permission = policy.spec.permission(image.repository)
    if permission is None:
        some = ", ".join(sorted(one.repository for one in policy.spec.permitted)[:5])
        message = (
            f"ClaudeImagePolicy {policy.name} does not permit {image.repository}: name an image of {some}, or have its"
            " administrator add the repository to spec.permitted."
        )
        raise ImageRefusedError(message, ends=policy.ends)
    return permission, policy.spec


def _pinned(policy: Policy, spec: ClaudeImagePolicySpec, image: Reference) -> Reference:
    for pin in spec.pins:
        if (pin.repository, pin.tag) != (image.repository, image.tag):
            continue
        if image.digest and image.digest != pin.digest:
            message = (
                f"ClaudeImagePolicy {policy.name} pins {pin.repository}:{pin.tag} to another digest than"
                f" {image.digest}: write {pin.digest}, or leave spec.image.digest out."
            )
            raise ImageRefusedError(message, ends=policy.ends)
        return replace(image, digest=pin.digest)
    return image


def _registry(spec: ClaudeImagePolicySpec, image: Reference) -> PolicyRegistry | None:
    return next((one for one in spec.registries if one.host == image.registry), None)
