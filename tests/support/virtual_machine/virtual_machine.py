"""A virtual machine with another kernel: the distribution's own, which has what this machine's may not have.

Theory of operation. One call boots one machine, which runs one command and is off when that has ended. Its files are
this machine's, read-only, with a disk of its own laid over them that goes with it; so programs, caches and tests are
where they are here. It has no network but its own loopback. A directory of the caller's is what both see: the command
comes in by it, and what it printed, its exit code, and what it leaves below /run/told come out. Nothing of it outlives
the call, or who made it: QEMU is killed with its parent, and the kernel ends when something goes wrong in it.

Where this machine's own kernel can't give another one its processor (in most virtual machines), QEMU translates: that
works everywhere, and is some ten times slower.
"""

import compileall
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginekit import BUSYBOX
from initramfs import initramfs
from nodekit import report

from claude_sandbox.localcluster.programs.os_packages import Needed, Programs, ensure

_QEMU = Needed(
    ("qemu-system-x86", "e2fsprogs", "squashfs-tools"),
    ("qemu-system-x86_64", "mkfs.ext4", "mksquashfs", "setpriv"),
)
# The generic one: that for clouds (*-cloud-amd64) has no 9p.
_KERNEL = "boot/vmlinuz-*[0-9]-amd64"
_KERNELS = Needed(("linux-image-amd64", "kmod"), (), (_KERNEL, "bin/kmod"))
_INIT = Path(__file__).with_name("init")
_MEMORY = 4096
_PROJECT = Path(__file__).parents[3]
_PYTHON = (Path(sys.prefix), Path(sysconfig.get_path("stdlib")), _PROJECT / "operator", _PROJECT / "tests")
"""What is read as thousands of small files, each of which takes its time by 9p: they come as one image."""
_DISK = 12 << 30
"""Bytes at most; the file is as large as what was written."""
_START = """\
mkdir -p /lib/modules
mount --bind {modules} /lib/modules
ln -sfn {kmod} /sbin/modprobe
mount --bind /run/scratch/tmp /tmp
mkdir /run/packed
mount -t squashfs /dev/vdb /run/packed
{install}
for place in {packed}; do mount --bind "/run/packed$place" "$place"; done
hostname virtual
cd {directory}
export TMPDIR=/tmp HOME=/root PATH={path}
{command} >/run/told/output 2>&1 </dev/null
echo $? >/run/told/code
sync
/run/busybox poweroff -f
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Ended:
    """How a command in the machine ended: None where the machine did before it."""

    code: int | None
    output: str


def can_be_had() -> bool:
    """Whether a kernel of this architecture is named here."""
    return platform.machine() == "x86_64"


def run(command: Sequence[str], told: Path, seconds: float, installed: Sequence[Needed] = ()) -> Ended:
    """Boot a machine, run a command in it from the current directory, and return when the machine is off.

    `told` is a directory with what the command reads, in the machine /run/told. `installed`: packages that are in the
    machine alone.
    Raises TimeoutExpired when it takes longer than `seconds`; then it is off too.
    """
    programs, own = ensure(_QEMU, report), ensure(_KERNELS, report)
    image = own.file(_KERNEL)
    kmod, busybox = own.file("bin/kmod"), ensure(BUSYBOX, report).file("bin/busybox")
    assert image is not None
    assert kmod is not None
    assert busybox is not None
    modules = image.parents[1] / "lib/modules" / image.name.removeprefix("vmlinuz-")
    if not (modules / "modules.dep").exists():
        # What installing the package would do.
        subprocess.run(["depmod", "--basedir", modules.parents[2], modules.name], executable=kmod, check=True)
    start = {"modules": modules.parent, "kmod": kmod, "directory": Path.cwd(), "path": _PATH}
    words = {name: shlex.quote(str(word)) for name, word in start.items()}
    packed = shlex.join(map(str, _PYTHON))
    # Over the directories of a distribution whose /sbin is a link to one.
    copy = "tar -C {root} -c . | tar -C / -x --keep-directory-symlink"
    install = "\n".join(copy.format(root=shlex.quote(str(ensure(one, report).root))) for one in installed)
    (told / "start").write_text(_START.format(command=shlex.join(command), packed=packed, install=install, **words))
    (told / "initramfs").write_bytes(initramfs(busybox, _INIT, modules))
    _make_disks(programs, told)
    try:
        subprocess.run(
            _qemu(programs, image, told),
            env={**os.environ, **programs.environment()}, stdin=subprocess.DEVNULL, check=True, timeout=seconds,
        )  # fmt: skip
    finally:
        for name in ("disk", "packed", "initramfs"):
            (told / name).unlink()
    code = told / "code"
    if not code.exists():
        return Ended(None, (told / "console").read_text(errors="replace"))
    return Ended(int(code.read_text()), (told / "output").read_text(errors="replace"))


def _qemu(programs: Programs, image: Path, told: Path) -> list[str]:
    accelerator = ["kvm"] if _has_processors_to_lend() else ["tcg,thread=multi,tb-size=512"]
    processor = "host" if _has_processors_to_lend() else "max"
    firmware = [found for name in ("usr/share/qemu", "usr/share/seabios") if (found := programs.directory(name))]
    # Nobody attacks this machine from within, and what keeps kernel and programs apart makes translation slow.
    line = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"
    return [
        str(programs.path("setpriv")), "--pdeathsig", "KILL",
        str(programs.path("qemu-system-x86_64")), *(word for place in firmware for word in ("-L", str(place))),
        "-nodefaults", "-display", "none", "-no-reboot", "-nic", "none", "-serial", f"file:{told / 'console'}",
        "-machine", "q35", "-cpu", processor, *(word for one in accelerator for word in ("-accel", one)),
        "-smp", "2", "-m", str(_MEMORY), "-kernel", str(image), "-initrd", str(told / "initramfs"), "-append", line,
        "-drive", f"file={told / 'disk'},if=virtio,format=raw,cache=unsafe",
        "-drive", f"file={told / 'packed'},if=virtio,format=raw,readonly=on",
        "-virtfs", "local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap",
        "-virtfs", f"local,path={told},mount_tag=told,security_model=none",
    ]  # fmt: skip


def _has_processors_to_lend() -> bool:
    """Whether KVM runs any kernel; one without the processor's help (PVM) takes kernels that were made for it."""
    modules = (Path("/sys/module", name) for name in ("kvm_intel", "kvm_amd"))
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and any(module.exists() for module in modules)


def _make_disks(programs: Programs, told: Path) -> None:
    # What is compiled there is compiled each time, and slowly.
    for place in (_PROJECT / "operator", _PROJECT / "tests/support"):
        compileall.compile_dir(place, quiet=2)
    with (told / "disk").open("wb") as file:
        file.truncate(_DISK)
    pack = ("-no-strip", "-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-no-progress", "-quiet")
    commands: tuple[list[str | Path], ...] = (
        ["mkfs.ext4", "-q", "-O", "^has_journal", told / "disk"],
        ["mksquashfs", *_PYTHON, told / "packed", *pack],
    )
    environment = {**os.environ, **programs.environment()}
    for name, *arguments in commands:
        subprocess.run([programs.path(str(name)), *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
