"""Who checkpoints are encrypted to: an X25519 public key as `age` writes it. Pure."""

_PREFIX = "age"
_SECRET = "age-secret-key-"
_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_LENGTH = 62


def problem_with(recipient: str) -> str | None:
    """Why this is no public key; None where it is one.

    A slip of the pen would be noticed when the evidence of an incident is to be opened: so its checksum is computed.
    """
    if recipient.lower().startswith(_SECRET):
        # Not repeated: it would be in a log.
        return "this is the private key: write the public one, which begins with age1"
    if len(recipient) != _LENGTH or not recipient.startswith(f"{_PREFIX}1"):
        return "write an X25519 public key of age, which begins with age1 and has 62 characters"
    data = [_CHARACTERS.find(one) for one in recipient.removeprefix(f"{_PREFIX}1")]
    if -1 in data or _checksum(data) != 1:
        return "this is no public key of age: a character of it is wrong"
    return None


def _checksum(data: list[int]) -> int:
    """Of Bech32 (BIP 173): 1 where nothing was changed."""
    readable = [ord(one) for one in _PREFIX]
    found = 1
    for value in [*(one >> 5 for one in readable), 0, *(one & 31 for one in readable), *data]:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            found ^= generator if top >> bit & 1 else 0
    return found
