"""The first files of a virtual machine: a shell, what starts it, and the kernel's modules for its disks. Pure, but for
what is read."""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

# With what these need they make the root: the machine's files by virtio's 9p, a disk, and one laid over the other.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "virtio_blk", "ext4", "crc32c_generic", "overlay")
_DIRECTORIES = ("bin", "dev", "proc", "modules", "lower", "scratch", "root")


def initramfs(busybox: Path, init: Path, modules: Path) -> bytes:
    """An archive that a kernel unpacks at its start. `modules`: the kernel's directory, with modules.dep."""
    files = dict.fromkeys(_DIRECTORIES, (stat.S_IFDIR | 493, b""))
    files["bin/busybox"] = (stat.S_IFREG | 0o755, busybox.read_bytes())
    files["init"] = (stat.S_IFREG | 0o755, init.read_bytes())
    # Named by their turn, so that a shell's pattern gives the order in which they are to be loaded.
    for turn, module in enumerate(in_order((modules / "modules.dep").read_text(), _MODULES)):
        files[f"modules/{turn:02d}.ko"] = (stat.S_IFREG | 0o644, (modules / module).read_bytes())
    return archive(files)


def in_order(dependencies: str, wanted: Iterable[str]) -> list[str]:
    """The paths of modules, and of those that they need, each behind what it needs. `dependencies`: modules.dep."""
    lines = (line.partition(":") for line in dependencies.splitlines())
    needs = {path: needed.split() for path, _, needed in lines}
    by_name = {_name(path): path for path in needs}
    found: dict[str, None] = {}
    for name in wanted:
        path = by_name.get(name.replace("-", "_"))
        # One that is not there is built into the kernel.
        if path is not None:
            # The last of a line is what all before it need.
            found |= dict.fromkeys([*reversed(needs[path]), path])
    return list(found)


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Modes and contents by name as cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    parts = [_entry(number, name, *files[name]) for number, name in enumerate(files, start=1)]
    return b"".join([*parts, _entry(0, "TRAILER!!!", 0, b"")])


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = os.fsencode(name) + b"\0"
    # Inode, mode, owner, group, links, time, size, four numbers of devices, length of the name, checksum.
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")
