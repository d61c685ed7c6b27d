"""Where evidence is kept on an engine: in a volume of the operator's own, with a container that is never started.

Theory of operation. The container is of the operator's own image and has the volume; the engine itself unpacks the
archives into it, so nothing runs for it. It stays: it keeps the volume from being removed as unused, and is what the
archives are taken out of again (`docker cp NAME:/evidence .`, or `claude-sandbox incident collect`). Both carry labels
of their own and none of a sandbox's, so that neither the end of the sandbox, nor of its namespace, nor the search for
what was left behind takes them away: a person does, when nobody needs them any more.

An archive has the name of the time when the incident was seen first: gathered again after a crash, it replaces the one
before. Its checksum is in the sandbox's status, which this host can't write.
"""

import tarfile
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.backends.containment import Packed
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents.hardening import NO_NEW_PRIVILEGES, confined
from claude_sandbox.backends.docker.engine.archives import archive_of
from claude_sandbox.backends.docker.engine.documents import Manifest, labels
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.blueprint.model import Identity, Image

DIRECTORY = "/evidence"
LABEL_OF = f"{meta.GROUP}/evidence-of"
"""The UID of the sandbox that it is of."""


def keeper_of(cluster: str, identity: Identity) -> str:
    """What the volume and the container are called."""
    return f"{names_of(cluster, identity).container}-evidence"


def file_of(since: datetime) -> str:
    """What the archive of an incident is called that was seen first then."""
    return f"{since:%Y%m%dT%H%M%SZ}.tar"


async def keep(engine: Engine, cluster: str, identity: Identity, image: Image, since: datetime, what: Packed) -> str:
    """Store the archive; `CONTAINER:PATH` of it. Raises EngineError."""
    name = keeper_of(cluster, identity)
    told = _labels(cluster, identity)
    # An engine answers with the volume that is there already, whoever made it: so whose it is, is read from the answer.
    volume = await engine.create_volume({"Name": name, "Driver": "local", "DriverOpts": {}, "Labels": told})
    live = await engine.container(name)
    if any(labels(one).get(LABEL_OF) != identity.uid for one in (volume, *((live,) if live is not None else ()))):
        raise EngineError(409, f"what is called {name} is not the operator's")
    identifier = (
        str(live["Id"]) if live is not None else await engine.create_container(name, _keeper(name, image, told))
    )
    entry = tarfile.TarInfo(file_of(since))
    entry.mode, entry.mtime = 0o400, int(since.timestamp())
    await engine.put_archive(identifier, DIRECTORY, archive_of([(entry, what.content)]))
    return f"{name}:{DIRECTORY}/{entry.name}"


def _labels(cluster: str, identity: Identity) -> dict[str, str]:
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        names.LABEL_COMPONENT: names.EVIDENCE,
        names.LABEL_CLUSTER: cluster,
        LABEL_OF: identity.uid,
        f"{LABEL_OF}-namespace": identity.namespace,
        f"{LABEL_OF}-name": identity.name,
    }


def _keeper(name: str, image: Image, told: dict[str, str]) -> Manifest:
    return {
        "Image": image.reference,
        "Labels": told,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "none",
            **confined(),
            "SecurityOpt": [NO_NEW_PRIVILEGES],
            "RestartPolicy": {"Name": "no"},
            "Mounts": [{"Type": "volume", "Source": name, "Target": DIRECTORY, "ReadOnly": False}],
        },
    }
