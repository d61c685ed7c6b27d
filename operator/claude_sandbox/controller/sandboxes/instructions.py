"""What sandboxes are told by ConfigMaps, and what to do while that can't be read.

Theory of operation. It holds, for each sandbox that names ConfigMaps, what was understood of them last, and of which
versions. A version is judged once. Where one is missing or refused, what was understood last goes on counting, so that
a slip of the pen takes no guard away from what runs; nothing new is made meanwhile. A crash forgets that: then only the
pins count until the ConfigMaps can be read again. Called by the passes, on the event loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.fields.work.claude_code import ClaudeCode
from claude_sandbox.backends.base import Failure
from claude_sandbox.blueprint.instructions import Config, Instructions, NotThereError, understood
from claude_sandbox.claudecode.given import RefusedError
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.controller.sandboxes.store import Key

Raw = Mapping[str, Any]
Look = Callable[[str, str], tuple[bool, Raw | None]]
"""Whether ConfigMaps of a namespace can be read, and the one of a name where it opted in."""


@dataclass(frozen=True)
class Told:
    """What counts now. `changed`: whether it is other than at the last look, or there was none."""

    instructions: Instructions
    changed: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class _Last:
    versions: tuple[object, ...]
    told: Told


class ToldInstructions:
    """Of one operator."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._last: dict[Key, _Last] = {}

    def of(self, key: Key, uid: str, asked: ClaudeCode) -> Told:
        """What a sandbox is told now."""
        if not any(asked.config_maps):
            return Told(Instructions(), changed=self._last.pop(key, None) is not None)
        versions = self._versions(key.namespace, uid, asked)
        last = self._last.get(key)
        if last is not None and last.versions == versions:
            return Told(last.told.instructions, failure=last.told.failure)
        before = last.told.instructions if last is not None and last.versions[0] == uid else None
        told = self._judged(key.namespace, asked, before or Instructions())
        self._last[key] = _Last(versions, told)
        return Told(told.instructions, told.instructions != before, told.failure)

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._last.pop(key, None)

    def _versions(self, namespace: str, uid: str, asked: ClaudeCode) -> tuple[object, ...]:
        """What the result depends on."""
        found = (self._look(namespace, name) for name in sorted(set(asked.config_maps)))
        seen = ((readable, live["metadata"]["resourceVersion"] if live else None) for readable, live in found)
        # Whether they can be read as well: a role that comes back changes what is known, and no version.
        return (uid, asked.model_dump_json(), *seen)

    def _judged(self, namespace: str, asked: ClaudeCode, before: Instructions) -> Told:
        try:
            return Told(understood(asked, lambda name: self._data(namespace, name)))
        except PermissionError as error:
            return Told(before, failure=Failure(Reason.PERMISSION_DENIED, str(error), permanent=True))
        except NotThereError as error:
            return Told(before, failure=Failure(Reason.CONFIG_MAP_NOT_FOUND, str(error), permanent=True))
        except RefusedError as error:
            return Told(before, failure=Failure(Reason.CONFIG_MAP_REFUSED, f"{error}.", permanent=True))

    def _data(self, namespace: str, name: str) -> Config:
        """The data of a ConfigMap. Raises PermissionError, NotThereError, RefusedError."""
        readable, live = self._look(namespace, name)
        label = f"{meta.LABEL_CLAUDE_CODE}=true"
        # What was read before a role was taken away counts on.
        if not readable and live is None:
            raise PermissionError(
                "The operator may not list ConfigMaps, which spec.claudeCode needs: give its account the role in"
                " manifests/rbac/roles."
            )
        if live is None:
            raise NotThereError(
                f"There is no ConfigMap {namespace}/{name} that has opted in. Make it with `kubectl create configmap -n"
                f" {namespace} {name} --from-file=…`, and label it: `kubectl label configmap -n {namespace} {name}"
                f" {label}`. Until then no workload is made."
            )
        if why := live.get(OUTSIZE):
            raise RefusedError(f"spec.claudeCode: ConfigMap {name} is not kept: {why}; make it smaller")
        return live.get("data") or {}
