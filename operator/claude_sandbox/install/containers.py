"""What is done on an engine by its address: an image in, and everything of a control plane out."""

import contextlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from docker import APIClient
from docker.errors import APIError, NotFound

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.meta import LABEL_MANAGED_BY, MANAGED_BY
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.backends.docker.names import LABEL_COMPONENT, WORKSPACE, selector
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster.images import ImageArchive, build_image

_OURS = "claudesandbox.dev/*"
# Seconds between two bytes: an engine takes its time over an image.
_PATIENCE = 600
PLACE = "/kept"
"""Where a volume is in a container that `holding` makes."""


@contextlib.contextmanager
def connected(endpoint: str) -> Iterator[Connection]:
    """The engine. Raises SetupError where it does not answer."""
    try:
        engine = connect(parse(endpoint), timeout=_PATIENCE)
    except ConnectError as error:
        raise SetupError(
            f"The Docker Engine at {endpoint} can't be used: {error.message}.", "Start it, and run this again."
        ) from None
    with engine:
        yield engine


@dataclass(frozen=True)
class PreparedImages:
    """Images of this project that an engine has: what containers are to name, by what each is for."""

    names: Mapping[str, str]
    added: tuple[str, ...]
    """Identifiers of those that it did not have before, in order."""


Claim = Callable[[tuple[str, ...]], None]
"""Notes identifiers of images, of which the engine may get to have some: who is killed then knows of them."""


def bring(api: APIClient, kinds: Iterable[str], say: Say, claim: Claim) -> PreparedImages:
    """Build images of these kinds, and have them on the engine. Raises SetupError."""
    before, names = _images(api), {}
    for kind in kinds:
        archive = build_image(kind, say)
        # What was built on this very engine is there already.
        claim(tuple(sorted(_images(api) - before)))
        names[kind] = _given(api, archive, say, claim)
    return PreparedImages(names, tuple(sorted(_images(api) - before)))


def _images(api: APIClient) -> frozenset[str]:
    """Identifiers of this project's images that the engine has."""
    return frozenset(one["Id"] for one in api.images(filters={"reference": _OURS}))


def give(api: APIClient, archive: ImageArchive, say: Say) -> str:
    """Have the image on the engine; what containers are to name. Raises SetupError.

    An engine that keeps images as registries do knows it by the digest of its manifest. Others know only their own
    identifier of an image that came from no registry, the digest of its configuration.
    """
    return _given(api, archive, say, lambda _: None)


def _given(api: APIClient, archive: ImageArchive, say: Say, claim: Claim) -> str:
    configuration = f"sha256:{_configuration(archive)}"
    names = (archive.pinned, configuration)
    if (found := _first(api, names)) is not None:
        return found
    claim((archive.digest, configuration))
    say(f"Giving the engine {archive.pinned}")
    with archive.path.open("rb") as file:
        for line in api.load_image(file):  # type: ignore[no-untyped-call]
            if problem := line.get("error"):
                raise SetupError(f"The Docker Engine refused the image: {problem}", "See that its disk is not full.")
    if (found := _first(api, names)) is None:
        raise SetupError(
            f"The Docker Engine took the image {archive.reference}, and does not know it by its digest.",
            "Remove that image (docker image rm), and run this again.",
        )
    return found


def sweep(api: APIClient, cluster: str) -> int:
    """Remove every container, network and volume of a control plane's sandboxes; how many there were."""
    count = _sweep_running(api, cluster)
    volumes = _volumes(api, cluster)
    for name in volumes:
        _remove_volume(api, name)
    return count + len(volumes)


def sweep_but_workspaces(api: APIClient, cluster: str) -> tuple[int, list[str]]:
    """Remove all of that but workspaces; how many there were, and the names of the workspaces' volumes."""
    count = _sweep_running(api, cluster)
    volumes = _volumes(api, cluster)
    workspaces = sorted(name for name, component in volumes.items() if component == WORKSPACE)
    for name in volumes.keys() - set(workspaces):
        _remove_volume(api, name)
    return count + len(volumes) - len(workspaces), workspaces


def _sweep_running(api: APIClient, cluster: str) -> int:
    wanted = {"label": selector(cluster)}
    containers = api.containers(all=True, filters=wanted)
    for one in containers:
        with contextlib.suppress(NotFound):
            api.remove_container(one["Id"], force=True)
    networks = api.networks(filters=wanted)
    for one in networks:
        with contextlib.suppress(NotFound):
            api.remove_network(one["Id"])
    return len(containers) + len(networks)


def _volumes(api: APIClient, cluster: str) -> dict[str, str]:
    """Names, and what each is for."""
    found = api.volumes(filters={"label": selector(cluster)})["Volumes"] or []
    return {one["Name"]: (one.get("Labels") or {}).get(LABEL_COMPONENT, "") for one in found}


def _remove_volume(api: APIClient, name: str) -> None:
    with contextlib.suppress(NotFound):
        api.remove_volume(name)


def any_image(api: APIClient) -> str:
    """An image that is there, for a container that is never started. Raises SetupError where there is none."""
    ours = {"label": [f"{LABEL_MANAGED_BY}={MANAGED_BY}"]}
    found = api.containers(all=True, filters=ours) or api.images()
    if not found:
        raise SetupError("The engine has no image, and reads a volume by a container.", "Pull any, and try again.")
    return str(found[0].get("ImageID") or found[0]["Id"])


@contextlib.contextmanager
def holding(api: APIClient, volume: str, image: str, *, read_only: bool) -> Iterator[str]:
    """A container that has the volume at PLACE and is never started, so that nothing of either is run."""
    config = api.create_host_config(binds={volume: {"bind": PLACE, "mode": "ro" if read_only else "rw"}})
    made = api.create_container(image, ["never-started"], host_config=config, network_disabled=True)
    try:
        yield str(made["Id"])
    finally:
        # `v`: those that its image declares. A volume that is bound by its name stays.
        api.remove_container(made["Id"], v=True, force=True)


def remove_images(api: APIClient, identifiers: tuple[str, ...]) -> None:
    """Remove images, but for those that somebody else's containers are made of."""
    for identifier in identifiers:
        try:
            api.remove_image(identifier)
        except APIError as error:
            if error.status_code not in (404, 409):
                raise


def _first(api: APIClient, names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            api.inspect_image(name)  # type: ignore[no-untyped-call]
        except NotFound:
            continue
        return name
    return None


def _configuration(archive: ImageArchive) -> str:
    with tarfile.open(archive.path, "r:") as content:
        file = content.extractfile("manifest.json")
        if file is None:
            raise SetupError(f"{archive.path} is no image.", "Delete it, and run this again.")
        (document,) = json.load(file)
    return str(document["Config"]).rpartition("/")[2]
