"""What the machine's kernel says of a container's processes, where the container can't forge it."""

import contextlib
import sys
import time
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def processes(container: str) -> list[Path]:
    """The /proc directories of a container's processes, by the cgroup that bears its identifier."""
    if not container:
        return []
    return [path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if container in _text(path)]


def agent(container: str) -> Path:
    """The /proc directory of the agent's shell, and not of an init process before it."""
    found = [path for path in processes(container) if _text(path / "cmdline").startswith("/bin/sh\0")]
    assert found, f"no process of the agent among {processes(container)}"
    # By its start and not by its number: a health check's shell may have a lower one, once all of them were used.
    return min(found, key=_started)


def _started(process: Path) -> int:
    """Ticks since the machine began, of a process that may be gone by now."""
    fields = _text(process / "stat").rpartition(")")[2].split()
    return int(fields[19]) if fields else sys.maxsize


def status(process: Path) -> dict[str, str]:
    """/proc/PID/status."""
    lines = (process / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def mounts(process: Path) -> dict[str, tuple[str, set[str]]]:
    """The file system, and the options of the mount and of the file system, by where it is mounted.

    While a file is copied out of a container, Docker 20.10 mounts its volumes over themselves, writable: wait for that.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    lines = (process / "mountinfo").read_text().splitlines()
    for _ in range(100):
        if len({line.split()[4] for line in lines}) == len(lines):
            break
        time.sleep(0.05)
        lines = (process / "mountinfo").read_text().splitlines()
    for line in lines:
        mount, _, system = line.partition(" - ")
        where, options = mount.split()[4:6]
        kind, _, more = system.split()
        found[where] = (kind, {*options.split(","), *more.split(",")})
    return found


def limits(process: Path, controller: str, file: str) -> list[str]:
    """The values of a cgroup file, of the process's own group and of those above it, the own one first."""
    groups = [line.split(":", 2)[1:] for line in (process / "cgroup").read_text().splitlines()]
    by_controller = {name: path for names, path in groups for name in names.split(",")}
    unified = not (_CGROUPS / controller).is_dir()
    root = _CGROUPS if unified else _CGROUPS / controller
    group = root / by_controller["" if unified else controller].lstrip("/")
    above = [level for level in group.parents if level.is_relative_to(root)]
    return [(level / file).read_text().strip() for level in (group, *above) if (level / file).is_file()]


def memory(process: Path) -> bytes:
    """All that a process has in memory and could write to; nothing where it has ended."""
    parts = []
    with contextlib.suppress(OSError), (process / "mem").open("rb") as file:
        for line in (process / "maps").read_text().splitlines():
            where, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in where.split("-"))
                file.seek(start)
                parts.append(file.read(end - start))
    return b"".join(parts)


def unified() -> bool:
    """Whether cgroups are of version 2."""
    return (_CGROUPS / "cgroup.controllers").is_file()


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
