"""`claude-sandbox report`: where it reads, what it prints and writes, and what its exit code says."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from answering_server import Cluster, serving
from click.testing import CliRunner, Result
from reported_sandboxes import docker_host, listed, on_docker, on_kubernetes, unmeasured, with_result

from claude_sandbox.api import status
from claude_sandbox.cli.main import COMMANDS
from claude_sandbox.cli.report.command import report
from claude_sandbox.trail.records import About, Kind, Record, written

FAILING = with_result(on_kubernetes(name="bob"), "PRIV-01", status.Result.FAIL, "it is", required=True)


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(report, arguments, input=text)


def lease(age: timedelta) -> dict[str, Any]:
    renewed = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"spec": {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": renewed}}


@pytest.fixture
def cluster() -> Cluster:
    leases = {"claude-sandbox-operator": lease(timedelta(seconds=2))}
    return Cluster(sandboxes={"alice": on_kubernetes(), "bob": FAILING}, leases=leases)


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    with serving(cluster, tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("documents", "arguments", "code"),
    [
        ((on_kubernetes(), on_docker()), (), 0),
        ((on_kubernetes(), FAILING, unmeasured()), (), 1),
        ((on_kubernetes(), FAILING), ("--allow-unknown",), 1),
        ((on_kubernetes(), unmeasured()), (), 3),
        ((on_kubernetes(), unmeasured()), ("--allow-unknown",), 0),
        ((), (), 3),
        ((), ("--allow-unknown",), 0),
    ],
    ids=[
        "compliant",
        "failing",
        "a failure is not allowed",
        "unknown",
        "unknown is allowed",
        "none",
        "none is allowed",
    ],
)
def test_the_exit_code_is_that_of_the_worst_sandbox(documents: tuple, arguments: tuple[str, ...], code: int) -> None:  # type: ignore[type-arg]
    assert run("-", *arguments, text=listed(*documents)).exit_code == code


def test_the_table_names_each_sandbox_and_what_to_do() -> None:
    printed = run("-", text=listed(on_kubernetes(), FAILING, unmeasured())).stdout
    assert [line.split()[0] for line in printed.splitlines()[1:4]] == ["agents/alice", "agents/bob", "agents/new"]
    assert "PRIV-01  Not privileged (Critical): it is\n           in agents/bob" in printed
    assert "No pass counts of agents/new: the operator has not measured it; see whether the operator runs." in printed
    assert printed.endswith("3 sandboxes: 1 not compliant, 1 not verified, 1 compliant.\n")


def test_a_hostile_text_does_not_move_the_cursor() -> None:
    hostile = with_result(on_kubernetes(), "NEW-01", status.Result.FAIL, "\x1b[2Jgone", required=True, title="\r\x9b")
    printed = run("-", text=listed(hostile)).stdout
    assert "\\x1b[2Jgone" in printed
    assert not set(printed) & set("\x1b\r\x9b")


@pytest.mark.parametrize("form", ["json", "yaml", "documents", "one", "utf-16"])
def test_a_file_is_read_as_kubectl_writes_it(form: str, tmp_path: Path) -> None:
    text, file = listed(on_kubernetes(), FAILING), tmp_path / "sandboxes"
    if form == "yaml":
        text = yaml.safe_dump(json.loads(text))
    if form == "documents":
        text = yaml.safe_dump_all([on_kubernetes(), {"kind": "Pod"}, FAILING])
    if form == "one":
        text = json.dumps(FAILING)
    file.write_text(text, encoding="utf-16" if form == "utf-16" else "utf-8")
    found = json.loads(run(str(file), "-o", "json").stdout)
    assert [one["name"] for one in found["sandboxes"]] == (["bob"] if form == "one" else ["alice", "bob"])


def test_of_a_file_a_namespace_can_be_asked_for() -> None:
    text = listed(on_kubernetes(), on_kubernetes(name="carol", namespace="others"))
    found = json.loads(run("-", "-n", "others", "-o", "json", text=text).stdout)
    assert [one["name"] for one in found["sandboxes"]] == ["carol"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "neither JSON nor YAML"),
        ("a: [", "neither JSON nor YAML"),
        ("just words", "holds no ClaudeSandbox"),
        ("", "holds no ClaudeSandbox"),
        (listed({"kind": "Pod", "apiVersion": "v1"}), "holds no ClaudeSandbox"),
        (listed(on_kubernetes() | {"apiVersion": "evil.example/v1"}), "not of claudesandbox.dev"),
        (listed(on_kubernetes() | {"metadata": {"name": "a b"}}), "no name of one"),
        ("[" * 100_000, "neither JSON nor YAML"),
    ],
    ids=["half JSON", "half YAML", "words", "nothing", "others", "another group's", "a name", "deep"],
)
def test_what_holds_no_sandboxes_exits_4_and_says_how_to_get_them(text: str, said: str) -> None:
    found = run("-", text=text)
    assert found.exit_code == 4, found.output
    assert said in found.stderr
    assert "Remedy: " in found.stderr


def test_a_file_that_is_not_there_exits_4() -> None:
    assert run("./nowhere.json").exit_code == 4


def test_it_writes_to_a_file_and_says_in_a_line_what_came_out(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    found = run("-", "-o", "json", "--to", str(target), text=listed(on_kubernetes()))
    assert found.stdout == ""
    assert found.stderr == f"1 sandbox: 1 compliant. Written to {target}.\n"
    assert json.loads(target.read_text())["verdict"] == "Compliant"


def test_a_table_in_a_file_has_no_colours(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    run("-", "--to", str(target), text=listed(on_kubernetes(), FAILING))
    assert "\x1b" not in target.read_text()


def test_a_file_that_can_not_be_written_exits_4(tmp_path: Path) -> None:
    found = run("-", "--to", str(tmp_path / "no" / "where"), text=listed(on_kubernetes()))
    assert found.exit_code == 4
    assert "--to" in found.stderr


@pytest.mark.parametrize("option", ["--days=3", "--operator-namespace=own", "--context=x", "--kubeconfig=x"])
def test_an_option_that_nothing_would_come_of_is_refused(option: str) -> None:
    found = run("-", option, text=listed(on_kubernetes()))
    assert found.exit_code == 2
    assert option.partition("=")[0] in found.output


def test_a_sandbox_a_namespace_and_everything_are_read_from_the_cluster(cluster: Cluster, kubeconfig: str) -> None:
    for arguments, asked in (
        (("agents/bob",), "namespaces/agents/claudesandboxes/bob"),
        (("bob", "-n", "agents"), "namespaces/agents/claudesandboxes/bob"),
        (("-n", "agents"), "namespaces/agents/claudesandboxes"),
        (("-A",), "v1alpha1/claudesandboxes"),
    ):
        cluster.asked.clear()
        found = run(*arguments, "--kubeconfig", kubeconfig, "-o", "json")
        assert found.exit_code == 1, found.output
        hosts = [True] if arguments == ("-A",) else []
        assert [one.endswith(asked) for one in cluster.asked[:2]] == [True, False]
        assert [one.endswith("/dockerhosts") for one in cluster.asked[2:]] == hosts
        assert cluster.asked[1].endswith("/claude-sandbox-system/leases/claude-sandbox-operator")
        assert "Lease" not in found.stdout


def test_no_pass_counts_while_no_operator_renews_its_lease(cluster: Cluster, kubeconfig: str) -> None:
    cluster.leases = {"claude-sandbox-operator": lease(timedelta(hours=1))}
    found = run("agents/alice", "--kubeconfig", kubeconfig)
    assert found.exit_code == 3
    assert "No pass counts of agents/alice: no operator has renewed the Lease claude-sandbox-system/" in found.stdout
    assert run("agents/bob", "--kubeconfig", kubeconfig).exit_code == 1


@pytest.mark.parametrize(("refused", "why"), [(True, "may not be read"), (False, "is not there")])
def test_that_the_operators_lease_is_not_seen_is_said(
    cluster: Cluster, kubeconfig: str, refused: bool, why: str
) -> None:
    cluster.leases = {}
    cluster.refused = ("leases",) if refused else ()
    found = run("agents/alice", "--kubeconfig", kubeconfig, "--operator-namespace", "own")
    assert found.exit_code == 0
    assert f"whether the operator still runs is not known: its lease own/claude-sandbox-operator {why}." in (
        found.stdout.lower()
    )


def _placed(host: str) -> dict[str, Any]:
    found = on_docker()
    found["status"]["placement"] = {"host": host}
    found["status"]["workload"] = {"host": host}
    return found


def test_the_hosts_of_the_sandboxes_are_told_and_of_everything_all(cluster: Cluster, kubeconfig: str) -> None:
    cluster.sandboxes["dora"] = _placed("build-1")
    cluster.docker_hosts = [docker_host("build-1"), docker_host("build-2")]
    for arguments, expected in (
        (("agents/alice",), []),
        (("-n", "agents"), ["build-1"]),
        (("-A",), ["build-1", "build-2"]),
    ):
        found = json.loads(run(*arguments, "--kubeconfig", kubeconfig, "-o", "json").stdout)
        assert [one["name"] for one in found.get("hosts", [])] == expected
    assert found["hosts"][0]["sandboxes"] == ["agents/dora"]


def test_that_hosts_may_not_be_read_is_said_where_there_are_some(cluster: Cluster, kubeconfig: str) -> None:
    cluster.refused = ("dockerhosts",)
    said = "Nothing is said of the Docker hosts of these sandboxes: DockerHosts may not be read."
    assert said not in run("-A", "--kubeconfig", kubeconfig).stdout
    cluster.sandboxes["dora"] = _placed("build-1")
    found = run("-A", "--kubeconfig", kubeconfig)
    assert said in found.stdout
    assert found.exit_code == 1


def test_hosts_in_a_file_are_told() -> None:
    found = json.loads(run("-", "-o", "json", text=listed(_placed("build-1"), docker_host("build-1"))).stdout)
    assert [(one["name"], one["sandboxes"]) for one in found["hosts"]] == [("build-1", ["agents/dora"])]


def test_what_may_not_be_read_exits_4_and_names_the_right(cluster: Cluster, kubeconfig: str) -> None:
    cluster.refused = ("claudesandboxes",)
    found = run("-A", "--kubeconfig", kubeconfig)
    assert found.exit_code == 4
    assert "Ask for the right to list claudesandboxes in all namespaces." in found.stderr


def test_a_sandbox_that_is_not_there_exits_4(kubeconfig: str) -> None:
    found = run("agents/nobody", "--kubeconfig", kubeconfig)
    assert found.exit_code == 4
    assert "ClaudeSandbox agents/nobody is not there." in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [("-A", "-n", "a"), ("-A", "alice"), ("a/b", "-n", "c"), ("-", "alice"), ("-", "--context", "x")],
)
def test_a_command_line_that_contradicts_itself_exits_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_command_is_listed_and_its_help_teaches() -> None:
    assert "report" in COMMANDS
    assert "kubectl get claudesandboxes,dockerhosts -A -o json" in run("--help").stdout


def test_it_is_compared_with_an_earlier_report(tmp_path: Path) -> None:
    earlier = tmp_path / "monday.json"
    run("-", "-o", "json", "--to", str(earlier), text=listed(on_kubernetes(name="bob")))
    printed = run("-", "--compare", str(earlier), text=listed(FAILING)).stdout
    assert "worse: PRIV-01 Not privileged, Pass before, now Fail: agents/bob" in printed


def _trail(file: Path, *sandboxes: str) -> str:
    """A copy of a trail, with lines of another log among its own."""
    lines = [b"something else", b'{"trail":1,"half'] if sandboxes else [b"something else"]
    for place, name in enumerate(sandboxes):
        about = About("ClaudeSandbox", name, f"uid-{name}", "agents")
        data = {"conditions": [{"type": "Compliant", "before": None, "after": "False"}]}
        record = Record(Kind.CONDITION_CHANGED, datetime.now(UTC) - timedelta(days=1), about, data)
        lines.append(b"stdout " + written(record, place + 1, "0" * 64))
    file.write_bytes(b"\n".join(lines) + b"\n")
    return str(file)


def test_how_it_went_is_told_by_an_audit_trail(tmp_path: Path) -> None:
    trail = _trail(tmp_path / "copied.log", "alice", "bob", "gone")
    found = json.loads(run("-", "-o", "json", "--trail", trail, text=listed(on_kubernetes())).stdout)["trend"]
    assert [one["sandboxes"]["NotCompliant"] for one in found["days"]] == [3, 3]
    assert found["source"] == trail


def test_of_some_sandboxes_only_theirs_is_told(tmp_path: Path, cluster: Cluster, kubeconfig: str) -> None:
    trail = _trail(tmp_path / "copied.log", "alice", "gone")
    for arguments, count in ((("agents/alice",), 1), (("-n", "agents"), 2), (("-A",), 2)):
        found = json.loads(run(*arguments, "--kubeconfig", kubeconfig, "-o", "json", "--trail", trail).stdout)
        assert found["trend"]["days"][-1]["sandboxes"]["NotCompliant"] == count


def test_a_trail_that_tells_nothing_or_is_not_there_exits_4(tmp_path: Path) -> None:
    for trail in (_trail(tmp_path / "copied.log"), str(tmp_path / "nowhere")):
        assert run("-", "--trail", trail, text=listed(on_kubernetes())).exit_code == 4
    assert run("-", "--trail", "-", text=listed(on_kubernetes())).exit_code == 2


@pytest.mark.parametrize("text", ["{}", "no JSON", "[" * 100_000], ids=["no report", "words", "deep"])
def test_what_can_not_be_compared_with_exits_4(tmp_path: Path, text: str) -> None:
    earlier = tmp_path / "monday.json"
    earlier.write_text(text)
    found = run("-", "--compare", str(earlier), text=listed(FAILING))
    assert found.exit_code == 4
    assert "--output json wrote" in found.stderr


def test_a_policy_excepts_and_names_what_is_not_needed(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    one = {"control": "PRIV-01", "reason": "It builds.", "owner": "team", "expires": "9999-12-31"}
    policy.write_text(json.dumps({"exceptions": [one, one | {"control": "NET-01"}]}))
    found = run("-", "--policy", str(policy), text=listed(FAILING))
    assert found.exit_code == 0
    assert "excepted by team until 9999-12-31: It builds." in found.stdout
    assert found.stderr == "The exception of NET-01 by team is not needed: nothing in this report fails it.\n"
