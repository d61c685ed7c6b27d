"""The answer to a push that is refused, in the words and the form that git shows to a person. Pure."""

from collections.abc import Iterator, Mapping

from claude_sandbox.gateway.git.pkt_line import FLUSH, packet, side_band
from claude_sandbox.gateway.git.push.request import PushRequest

_MAX_REASON = 500


def refused(request: PushRequest, reasons: Mapping[bytes, str]) -> bytes:
    """The whole body (gitprotocol-pack, Report Status): nothing of the push is done, since a part of it may not be."""
    capabilities = request.capabilities
    banded = b"side-band-64k" in capabilities
    reports = b"report-status" in capabilities or b"report-status-v2" in capabilities
    report = b"".join(_report(request, reasons)) if reports else b""
    if not banded:
        return report
    shown = sorted(set(reasons.values()))
    words = "".join(f"The sandbox's gateway refuses this push: {reason}.\n" for reason in shown)
    return b"".join((*side_band(2, words.encode()), *side_band(1, report))) + FLUSH


def _report(request: PushRequest, reasons: Mapping[bytes, str]) -> Iterator[bytes]:
    yield packet(b"unpack ok\n")
    for command in request.commands:
        reason = reasons.get(command.ref, "another part of this push is refused")[:_MAX_REASON]
        yield packet(b"ng %s %s\n" % (command.ref, reason.encode()))
    yield FLUSH
