"""Programs built from pinned Go modules, once for each machine.

The version and the hash of every dependency come from the committed go.mod and go.sum, so the go
command accepts no other code, whatever proxy or checksum database the machine uses.
"""

import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import os_packages, toolchain
from claude_sandbox.localcluster.programs.os_packages import Needed
from claude_sandbox.localcluster.programs.tools import Tool

_GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_FLAGS = ("-trimpath", "-buildvcs=false")
# Seconds between two signs of life of a long build.
_REPORT_EVERY = 15.0


def build_all(tools: Sequence[Tool], report: Callable[[str], None]) -> dict[str, Path]:
    """The programs' paths by name, building what the cache lacks; silent where it lacks nothing.

    Raises LocalClusterError where a build fails.
    """
    missing = [tool for tool in tools if not location(tool).exists()]
    if missing:
        kept = cache_dir() / "bin"
        what = "a program" if len(missing) == 1 else f"{len(missing)} programs"
        report(f"Building {what} from source, once, which may take minutes; kept in {kept}.")
    for number, tool in enumerate(missing, start=1):
        build(tool, report, f"{number} of {len(missing)}")
    return {tool.name: location(tool) for tool in tools}


def build(tool: Tool, report: Callable[[str], None], position: str = "1 of 1") -> Path:
    """The program's path, after building it where the cache lacks it.

    One build at a time on a machine: two would take as long as one after the other, and twice the memory.
    """
    target = location(tool)
    if target.exists():
        return target
    waiting = f"{tool.name} {tool.version} ({position}): waiting for another build on this machine."
    with locked(cache_dir() / "bin", lambda: report(waiting)):
        # Another may have built it while this one waited.
        if not target.exists():
            _compile(tool, target, report, position)
    return target


def location(tool: Tool) -> Path:
    """Where the program is, or will be: a place of its own for all that decides its content."""
    digest = hashlib.sha256()
    for part in (tool.package, tool.linker_flags, *_FLAGS, goarch(), *tool.tags):
        digest.update(part.encode() + b"\0")
    sources = (tool.module / "go.mod", tool.module / "go.sum", *sorted(tool.module.glob("*.go")))
    for source in sources:
        digest.update(source.read_bytes() + b"\0")
    return cache_dir() / "bin" / f"{tool.family}-{tool.version}-{digest.hexdigest()[:12]}" / tool.name


def go_needed(go_mod: str) -> tuple[int, int]:
    """The Go version (major, minor) that a go.mod's text asks for."""
    match = re.search(r"^go (\d+)\.(\d+)", go_mod, re.MULTILINE)
    if match is None:
        raise ValueError("go.mod without a go line")
    return int(match[1]), int(match[2])


def environment(go: Path, inherited: dict[str, str]) -> dict[str, str]:
    """The go command's environment: the machine's proxy settings stay, what changes the result doesn't."""
    changes = ("GOFLAGS", "GOEXPERIMENT", "GOAMD64", "GOARM64", "GODEBUG", "GOROOT")
    kept = {name: value for name, value in inherited.items() if name not in changes}
    fixed = {
        "CGO_ENABLED": "0",
        "GOARCH": goarch(),
        "GOOS": "linux",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        # Not empty, because an empty one gives way to `go env -w`.
        "GOFLAGS": "-mod=readonly",
    }
    if go.is_relative_to(cache_dir()):
        # No trace outside of our own cache, and nothing in it that `rm -r` can't remove.
        own = {"GOPATH": "go", "GOMODCACHE": "go/pkg/mod", "GOCACHE": "go-build"}
        fixed |= {name: str(cache_dir() / place) for name, place in own.items()}
        fixed["GOFLAGS"] += " -modcacherw"
    return {**kept, **fixed}


def with_c(needed: Needed, report: Callable[[str], None]) -> dict[str, str]:
    """What changes in the go command's environment where C is compiled as well.

    Raises LocalClusterError where the compiler or a library is not to be had.
    """
    programs = os_packages.ensure(needed, report)
    found = [path for pattern in needed.files if (path := programs.file(pattern)) is not None]
    if not any(path.is_relative_to(programs.root) for path in found):
        return {"CGO_ENABLED": "1", **programs.environment()}
    libraries = sorted({path.parent for path in found if path.suffix == ".a"})
    # What depends on the processor is in directories of the same name, beside the other headers.
    headers = [programs.root / "usr/include", *(programs.root / "usr/include" / place.name for place in libraries)]
    return {
        **programs.environment(),
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": " ".join(["-O2", *(f"-I{directory}" for directory in headers)]),
        # -B: the first and last object files of a program are there, too.
        "CGO_LDFLAGS": " ".join(f"-L{directory} -B{directory}" for directory in libraries),
        # The packages' descriptions name the places that they would have if they were installed.
        "PKG_CONFIG_PATH": ":".join(f"{directory}/pkgconfig" for directory in libraries),
        "PKG_CONFIG_SYSROOT_DIR": str(programs.root),
    }


def _compile(tool: Tool, target: Path, report: Callable[[str], None], position: str) -> None:
    go = toolchain.go(go_needed((tool.module / "go.mod").read_text()), report)
    target.parent.mkdir(parents=True, exist_ok=True)
    for remains in target.parent.glob(f".{target.name}.*"):
        remains.unlink()
    # Not one name for all: the go command of a killed build may still be at work, on the file it was given.
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    log = target.with_name(f".{target.name}.{os.getpid()}.log")
    argv = [
        "nice", str(go), "build", *_FLAGS, "-tags", ",".join(tool.tags), "-ldflags", tool.linker_flags,
        "-o", str(partial), tool.package,
    ]  # fmt: skip
    variables = environment(go, dict(os.environ))
    if tool.c is not None:
        variables |= with_c(tool.c, report)
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=tool.module, env=variables, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _await(process, lambda seconds: report(f"{_label(tool, position)}: building, {seconds:.0f} s."))
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "go: downloading" not in line]
        raise LocalClusterError(
            f"{tool.name} {tool.version} could not be built:\n" + "\n".join(errors[-15:]),
            "Let Go reach a module proxy (GOPROXY), see that the disk isn't full, and run the command again.",
        )
    # Only what is whole has the name: a killed build leaves nothing that would be taken for the program.
    partial.replace(target)
    log.unlink()


def _label(tool: Tool, position: str) -> str:
    return f"{tool.name} {tool.version} ({position})"


def _await(process: subprocess.Popen[bytes], sign: Callable[[float], None]) -> None:
    began = time.monotonic()
    sign(0)
    while True:
        try:
            process.wait(_REPORT_EVERY)
            return
        except subprocess.TimeoutExpired:
            sign(time.monotonic() - began)


def goarch() -> str:
    """This machine's architecture as Go and container images call it; LocalClusterError for one not provided for."""
    machine = platform.machine()
    try:
        return _GOARCH[machine]
    except KeyError:
        raise LocalClusterError(
            f"The local cluster can't be built for this machine's architecture, {machine}.",
            f"Use a machine with one of these: {', '.join(_GOARCH)}; or give a cluster with --kubeconfig.",
        ) from None
