"""What brings the key is turned against it: by the sandbox's own image, and by a marker that never matches.

Gained before: the helper container ran the image's `/bin/sh`, with the key on its input and every volume writable, a
read-only workspace too; what that shell wrote beside the key came into the status, and as long as that was not the
generation another helper was made at once (22 in 20 s). Closed by a helper of the operator's own image that mounts no
more than it needs (`delivery/`, `backends/docker/keys/delivery.py`), by comparing what is read and never showing it
(`observe.py`), and by a pace that every helper keeps (`plan.py`, `apply.py`).
"""

from pathlib import Path
from typing import Any

import pytest
from dockerkit import _APPLETS, CLUSTER, FIRST, HELPER, IMAGE, KEY, Sandbox, sandbox
from enginekit import BUSYBOX
from nodekit import report
from overheard import overhear

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.delivery import MARKER
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

pytestmark = pytest.mark.engine

HOSTILE = "claudesandbox.dev/hostile:1"
# Where it is called as the helper once was, it takes the key, and writes it wherever somebody might show it.
SHELL = f"""#!/bin/busybox ash
if [ "$3" = deliver ]; then
  read -r line
  echo "$line" | base64 -d >"$4/$5"
  for marker in .generation {MARKER}; do cat "$4/$5" >"$4/$marker"; done
  cp "$4/$5" /workspace/taken
  echo ready
  read -r _
  exit
fi
exec /bin/busybox ash "$@"
"""


@pytest.fixture(scope="module")
def hostile(host: EngineDescription, tmp_path_factory: pytest.TempPathFactory) -> EngineDescription:
    """An engine with an image whose shell is the attacker's."""
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "sh").write_text(SHELL)
    (directory / "claude").write_text("#!/bin/busybox ash\n")
    program = ensure(BUSYBOX, report).file("bin/busybox")
    assert program is not None
    programs: dict[str, Path] = {"/bin/busybox": program, "/bin/sh": directory / "sh"}
    programs["/bin/claude"] = directory / "claude"
    links = {f"/bin/{applet}": "busybox" for applet in _APPLETS if applet != "sh"}
    start = ("/bin/busybox", "sleep", "infinity")
    target = directory / "image.tar"
    engine.load_image(host, of_programs(programs, target, HOSTILE, builder.goarch(), start, links))
    return host


def using(one: Sandbox, reference: str) -> None:
    one.image = str(one.sdk.images.get(reference).id)


async def test_a_hostile_image_sees_no_more_of_the_key_than_its_agent(hostile: EngineDescription) -> None:
    async with sandbox(hostile) as one:
        using(one, HOSTILE)
        await one.made()
        one.secrets.generation, one.secrets.value = "2", KEY + b"-new"
        await one.settled()
        state = await one.state()
        assert state.key_generation == "2"
        assert one.key_in_place() == KEY + b"-new"
        assert "exit 1" in one.sh("ls /workspace/taken"), "it ran with the volumes of the sandbox and the key"


def images_of_helpers(one: Sandbox) -> list[dict[str, Any]]:
    """Have the documents of the helper containers of the next pass noted."""
    noted: list[dict[str, Any]] = []
    heard = overhear(one)

    def note() -> None:
        noted.append(one.sdk.api.inspect_container(one.names.helper))
        heard.after["helper's start"] = note

    heard.after["helper's start"] = note
    return noted


async def test_nothing_of_the_sandbox_is_run_or_mounted_beside_the_key(host: EngineDescription) -> None:
    async with sandbox(host, workspace={"readOnly": True}) as one:
        noted = images_of_helpers(one)
        await one.made()
        one.secrets.generation = "2"
        await one.settled()
        made, brought = noted
        own = one.sdk.images.get(HELPER.reference).id
        assert {made["Image"], brought["Image"]} == {own}
        assert {mount["Name"] for mount in made["Mounts"]} == {one.names.key, one.names.settings}
        assert {mount["Name"] for mount in brought["Mounts"]} == {one.names.key}
        assert brought["HostConfig"]["ReadonlyRootfs"]


@pytest.mark.by_turns
async def test_a_generation_that_never_matches_makes_no_helper_without_end(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        one.secrets.generation = "2"

        async def other(identity: Identity, secret: str, key: str) -> Key:
            return Key("somebody else's word", bytearray(KEY))

        one.secrets.read = other  # type: ignore[method-assign]
        noted = images_of_helpers(one)
        one.clock.now += 60.0
        for _ in range(8):
            outcome = await one.once()
        assert len(noted) == 1
        assert outcome.paced
        for _ in range(4):
            one.clock.now += 4.0
            await one.once()
        assert len(noted) <= 4
        assert (await one.state()).key_generation is None, "what was read is not shown, whatever it is"


@pytest.mark.by_turns
async def test_a_helper_that_never_succeeds_is_not_made_without_end(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        noted = images_of_helpers(one)
        # It ends by itself, and says nothing: its program is not the one of this version.
        one.backend._helper = type(HELPER)(IMAGE, None, "Never")
        for _ in range(8):
            await one.once(FIRST)
        assert len(noted) <= 1
        assert not one.running
        found = one.sdk.api.containers(all=True, filters={"label": names.selector(CLUSTER, one.identity)})
        assert [summary["Names"] for summary in found] == [[f"/{one.names.container}"]]
