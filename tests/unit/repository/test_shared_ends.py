"""What tests share ends with the last test that wants it, tried by pytest on tests of its own."""

import subprocess
import sys
from pathlib import Path

from repository import ROOT

_CONFTEST = """
import pytest
from tests.shared import Shared

LOG = []

@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    yield
    config.pluginmanager.register(Shared(items, lambda item: item.name.split("_")[1]))

@pytest.fixture(scope="session")
def node():
    LOG.append("up")
    yield
    LOG.append("down")

@pytest.fixture(scope="session")
def operator(node):
    LOG.append("operator")
    yield
    LOG.append("operator ends")

@pytest.fixture(scope="session")
def other():
    yield
    LOG.append("other ends")

def pytest_runtest_call(item):
    LOG.append(item.name)

def pytest_unconfigure():
    print("\\nLOG", *LOG, sep="\\n")
"""
_TESTS = """
def test_a_first(operator, other): pass
def test_a_last(node): pass
def test_a_without(other): pass
def test_b_again(operator): pass
def test_b_without(): pass
"""


def test_it_ends_after_the_last_of_each_group_and_before_it_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_some.py").write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    ran = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    group = ["operator ends", "down"]
    assert ran.stdout.partition("LOG\n")[2].splitlines() == [
        *("up", "operator", "test_a_first", "test_a_last", *group, "test_a_without"),
        *("up", "operator", "test_b_again", *group, "test_b_without", "other ends"),
    ]  # fmt: skip
