"""Credentials in labels and annotations, which everyone reads who may list what has them. Pure.

Their names are judged as variables' are, without the domain before them. But where a variable called so holds the
credential, a label or an annotation often says only which object has it, that it changed, or what another program is
to put there: such values are let be.
"""

import re

from claude_sandbox.api.credentials import measured, named

# To what a program of the cluster puts a value, or what it runs a template for.
_REFERENCE = re.compile(
    r"\$\{[^}]*\}|\$\w+|\$\([^)]*\)|\{\{.*\}\}|%%[^%]*%%|ENC\[[^\]]*\]|<[^>]*>|(?:file|secret|vault|ref\+\w+)://?.*",
    re.DOTALL,
)
_STATES = re.compile(
    r"required|optional|enabled?|disabled?|mounted|external|managed|inject(?:ed)?|auto|default|present|absent|vault|sealed"
    r"|rotated?|copied|unmanaged",
    re.IGNORECASE,
)
_OF_A_CHANGE = re.compile(
    r"(?:^|[\W_])(?:CHECKSUM|HASH|SHA\d*|MD5|DIGEST|GENERATION|VERSION|REVISION|ROTATED|UPDATED|CHANGED?|LAST|DATE)(?:$|[\W_])"
)
_CHANGE = re.compile(
    r"(?:sha\d+[:-])?[0-9a-f]{5,128}|[0-9]{1,20}|[0-9]{4}-[0-9]{2}-[0-9]{2}[0-9T:.Z+ -]*", re.IGNORECASE
)

# Which Secret: of words, as people name objects, and of what clients and servers share no such word is a name.
_NAMES_SECRET = re.compile(r"(?:SECRETS?|CREDENTIALS?|CREDS|(?:KEY|TOKEN|PASSWORD)_REF)(?:_NAMES?)?$")
_IS_SHARED = re.compile(r"(?:CLIENT|API|CONSUMER|JWT|SESSION|SIGNING|WEBHOOK|COOKIE|SHARED|HMAC)_?SECRET$")
_OBJECT = r"(?:[a-z][a-z0-9]*/)?[a-z]+(?:[-.](?:[a-z]+|v?[0-9]{1,3}))+"
_OBJECTS = re.compile(rf"{_OBJECT}|[a-z][a-z0-9./-]*(?:, ?[a-z][a-z0-9./-]*)+")
# Of what an injector writes into a pod: where its keeper has it.
_INJECTS = re.compile(r"INJECT|_PATH_|SECRET_VOLUME")
_INJECTS_AS = re.compile(r"INJECT_(?:PERMS|COMMAND|FILE|TEMPLATE|CONTAINERS)_")
_PLACE = re.compile(r"/?[\w.-]+(?:/[\w.-]+)+/?|/[\w.-]+|[\w-]+\.[a-z]{2,5}")


def holds_credential(name: str, value: str) -> bool:
    """Whether a label or an annotation with this name and value holds a credential, by its name or by its value."""
    if measured.shows_credential(name) or measured.variable_holds_credential("", value):
        return True
    text, local = value.strip(), _own(name.rpartition("/")[2])
    if _REFERENCE.fullmatch(text) or _STATES.fullmatch(text) or not measured.variable_holds_credential(local, text):
        return False
    written = named.written_out(local)
    if _OF_A_CHANGE.search(name.upper()) and _CHANGE.fullmatch(text):
        return False
    if _NAMES_SECRET.search(written) and not _IS_SHARED.search(written) and _OBJECTS.fullmatch(text):
        return False
    return not (_INJECTS_AS.search(written) or (_INJECTS.search(written) and _PLACE.fullmatch(text)))


def _own(name: str) -> str:
    """Of a name with several dots what is not that of something else: traefik.http.routers.api-key.rule is a rule."""
    parts = name.split(".")
    return parts[-1] if len(parts) > 2 else name
