"""Addresses of the machine's own, so that no two processes of the tests want the same port."""

import random
import socket

_random = random.SystemRandom()


def free_address(port: int) -> str:
    """An address in 127.0.0.0/8 on which nobody listens at this port. One of 11 million: nobody else is given it."""
    while True:
        octets = _random.randint(64, 254), _random.randint(1, 254), _random.randint(1, 254)
        address = f"127.{octets[0]}.{octets[1]}.{octets[2]}"
        with socket.socket() as listener:
            try:
                listener.bind((address, port))
            except OSError:
                continue
        return address
