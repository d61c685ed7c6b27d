"""Which namespace of a name a sandbox belongs to: a namespace that is deleted and made again is another one.

Theory of operation. What outlives a sandbox on a Docker host is told apart by the UID of its namespace, which no object
in the namespace holds, and which nobody but the API server can be asked for. It is read while the sandbox is there: the
namespace first, then the sandbox, which has to be there still. So it was there in between, and a namespace is not made
again while anything is left in the former one.

Holds, in memory, that UID for each sandbox that was asked about; it never changes. A crash forgets it. Called by the
passes of sandboxes, on the event loop.
"""

from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, SANDBOXES


class NamespaceUIDs:
    """Of the namespaces of one control plane."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[Key, tuple[str, str]] = {}

    def known(self, raw: Raw) -> str | None:
        """The UID of the sandbox's namespace, where it was asked for before."""
        sandbox, namespace = self._known.get(key_of(raw), ("", None))
        return namespace if sandbox == raw["metadata"]["uid"] else None

    async def of(self, raw: Raw) -> str | None:
        """The UID of the sandbox's namespace; None where the sandbox is gone. Raises ApiError."""
        if (known := self.known(raw)) is not None:
            return known
        key, uid = key_of(raw), raw["metadata"]["uid"]
        try:
            namespace = await self._api.get(NAMESPACES, key.namespace)
            sandbox = await self._api.get(SANDBOXES, key.name, key.namespace, metadata_only=True)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        # Another of its name: the namespace that was read may be another one as well.
        if sandbox["metadata"]["uid"] != uid:
            return None
        found = str(namespace["metadata"]["uid"])
        self._known[key] = uid, found
        return found

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._known.pop(key, None)
