"""What things may be called."""

import re

from claude_sandbox.api.meta import MAX_HOST_NAME_LENGTH, MAX_NAME_LENGTH
from claude_sandbox.api.rules import Rule, matching

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_PATH = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*"
_HOST = "[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?"

_NAME = re.compile(_LABEL)


APP_ARMOR_PROFILE = matching(
    "[A-Za-z0-9][-._/A-Za-z0-9]*",
    "must be the name of an AppArmor profile: letters, digits, '-', '.', '_' and '/', starting with a letter or digit",
)


def _name_of_at_most(length: int) -> Rule:
    # Of the root: the only place from which the name can be seen.
    return Rule(
        f"size(self.metadata.name) <= {length} && self.metadata.name.matches('^{_LABEL}$')",
        lambda name: len(name) <= length and bool(_NAME.fullmatch(name)),
        f"must be a DNS label of at most {length} characters: lower-case letters, digits and '-', starting and"
        " ending with a letter or digit (no dots)",
        field="metadata.name",
    )


SANDBOX_NAME = _name_of_at_most(MAX_NAME_LENGTH)
HOST_NAME = _name_of_at_most(MAX_HOST_NAME_LENGTH)

HOST_REFERENCE = matching(_LABEL, "must be the name of a DockerHost: lower-case letters, digits and '-'")

NAMESPACE = matching(_LABEL, "must be the name of a namespace: lower-case letters, digits and '-'")

SECRET_NAME = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a Secret in the sandbox's own namespace: lower-case letters, digits, '-' and '.', without a"
    " namespace and '/'",
    confidential=True,  # some write the key itself here
)

HOST_SECRET_NAME = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a Secret in the operator's own namespace: lower-case letters, digits, '-' and '.', without a"
    " namespace and '/'",
    confidential=True,
)

SECRET_KEY = matching(
    "[-_a-zA-Z0-9][-._a-zA-Z0-9]*|\\.[-_a-zA-Z0-9][-._a-zA-Z0-9]*",
    "must be a key of the Secret: letters, digits, '-', '_' and '.', and not starting with '..', for example api-key",
    confidential=True,
)

CONFIG_MAP_NAME = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a ConfigMap in the sandbox's own namespace: lower-case letters, digits, '-' and '.', without a"
    " namespace and '/'",
)

CONFIG_MAP_KEY = matching(
    "[-_a-zA-Z0-9][-._a-zA-Z0-9]*|\\.[-_a-zA-Z0-9][-._a-zA-Z0-9]*",
    "must be a key of the ConfigMap: letters, digits, '-', '_' and '.', and not starting with '..', for example"
    " settings.json",
)

STORAGE_CLASS = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a StorageClass (lower-case letters, digits, '-' and '.'); leave it out for the cluster's"
    " default",
)

SNAPSHOT_CLASS = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a VolumeSnapshotClass (lower-case letters, digits, '-' and '.'); leave it out for the default"
    " one of the volume's driver",
)

RUNTIME_CLASS = matching(
    f"{_LABEL}(?:\\.{_LABEL})*",
    "must be the name of a RuntimeClass, or of a runtime of a Docker host: lower-case letters, digits, '-' and '.', for"
    " example gvisor",
)

PORT_NAME = matching(
    "[a-z0-9]+(?:-[a-z0-9]+)*",
    "must be lower-case letters, digits and single '-' between them, for example http",
)

PORT_NAME_HAS_LETTER = matching(
    "[-a-z0-9]*[a-z][-a-z0-9]*", "must contain at least one lower-case letter: write http, not 8080"
)

ENV_NAME = matching(
    "[A-Za-z_][A-Za-z0-9_]*",
    "must be letters, digits and '_', not starting with a digit, for example CLAUDE_CODE_MAX_OUTPUT_TOKENS",
)

REPOSITORY = matching(
    f"(?:{_HOST}(?:\\.{_HOST})*(?::[0-9]{{1,5}})?/)?{_PATH}(?:/{_PATH})*",
    "must be an image's name without tag and digest, for example registry.example.com/team/claude; write the tag in"
    " spec.image.tag and the digest in spec.image.digest",
)

_PORT = "(?::[0-9]{1,5})?"
_REGISTRY = f"(?:localhost{_PORT}|{_HOST}(?:\\.{_HOST})+{_PORT}|{_HOST}:[0-9]{{1,5}}|\\[[a-fA-F0-9:]+\\]{_PORT})"

REPOSITORIES = matching(
    f"{_REGISTRY}(?:/{_PATH}(?:/{_PATH})*)?",
    "must be a registry, or a repository with its registry, without tag and digest: for example ghcr.io/acme, or"
    " docker.io/library/python for an image of Docker's own",
)

REPOSITORIES_OR_ALL = matching(
    f"\\*|{_REGISTRY}(?:/{_PATH}(?:/{_PATH})*)?",
    "must be a registry, or a repository with its registry, without tag and digest, for example ghcr.io/acme or"
    " docker.io/library/python; or '*' for all",
)

TAG = matching(
    "[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}",
    "must be a tag without ':', at most 128 letters, digits, '_', '.' and '-', for example 2.1.331",
)

DIGEST = matching("sha256:[0-9a-f]{64}", "must be 'sha256:' and 64 lower-case hexadecimal digits")
