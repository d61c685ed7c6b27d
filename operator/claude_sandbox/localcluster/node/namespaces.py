"""The node's own view of the machine: a network namespace and a mount namespace that outlive their processes.

What the node's programs mount, and every interface and packet filter rule they make, exists in there only
and ends with the namespaces. The namespaces are held by files that they are mounted on; the files lie in a
tmpfs of their own because a mount namespace can only be held where mounts don't propagate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from claude_sandbox.localcluster.layout import Layout, cache_dir
from claude_sandbox.localcluster.node.commands import call, succeeds
from claude_sandbox.localcluster.node.names import RUN, Names

# Directories of the machine that the node has its own of, and the place below `layout.node` of those that
# are to last as long as the node (the others are empty at every start of the node).
_OWN = {"/run": None, "/var/lib": "lib", "/var/log": "log"}

_MOUNT_EMPTY = "mount -t tmpfs -o mode=0755,nosuid,nodev claude-sandbox {place}\n"
_MOUNT_OPENED = "mkdir -p {place}\nmount --no-canonicalize --bind /proc/self/fd/{number} {place}\n"


def exist(names: Names) -> bool:
    """Whether the node's namespaces are there, with all that belongs into them."""
    return names.complete.exists() and succeeds((*enter(names), "true"))


def make(names: Names, layout: Layout, shared: Sequence[Path] = ()) -> None:
    """Make the namespaces where they are not there; raises LocalClusterError where the machine doesn't allow it.

    The directories that are `shared` (made below `names.directory`) are the same within and outside.
    """
    if exist(names):
        return
    # What an interrupted command left.
    remove(names)
    names.directory.mkdir(mode=0o700, parents=True)
    call(["mount", "-t", "tmpfs", "-o", "mode=0700,size=1m", "claude-sandbox", names.directory])
    call(["mount", "--make-private", names.directory])
    for file in (names.network, names.mounts):
        file.touch()
    for directory in shared:
        directory.mkdir(mode=0o700)
    # Slave: what the machine unmounts is unmounted for the node, too; nothing goes the other way.
    call(["unshare", f"--net={names.network}", f"--mount={names.mounts}", "--propagation=slave", "true"])
    call([*enter(names), "sh", "-e"], stdin=script(_OWN, layout, (layout.root, cache_dir(), *shared)))
    # One who is interrupted before this begins anew: without its own directories the node would use the machine's.
    names.complete.touch()


def enter(names: Names) -> tuple[str, ...]:
    """The beginning of a command line that runs a program in the node's namespaces."""
    return ("nsenter", f"--net={names.network}", f"--mount={names.mounts}", "--")


def enter_network(names: Names) -> tuple[str, ...]:
    """The beginning of a command line that runs one of the machine's programs in the node's network."""
    return ("nsenter", f"--net={names.network}", "--")


def remove(names: Names) -> None:
    """Let go of the namespaces: they end with the last process in them. Nothing happens where there are none."""
    for file in (names.mounts, names.network, names.directory):
        # Each may be mounted on more than once by a command that was interrupted and repeated.
        while _is_mounted(file):
            call(["umount", file])
    if names.directory.exists():
        for file in (names.mounts, names.network):
            file.unlink(missing_ok=True)
        names.directory.rmdir()
    if RUN.exists() and not any(RUN.iterdir()):
        RUN.rmdir()


def _is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(path) for line in lines)


def script(own: Mapping[str, str | None], layout: Layout, needed: Sequence[Path]) -> str:
    """The shell script that gives the node its `own` directories, and makes those below `layout.node`.

    What is `needed` may lie below one of them (a state or cache directory in /var/lib or /run), and is
    then mounted again at its place. Everything is mounted from descriptors that are opened before the first
    mount, because that may hide the others.
    """
    sources = {place: layout.node / name for place, name in own.items() if name is not None}
    for source in sources.values():
        source.mkdir(mode=0o755, parents=True, exist_ok=True)
    sources |= {str(path): path for path in needed if any(path.is_relative_to(place) for place in own)}
    opened = {target: number for number, target in enumerate(sources, start=3)}
    return "".join(
        [
            *(f"exec {number}<{quote(str(sources[target]))}\n" for target, number in opened.items()),
            *(_MOUNT_EMPTY.format(place=place) for place, name in own.items() if name is None),
            *(_MOUNT_OPENED.format(place=quote(target), number=number) for target, number in opened.items()),
        ]
    )
