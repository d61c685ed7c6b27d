"""What administrators declare of a Docker host for the sandboxes on it, as it is now. Holds nothing.

Of a host whose DockerHost is not there, or was not looked at yet, everything is as if nothing was declared.
"""

from collections.abc import Callable

from claude_sandbox.api.docker_hosts.spec import DockerHostSpec, HostImages, VolumeSizes
from claude_sandbox.api.spec import Image
from claude_sandbox.backends.docker.hosts.placement import HostInfo
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.blueprint.model import Image as OwnImage


class Declared:
    """Of all hosts. `host_info`: what a host stands for, by its name; `relay`: the image that publishes ports."""

    def __init__(self, host_info: Callable[[str], HostInfo | None], relay: OwnImage | None) -> None:
        self._host_info = host_info
        self._relay = relay

    def publishing(self, host: str) -> Publishing:
        """Where declared ports are published."""
        spec = self._spec_of(host)
        if spec is None:
            return Publishing(self._relay)
        ports = spec.publish_ports
        return Publishing(self._relay, tuple(spec.publish_addresses), (ports.first, ports.last))

    def images(self, host: str) -> HostImages | None:
        """Which images may run, who logs in for them, and how long unused ones stay."""
        spec = self._spec_of(host)
        return None if spec is None else spec.images

    def keeps_images(self, host: str) -> int | None:
        """Hours for which an image that nothing uses is kept; None: for ever."""
        said = self.images(host)
        return said.remove_unused_after_hours if said is not None and said.remove_unused else None

    def permits(self, host: str, image: Image | None) -> bool:
        """Whether a sandbox may have this image; None: the operator's own default, which it may."""
        said = self.images(host)
        return image is None or (said is not None and said.permits(image))

    def backup_directory(self, host: str) -> str | None:
        """Where backups go."""
        spec = self._spec_of(host)
        return None if spec is None else spec.backup_directory

    def sizes_required(self, host: str) -> bool:
        """Whether a volume whose size can't be enforced is not to be made."""
        spec = self._spec_of(host)
        return spec is not None and spec.storage.sizes is VolumeSizes.REQUIRED

    def _spec_of(self, host: str) -> DockerHostSpec | None:
        found = self._host_info(host)
        return None if found is None else found.spec
