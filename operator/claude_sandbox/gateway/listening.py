"""Which addresses are bound."""

import socket


def listening_on(host: str) -> list[str]:
    """The addresses to bind. For `*` one of each family that this machine has: a machine may have either alone, and
    one socket for both would show clients under other addresses than their own."""
    if host != "*":
        return [host]
    everywhere = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104 - that is what is asked for
    return [address for family, address in everywhere if _has(family, address)]


def _has(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.bind((address, 0))
    except OSError:
        return False
    return True
