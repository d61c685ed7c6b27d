"""Images of this project as archives in the cache, built once for each content."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, ImageNotFound
from docker.models.images import Image

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images.archive import ImageArchive, from_docker_save
from claude_sandbox.localcluster.images.base import bootstrap, python_version
from claude_sandbox.localcluster.images.engine import engine
from claude_sandbox.localcluster.images.places import place, remove_what_was_left
from claude_sandbox.localcluster.images.recipes import Recipe, recipe
from claude_sandbox.localcluster.images.sbom import PARTS
from claude_sandbox.localcluster.layout import cache_dir, write_private

NAMES = ("sandbox", "operator")
# Archives of one image that are kept: that of the last build, and one before it.
_KEPT = 2
_DEFAULT_PYTHON = "3.11"
_IN_USE_FOR = 24 * 3600.0


def build_image(name: str, report: Callable[[str], None], base: str | None = None) -> ImageArchive:
    """The image called `sandbox` or `operator`, built where the cache lacks it.

    `base` is an image that the Docker Engine has or can pull; without one, the recipe's default is tried, and
    a base is bootstrapped where that can't be had.
    Raises LocalClusterError where something that is needed is missing or fails, KeyError for another name.
    """
    parent = cache_dir() / "images"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        made_of = recipe(name)
        key = made_of.key()
        target = parent / f"{name}-{key}{_suffix(base)}.tar"
        if found := _load(target):
            return found
        with place(target.stem, lambda: report(f"Image {name}: another process builds it; waiting.")) as scratch:
            # Sources may have changed since: then this one is no longer what was asked for.
            if _load(target) or recipe(name).key() != key:
                continue
            remove_what_was_left()
            report(f"Building the image {made_of.reference}.")
            image = _build(made_of, key, base, scratch, target, report)
            if image is None:
                report(f"The sources of the image {name} were changed meanwhile: it is built again.")
                continue
            write_private(_record(target), json.dumps(asdict(image), default=str))
        _prune(parent, name)
        return image


def _build(
    made_of: Recipe, key: str, base: str | None, scratch: Path, target: Path, report: Callable[[str], None]
) -> ImageArchive | None:
    """None where the sources are no longer those of the key."""
    with engine(report) as client:
        context = scratch / "context"
        context.mkdir()
        origin, python = _base(client, made_of, base, report)
        made_of.stage(context, python, report)
        if made_of.key() != key:
            return None
        report(f"Running the Dockerfile of {made_of.name}.")
        image = _run_dockerfile(client, context, origin, made_of.reference)
        report(f"Writing {target}.")
        saved = scratch / "saved.tar"
        with saved.open("wb") as file:
            # By its own name: the reference may be another build's by now.
            for chunk in image.save():
                file.write(chunk)
        return from_docker_save(saved, target, made_of.reference)


def _base(
    client: docker.DockerClient, made_of: Recipe, base: str | None, report: Callable[[str], None]
) -> tuple[str, str]:
    """An image to begin with that the engine has, and the version of the Python that it has or will get."""
    wanted = base or made_of.default_base
    if _has_or_pulls(client, wanted):
        return wanted, _DEFAULT_PYTHON
    if base is not None:
        raise LocalClusterError(
            f"The Docker Engine neither has the image {base} nor can pull it.", "Check its name, or leave --base out."
        )
    archive = bootstrap(made_of.packages(), report)
    repository, tag = "claudesandbox.dev/base", archive.stem
    client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
    return f"{repository}:{tag}", python_version(archive) or _DEFAULT_PYTHON


def _has_or_pulls(client: docker.DockerClient, reference: str) -> bool:
    try:
        client.images.get(reference)
    except ImageNotFound:
        try:
            client.images.pull(reference)
        except APIError:
            return False
    return True


def _run_dockerfile(client: docker.DockerClient, context: Path, base: str, reference: str) -> Image:
    try:
        image, _ = client.images.build(
            path=str(context), tag=reference, buildargs={"BASE": base}, rm=True, forcerm=True
        )
    except BuildError as error:
        lines = [str(line.get("stream", line.get("error", ""))) for line in error.build_log]
        raise LocalClusterError(
            f"The Dockerfile failed: {error}\n" + "".join(lines)[-2000:], "Mend the Dockerfile, and try again."
        ) from error
    return image


def _load(target: Path) -> ImageArchive | None:
    try:
        document = json.loads(_record(target).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return ImageArchive(target, document["reference"], document["digest"]) if target.exists() else None


def _record(target: Path) -> Path:
    return target.with_suffix(".json")


def _suffix(base: str | None) -> str:
    return "" if base is None else "-" + hashlib.sha256(base.encode()).hexdigest()[:8]


def _prune(parent: Path, name: str) -> None:
    written = {}
    for file in parent.glob(f"{name}-*.tar"):
        # Another build may be at this too.
        with suppress(FileNotFoundError):
            written[file] = file.stat().st_mtime
    for old in sorted(written, key=written.__getitem__, reverse=True)[_KEPT:]:
        # A younger one may be in use by another checkout of the project.
        if time.time() - written[old] > _IN_USE_FOR:
            old.unlink(missing_ok=True)
            _record(old).unlink(missing_ok=True)
            old.with_suffix(PARTS).unlink(missing_ok=True)
