"""Files of npm packages that tests judge by, and that are not ours to ship: from the registry, pinned by their hashes,
once for each machine."""

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from nodekit import report

from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import toolchain


def member(package: str, sha512: str, path: str) -> bytes:
    """A file of a package (`name@version`), whose archive has this hash, in Base64. Raises LocalClusterError."""
    parent = cache_dir() / "npm-packages"
    kept = parent / hashlib.sha256(f"{package} {sha512} {path}".encode()).hexdigest()[:24]
    if not kept.exists():
        with locked(parent):
            if not kept.exists():
                report(f"Fetching {package}; kept for the next time.")
                _fetch(package, sha512, path, kept)
    return kept.read_bytes()


def _fetch(package: str, sha512: str, path: str, kept: Path) -> None:
    """Whole or not at all."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
        subprocess.run(
            [*toolchain.npm(report), "pack", "--silent", package], cwd=directory, check=True, capture_output=True
        )
        [packed] = Path(directory).glob("*.tgz")
        assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == sha512
        with tarfile.open(packed) as archive:
            found = archive.extractfile(path)
            assert found is not None
            content = Path(directory) / "content"
            content.write_bytes(found.read())
        content.rename(kept)
