"""Whether a connection failed for a machine's own lack of a network. Pure."""

import errno

_NO_NETWORK = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def has_no_network(error: OSError) -> bool:
    """Whether the machine has no way to addresses of that family at all: nobody was asked."""
    return error.errno in _NO_NETWORK
