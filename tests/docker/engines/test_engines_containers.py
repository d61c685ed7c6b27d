"""Containers in our own engines are real ones, as the kernel and the network say, and not the engine alone."""

import contextlib
import json
import sys
from pathlib import Path

import pytest
from docker.errors import APIError
from docker.models.containers import Container
from enginekit import client, hardened, isolated_network
from nodekit import eventually, report

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import ensure

pytestmark = pytest.mark.engine


def test_the_release_is_the_one_that_was_asked_for(docker_engine: EngineDescription, engine_release: str) -> None:
    with client(docker_engine) as connected:
        said = connected.version()
    assert said["Version"].startswith(f"{engine_release}.")
    assert [one["Version"] for one in said["Components"] if one["Name"] == "runc"]


def test_a_hardened_container_is_what_the_kernel_says_it_is(
    docker_engine: EngineDescription, tiny_image: ImageArchive
) -> None:
    with client(docker_engine) as connected:
        container = hardened(connected, tiny_image.reference, network_mode="none")
        try:
            container.reload()
            pid = container.attrs["State"]["Pid"]
            # The engine's own init comes first; what was asked for is its child.
            children = Path(f"/proc/{pid}/task/{pid}/children")
            eventually("the init has started it", lambda: children.read_text() != "")
            [child] = children.read_text().split()
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
            assert status["Uid"].split() == ["1000"] * 4
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            groups = Path(f"/proc/{child}/cgroup").read_text()
            assert f"/{docker_engine.cgroup}/" in groups
            assert container.exec_run("touch /x").exit_code != 0
            assert container.exec_run("touch /tmp/x").exit_code == 0
        finally:
            container.remove(force=True)


def test_an_internal_network_leads_nowhere_but_to_its_own_containers(
    docker_engine: EngineDescription, tiny_image: ImageArchive
) -> None:
    with client(docker_engine) as connected, contextlib.ExitStack() as made:
        options = isolated_network(docker_engine)
        inside = connected.networks.create("inside", internal=True, options=options)
        made.callback(inside.remove)
        outside = connected.networks.create("outside")
        made.callback(outside.remove)

        def run(name: str, network: str, *entrypoint: str) -> Container:
            container = hardened(connected, tiny_image.reference, name=name, network=network, entrypoint=entrypoint)
            made.callback(container.remove, force=True)
            container.reload()
            return container

        serve = ("httpd", "-f", "-p", "8000", "-h", "/bin")
        near, far = run("near", "inside", *serve), run("far", "outside", *serve)
        within, without = run("within", "inside", "sleep", "60"), run("without", "outside", "sleep", "60")
        eventually("the neighbour answers", lambda: _fetches(within, _address(near, "inside")))
        eventually("the other network's neighbour answers", lambda: _fetches(without, _address(far, "outside")))
        assert not _fetches(within, _address(far, "outside"))
        assert not _fetches(without, _address(near, "inside"))
        # The machine has an address on other networks, which containers there can reach, and none on this one.
        gateway = outside.attrs["IPAM"]["Config"][0]["Gateway"]
        assert _addresses(docker_engine, f"br-{outside.id[:12]}") == [gateway]
        assert _addresses(docker_engine, f"br-{inside.id[:12]}") == []


def test_a_published_port_is_in_the_engines_network_and_not_on_the_machine(
    docker_engine: EngineDescription, tiny_image: ImageArchive
) -> None:
    with client(docker_engine) as connected:
        container = hardened(
            connected, tiny_image.reference, entrypoint=["httpd", "-f", "-p", "8000", "-h", "/bin"],
            ports={"8000/tcp": ("127.0.0.1", 18000)},
        )  # fmt: skip
        try:
            ask = [
                sys.executable,
                "-c",
                "import urllib.request as r; r.urlopen('http://127.0.0.1:18000/busybox').read(4)",
            ]
            eventually("it answers", lambda: engine.run_in(docker_engine, ask, check=False).returncode == 0)
            listening = Path("/proc/net/tcp").read_text()
            assert ":4650 " not in listening  # 18000
            assert ":4650 " in engine.run_in(docker_engine, ["cat", "/proc/net/tcp"]).stdout
        finally:
            container.remove(force=True)


@pytest.mark.by_turns
def test_the_sandboxs_image_runs_in_every_engine(docker_engine: EngineDescription) -> None:
    image = build_image("sandbox", report)
    assert engine.load_image(docker_engine, image) == image.reference
    with client(docker_engine) as connected:
        said = connected.containers.run(
            image.reference, ["claude", "--version"], remove=True, network_mode="none", user="1000:1000",
            cap_drop=["ALL"], read_only=True, tmpfs={"/home/claude": "uid=1000,mode=0700", "/tmp": ""},
        )  # fmt: skip
        assert b"Claude Code" in said
        connected.images.remove(image.reference)


def test_an_archive_that_is_no_image_is_refused_with_the_engines_words(
    docker_engine: EngineDescription, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.tar"
    nonsense.write_bytes(b"not a tar archive" * 1000)
    with pytest.raises(LocalClusterError) as caught:
        engine.load_image(docker_engine, ImageArchive(nonsense, "example.test/nonsense:1", "sha256:0"))
    assert "refused the image" in caught.value.message


def test_a_limit_that_is_loosened_is_loosened_for_real(
    docker_engine: EngineDescription, tiny_image: ImageArchive
) -> None:
    with client(docker_engine) as connected:
        container = hardened(connected, tiny_image.reference, network_mode="none")
        try:
            container.update(mem_limit="256m", memswap_limit="256m")
            container.reload()
            assert container.attrs["HostConfig"]["Memory"] == 256 * 2**20
            with pytest.raises(APIError):
                container.update(mem_limit="1m", memswap_limit="1m")
        finally:
            container.remove(force=True)


def _fetches(container: Container, address: str) -> bool:
    command = ["timeout", "3", "wget", "-q", "-O", "/dev/null", f"http://{address}:8000/busybox"]
    exit_code: int = container.exec_run(command).exit_code
    return exit_code == 0


def _address(container: Container, network: str) -> str:
    address: str = container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    return address


def _addresses(of: EngineDescription, interface: str) -> list[str]:
    """The IPv4 addresses that the interface has in the engine's network."""
    ip = ensure(NEEDED, report).path("ip")
    told = json.loads(engine.run_in(of, [ip, "-json", "-4", "address", "show", "dev", interface]).stdout)
    return [address["local"] for one in told for address in one.get("addr_info", [])]
