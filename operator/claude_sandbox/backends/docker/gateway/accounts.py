"""Where a sandbox's gateway keeps what was used: a volume of the sandbox's own, which no other container has. Pure.

A gateway is another container whenever it is made anew; its accounts have to be the same. They are in files, since a
request is counted before it is sent, and what was counted has to be there after the gateway was killed, or the engine,
or the machine. The volume is made before the first gateway and goes with the sandbox; a sandbox that is suspended, or
that holds its key itself for a while, keeps it.

- Its directory belongs to the gateway's user and to nobody else, because that of the operator's image does: an engine
  gives an empty volume the owner and the mode of what it is mounted over.
- No engine can say of such a volume that nothing in it is run, or how large it may get. So it is the only thing there
  that can be written to, whoever writes has no right to make devices and gains none by a program's owner, and the
  kernel lets the gateway write no file of more than `LARGEST`.
"""

from claude_sandbox.backends.docker.engine.documents import Manifest, Object, labels
from claude_sandbox.backends.docker.names import ACCOUNTS, Names, labels_of
from claude_sandbox.blueprint.model import Identity

DIRECTORY = "/var/lib/claude-sandbox/accounts"
"""In the operator's image, which has it."""
LARGEST = 1 << 20
"""Bytes of a file. An account has less than half of that: `claude_sandbox.gateway.budget.ledger`, MAX_RESERVED."""


def volume_of(identity: Identity, cluster: str, called: Names) -> Manifest:
    """The document of the volume."""
    return {
        "Name": called.accounts,
        "Driver": "local",
        "DriverOpts": {},
        "Labels": labels_of(cluster, identity, ACCOUNTS),
    }


def mount_of(volume: Manifest) -> Manifest:
    """The volume in the gateway. With its labels, since an engine makes one that is missing without asking."""
    return {
        "Type": "volume",
        "Source": volume["Name"],
        "Target": DIRECTORY,
        "ReadOnly": False,
        "VolumeOptions": {"Labels": volume["Labels"]},
    }


def file_size() -> Manifest:
    """One of a HostConfig's Ulimits: how large a file may get that the gateway writes."""
    return {"Name": "fsize", "Soft": LARGEST, "Hard": LARGEST}


def differences(wanted: Manifest, live: Object | None, elsewhere: int) -> tuple[str, ...]:
    """In what a volume that a gateway has is not its sandbox's own. `elsewhere`: how many other containers have it."""
    if live is None:
        return ("Volume",)
    found = labels(live)
    whose = tuple(f"Volume.Labels.{key}" for key, value in sorted(wanted["Labels"].items()) if found.get(key) != value)
    return (*whose, *((f"Volume is in {elsewhere} other containers",) if elsewhere else ()))
