"""Which tests stay together, and what a run's report says of how long that took."""

from pathlib import Path

import pytest
from tests import groups

from claude_sandbox.localcluster import engine

REPORT = """<testsuites><testsuite>
<testcase classname="tests.node.test_node_pods" name="test_it[a-b]@changes of the machine" time="90.0"/>
<testcase classname="tests.docker.sandboxes.test_docker_life" name="test_it[29]@engine 29" time="120.0"/>
<testcase classname="tests.docker.sandboxes.test_docker_life" name="test_too[29]@engine 29" time="60.0"/>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("file", "release", "group"),
    [
        ("docker/sandboxes/test_docker_life.py", "29", "engine 29"),
        ("docker/sandboxes/test_docker_drain.py", engine.DEFAULT_RELEASE, "moves between engines"),
        ("docker/sandboxes/test_docker_drain.py", "20.10", "engine 20.10"),
        ("attacks/images/test_attack_image_volumes.py", "29", groups.CHANGES),
        ("node/test_node_pods.py", None, groups.CHANGES),
        ("docker/ssh/test_ssh_servers.py", None, "docker/ssh/test_ssh_servers.py"),
        ("unit/backends/docker/test_docker_plan.py", None, "unit/backends"),
        ("api/contract/test_documents.py", None, "api"),
    ],
)
def test_what_shares_something_stays_together(file: str, release: str | None, group: str) -> None:
    assert groups.group_of(file, release) == group


def test_what_takes_longest_begins_first() -> None:
    assert groups.rank(groups.CHANGES) < groups.rank("operator") < groups.rank("unit/backends")


def test_a_report_becomes_a_table(tmp_path: Path) -> None:
    report = tmp_path / "run.xml"
    report.write_text(REPORT)
    rows = [line for line in groups.table(report).splitlines() if line.startswith("| ")]
    assert rows[1:] == ["| engine 29 | 2 | 3.0 |", "| changes of the machine | 1 | 1.5 |", "| all | 3 | 4.5 |"]
