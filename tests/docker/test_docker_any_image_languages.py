"""Images of languages, made of the distribution's packages, as they come: each builds and tests a project inside.

Claude Code is the operator's in each. Nothing is fetched: the sandbox has no way out at all (`delivery: Mounted`).
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import docker
import pytest
from dockerkit import sandbox
from nodekit import report

from claude_sandbox.api.conditions import ConditionStatus
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
    ),
)


@pytest.fixture(params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture
def image(host: EngineDescription, language: Language) -> Iterator[dict[str, str]]:
    """An image of nothing but the distribution's packages, root's, with the set-user-ID files that these have."""
    base = bootstrap(language.packages, report)
    repository, tag = "claudesandbox.dev/language", hashlib.sha256(language.name.encode()).hexdigest()[:12]
    with contextlib.closing(docker.APIClient(base_url=host.socket, timeout=600, version="auto")) as api:
        api.import_image_from_file(str(base), repository=repository, tag=tag)
        yield {"repository": repository, "tag": tag, "pullPolicy": "Never"}
        api.remove_image(f"{repository}:{tag}")


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
