"""Signatures without keys: by whom a certificate of Sigstore's was given to, told by a trust root that a policy has.

Who signs so has a certificate for some minutes, which says who he is and who vouches for that, and the signature's time
is proven by a log. All of it is in the bundle beside the image, and is verified by the project's own library (sigstore)
against the authorities and logs of the trust root: nobody is asked. What the library takes is only what is certain
then: that the certificate is of an authority, is in its log (SCT), held when the log or a time authority says that it
was used, and that the log has this very signature.

The library is imported where it is first needed: most operators never need it, and it takes 14 MiB.
"""

import functools
import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509

from claude_sandbox.controller.images import signatures

if TYPE_CHECKING:
    from sigstore.verify import Verifier

logger = logging.getLogger(__name__)

_MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"


class TrustRootError(ValueError):
    """What was given is no trust root; the message says how, in a clause."""


class Identity(NamedTuple):
    """Who signs: `subject`, which may end in `*`, of whom `issuer` vouches."""

    issuer: str
    subject: str

    def is_in(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is for it."""
        # A certificate without names raises here, which is_signed_by takes for a no.
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [
            *names.get_values_for_type(x509.RFC822Name),
            *names.get_values_for_type(x509.UniformResourceIdentifier),
        ]
        if self.subject.endswith("*"):
            return any(one.startswith(self.subject[:-1]) for one in found)
        return self.subject in found


def check_trust_root(text: str) -> None:
    """Raises TrustRootError where it can't be one; whether each of its keys is one, is found when they are used."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise TrustRootError("is not JSON") from None
    if not isinstance(found, dict) or found.get("mediaType") != _MEDIA_TYPE:
        raise TrustRootError(f"is no trusted_root.json of the type {_MEDIA_TYPE}")


def is_signed_by(bundle: bytes, digest: str, predicate: str, who: Iterable[Identity], trust_root: str) -> bool:
    """Whether the bundle is a statement of this predicate about this very digest by one of these identities.

    It takes some milliseconds, and a second or two for the first. Raises TrustRootError.
    """
    verifier = _verifier(trust_root)
    from sigstore.models import Bundle

    try:
        kind, payload = verifier.verify_dsse(Bundle.from_json(bundle), _Policy(tuple(who)))
    except Exception as error:  # noqa: BLE001 - what is raised depends on what somebody else wrote
        logger.debug("a bundle counts for nothing: %s", error)
        return False
    return kind == signatures.IN_TOTO and signatures.states(payload, digest, predicate)


class _Policy:
    """What the library asks about a certificate that it takes for genuine."""

    def __init__(self, who: tuple[Identity, ...]) -> None:
        self._who = who

    def verify(self, certificate: x509.Certificate) -> None:
        """Raises VerificationError unless it is for one of the identities."""
        from sigstore.errors import VerificationError
        from sigstore.verify.policy import AnyOf, OIDCIssuer, OIDCIssuerV2

        # Two identities may have one subject, of whom each has another issuer vouch.
        issuers = {one.issuer for one in self._who if one.is_in(certificate)}
        if not issuers:
            raise VerificationError("the certificate is for nobody who may sign")
        # Newer certificates have the second, older ones the first, most both.
        AnyOf([kind(issuer) for issuer in issuers for kind in (OIDCIssuer, OIDCIssuerV2)]).verify(certificate)


@functools.lru_cache(maxsize=16)
def _verifier(trust_root: str) -> "Verifier":
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier
    from sigstore_models.trustroot.v1 import TrustedRoot as Document

    check_trust_root(trust_root)
    try:
        document: Any = Document.from_json(trust_root.encode())
        return Verifier(trusted_root=TrustedRoot(document))
    except Exception as error:
        raise TrustRootError(f"can't be read ({type(error).__name__})") from error
