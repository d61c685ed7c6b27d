"""Documents judged by the standards' own schemas: SARIF by OASIS', OSCAL by what is made of NIST's.

Neither is ours to ship. They come from the registries, pinned by their hashes, once for each machine: of SARIF 2.1.0
the schema in Microsoft's package for jest, of OSCAL 1.1.2 compliance-trestle's classes, without what they do not need.
"""

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import npm_packages
from nodekit import report

from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import toolchain

_PACKAGES = Path(__file__).with_name("standards.txt")
_SARIF = "@microsoft/jest-sarif@1.0.0-beta.0"
_SARIF_SHA512 = "A1fOhPd6Ic5iDk4F9YPw1qNB4XF+7+IviR7xl8r2F6QzQkx5cpY9LsGk2rExiFIEcBbjpVnSmwWGBukASkiQ9A=="
_SARIF_SCHEMA = "package/lib/schemas/sarif-2.1.0-rtm.5.json"
_JUDGE = """
import json, sys, warnings
warnings.simplefilter("ignore")
place, standard = sys.argv[1:]
sys.path.append(place)
if standard == "sarif":
    import fastjsonschema
    with open(f"{place}/sarif.json") as file:
        schema = json.load(file)
    judge, refused = fastjsonschema.compile(schema, use_default=False), fastjsonschema.JsonSchemaException
else:
    from pydantic.v1 import ValidationError as refused
    from trestle.oscal.assessment_results import Model
    judge = Model.parse_obj

def refusal(document):
    try:
        judge(document)
    except refused as error:
        return str(error)
    return ""

json.dump([refusal(one) for one in json.load(sys.stdin)], sys.stdout)
"""


def refusals(standard: str, documents: Sequence[object]) -> list[str]:
    """Why a standard (`sarif`, `oscal`) refuses each of these; empty where it does not. What judges takes a while to
    begin, so ask it of all at once."""
    command = [sys.executable, "-I", "-c", _JUDGE, str(_place()), standard]
    judged = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    found: list[str] = json.loads(judged.stdout)
    return found


@functools.cache
def _place() -> Path:
    """The directory with all of them, made where it is not there. Raises LocalClusterError."""
    digest = hashlib.sha256(_PACKAGES.read_bytes() + _SARIF_SHA512.encode()).hexdigest()[:12]
    parent = cache_dir() / "standards"
    home = parent / digest
    if not home.exists():
        with locked(parent):
            if not home.exists():
                report("Fetching the schemas of SARIF and OSCAL; kept for the next time.")
                _fetch(home)
    return home


def _fetch(home: Path) -> None:
    """Whole or not at all."""
    partial = home.with_name(f".{home.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    subprocess.run(
        [*toolchain.pip(), "install", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes",
         "--no-deps", "--only-binary=:all:", "--no-compile", "--target", partial, "--requirement", _PACKAGES],
        check=True,
    )  # fmt: skip
    (partial / "sarif.json").write_bytes(npm_packages.member(_SARIF, _SARIF_SHA512, _SARIF_SCHEMA))
    partial.rename(home)
