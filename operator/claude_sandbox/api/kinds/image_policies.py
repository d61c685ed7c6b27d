"""Which images may run in sandboxes: the models of `ClaudeImagePolicy.spec`. An administrator's to write."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names, references
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.labels import LabelSelector
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, matching

PUBLIC_KEY = matching(
    r"[ \r\n]*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/= \r\n]+-----END PUBLIC KEY-----[ \r\n]*",
    "must be a public key in PEM, as `cosign generate-key-pair` writes it to cosign.pub, beginning with"
    " -----BEGIN PUBLIC KEY-----",
)


CERTIFICATES = matching(
    r"(?:[ \r\n]*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/= \r\n]+-----END CERTIFICATE-----)+[ \r\n]*",
    "must be certificates in PEM, and nothing else: beginning with -----BEGIN CERTIFICATE-----",
)
_HOST = matching(
    "(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?",
    "must be a registry's host, with its port where it has one of its own: for example ghcr.io",
)
_PREDICATE = matching(
    "https?://[!-~]+",
    "must be the type of a predicate, an address: for example https://cyclonedx.org/bom or"
    " https://cosign.sigstore.dev/attestation/vuln/v1",
)


_ISSUER = matching("https://[!-)+-~]+", "must be an issuer's address, beginning with https://")
_SUBJECT = matching(
    "[!-)+-~]+\\*?",
    "must be who signs, as certificates say it: an address of mail or of a workflow, with no '*' but at its end",
)


class RunningImages(Choice):
    """What becomes of what runs already and is refused."""

    KEEP = "Keep"
    """It goes on, its sandbox says so, and it is not started again."""
    END = "End"
    """It ends; the workspace is kept."""


class OperatorImage(Choice):
    """Whether the operator's own image is judged as well."""

    TRUSTED = "Trusted"
    """It is not: who starts the operator chooses it."""
    JUDGED = "Judged"
    """It is, wherever a sandbox runs or mounts it."""


class SignerIdentity(Strict):
    """Who signs without a key of his own: by a certificate that Sigstore gives for a few minutes."""

    issuer: Annotated[str, Field(min_length=1, max_length=255), _ISSUER]
    """Who vouches for him: for example https://token.actions.githubusercontent.com."""
    subject: Annotated[str, Field(min_length=2, max_length=512), _SUBJECT]
    """Who: an address of mail, or of a workflow, for example
    https://github.com/acme/agents/.github/workflows/release.yaml@refs/heads/main. A `*` at its end stands for any rest.
    """


class RequiredAttestation(Strict):
    """Something that has to have been said of images' digests, and signed."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORIES_OR_ALL] = "*"
    """Of images of this repository, and of all below it; by default of all."""
    predicate_type: Annotated[str, Field(min_length=1, max_length=255), _PREDICATE]
    """What: the type of the in-toto predicate, for example https://cyclonedx.org/bom for an SBOM. That it was said
    counts, not what is said in it.
    """
    public_keys: Annotated[list[Annotated[str, Field(max_length=2048), PUBLIC_KEY]], Field(max_length=8)] = []
    """Public keys, one of which has to have signed it, as `cosign attest --key` does."""
    identities: Annotated[list[SignerIdentity], Field(max_length=8)] = []
    """Who may have signed it without a key, as `cosign attest` does; with publicKeys beside it, either counts. It takes
    spec.trustRoot.
    """

    RULES = (
        Rule(
            "(has(self.publicKeys) && size(self.publicKeys) > 0)"
            " || (has(self.identities) && size(self.identities) > 0)",
            lambda asked: bool(asked.public_keys or asked.identities),
            "has to say who attests it: write a public key, or an identity",
            field="publicKeys",
        ),
    )

    def is_of(self, repository: str) -> bool:
        """Whether it is asked of a completed repository."""
        return self.repository == "*" or references.is_among(repository, (self.repository,))


class PermittedImages(Strict):
    """Images that sandboxes may name, and what is asked of them."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORIES_OR_ALL]
    """A repository with its registry, and all below it: `ghcr.io/acme` is ghcr.io/acme/claude too; `*` is all.
    Of several that match the longest counts.
    """
    require_digest: bool = False
    """Refuses an image for which neither spec.image.digest nor a pin says what it is."""
    public_keys: Annotated[list[Annotated[str, Field(max_length=2048), PUBLIC_KEY]], Field(max_length=8)] = []
    """Public keys (ECDSA, Ed25519 or RSA): one of them has to have signed the image's digest, as `cosign sign --key`
    does. The operator asks the image's registry for the signature, so that spec.registries has to name that.
    """
    identities: Annotated[list[SignerIdentity], Field(max_length=8)] = []
    """Who may have signed it without a key, as `cosign sign` does; with publicKeys beside it, either counts. It takes
    spec.trustRoot.
    """


class Pin(Strict):
    """Which digest a tag stands for, whatever its registry says."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORIES]
    """The repository, with its registry."""
    tag: Annotated[str, Field(min_length=1, max_length=128), names.TAG]
    """The tag."""
    digest: Annotated[str, Field(max_length=71), names.DIGEST]
    """The digest. A sandbox that names the tag runs it, and one that names the tag and another digest is refused."""


class RegistrySecretRef(Strict):
    """A Secret in the operator's own namespace, which opted in."""

    name: Annotated[str, Field(min_length=1, max_length=253), names.HOST_SECRET_NAME]
    """The Secret's name."""


class PolicyRegistry(Strict):
    """A registry that the operator itself may ask: for signatures, and for what a tag stands for now."""

    host: Annotated[str, Field(min_length=1, max_length=255), _HOST]
    """The registry, as repositories name it."""
    plain_http: bool = False
    """Asks it without TLS. What it says is verified by digests and signatures all the same, but anybody on the way may
    hold back what is new.
    """
    credentials_secret_ref: RegistrySecretRef | None = None
    """What the operator logs in with: a Secret with the keys username and password in the operator's own namespace,
    which opted in as those for connecting to Docker hosts do. Without it, it asks as anybody may. Whoever may create
    sandboxes in the policy's namespaces learns what the tags of permitted images stand for, and nothing else; the nodes
    and hosts that pull the images have logins of their own.
    """
    ca_certificates: Annotated[str, Field(max_length=8192), CERTIFICATES] | None = None
    """Certificates in PEM of the authorities that may have signed the registry's, besides the public ones."""
    leads_to: Annotated[list[Annotated[str, Field(min_length=1, max_length=255), _HOST]], Field(max_length=8)] = []
    """Other hosts of the network's own that the registry's answers may lead the operator to: its token server, or where
    it keeps what it has. To public addresses they may lead anyway.
    """

    RULES = (
        Rule(
            "!has(self.plainHttp) || !self.plainHttp || !(has(self.credentialsSecretRef) || has(self.caCertificates))",
            lambda registry: (
                not registry.plain_http
                or (registry.credentials_secret_ref is None and registry.ca_certificates is None)
            ),
            "has a login or certificates, which are for TLS: remove plainHttp, or them",
            field="plainHttp",
        ),
    )


class Rollout(Strict):
    """How newer images spread over sandboxes that follow the same tag (spec.updatePolicy of ClaudeSandbox)."""

    max_concurrent: Annotated[int, Field(ge=1, le=1000)]
    """So many sandboxes of a namespace try a newer image at a time. Where it did not work for one of them, the others
    leave it alone.
    """


class ClaudeImagePolicySpec(Strict):
    """Which images may run in sandboxes. Of several policies for a namespace each has to permit an image."""

    namespace_selector: LabelSelector | None = None
    """The namespaces that it is about; without it, all."""
    permitted: Annotated[list[PermittedImages], Field(min_length=1, max_length=64)]
    """Images that sandboxes may name. What none of these matches is refused."""
    pins: Annotated[list[Pin], Field(max_length=128)] = []
    """Digests of tags."""
    attestations: Annotated[list[RequiredAttestation], Field(max_length=16)] = []
    """What has to have been said of images besides, for example an SBOM or a scan for vulnerabilities. The operator
    asks their registries for it, so that spec.registries has to name these.
    """
    trust_root: Annotated[str, Field(max_length=65536)] | None = None
    """What Sigstore's certificates and logs are known by: the text of a trusted_root.json, of the public instance
    (github.com/sigstore/root-signing, or `cosign trusted-root create`) or of one's own. It is believed for as long as
    it is here: what signs with newer keys needs it renewed.
    """
    registries: Annotated[list[PolicyRegistry], Field(max_length=32)] = []
    """Registries that the operator may ask. It asks no other: who may name an image could have it ask any server
    otherwise. Of several policies that name one, the first by name counts.
    """
    running: RunningImages = RunningImages.KEEP
    """What becomes of what runs already and is refused: Keep tells of it and lets it go on; End ends it."""
    rollout: Rollout | None = None
    """How newer images spread; without it, each sandbox tries them for itself. Of several policies the smallest number
    counts.
    """
    operator_image: OperatorImage = OperatorImage.TRUSTED
    """Trusted: the operator's own image needs no permission. Judged: it does, where a sandbox runs it or mounts it (as
    it does beside every image of its own).
    """

    RULES = (
        Rule(
            "self.pins.all(p, self.pins.exists_one(q, q.repository == p.repository && q.tag == p.tag))",
            lambda policy: len({(one.repository, one.tag) for one in policy.pins}) == len(policy.pins),
            "has two digests for one tag: remove one of them",
            field="pins",
        ),
        # Which of two would count nobody could tell by reading: the looser one, in the worst case.
        Rule(
            "self.permitted.all(p, self.permitted.exists_one(q, q.repository == p.repository))",
            lambda policy: len({one.repository for one in policy.permitted}) == len(policy.permitted),
            "says two things of one repository: write one entry, with all that is asked of its images",
            field="permitted",
        ),
        Rule(
            "self.registries.all(p, self.registries.exists_one(q, q.host == p.host))",
            lambda policy: len({one.host for one in policy.registries}) == len(policy.registries),
            "names one host twice: write one entry for it",
            field="registries",
        ),
        Rule(
            "has(self.trustRoot) || !(self.permitted.exists(p, has(p.identities) && size(p.identities) > 0)"
            " || (has(self.attestations) && self.attestations.exists(a, has(a.identities) && size(a.identities) > 0)))",
            lambda policy: (
                policy.trust_root is not None
                or not any(one.identities for one in (*policy.permitted, *policy.attestations))
            ),
            "is needed for identities: write the text of the trusted_root.json that their certificates are known by",
            field="trustRoot",
        ),
    )

    def about(self, labels: dict[str, str] | None) -> bool:
        """Whether it is about a namespace; about one whose labels are not known it is."""
        return self.namespace_selector is None or labels is None or self.namespace_selector.matches(labels)

    def permission(self, repository: str) -> PermittedImages | None:
        """What it says of a completed repository."""
        found = [
            one for one in self.permitted if one.repository == "*" or references.is_among(repository, (one.repository,))
        ]
        return max(found, key=lambda one: len(one.repository) if one.repository != "*" else 0, default=None)
