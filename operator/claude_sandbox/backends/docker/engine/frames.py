"""The framing in which an engine sends what a container without a terminal writes. Pure."""

HEADER = 8
"""Bytes before each part: which stream it is of, and in the last four how long it is."""


def unframed(content: bytes) -> bytes:
    """What was written, of all streams in the order of their parts; of a part that was cut, what there is."""
    parts, at = [], 0
    while len(header := content[at : at + HEADER]) == HEADER:
        end = at + HEADER + int.from_bytes(header[4:], "big")
        parts.append(content[at + HEADER : end])
        at = end
    return b"".join(parts)
