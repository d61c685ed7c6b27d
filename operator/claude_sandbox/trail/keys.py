"""The key that signs, in a file of the operator's own; the public one beside the trail. Ed25519."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from claude_sandbox.trail.chain import Signer

PUBLIC = "public-key.pem"
"""Its file in the trail's directory. It is for people: who verifies keeps a copy elsewhere."""


class KeyFileError(Exception):
    """A file holds no key of the kind that is needed."""


def signer(file: Path) -> Signer:
    """The key of the file, which is made where there is none. Raises OSError, KeyFileError."""
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        text = _made(file)
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        raise KeyFileError(f"{file} holds no private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{file} holds another key than one for Ed25519")
    return Signer(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(), key.sign)


def new_private_key() -> bytes:
    """A new key, as PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _made(file: Path) -> bytes:
    """Made whole or not at all, for its owner alone; of two who make it the first counts."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    # Not open to others at any moment, and not through a link that somebody has put there.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(new_private_key())
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            # A link, since a rename would replace the key that another process made meanwhile, and has signed with.
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return file.read_bytes()


def public_pem(key: str) -> bytes:
    """A public key of 64 hexadecimal digits as PEM."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_key(text: str) -> str:
    """A public key as 64 hexadecimal digits, from those or from PEM. Raises KeyFileError."""
    found = text.strip()
    try:
        if len(found) == 64:
            return bytes.fromhex(found).hex()
        key = load_pem_public_key(found.encode())
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError("no public key for Ed25519, neither as PEM nor as 64 hexadecimal digits")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def is_signed(key: str, signature: str, message: bytes, trusted: Iterable[str]) -> bool:
    """Whether the signature is the key's, and the key one of those."""
    if key not in trusted:
        return False
    try:
        raw = bytes.fromhex(signature)
        # `fromhex` bears spaces and capitals: one signature would have many spellings.
        if raw.hex() != signature:
            return False
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(raw, message)
    except (InvalidSignature, ValueError):
        return False
    return True
