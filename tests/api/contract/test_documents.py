"""Documents that somebody might write: the API server's answer names the field and the remedy, or it takes them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_server import Server
from judgement import judge

from claude_sandbox.api.validate import parse_host_spec, parse_spec

_DOCUMENTS = Path(__file__).parents[1]
BAD = sorted((_DOCUMENTS / "bad_documents").glob("*.yaml"))
GOOD = sorted((_DOCUMENTS / "good_documents").glob("*.yaml"))
BAD_HOSTS = sorted((_DOCUMENTS / "bad_host_documents").glob("*.yaml"))
GOOD_HOSTS = sorted((_DOCUMENTS / "good_host_documents").glob("*.yaml"))


def expectations(path: Path) -> dict[str, str]:
    """What the comments at the top of a bad document say: `field`, `remedy` and, maybe, `hidden`."""
    lines = [line[2:] for line in text(path).splitlines() if line.startswith("# ")]
    return dict(line.split(": ", 1) for line in lines)


def document(path: Path) -> Any:
    return yaml.safe_load(text(path))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_there_are_at_least_fifty_bad_documents() -> None:
    assert len(BAD) >= 50


@pytest.mark.controlplane
@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
async def test_a_bad_document_is_refused_with_field_and_remedy(server: Server, path: Path) -> None:
    await is_refused(server, path)


@pytest.mark.controlplane
@pytest.mark.parametrize("path", BAD_HOSTS, ids=lambda path: path.stem)
async def test_a_bad_host_is_refused_with_field_and_remedy(hosts: Server, path: Path) -> None:
    await is_refused(hosts, path)


async def is_refused(server: Server, path: Path) -> None:
    expected = expectations(path)
    answer = await server.create(text(path).encode())
    assert answer.code in {400, 422}, answer.message
    assert expected["field"] in answer.message
    assert expected["remedy"] in answer.message
    # `name: sk-ant-…`, for example, must not end up in the log of the pipeline that applied it.
    assert "hidden" not in expected or expected["hidden"] not in str(answer.body)
    assert await server.names() == []


@pytest.mark.parametrize("path", [*BAD, *BAD_HOSTS], ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_the_models_name_the_same_field_and_hide_the_same(path: Path) -> None:
    if path.stem == "duplicate-field":
        pytest.skip("a decoded document has each field once")
    expected = expectations(path)
    errors = judge(document(path)).errors
    assert any(error.path.startswith(expected["field"]) for error in errors)
    assert "hidden" not in expected or expected["hidden"] not in str(errors)


@pytest.mark.controlplane
@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
async def test_a_good_document_is_stored_as_the_models_read_it(server: Server, path: Path) -> None:
    answer = await server.create(text(path).encode())
    assert answer.accepted, answer.message
    try:
        read = parse_spec(document(path)).model_dump(mode="json", by_alias=True, exclude_none=True)
        assert answer.body["spec"] == read
        assert parse_spec(answer.body) == parse_spec(document(path))
    finally:
        await server.delete(answer.body["metadata"]["name"])


@pytest.mark.controlplane
@pytest.mark.parametrize("path", GOOD_HOSTS, ids=lambda path: path.stem)
async def test_a_good_host_is_stored_as_the_models_read_it(hosts: Server, path: Path) -> None:
    answer = await hosts.create(text(path).encode(), dry_run=True)
    assert answer.accepted, answer.message
    read = parse_host_spec(document(path)).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert answer.body["spec"] == read
    assert parse_host_spec(answer.body) == parse_host_spec(document(path))
