"""Reading what the operator connects to Docker hosts with, from the operator's own namespace and no other."""

from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.docker_hosts.endpoints import Scheme
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    ClientCredentials,
    ClientCredentialsError,
    RegistryLogin,
    from_secret,
    login_from,
    not_found,
)
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS


class HostSecrets:
    """Secrets of one namespace, each read when it is asked for and kept nowhere."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def credentials(self, name: str, scheme: Scheme) -> ClientCredentials:
        """What the Secret holds. Raises ClientCredentialsError where somebody has to act, else ApiError."""
        try:
            secret = await self._api.get(SECRETS, name, self.namespace)
        except ApiError as error:
            if error.is_not_found:
                raise not_found(self.namespace, name, scheme) from None
            if error.is_permission_denied:
                message = (
                    f"The operator may not read Secret {self.namespace}/{name}: give its account the role of"
                    " manifests/rbac/docker-hosts."
                )
                raise ClientCredentialsError(HostReason.PERMISSION_DENIED, message) from None
            raise
        return from_secret(secret, scheme)

    async def login(self, name: str) -> RegistryLogin:
        """What to log in to a registry with. Raises ClientCredentialsError where somebody has to act, and ApiError."""
        return login_from(await self._api.get(SECRETS, name, self.namespace))
