"""Judging by the checks of the Pod Security Standards."""

from collections.abc import Callable

from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, judged


def on_linux(judge: Callable[[View], Verdict]) -> Callable[[View], Verdict]:
    """The Pod Security Standards excuse pods that say they are for Windows; a sandbox that says so is refused."""

    def judge_linux(view: View) -> Verdict:
        if (view.spec.get("os") or {}).get("name") == "windows":
            return failed("the pod says that it is for Windows, where this protection does not exist")
        return judge(view)

    return judge_linux


def violating(*check_ids: str, minor: int | None = None) -> Callable[[View], Verdict]:
    """Fails with what these checks of the Pod Security Standards find; `minor` None for the API server's version."""
    return lambda view: judged(view.violations(*check_ids, minor=minor))
