"""What a host's engine logs in to a registry with: what the DockerHost names for the repository, and nothing else."""

import logging
from collections.abc import Callable
from typing import Protocol

from claude_sandbox.api.docker_hosts.spec import HostImages
from claude_sandbox.api.references import DEFAULT_REGISTRY, Reference
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError, RegistryLogin
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.images.pulls import ImageMissingError
from claude_sandbox.kubernetes_api.errors import ApiError

logger = logging.getLogger(__name__)

_HUB = "https://index.docker.io/v1/"
"""What Docker's own registry is called where one logs in."""


class LoginSecrets(Protocol):
    """Secrets of the operator's own namespace."""

    async def login(self, name: str) -> RegistryLogin:
        """What to log in with. Raises ClientCredentialsError and ApiError."""


class RegistryLogins:
    """Of one host. `images` tells what its DockerHost says of images now."""

    def __init__(self, host: str, secrets: LoginSecrets, images: Callable[[], HostImages | None]) -> None:
        self._host = host
        self._secrets = secrets
        self._images = images

    async def of(self, image: Reference) -> Object | None:
        """What the engine is given for a pull; None: nothing. Raises ImageMissingError, which names no Secret."""
        images = self._images()
        name = images.secret_for(image.repository) if images is not None else None
        if name is None:
            return None
        try:
            login = await self._secrets.login(name)
        except (ClientCredentialsError, ApiError) as error:
            logger.warning("DockerHost %s: what to log in to %s with can't be read: %s", self._host, image, error)
            raise ImageMissingError(
                f"The image {image} can't be pulled, since what to log in with can't be read: its administrator has to"
                f" mend spec.images.credentials of DockerHost {self._host}; why is in the operator's log."
            ) from None
        server = _HUB if image.registry == DEFAULT_REGISTRY else image.registry
        return {"username": login.username, "password": login.password, "serveraddress": server}
