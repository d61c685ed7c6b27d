"""What the demo shows of the work, and what it does not let pass: sandbox and server say what they are told to."""

from collections.abc import Callable

import pytest

from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Cluster, Place
from claude_sandbox.demo.work import show, task
from claude_sandbox.demo.work.repository import GitServer
from claude_sandbox.demo.work.show import Mode
from claude_sandbox.install.errors import SetupError

Said = Callable[..., tuple[int, str]]
FIRST, SECOND = "1" * 40, "2" * 40


class NoCluster(Cluster):
    """A cluster in which every command of the product's says its name."""

    def run(self, *arguments: str) -> str:
        return f"what {arguments[0]} says"


def refs(**branches: str) -> str:
    return "".join(f"{name} {commit}\n" for name, commit in branches.items())


def shown(*listed: str, sandbox: Said, mode: Mode) -> bool:
    """Show the work with a server that has these branches, one time after the other."""
    left = list(listed)
    place = Place(lambda *argv: (0, left.pop(0) if "for-each-ref" in argv else "* main"), "kubectl exec git --")
    server = GitServer(place, "10.1.2.3", "git.example.com", "a-token", "pem")
    at = Place(sandbox, "kubectl exec alice --")
    return show.show(at, NoCluster(), "agents/alice", server, mode, Narrator())


def refusing(asked: list[tuple[str, ...]]) -> Said:
    """A sandbox whose pushes are refused."""

    def run(*argv: str) -> tuple[int, str]:
        asked.append(argv)
        return (1, "remote: only branches claude/*\x1b[2J") if "push" in argv else (0, "")

    return run


def test_a_push_that_changed_main_ends_the_demo() -> None:
    with pytest.raises(SetupError, match="main was pushed to"):
        shown(refs(main=FIRST), refs(main=SECOND), sandbox=lambda *_: (0, ""), mode=Mode.SCRIPTED)


def test_a_refusal_is_shown_in_the_gateway_s_words_and_obeys_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(refs(main=FIRST), refs(main=FIRST), sandbox=refusing([]), mode=Mode.SCRIPTED)
    printed = capsys.readouterr().out
    assert "remote: only branches claude/*\\x1b[2J" in printed
    assert "what diff says" in printed
    assert f"There is no branch {task.SCRIPTED_BRANCH}: the work was not done." in printed
    assert "a-token" not in printed


@pytest.mark.parametrize(("mode", "branch"), [(Mode.SCRIPTED, task.SCRIPTED_BRANCH), (Mode.MODEL, task.BRANCH)])
def test_the_work_of_an_earlier_run_is_not_asked_for_again(mode: Mode, branch: str) -> None:
    asked: list[tuple[str, ...]] = []
    there = refs(**{"main": FIRST, branch: SECOND})
    shown(there, there, sandbox=refusing(asked), mode=mode)
    assert not any("claude" in argv for argv in asked)


def test_what_a_script_did_is_not_taken_for_the_model_s_work(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, ...]] = []
    there = refs(**{"main": FIRST, task.SCRIPTED_BRANCH: SECOND})
    shown(there, there, sandbox=refusing(asked), mode=Mode.MODEL)
    (claude,) = (argv for argv in asked if "claude" in argv)
    assert task.prompt(task.BRANCH) in claude
    assert claude[claude.index("--max-budget-usd") + 1] == "1"
    assert "script" not in capsys.readouterr().out.partition("\n$ kubectl exec git")[0]


def test_nobody_is_asked_where_nobody_answers() -> None:
    asked: list[tuple[str, ...]] = []
    shown(refs(main=FIRST), refs(main=FIRST), sandbox=refusing(asked), mode=Mode.UNANSWERED)
    assert not any("claude" in argv for argv in asked)
