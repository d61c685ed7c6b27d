"""A question to a DNS server, as RFC 1035 puts it: run in the node's network, it proves the cluster's resolver."""

import secrets
import socket
import struct
import sys

_HEADER = struct.Struct("!HHHHHH")
_RECURSION_DESIRED = 0x0100
_RESPONSE_CODE = 0x000F
_TYPE_A, _TYPE_AAAA, _CLASS_IN = 1, 28, 1


def question(name: str, number: int, kind: int = _TYPE_A) -> bytes:
    """The message that asks for the addresses of `name`, those of IPv4 unless told otherwise."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    header = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!HH", kind, _CLASS_IN)


def answers(message: bytes, number: int) -> int:
    """How many answers the message has; none where it is an error or answers another question."""
    if len(message) < _HEADER.size:
        return 0
    identifier, flags, _, count, _, _ = _HEADER.unpack_from(message)
    return int(count) if identifier == number and not flags & _RESPONSE_CODE else 0


def resolves(server: str, name: str, seconds: float, port: int = 53) -> bool:
    """Whether the server has an address of its own family for the name, and says so within the time."""
    number = secrets.randbits(16)
    family, kind = (socket.AF_INET6, _TYPE_AAAA) if ":" in server else (socket.AF_INET, _TYPE_A)
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(seconds)
        try:
            udp.connect((server, port))
            udp.send(question(name, number, kind))
            return answers(udp.recv(4096), number) > 0
        except OSError:
            return False


if __name__ == "__main__":
    sys.exit(0 if resolves(sys.argv[1], sys.argv[2], 1.0) else 1)
