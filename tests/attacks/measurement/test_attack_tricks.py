"""A container that is loose in every way tries to look as if it were not: by what it is called, mounts, limits itself
to, unshares, forks and fills. Nothing that failed before may pass after any of it.

It has far more than a sandbox has, so that it can try: root, all capabilities, no filter, a root that can be written
to, and the machine's kernel for a witness. Gained where nothing stops it: who reads /proc from within the container,
finds a process by its name, believes a file of the container's, or asks the container to measure itself, reads what
these tricks have put there. Closed by reading the machine's /proc of the process that the engine names, and by the
engine's document beside it, of which each can only refute. What was gained in fact: a first process that became an
ordinary user, or called itself one in a namespace of users of its own, settled for a user that the document names
(PRIV-04, PRIV-05) that nothing ran as root. Now all the container's processes are asked, and who they are on the
machine.
"""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker
import pytest
from dockerkit import HELPER
from enginekit import own
from nodekit import eventually

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.compliance.catalogue import WITNESSED
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

TRICKS = {
    "a name with a bracket and another state": "prctl(15, b'x) S 1 1 1')",
    "a name of lines": "prctl(15, b'a\\nSeccomp:\\t2')",
    "the name of a kernel's thread": "prctl(15, b'kthreadd')",
    "the engine's own process by name": "prctl(15, b'docker-init')",
    "a filter that lets everything through": "prctl(38, 1); allow_everything()",
    "a second name for its flags": "open('/proc/self/comm', 'w').write('NoNewPrivs:1')",
    "a file of its own as its status": "fake('/proc/self/status', 'Seccomp:\\t2\\nNoNewPrivs:\\t1\\nCapEff:\\t0\\n')",
    "the same for the first process by number": "fake('/proc/1/status', 'Uid:\\t1000\\t1000\\t1000\\t1000\\n')",
    "limits of its own making": "fake('/proc/self/limits', 'Max open files 64 64 files\\n')",
    "mounts of its own telling": "fake('/proc/self/mountinfo', '1 0 0:1 / / ro - overlay overlay ro\\n')",
    "users of its own telling": "fake('/proc/self/uid_map', '0 100000 65536\\n')",
    "control groups of its own telling": "fake('/proc/self/cgroup', '0::/docker/' + 'a' * 64 + '\\n')",
    "another /proc": "mount('tmpfs', '/proc', 'tmpfs')",
    "another /sys": "mount('tmpfs', '/sys', 'tmpfs')",
    "limits in a control group of files": "limits_of_files()",
    "a control group of its own with limits": "own_group()",
    "few open files": "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))",
    "few processes": "resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))",
    "the same file system mounted read-only elsewhere": "mount('/', made('/ro'), '', 4096)",
    "names of mounts with spaces and lines": "mount('none', made('/a b\\n/c - x'), 'tmpfs')",
    "five hundred mounts": "[mount('none', made(f'/rooms/{n}'), 'tmpfs') for n in range(500)]",
    "another host name": "libc.sethostname(b'hardened', 8)",
    "another namespace of mounts": "unshare(0x00020000)",
    "another namespace of names": "unshare(0x04000000)",
    "another namespace of memory": "unshare(0x08000000)",
    "another network": "unshare(0x40000000)",
    "a thousand processes of harmless names": "[child() for _ in range(1000)]",
    "that nobody may look into it": "prctl(4, 0)",
    "a library that comes before all others": "preload()",
    "files of the engine's and the operator's names": "litter()",
    "another root": "os.chroot(made('/jail'))",
    "a stop": "os.kill(os.getpid(), signal.SIGTSTP)",
    "users of its own, and another among them": "unshare(0x10000000); calls_itself('1000 0 1')",
    "an ordinary user, with a child that stays root": "child(); os.setgroups([]); os.setgid(1000); os.setuid(1000)",
}
"""Each in the program's words. They add up: none is undone."""

PROGRAM = (
    """
import ctypes, os, resource, signal, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def done(code):
    if code != 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def prctl(option, *values):
    values = [v if isinstance(v, int) else ctypes.c_char_p(v) for v in values] + [0] * (4 - len(values))
    done(libc.prctl(option, *values))
def mount(what, where, kind, flags=0): done(libc.mount(what.encode(), where.encode(), kind.encode(), flags, None))
def unshare(flags): done(libc.unshare(flags))
def fake(path, text):
    os.makedirs('/fakes', exist_ok=True)
    own = '/fakes/' + path.replace('/', '-')
    open(own, 'w').write(text)
    mount(own, path, '', 4096)
def allow_everything():
    filters = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
    program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 1, ctypes.addressof(filters)))
    done(libc.prctl(22, 2, program, 0, 0))
def limits_of_files():
    mount('tmpfs', '/sys/fs/cgroup', 'tmpfs') if os.path.isdir('/sys/fs/cgroup') else os.makedirs('/sys/fs/cgroup')
    for name, text in (('memory.max', '1'), ('pids.max', '1'), ('cpu.max', '1 100000')):
        open('/sys/fs/cgroup/' + name, 'w').write(text)
def own_group():
    os.makedirs('/groups', exist_ok=True)
    mount('none', '/groups', 'cgroup2')
    os.makedirs('/groups/mine', exist_ok=True)
    open('/groups/mine/cgroup.procs', 'w').write('1')
    for name, text in (('memory.max', '1000000000'), ('pids.max', '5000'), ('cpu.max', '100000 100000')):
        if os.path.exists('/groups/mine/' + name): open('/groups/mine/' + name, 'w').write(text)
def made(path):
    os.makedirs(path, exist_ok=True)
    return path
def child():
    if os.fork() == 0:
        libc.prctl(15, b'claude', 0, 0, 0)
        while True: time.sleep(1000)
def preload():
    os.makedirs('/lib', exist_ok=True)
    open('/lib/all.so', 'w').write('')
    open('/etc/ld.so.preload', 'w').write('/lib/all.so')
def calls_itself(users):
    done(libc.umount2(b'/proc', 2)) if not os.path.exists('/proc/self/uid_map') else None
    open('/proc/self/uid_map', 'w').write(users)
def litter():
    for path in ('/.dockerenv', '/run/.containerenv', '/etc/claude-code/managed-settings.json', '/dev/termination-log'):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, 'w').write('Pass')
tricks = """
    + repr(list(TRICKS.values()))
    + """
out = os.fdopen(os.dup(1), 'w', 1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out.write('ready\\n')
for number, trick in enumerate(tricks):
    signal.sigwait([signal.SIGUSR1])
    try:
        exec(trick)
        out.write(f'{number} done\\n')
    except Exception as error:
        out.write(f'{number} refused {error!r}\\n')
while True: signal.sigwait([signal.SIGUSR1])
"""
)
ROOT_BY_ANOTHER_NAME = b"toor:x:0:0::/:/bin/sh\n"


@contextlib.contextmanager
def loose(of: EngineDescription) -> Iterator[Any]:
    """The container, as soon as it listens for what to try. Its user is root by a name of its image's."""
    with contextlib.closing(docker.DockerClient(base_url=of.socket, timeout=60, version="auto")) as sdk:
        made = sdk.containers.create(
            HELPER.reference,
            ["python3", "-I", "-u", "-c", PROGRAM],
            name=own("tricks"),
            entrypoint=[],
            user="toor",
            cap_add=["ALL"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            network_mode="none",
        )
        try:
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as files:
                entry = tarfile.TarInfo("etc/passwd")
                entry.size = len(ROOT_BY_ANOTHER_NAME)
                files.addfile(entry, io.BytesIO(ROOT_BY_ANOTHER_NAME))
            assert made.put_archive("/", archive.getvalue())
            made.start()
            eventually("it is ready", lambda: b"ready" in made.logs())
            made.reload()
            yield made
        finally:
            made.remove(force=True)


@dataclass(frozen=True)
class Found:
    """By control: what is found by both witnesses, and what the kernel alone would say."""

    both: dict[str, Result]
    kernel: dict[str, Result]


def results(made: Any) -> Found:
    """What is found now."""
    made.reload()
    now = datetime.now(UTC)
    process = witness_of(made.attrs, now)
    assert isinstance(process, Reading), process
    evidence = DockerEvidence(Declared(), Reading(made.attrs, EvidenceSource.INSPECT, now), now, process=process)
    said = Container(made.attrs, Declared())
    return Found(
        {one.control.id: one.result for one in findings(evidence)},
        {id: judge(process.value, said).result for id, judge in WITNESSED.items()},
    )


def passing_now(before: dict[str, Result], after: dict[str, Result]) -> set[str]:
    return {id for id, result in after.items() if result is Result.PASS and before[id] is not Result.PASS}


def test_nothing_passes_by_a_trick_that_did_not_pass_before(host: EngineDescription) -> None:
    with loose(host) as made:
        before = results(made)
        failing = {id for id, result in before.both.items() if result is Result.FAIL}
        assert {"PRIV-02", "PRIV-03", "PRIV-04", "PRIV-05", "KERN-01", "FS-01", "RES-01", "RES-03"} <= failing
        gained: dict[str, set[str]] = {}
        fooled: set[str] = set()
        for number, name in enumerate(TRICKS):
            answered = f"\n{number} ".encode()
            made.kill("SIGUSR1")
            eventually(name, lambda answered=answered: answered in made.logs())  # type: ignore[misc]
            after = results(made)
            gained[name] = passing_now(before.both, after.both)
            fooled |= passing_now(before.kernel, after.kernel)
        refused = [line for line in made.logs().decode().splitlines() if "refused" in line]
    assert {name: ids for name, ids in gained.items() if ids} == {}
    # They are no idle ones: who asks the first process alone is fooled.
    assert fooled >= {"PRIV-03", "KERN-01"}
    # Some an old kernel or runtime has no room for.
    assert len(TRICKS) - len(refused) >= 30, refused
