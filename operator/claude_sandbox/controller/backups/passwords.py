"""The password of a repository, what a server elsewhere lets in, and whether their Secrets may be used."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.backends.backups import TAKEN, Handed, NotNowError, Wanted
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.kubernetes_api.unstructured import labels


class Passwords:
    """Of all namespaces. Keeps none."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, wanted: Wanted) -> Handed:
        """What is in them, for a helper that can't have it otherwise. Raises NotNowError."""
        value = _decoded((await self._live(wanted)).get(wanted.key))
        # As restic reads a file with a password: without what ends its line.
        value = value.rstrip(b"\r\n")
        if not value or b"\n" in value:
            raise NotNowError(
                BackupReason.SECRET_KEY_MISSING,
                f"{_where(wanted)} has no password of one line under the key {wanted.key}: put it there.",
            )
        if (other := _with_credentials(wanted)) is None:
            return Handed(value)
        data = await self._live(other)
        return Handed(value, {name: _decoded(data[name]) for name in TAKEN if name in data})

    async def _live(self, wanted: Wanted) -> Mapping[str, Any]:
        """A Secret's data. Raises NotNowError."""
        where = _where(wanted)
        try:
            live = await self._api.get(SECRETS, wanted.secret, wanted.namespace)
        except ApiError as error:
            raise _unread(where, wanted, error) from None
        # Whoever may make backups names any Secret of the namespace: only those that opted in are used.
        if labels(live).get(meta.BACKUP_SECRET_TYPE) != "true" and live.get("type") != meta.BACKUP_SECRET_TYPE:
            raise _not_opted_in(where, wanted)
        return live.get("data") or {}

    async def allowed(self, wanted: Wanted) -> None:
        """Whether the Secrets may be used, without a look at what is in them. Raises NotNowError."""
        await self._allowed(wanted)
        if (other := _with_credentials(wanted)) is not None and other.secret != wanted.secret:
            await self._allowed(other)

    async def _allowed(self, wanted: Wanted) -> None:
        where, use = _where(wanted), meta.BACKUP_SECRET_TYPE
        named = f"metadata.name={wanted.secret}"
        try:
            # Metadata alone does not tell the type; a field selector has the server look at it.
            typed = await self._api.list(
                SECRETS, wanted.namespace, field_selector=f"{named},type={use}", metadata_only=True
            )
            if typed.items:
                return
            live = await self._api.get(SECRETS, wanted.secret, wanted.namespace, metadata_only=True)
        except ApiError as error:
            raise _unread(where, wanted, error) from None
        if labels(live).get(use) != "true":
            raise _not_opted_in(where, wanted)


def _with_credentials(wanted: Wanted) -> Wanted | None:
    """The same, with the Secret that a server elsewhere lets in with."""
    reference = wanted.target.credentials_secret_ref
    return None if reference is None else replace(wanted, secret=reference.name, key="KEY")


def _where(wanted: Wanted) -> str:
    return f"Secret {wanted.namespace}/{wanted.secret}"


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _unread(where: str, wanted: Wanted, error: ApiError) -> NotNowError:
    if error.is_not_found:
        return NotNowError(
            BackupReason.SECRET_NOT_FOUND,
            f"There is no {where}. Make it with `kubectl create secret generic -n {wanted.namespace} {wanted.secret}"
            f" --type={meta.BACKUP_SECRET_TYPE} --from-file={wanted.key}=FILE`, and keep what is in it elsewhere too.",
        )
    if error.is_forbidden:
        return NotNowError(BackupReason.PERMISSION_DENIED, f"The operator may not read {where}: {error.reason}.")
    return NotNowError(BackupReason.HELPER_NOT_STARTED, f"{where} could not be read: {error.reason}.")


def _not_opted_in(where: str, wanted: Wanted) -> NotNowError:
    return NotNowError(
        BackupReason.SECRET_NOT_OPTED_IN,
        f"{where} has not opted in to being used for backups: make it with --type={meta.BACKUP_SECRET_TYPE}, or label"
        f" it: `kubectl label secret -n {wanted.namespace} {wanted.secret} {meta.BACKUP_SECRET_TYPE}=true`.",
    )
