"""Which Secrets the gateway of a namespace needs: those that its sandboxes with a brokered key name.

Theory of operation. It holds, for each namespace, what each such sandbox names, and the union of that until a sandbox
changes. `Sandboxes` tells of every change, before a pass sees it. So a pass asks at no cost, however many there are.
Used on the event loop; a crash loses all, and the first list tells it anew.
"""

from claude_sandbox.api.named_secrets import has_gateway, secrets_named
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes


class BrokeredSecrets:
    """Of all namespaces."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._named: dict[str, dict[str, frozenset[str]]] = {}
        self._together: dict[str, frozenset[str]] = {}
        self._with_services: dict[str, set[str]] = {}
        sandboxes.follow(self._changed)

    def of(self, namespace: str) -> frozenset[str] | None:
        """The names of the Secrets; None where no sandbox of the namespace has a gateway."""
        named = self._named.get(namespace)
        if named is None:
            return None
        if namespace not in self._together:
            self._together[namespace] = frozenset().union(*named.values())
        return self._together[namespace]

    def lent_by_address(self, namespace: str) -> bool:
        """Whether a sandbox of the namespace has services, whose credentials are lent by a pod's address."""
        return namespace in self._with_services

    def _changed(self, key: Key, raw: Raw | None) -> None:
        now = frozenset(secrets_named(raw)) if raw is not None and has_gateway(raw) else None
        self._note_services(key, now is not None and bool((raw or {}).get("spec", {}).get("services")))
        named = self._named.get(key.namespace, {})
        if named.get(key.name) == now:
            return
        # Made anew when it is asked for next: many changes in a row cost one union.
        self._together.pop(key.namespace, None)
        if now is not None:
            self._named.setdefault(key.namespace, {})[key.name] = now
            return
        del named[key.name]
        if not named:
            del self._named[key.namespace]

    def _note_services(self, key: Key, has: bool) -> None:
        if has:
            self._with_services.setdefault(key.namespace, set()).add(key.name)
        elif key.name in (found := self._with_services.get(key.namespace, set())):
            found.remove(key.name)
            if not found:
                del self._with_services[key.namespace]
