"""A bundle of certificates that comes within the configuration, where a gateway has no files. Pure.

Whether each is a certificate is found out where it is used; who writes it down for gateways looks before.
"""

import re

LARGEST = 64 << 10
"""Bytes: some 40 certificates. On Kubernetes the configuration is an annotation, which can have 256 KiB with others."""
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


class BundleError(ValueError):
    """The text is no bundle that can be used. The message says what to write."""


def certificates(text: str) -> str:
    """The certificates of a PEM text, one after the other, without what stands between them. Raises BundleError."""
    if "PRIVATE KEY-----" in text:
        raise BundleError("it has a private key: give certificates alone")
    found = "\n".join(_CERTIFICATE.findall(text))
    if not found:
        raise BundleError("it has no certificate: write PEM, with lines of -----BEGIN CERTIFICATE-----")
    if len(found) > LARGEST:
        raise BundleError(
            f"it has {len(found) >> 10} KiB of certificates, and {LARGEST >> 10} are taken: give the authorities that"
            " the provider's certificate is from, and no others"
        )
    return f"{found}\n"
