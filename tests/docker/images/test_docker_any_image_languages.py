"""Images of languages, made of the distribution's packages, as they come: each builds and tests a project inside.

Claude Code is the operator's in each. Nothing is fetched: the sandbox has no way out at all (`delivery: Mounted`).
"""

import contextlib
import copy
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from dockerkit import sandbox
from nodekit import report

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.status import Result
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.base import bootstrap
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@dataclass(frozen=True)
class Language:
    """The packages of its image; a project's files; and how it is built and tested."""

    name: str
    packages: tuple[str, ...]
    files: dict[str, str]
    test: str
    says: str
    # Where a package links into what its image leaves out.
    directories: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


LANGUAGES = (
    Language(
        "python",
        ("python3-venv",),
        {
            "adding.py": "def add(a, b):\n    return a + b\n",
            "test_adding.py": "import unittest, adding\nclass T(unittest.TestCase):\n"
            "    def test(self): self.assertEqual(adding.add(2, 3), 5)\n",
        },
        "python3 -m venv /tmp/venv && /tmp/venv/bin/python -m unittest 2>&1",
        "OK",
    ),
    Language(
        "node",
        ("nodejs",),
        {
            "adding.mjs": "export const add = (a, b) => a + b\n",
            "adding.test.mjs": "import test from 'node:test'; import assert from 'node:assert';\n"
            "import {add} from './adding.mjs'; test('adds', () => assert.equal(add(2, 3), 5))\n",
        },
        "node --test",
        "# pass 1",
    ),
    Language(
        "golang",
        ("golang-go",),
        {
            "go.mod": "module example.org/adding\n\ngo 1.19\n",
            "adding.go": "package adding\n\nfunc Add(a, b int) int { return a + b }\n",
            "adding_test.go": 'package adding\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) '
            "{ if Add(2, 3) != 5 { t.Fatal() } }\n",
        },
        "go test ./...",
        "ok",
    ),
    Language(
        "rust",
        ("cargo",),
        {
            "Cargo.toml": '[package]\nname = "adding"\nversion = "0.1.0"\nedition = "2021"\n',
            "src/lib.rs": "pub fn add(a: u8, b: u8) -> u8 { a + b }\n"
            "#[test]\nfn adds() { assert_eq!(add(2, 3), 5); }\n",
        },
        "cargo test --offline 2>&1",
        "1 passed",
    ),
    Language(
        "java",
        ("default-jdk-headless",),
        {
            "Adding.java": "class Adding { static int add(int a, int b) { return a + b; }\n"
            "public static void main(String[] a) { if (add(2, 3) != 5) throw new Error();"
            ' System.out.println("added"); } }\n',
        },
        "javac Adding.java && java Adding",
        "added",
        ("usr/share/man/man1",),
    ),
)


@pytest.fixture(params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture
def image(host: EngineDescription, language: Language) -> Iterator[dict[str, str]]:
    """An image of nothing but the distribution's packages, root's, with the set-user-ID files that these have."""
    base = bootstrap(language.packages, report, directories=language.directories)
    repository, tag = "claudesandbox.dev/language", hashlib.sha256(language.name.encode()).hexdigest()[:12]
    with imported(host, base, repository, tag) as found:
        yield found


@contextlib.contextmanager
def imported(
    host: EngineDescription, base: Path, repository: str, tag: str, changes: tuple[str, ...] = ()
) -> Iterator[dict[str, str]]:
    """A root file system as an image on the engine, as `spec.image`. `changes`: lines of a Dockerfile."""
    with contextlib.closing(docker.APIClient(base_url=host.socket, timeout=600, version="auto")) as api:
        api.import_image_from_file(str(base), repository=repository, tag=tag, changes=list(changes))
        yield {"repository": repository, "tag": tag, "pullPolicy": "Never"}
        api.remove_image(f"{repository}:{tag}")


LEFT_OUT = re.compile(
    r"\./(usr/bin/(apt|dpkg|bash|rbash)[^/]*|usr/(lib|share)/(apt|dpkg)(/.*)?|(etc|var/lib|var/cache)/(apt|dpkg)(/.*)?"
    r"|etc/(os-release|debian_version|passwd|group|shadow)|usr/lib/os-release)"
)
FEDORA_LIKE = {
    "./etc/os-release": 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=44\n',
    "./etc/passwd": "root:x:0:0:root:/root:/bin/sh\nfedora:x:1000:1000::/home/fedora:/bin/sh\n",
    "./etc/group": "root:x:0:\nfedora:x:1000:\nwheel:x:10:fedora\n",
    "./etc/profile.d/ours.sh": "touch /tmp/the-image-ran; exit 1\n",
}
"""No registry of this project's serves Fedora's packages: what an image of that kind has otherwise than Debian's."""


@pytest.fixture
def without_a_package_manager(host: EngineDescription, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Glibc and Python with neither apt nor dpkg nor Bash, /bin a link, somebody else with the agent's number, in a
    group with rights, a set-user-ID program of its own; and an image's configuration that starts, checks and mounts."""
    target = tmp_path / "root.tar"
    with tarfile.open(bootstrap(("python3-venv",), report)) as source, tarfile.open(target, "w") as made:
        for member in source:
            if not LEFT_OUT.fullmatch(member.name):
                made.addfile(member, source.extractfile(member) if member.isreg() else None)
                if member.name == "./usr/bin/id":
                    twin = copy.copy(member)
                    twin.name, twin.mode = "./usr/local/bin/id-as-root", 0o6755
                    made.addfile(twin, source.extractfile(member))
        for name, text in FEDORA_LIKE.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            made.addfile(entry, io.BytesIO(text.encode()))
    changes = (
        "USER fedora",
        'ENTRYPOINT ["/usr/bin/false"]',
        "ENV BASH_ENV=/etc/profile.d/ours.sh ENV=/etc/profile.d/ours.sh",
        "HEALTHCHECK CMD /usr/bin/false",
        "VOLUME /srv/data",
        "ONBUILD RUN /usr/bin/false",
    )
    with imported(host, target, "claudesandbox.dev/language", "fedora-like", changes) as found:
        yield found


async def test_an_image_of_another_kind_of_distribution_works_as_any(
    host: EngineDescription, without_a_package_manager: dict[str, str], sandbox_image: ImageArchive
) -> None:
    engine.load_image(host, sandbox_image)
    python = LANGUAGES[0]
    async with sandbox(host, image=without_a_package_manager, resources={"cpu": "2", "memory": "2Gi"}) as one:
        one.default = Image(sandbox_image.reference, None, "Never")
        await one.made()
        assert (await one.started()).status is ConditionStatus.TRUE
        assert one.sh("claude --version").startswith(CLAUDE_CODE)
        assert "ID=fedora" in one.sh("cat /etc/os-release")
        assert one.sh("command -v apt dpkg bash").startswith("exit")
        assert one.sh("readlink /bin").strip() == "usr/bin"
        for name, content in python.files.items():
            one.sh(f"cat >/workspace/{name} <<'END'\n{content}END\n")
        assert python.says in one.sh(f"cd /workspace && {python.test}")
        # Its user of the agent's number has a group more, and a program that would make it root.
        assert one.sh("id -u; id -G; id-as-root -u; id-as-root -ru").split() == ["1000"] * 4
        assert one.sh("ls /tmp/the-image-ran 2>&1").startswith("exit")
        # Of what it declares, a place that could be written to is told of (FS-08).
        found, _, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
        assert "FS-08" in {each.id for each in found.controls if each.result is Result.FAIL}


async def test_a_project_of_its_language_is_built_and_tested_inside(
    host: EngineDescription, image: dict[str, str], sandbox_image: ImageArchive, language: Language
) -> None:
    engine.load_image(host, sandbox_image)
    resources = {"cpu": "2", "memory": "2Gi"}
    async with sandbox(host, image=image, resources=resources) as one:
        one.default = Image(sandbox_image.reference, None, "Never")
        await one.made()
        assert (await one.started()).status is ConditionStatus.TRUE
        assert one.sh("claude --version").startswith(CLAUDE_CODE)
        for name, content in language.files.items():
            one.sh(f"mkdir -p /workspace/$(dirname {name}) && cat >/workspace/{name} <<'END'\n{content}END\n")
        found = one.sh(f"cd /workspace && {language.test}")
        assert language.says in found, found
        # A shell that gives its caller another user's rights gives none.
        assert "root" not in one.sh("su -c id 2>&1; passwd --status root 2>&1 | grep -c '^root P' || true; id -un 2>&1")
