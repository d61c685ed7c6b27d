"""Follows the ClaudeSandboxes of the gateway's namespace (`followed.py`).

Theory of operation: holds of each object what `read_sandbox` takes from it, by the object's name, or why it is refused.
While the server does not answer, what is known stays, and tokens end by themselves. `changed` is called, from the event
loop, whenever something that is held became another. A crash leaves nothing.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj
from claude_sandbox.gateway.kubernetes.declared import Declared, Marks, is_compromised, read_compromised, read_sandbox
from claude_sandbox.gateway.kubernetes.followed import Followed
from claude_sandbox.gateway.kubernetes.names import GROUP, PLURAL, VERSION

PAGE = 20
"""Objects of a page."""
MOST = 5000
"""Sandboxes that are followed; further ones are refused."""


_Read = tuple[dict[str, Declared], dict[str, str], dict[str, Marks]]
"""What was declared, what was refused, and which Secrets' generations are compromised, by names."""


class Sandboxes(Followed[_Read]):
    """The sandboxes of one namespace. Read `declared` and `refused` (by names) once `synced`."""

    def __init__(self, api: ApiServer, namespace: str, changed: Callable[[], None]) -> None:
        super().__init__(api, f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}", page=PAGE)
        self.declared: dict[str, Declared] = {}
        self.refused: dict[str, str] = {}
        self._compromised: dict[str, Marks] = {}
        self.synced = False
        self._changed = changed

    def _nothing(self) -> _Read:
        return {}, {}, {}

    def compromised(self, secret: str, generation: str | None, changed: datetime | None = None) -> bool:
        """Whether a sandbox of the namespace says that the key in this generation of the Secret is."""
        marks = (mark for those in self._compromised.values() for mark in those)
        return any(named == secret and is_compromised(generation, changed, of, since) for named, of, since in marks)

    def _take(self, item: Any, held: _Read) -> None:
        declared, refused, compromised = held
        if not isinstance(item, dict):
            raise ApiServerError(200, "a list with what is no object")
        name = _name(item)
        try:
            # Of every backend's, and before what else may be wrong with it: a Secret that one sandbox gives up is
            # another one's key too.
            if marked := read_compromised(item):
                compromised[name] = marked
            found = read_sandbox(item)
        except ConfigError as error:
            refused[name] = str(error)
            return
        if found is None:
            return
        if len(declared) >= MOST:
            refused[name] = f"one gateway serves {MOST} sandboxes: make it in another namespace"
            return
        declared[name] = found

    def _hold(self, held: _Read) -> None:
        self.declared, self.refused, self._compromised = held
        self.synced = True
        self._changed()

    def _apply(self, kind: str, obj: Obj) -> None:
        name = _name(obj)
        held = self.declared, self.refused, self._compromised
        before = tuple(one.pop(name, None) for one in held)
        if kind != "DELETED":
            self._take(obj, held)
        if before != tuple(one.get(name) for one in held):
            self._changed()


def _name(obj: Obj) -> str:
    metadata = obj.get("metadata")
    found = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(found, str):
        raise ApiServerError(200, "an object without a name")
    return found
