"""The repositories of a sandbox: what is cloned, and how git in the sandbox finds its gateway. Pure.

Git is told by a file for the whole system, beside the managed settings, which the agent can't write. It may overrule
what is there by its own configuration, and gains nothing by it: the gateway decides, and no credential is here.
"""

import json
import re
from collections.abc import Iterable, Iterator

from claude_sandbox.api.fields.work.repositories import Repository
from claude_sandbox.blueprint.agent import SETTINGS_DIRECTORY
from claude_sandbox.blueprint.model import Clone, GatewayRepository, Git, Image, PushRules
from claude_sandbox.claudecode.given import GIT_FILE
from claude_sandbox.claudecode.pinned import Api
from claude_sandbox.gateway.git.repositories import BELOW, parse_url

GIT_CONFIG = f"{SETTINGS_DIRECTORY}/{GIT_FILE}"
"""Git's configuration for the whole system, by the variable GIT_CONFIG_SYSTEM."""
CLONE_COMMAND = ("/usr/local/bin/clone-repositories",)
"""What clones, in the operator's image for sandboxes."""
REPOSITORIES_VARIABLE = "CLAUDE_SANDBOX_REPOSITORIES"
"""What is to be cloned, in the environment of what clones."""
_NO_BRANCH = re.compile(r"^refs/|^[/.-]|/[/.-]|\.\.|[/.]$|\.lock$")
_NO_BRANCH_WHY = (
    "is met by no branch: write its name without refs/heads/, for example claude/*, and as git has names: no part is"
    " empty, begins with '.' or '-', or ends with '.' or '.lock'"
)
_NO_PATH = re.compile(r"^/*$|//|(^|/)\.\.?(/|$)")
_NO_PATH_WHY = (
    "is met by no path: write it from the repository's root, without empty parts, '.' and '..', for example .github/**"
)
_HELPER = '!f() { test "$1" = get && echo username=sandbox && printf "password=%s\\n" "$(cat KEY)"; }; f'


def refused_repositories(repositories: Iterable[Repository]) -> Iterator[tuple[int, str]]:
    """The positions of what a gateway can't reach or tell apart, and why, with what to write instead."""
    seen: set[str] = set()
    for index, one in enumerate(repositories):
        try:
            at = parse_url(one.url)[2]
        except ValueError as error:
            yield index, f"names no repository: {error}"
            continue
        if at in seen:
            yield index, "is the same repository as another one of the list: write each once"
        seen.add(at)


def refused_pushes(repositories: Iterable[Repository]) -> Iterator[tuple[str, str]]:
    """The fields below spec.repositories that nothing can meet, and why. The CRD has no room for these rules: an API
    server bounds what all rules of a kind may cost."""
    for index, one in enumerate(repositories):
        if one.push is None:
            continue
        for at, branch in enumerate(one.push.branches):
            if _NO_BRANCH.search(branch):
                yield f"[{index}].push.branches[{at}]", _NO_BRANCH_WHY
        for at, path in enumerate(one.push.protected_paths):
            if _NO_PATH.search(path):
                yield f"[{index}].push.protectedPaths[{at}]", _NO_PATH_WHY


def git(repositories: Iterable[Repository], api: Api, key_path: str, workspace: str, image: Image) -> Git | None:
    """What the workload needs for its repositories; None where there are none. `image` has git and what clones."""
    clones = tuple(_clone(one, workspace) for one in repositories)
    if not clones:
        return None
    return Git(clones, _config(clones, api, key_path), image)


def for_gateway(repositories: Iterable[Repository]) -> tuple[GatewayRepository, ...]:
    """The same in the gateway's own words."""
    return tuple(
        GatewayRepository(
            parse_url(one.url)[0],
            one.credentials_secret_ref.name if one.credentials_secret_ref is not None else None,
            PushRules(tuple(one.push.branches), one.push.force, one.push.delete, tuple(one.push.protected_paths))
            if one.push is not None
            else None,
        )
        for one in repositories
    )


def wishes(clones: Iterable[Clone]) -> str:
    """What is to be cloned, as JSON for the program that does it."""
    listed = [
        {
            "path": one.path,
            "url": one.url,
            **({"ref": one.ref} if one.ref is not None else {}),
            **({"depth": one.depth} if one.depth is not None else {}),
            **({"submodules": True} if one.submodules else {}),
            **({"lfs": True} if one.lfs else {}),
        }
        for one in clones
    ]
    return json.dumps(listed, separators=(",", ":"))


def _clone(one: Repository, workspace: str) -> Clone:
    url = parse_url(one.url)[0]
    # As git has the names of branches and tags where it clones.
    ref = None if one.ref is None else one.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    return Clone(f"{workspace}/{one.path}", url, ref, one.depth, one.submodules, one.lfs)


def _config(clones: Iterable[Clone], api: Api, key_path: str) -> str:
    """Leads what is asked of the declared repositories, by whatever URL, to the gateway."""
    sections = [
        "[include]\n\tpath = /etc/gitconfig",
        # Overruled by what the agent or a repository says, or by GIT_AUTHOR_NAME and the like in spec.env.
        "[user]\n\tname = Claude\n\temail = noreply@anthropic.com",
        f'[http "{api.url}{BELOW}"]\n\tproxy =' + (f"\n\tsslCAInfo = {api.authority}" if api.authority else ""),
        f'[credential "{api.url}"]\n\thelper =\n\thelper = {_quoted(_HELPER.replace("KEY", key_path))}',
    ]
    for one in clones:
        behind = one.url.removeprefix("https://").removesuffix(".git")
        host, _, path = behind.partition("/")
        name = host.partition(":")[0]
        lines = [f"https://{behind}", f"ssh://git@{name}/{path}", f"ssh://{name}/{path}", f"git@{name}:{path}"]
        lines = [f"\tinsteadOf = {line}" for line in lines]
        sections.append("\n".join((f'[url "{api.url}{BELOW}{behind}"]', *lines)))
    return "\n".join((*sections, ""))


def _quoted(value: str) -> str:
    """As git's configuration has a value with quotes and semicolons in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
