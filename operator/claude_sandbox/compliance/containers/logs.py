"""What is kept of a container's output, by its log driver: whether it can fill the host's disk. Pure."""

from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.containers.tmpfs import is_size
from claude_sandbox.compliance.evidence.containers import Journal
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.verdict import Verdict, failed, passed, unknown

_READABLE = ("local", "json-file", "journald")
"""Drivers that an engine reads what they wrote back from. Of any other it keeps a copy of its own to read."""
_SERVICES = frozenset({"awslogs", "gcplogs"})
"""Drivers that send it to a provider's service: nothing but the copy is on the host."""
_OVER = 8
"""Of what journald keeps, one part in so many may be beyond it for a moment: a file (SystemMaxFileSize)."""


def container_log(container: Container) -> Verdict:
    """What it writes to its output does not fill the host's disk: the engine keeps so much, and drops what is older.

    The driver `local` keeps five files of 20 MB where it is told nothing else, `json-file` all there is; so does the
    copy that `docker logs` reads of drivers that send it elsewhere (moby, daemon/logger). What journald keeps of all
    that the host writes, journald says.
    """
    driver = container.text("HostConfig.LogConfig.Type")
    if not driver:
        return unknown(untold("HostConfig.LogConfig.Type"))
    if driver == "none":
        return passed("none is kept")
    options = container.mapping("HostConfig.LogConfig.Config", omissible=True)
    if options is None:
        return unknown(untold("HostConfig.LogConfig.Config"))
    if driver == "journald":
        return _journal(container.journal)
    if driver not in _READABLE:
        return _sent(driver, options)
    size = options.get("max-size", "20m" if driver == "local" else None)
    if not is_size(size):
        return failed(f"the driver {driver} keeps all that it writes, as long as the host's disk has room", driver)
    files = options.get("max-file", "5" if driver == "local" else "1")
    return passed(f"{driver}: {files} x {size}")


def _journal(found: Journal | str) -> Verdict:
    if isinstance(found, str):
        return unknown(f"how much of it the host's journal keeps is not known: {found}", "journald")
    kept, most = (f"{amount / (1 << 20):.0f} MiB" for amount in (found.kept, found.most))
    if found.kept > found.most + found.most // _OVER:
        return failed(f"the host's journal has {kept}, and is to keep {most}: journald drops nothing", "journald")
    return passed(f"journald: {kept} of the {most} that it keeps of all that the host writes")


def _sent(driver: str, options: Object) -> Verdict:
    """By a driver that sends it on."""
    copied = options.get("cache-disabled") != "true"
    size = options.get("cache-max-size", "20m")
    if copied and not is_size(size):
        return failed(f"the copy that the engine keeps of what the driver {driver} sends has no bound", driver)
    copy = f"a copy of {options.get('cache-max-file', '5')} x {size}" if copied else "no copy"
    if driver in _SERVICES:
        return passed(f"{driver}: sent elsewhere, {copy} is kept")
    return unknown(
        f"how much of it is kept by whoever the driver {driver} sends it to, no engine tells", f"{driver}: {copy}"
    )
