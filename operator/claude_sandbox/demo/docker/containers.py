"""What the demo does on an engine by itself: an image in, a program run, and everything of a control plane out."""

import contextlib
import json
import tarfile

from docker import APIClient
from docker.errors import APIError, NotFound

from claude_sandbox.backends.docker.names import LABEL_COMPONENT, WORKSPACE, selector
from claude_sandbox.demo.errors import DemoError
from claude_sandbox.demo.narrator import Say
from claude_sandbox.localcluster.images import ImageArchive

_OURS = "claudesandbox.dev/*"


def images(api: APIClient) -> frozenset[str]:
    """Identifiers of this project's images that the engine has."""
    return frozenset(one["Id"] for one in api.images(filters={"reference": _OURS}))


def give(api: APIClient, archive: ImageArchive, say: Say) -> str:
    """Have the image on the engine; what containers are to name. Raises DemoError.

    An engine that keeps images as registries do knows it by the digest of its manifest. Others know only their own
    identifier of an image that came from no registry, the digest of its configuration.
    """
    names = (archive.pinned, f"sha256:{_configuration(archive)}")
    if (found := _first(api, names)) is not None:
        return found
    say(f"Giving the engine {archive.pinned}")
    with archive.path.open("rb") as file:
        for line in api.load_image(file):  # type: ignore[no-untyped-call]
            if problem := line.get("error"):
                raise DemoError(f"The Docker Engine refused the image: {problem}", "See that its disk is not full.")
    if (found := _first(api, names)) is None:
        raise DemoError(
            f"The Docker Engine took the image {archive.reference}, and does not know it by its digest.",
            "Remove that image (docker image rm), and run this again.",
        )
    return found


def run_in(api: APIClient, container: str, *argv: str) -> str:
    """What a program prints in a container, as the container's own user. Raises DemoError where it fails."""
    session = api.exec_create(container, list(argv))["Id"]
    said = str(api.exec_start(session).decode(errors="replace"))
    code = api.exec_inspect(session)["ExitCode"]
    if code != 0:
        raise DemoError(
            f"{' '.join(argv)} failed in the sandbox with exit code {code}:\n{said}", "See the sandbox's Events."
        )
    return said


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
            raise DemoError(f"{archive.path} is no image.", "Delete it, and run this again.")
        (document,) = json.load(file)
    return str(document["Config"]).rpartition("/")[2]
