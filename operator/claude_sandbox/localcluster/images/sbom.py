"""What an image of this project is made of, as a CycloneDX document: read from its archive, and from nothing else.

What counts is what is in the image, whoever put it there: the distribution's packages as dpkg has noted them, Python
packages by their own metadata, and Claude Code. Each has its package URL (github.com/package-url), by which scanners
know it. The same archive gives the same document, which names the archive's image by its digest.
"""

import email.parser
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from claude_sandbox.localcluster.images.archive import ImageArchive

MEDIA_TYPE = "https://cyclonedx.org/bom"
"""The type of the predicate by which it is attested."""
PARTS = ".cdx.json"
"""What the document's name ends with; it begins as the archive's."""
_DPKG, _RELEASE = "var/lib/dpkg/status", ("usr/lib/os-release", "etc/os-release")
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_CLAUDE = "opt/claude-sandbox/bin/claude"
_LARGEST = 32 << 20
"""Bytes of one file that is read."""


def written(image: ImageArchive, claude_code: str) -> Path:
    """The document, beside the archive. `claude_code`: the release that an image has which has it."""
    target = image.path.with_suffix(PARTS)
    if not target.exists():
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(document(image, claude_code), indent=1, sort_keys=True) + "\n")
        partial.rename(target)
    return target


def document(image: ImageArchive, claude_code: str) -> dict[str, Any]:
    """What is in the archive's image."""
    files = _files(image.path)
    release = dict(_release(files))
    components = [*_of_dpkg(files.get(_DPKG, b""), release), *_of_python(files)]
    if _CLAUDE in files:
        components.append(_component("@anthropic-ai/claude-code", claude_code, "pkg:npm/%40anthropic-ai/claude-code"))
    name = image.reference.rpartition(":")[0]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": name,
                "version": image.digest,
                "bom-ref": f"{name}@{image.digest}",
            }
        },
        "components": sorted({one["bom-ref"]: one for one in components}.values(), key=lambda one: str(one["bom-ref"])),
    }


def _files(archive: Path) -> dict[str, bytes]:
    """What matters of the image's files: of each the uppermost layer's. Of a program only that it is there."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as whole:
        manifest = whole.extractfile("manifest.json")
        assert manifest is not None  # noqa: S101 - an archive of ours has it
        for layer in json.load(manifest)[0]["Layers"]:
            content = whole.extractfile(layer)
            with tarfile.open(fileobj=content) as files:
                for member in files:
                    _take(found, files, member)
    return found


def _take(found: dict[str, bytes], files: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
    if path.name.startswith(".wh."):
        gone = str(path.parent if path.name == ".wh..wh..opq" else path.with_name(path.name.removeprefix(".wh.")))
        for name in [one for one in found if one == gone or one.startswith(f"{gone}/")]:
            del found[name]
        return
    name = str(path)
    if name == _CLAUDE:
        found[name] = b""
    elif (name == _DPKG or name in _RELEASE or _METADATA.fullmatch("/".join(path.parts[-2:]))) and member.isfile():
        content = files.extractfile(member)
        found[name] = content.read(_LARGEST) if content is not None else b""


def _release(files: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    text = next((files[one] for one in _RELEASE if files.get(one)), b"").decode(errors="replace")
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name, value.strip('"')


def _of_dpkg(status: bytes, release: dict[str, str]) -> Iterator[dict[str, Any]]:
    distribution = release.get("ID", "debian")
    for paragraph in status.decode(errors="replace").split("\n\n"):
        fields = dict(_fields(paragraph))
        if "installed" not in fields.get("Status", "").split():
            continue
        name, version = fields.get("Package", ""), fields.get("Version", "")
        more = {"arch": fields.get("Architecture", ""), "distro": f"{distribution}-{release.get('VERSION_ID', '')}"}
        query = "&".join(f"{key}={quote(value)}" for key, value in more.items())
        yield _component(name, version, f"pkg:deb/{distribution}/{quote(name, safe='')}", query)


def _fields(paragraph: str) -> Iterator[tuple[str, str]]:
    for line in paragraph.splitlines():
        name, colon, value = line.partition(": ")
        if colon and not line.startswith(" "):
            yield name, value.strip()


def _of_python(files: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    for path, content in files.items():
        if _METADATA.fullmatch("/".join(path.split("/")[-2:])):
            said = email.parser.BytesHeaderParser().parsebytes(content)
            name = re.sub(r"[-_.]+", "-", str(said["Name"])).lower()
            yield _component(name, str(said["Version"]), f"pkg:pypi/{name}")


def _component(name: str, version: str, package: str, query: str = "") -> dict[str, Any]:
    url = f"{package}@{quote(version, safe='')}{'?' + query if query else ''}"
    return {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}
