"""What a sandbox has in the place of its key: 256 bits by which its own gateway knows it, worth nothing elsewhere.

It follows from the key, the sandbox and the key's generation, so that a sandbox and its gateway can be told of it apart
from each other, at any time, by an operator that keeps nothing. The key can't be had back from it: to try one guess
takes as long as a password hash, so that not even a key that is short, as a company's own gateway may give out, is
found by trying. Pure.
"""

import hashlib

from claude_sandbox.backends.docker.keys.delivery import Key

SUFFIX = "~placeholder"
"""Behind the generation of a key, in the word for what a sandbox has instead. No generation has it."""
_N, _R, _P = 1 << 14, 8, 1
"""Of scrypt (RFC 7914): 16 MiB of memory and some 40 ms for each guess."""


def placeholder_of(key: Key, uid: str) -> Key:
    """The placeholder for a sandbox with the UID. It takes tens of milliseconds: not for the event loop."""
    salt = f"claudesandbox.dev/placeholder/{uid}/{key.generation}".encode()
    made = hashlib.scrypt(bytes(key.value), salt=salt, n=_N, r=_R, p=_P, dklen=32)
    return Key(key.generation + SUFFIX, bytearray(f"csb-{made.hex()}".encode()))


def is_placeholder(word: str | None) -> bool:
    """Whether what a sandbox has is a placeholder, by the word for it."""
    return word is not None and word.endswith(SUFFIX)


def generation_of(word: str | None) -> str | None:
    """The generation of the key for which a sandbox has what the word names: the key, or a placeholder."""
    return None if word is None else word.removesuffix(SUFFIX)
