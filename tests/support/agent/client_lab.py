"""Programs of a sandbox, with the gateway as their only way to one name; nothing else resolves it."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gatewaykit import Authority, Gateway, authority, client_environment, document, running
from origin import origin

from claude_sandbox.claudecode.pinned import Api, through

NAME = "www.example.org"


@dataclass(frozen=True)
class Lab:
    """A gateway whose sandbox may reach one name, where `origin` serves `files` with and without TLS.

    `environment`: what programs find it by.
    """

    gateway: Gateway
    trust: Authority
    files: Path
    secure: str
    plain: str
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        """The programs' own, and where they run."""
        home = self.files.parent / "home"
        home.mkdir(exist_ok=True)
        return home

    async def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The program, with the proxy and the CA in its environment, in a home of its own."""
        env = {**self.environment, "HOME": str(self.home), **environment}
        return await asyncio.to_thread(
            subprocess.run, argv, env=env, cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )


@contextlib.asynccontextmanager
async def client_lab(directory: Path, **sandbox: Any) -> AsyncIterator[Lab]:
    """One in which programs present the placeholder as the proxy's password; `sandbox` is the rest of its entry."""
    trust, files = authority(directory, NAME), directory / "files"
    files.mkdir()
    async with origin(files, trust.server()) as secure, origin(files) as plain:
        configuration = document(directory, allowedDomains=[f"{NAME}:{secure}", f"{NAME}:{plain}"], **sandbox)
        configuration["egress"]["hosts"] = {NAME: ["127.0.0.1"]}
        with running(directory, configuration) as gateway:
            environment = client_environment(gateway, trust.bundle)
            yield Lab(gateway, trust, files, f"https://{NAME}:{secure}", f"http://{NAME}:{plain}", environment)


@contextlib.asynccontextmanager
async def sandbox_lab(directory: Path) -> AsyncIterator[Lab]:
    """One in which programs find the gateway as in a sandbox: by what the operator sets, and without a password."""
    async with client_lab(directory, proxyIdentity="Network") as lab:
        api = Api(f"http://{lab.gateway.broker}", f"http://{lab.gateway.proxy}", str(lab.trust.bundle))
        path = {name: os.environ[name] for name in ("PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN") if name in os.environ}
        yield Lab(lab.gateway, lab.trust, lab.files, lab.secure, lab.plain, {**through(api), **path})


def needs(program: str) -> pytest.MarkDecorator:
    """Left out where the program is not on this machine."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not here")
