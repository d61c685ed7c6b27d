"""What the kernel tells of a container in a user namespace, where its devices are mounts of the host's."""

import pytest

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.witness_mounts import writable
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.procfs.limits import Limits

# Of a sandbox's container on an engine with userns-remap, with some of its mounts left out.
MOUNTS = """\
1094 1056 0:62 / / ro,relatime - overlay overlay rw,lowerdir=/A
1096 1094 0:66 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755,uid=200000,gid=200000
1097 1096 0:6 /null /dev/null rw,relatime - devtmpfs devtmpfs rw,size=10240k,mode=755
1098 1096 0:6 /tty /dev/tty rw,relatime - devtmpfs devtmpfs rw,size=10240k,mode=755
1103 1094 254:0 /docker/volumes/w/_data /workspace rw,relatime - ext4 /dev/vda rw
1107 1095 0:6 /null /proc/kcore rw,relatime - devtmpfs devtmpfs rw,size=10240k,mode=755
"""


def judged(more: str = "") -> Result:
    process = Process("", "", "", Limits(), mounts=mountinfo.parse(MOUNTS + more))
    return writable(process, Container({}, Declared(workspaces=frozenset({"/workspace"})))).result


def test_the_devices_that_every_container_has_are_no_files_to_write_to() -> None:
    assert judged() is Result.PASS


@pytest.mark.parametrize(
    "mount",
    [
        "0:6 /vda /dev/vda rw,relatime - devtmpfs devtmpfs rw",  # the host's disk
        "0:6 /vda /dev/null rw,relatime - devtmpfs devtmpfs rw",  # under another name
        "0:6 / /mnt rw,relatime - devtmpfs devtmpfs rw",  # all devices
        "254:0 /null /dev/null rw,relatime - ext4 /dev/vda rw",  # a file that is called so
        "0:6 /full /mnt/full rw,relatime - devtmpfs devtmpfs rw",  # which the container has not in its own /dev
    ],
)
def test_anything_else_of_the_hosts_is(mount: str) -> None:
    assert judged(f"1200 1096 {mount}\n") is Result.FAIL
