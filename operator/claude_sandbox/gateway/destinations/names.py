"""Names of hosts as they are compared: one spelling for each name, and nothing that is no name."""

import ipaddress
import re

import idna

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class NotANameError(ValueError):
    """The text is no name of a host; the message says why, without the text."""


def normalise(text: str) -> str:
    """The name in lower case, in its ASCII form (IDNA 2008, UTS 46), without the root's dot at its end.

    Raises NotANameError for what is no name: an address in any spelling that a resolver takes for one, an empty or too
    long label, a character that no name has.
    """
    name = text.removesuffix(".")
    if not name or name.endswith("."):
        raise NotANameError("it is empty, or has an empty label")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise NotANameError("it is no valid internationalised name") from None
    name = name.lower()
    if len(name) > 253:
        raise NotANameError("it is longer than 253 characters")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise NotANameError("a label of it is empty, too long, or has a character that names don't have")
    # A resolver reads 127.1, 0x7f000001 and 2130706433 as addresses (inet_aton); no real top-level domain is a number.
    if _NUMBER.fullmatch(labels[-1]):
        raise NotANameError("it is an address, not a name")
    return name


def is_address(text: str) -> bool:
    """Whether the text is an IP address as people write it, in brackets too."""
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return False
    return True
