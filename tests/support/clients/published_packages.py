"""What registries have, as files for any web server: for each package manager one package that needs nothing.

`files` is the server's directory; `base` the URL under which clients see it, where a registry names its own place.
"""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

NAME = "nothing-here"
"""The package, everywhere."""
MODULE = "module.example.org"
"""The Go module."""
POM = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
ARTIFACT = f"<groupId>org.example</groupId><artifactId>{NAME}</artifactId><version>1.0</version>"
"""Maven's, as another project names it."""


def all_of_them(files: Path, base: str, scratch: Path) -> None:
    """Every registry, and a bare git repository to push to."""
    python(files)
    npm(files, base)
    go(files)
    cargo(files, base)
    maven(files)
    debian(files, scratch)
    git(files)


def python(files: Path) -> None:
    """A wheel in `simple/`, an index of packages."""
    directory = files / "simple" / NAME
    directory.mkdir(parents=True)
    wheel, info = directory / "nothing_here-1.0-py3-none-any.whl", "nothing_here-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nothing_here.py", "SAID = 'nothing'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (directory / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{wheel.name}">{wheel.name}</a>\n')


def npm(files: Path, base: str) -> None:
    """A registry in `npm/`."""
    (files / "npm").mkdir()
    archive = files / "npm" / f"{NAME}-1.0.0.tgz"
    _tar(archive, {"package/package.json": json.dumps({"name": NAME, "version": "1.0.0"})})
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    dist = {"tarball": f"{base}/npm/{archive.name}", "integrity": f"sha512-{digest}"}
    version = {"name": NAME, "version": "1.0.0", "dist": dist}
    package = {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (files / "npm" / NAME).write_text(json.dumps(package))


def go(files: Path) -> None:
    """A proxy of modules in `go/`."""
    versions = files / "go" / MODULE / "@v"
    versions.mkdir(parents=True)
    (versions / "v1.0.0.info").write_text('{"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"}')
    (versions / "v1.0.0.mod").write_text(f"module {MODULE}\n")
    with zipfile.ZipFile(versions / "v1.0.0.zip", "w") as module:
        module.writestr(f"{MODULE}@v1.0.0/go.mod", f"module {MODULE}\n")


def cargo(files: Path, base: str) -> None:
    """A sparse registry in `index/`."""
    index, crate = files / "index", files / f"{NAME}-1.0.0.crate"
    manifest = f'[package]\nname = "{NAME}"\nversion = "1.0.0"\nedition = "2021"\n'
    _tar(crate, {f"{NAME}-1.0.0/Cargo.toml": manifest, f"{NAME}-1.0.0/src/lib.rs": ""})
    entry = {"name": NAME, "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
             "cksum": hashlib.sha256(crate.read_bytes()).hexdigest()}  # fmt: skip
    (index / "no/th").mkdir(parents=True)
    (index / "no/th" / NAME).write_text(json.dumps(entry) + "\n")
    (index / "config.json").write_text(json.dumps({"dl": f"{base}/{{crate}}-{{version}}.crate"}))


def maven(files: Path) -> Path:
    """A repository in `maven/`; returns the one project in it."""
    there = files / "maven/org/example" / NAME / "1.0"
    there.mkdir(parents=True)
    pom = there / f"{NAME}-1.0.pom"
    pom.write_text(f"{POM}{ARTIFACT}<packaging>pom</packaging></project>")
    (there / f"{pom.name}.sha1").write_text(hashlib.sha1(pom.read_bytes()).hexdigest())  # noqa: S324
    return pom


def debian(files: Path, scratch: Path) -> Path:
    """A flat repository in `debian/`; returns the one package in it. Made in the directory `scratch`."""
    control, repository = scratch / "package/DEBIAN/control", files / "debian"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {NAME}\nVersion: 1.0\nArchitecture: all\nMaintainer: n <e@example.org>\nDescription: none\n"
    )
    repository.mkdir()
    package = repository / f"{NAME}_1.0_all.deb"
    subprocess.run(("dpkg-deb", "--build", scratch / "package", package), check=True, capture_output=True)
    content = package.read_bytes()
    (repository / "Packages").write_text(
        f"{control.read_text()}Filename: ./{package.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    return package


def git(files: Path) -> None:
    """An empty repository, `repo.git`."""
    subprocess.run(("git", "init", "-q", "--bare", "-b", "main", str(files / "repo.git")), check=True)


def _tar(archive: Path, content: dict[str, str]) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for path, text in content.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
