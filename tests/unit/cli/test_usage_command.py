"""`claude-sandbox usage`: what is read of statuses, summed up, put in order, and said to people and to programs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from answering_server import Cluster, serving
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from reported_sandboxes import ATTACKS, listed

from claude_sandbox.api import meta
from claude_sandbox.cli.main import COMMANDS
from claude_sandbox.cli.usage.command import usage
from claude_sandbox.cli.usage.output import tables
from claude_sandbox.cli.usage.reading import Order, sandboxes

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOON, BEFORE = "2999-01-01T00:00:00Z", "2026-03-01T11:00:00Z"

Object = dict[str, Any]


def used(model: str, requests: int, output: int, cost: str) -> Object:
    counts = {"inputTokens": 10 * output, "outputTokens": output, "cacheWriteTokens": 5, "cacheReadTokens": 7}
    return {"model": model, "requests": requests, "costUSD": cost, **counts}


def sandbox(name: str, *models: Object, budget: Object | None = None, namespace: str = "agents", **told: Any) -> Object:
    """One whose gateway has told of these models, and of `told`."""
    names = ("requests", "inputTokens", "outputTokens", "cacheWriteTokens", "cacheReadTokens")
    sums = {name: sum(one[name] for one in models) for name in names}
    cost = str(sum((Decimal(one["costUSD"]) for one in models), Decimal(0)))
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}} | ({"budget": budget} if budget else {}),
        "status": {"usage": {"reportedAt": BEFORE, **sums, "costUSD": cost, "models": list(models), **told}},
    }


ALICE = sandbox(
    "alice",
    used("claude-opus-5", 3, 300, "4.5"),
    used("claude-haiku-5", 9, 100, "0.25"),
    budget={"maxCostUSD": "20", "maxOutputTokens": 1000, "window": "24h"},
    window={"began": BEFORE, "ends": SOON, "costUSD": "4.75", "outputTokens": 400},
)
ALICE["status"]["usage"]["budget"] = {"state": "Free", "leftUSD": "15.25", "leftOutputTokens": 600, "until": SOON}
BOB = sandbox(
    "bob",
    used("claude-opus-5", 100, 50, "12"),
    denials=4,
    denied=[
        {"what": "Destination", "entry": "pypi.org", "count": 3, "first": BEFORE, "last": BEFORE},
        {"what": "Model", "entry": "claude-x", "count": 1, "first": BEFORE, "last": BEFORE},
    ],
    trouble={"kind": "KeyRefused", "since": BEFORE, "message": "401: invalid x-api-key"},
    unopenedServices=[{"name": "issues", "why": "NoSecret"}],
)
CAROL = sandbox("carol")
del CAROL["status"]["usage"]
DAVE = sandbox("dave", namespace="others")
DAVE["spec"]["credentials"]["delivery"] = "Mounted"
del DAVE["status"]


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(usage, arguments, input=text)


def printed(*documents: Object, arguments: tuple[str, ...] = ()) -> list[str]:
    found = run("-", *arguments, text=listed(*documents))
    assert found.exit_code == 0, found.output
    return found.stdout.splitlines()


def told(*documents: Object, arguments: tuple[str, ...] = ()) -> Any:
    return json.loads("\n".join(printed(*documents, arguments=("-o", "json", *arguments))))


def test_each_sandbox_is_a_line_and_all_of_them_another() -> None:
    lines = [line.split() for line in printed(ALICE, BOB, CAROL, DAVE)]
    assert lines[0] == ["SANDBOX", "REQUESTS", "INPUT", "OUTPUT", "CACHE", "USD", "BUDGET", "LEFT", "UNTIL", "DENIED"]
    assert lines[1][:7] == ["agents/bob", "100", "500", "50", "12", "12.0000", "none"]
    assert lines[2][:6] == ["agents/alice", "12", "4000", "400", "24", "4.7500"]
    assert " ".join(lines[2][6:]) == f"Free (40 %) 15.25 USD, 600 tokens {SOON} 0"
    assert lines[3][:6] == ["agents/carol", "-", "-", "-", "-", "-"]
    assert lines[5] == ["all", "112", "4500", "450", "36", "16.7500", "4"]


def test_models_are_summed_over_sandboxes_the_dearest_first() -> None:
    found = told(ALICE, BOB)
    assert [(one["model"], one["requests"], one["costUSD"]) for one in found["models"]] == [
        ("claude-opus-5", 103, "16.5"),
        ("claude-haiku-5", 9, "0.25"),
    ]
    assert found["total"]["costUSD"] == "16.75"
    lines = [line.split() for line in printed(ALICE, BOB)]
    assert ["claude-opus-5", "103", "3500", "350", "24", "16.5000"] in lines


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("cost", ["bob", "alice", "carol"]),
        ("tokens", ["alice", "bob", "carol"]),
        ("requests", ["bob", "alice", "carol"]),
        ("budget", ["alice", "bob", "carol"]),
        ("name", ["alice", "bob", "carol"]),
    ],
)
def test_what_has_the_most_of_what_is_asked_for_is_first(order: str, names: list[str]) -> None:
    found = told(CAROL, ALICE, BOB, arguments=("--sort", order))
    assert [one["name"] for one in found["sandboxes"]] == names


def test_of_two_limits_the_nearer_one_says_what_is_spent() -> None:
    (found,) = told(ALICE)["sandboxes"]
    assert found["budget"]["spent"] == 0.4
    assert found["budget"]["limits"] == {"maxCostUSD": "20", "maxOutputTokens": 1000, "window": "24h"}
    assert found["budget"]["left"]["leftUSD"] == "15.25"


def test_of_a_window_that_is_over_nothing_counts_any_more() -> None:
    over = json.loads(json.dumps(ALICE).replace(SOON, BEFORE).replace('"Free"', '"Spent"'))
    assert told(over)["sandboxes"][0]["budget"]["spent"] == 0
    assert "Free (0 %)  20 USD, 1000 tokens" in printed(over)[1]


def test_a_budget_of_which_nothing_is_used_is_whole() -> None:
    unused = CAROL | {"spec": {"budget": {"maxCostUSD": "0.50"}}}
    assert "Free (0 %)  0.5 USD" in printed(unused)[1]


def test_what_was_denied_is_said_with_what_would_allow_it() -> None:
    lines = printed(ALICE, BOB)
    assert f"agents/bob  3      {BEFORE}  spec.network.egress.allowedDomains: - pypi.org" in lines
    assert f"agents/bob  1      {BEFORE}  spec.model.allowed: - claude-x" in lines
    found = {one["name"]: one for one in told(ALICE, BOB)["sandboxes"]}["bob"]
    assert [(one["entry"], one["field"]) for one in found["denied"]] == [
        ("pypi.org", "spec.network.egress.allowedDomains"),
        ("claude-x", "spec.model.allowed"),
    ]


def test_what_is_wrong_and_why_nothing_is_said_is_told() -> None:
    lines = printed(BOB, CAROL, DAVE)
    assert f"agents/bob: the model's provider refuses the key since {BEFORE}: 401: invalid x-api-key" in lines
    assert "agents/bob: service issues has no credential (NoSecret)" in lines
    assert "agents/carol: has used nothing yet" in lines
    assert "others/dave: holds its key itself, so nobody counts" in lines
    assert [one["note"] for one in told(BOB, DAVE)["sandboxes"]] == [None, "holds its key itself, so nobody counts"]


def test_a_status_of_another_version_is_told_of_and_hides_no_other() -> None:
    newer = json.loads(json.dumps(BOB))
    newer["status"]["usage"]["spentOnMusic"] = 1
    lines = printed(ALICE, newer)
    assert any(line.startswith("agents/bob: its status is of another version") for line in lines)
    assert lines[1].startswith("agents/alice  12")


def test_without_any_it_says_so() -> None:
    assert printed() == ["There is no ClaudeSandbox."]
    assert told()["sandboxes"] == []


@pytest.mark.parametrize("text", ATTACKS)
def test_a_hostile_text_stays_in_its_line(text: str) -> None:
    hostile = sandbox(text, used(text, 1, 1, "1"), namespace=text, trouble={"kind": "NoAnswer", "since": BEFORE,
                      "message": text}, denied=[{"what": "Model", "entry": text, "count": 1, "first": BEFORE,
                      "last": BEFORE}], unopenedServices=[{"name": text, "why": "NoKey"}])  # fmt: skip
    lines = list(tables(sandboxes([hostile], Order.COST, NOW), NOW))
    assert all(line.isprintable() for line in lines), lines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["NaN", "1E+9", "Infinity"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ALICE["status"]["usage"]]), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_whatever_a_file_has_in_it_is_shown(told: Any, budget: Any) -> None:
    document = {"metadata": {"name": "x", "namespace": "y"}, "spec": {"budget": budget}, "status": {"usage": told}}
    later = NOW + timedelta(hours=1)
    for order in Order:
        assert list(tables(sandboxes([document, ALICE], order, later), later))


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[str]:
    with serving(Cluster(sandboxes={"alice": ALICE, "bob": BOB}), tmp_path) as found:
        yield found


def test_a_cluster_is_asked_for_one_or_for_all(kubeconfig: str) -> None:
    one = run("agents/bob", "--kubeconfig", kubeconfig, "-o", "json")
    assert [each["name"] for each in json.loads(one.stdout)["sandboxes"]] == ["bob"]
    every = run("-A", "--kubeconfig", kubeconfig, "-o", "json")
    assert [each["name"] for each in json.loads(every.stdout)["sandboxes"]] == ["bob", "alice"]


def test_one_that_is_not_there_exits_1_and_says_how_to_look(kubeconfig: str) -> None:
    found = run("agents/eve", "--kubeconfig", kubeconfig)
    assert found.exit_code == 4
    assert "ClaudeSandbox agents/eve is not there" in found.stderr
    assert "Remedy: " in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [("-A", "-n", "agents"), ("-A", "alice"), ("others/alice", "-n", "agents"), ("alice", "./x.json"),
     ("./x.json", "--context", "c")],
)  # fmt: skip
def test_a_command_line_that_says_two_things_is_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_it_is_a_command() -> None:
    assert COMMANDS["usage"].load() is usage
