"""The review of a program, on texts that are built as releases are: it finds what is new, and says when it can't."""

import pytest

from claude_sandbox.claudecode import pinned, program, review, waived


def _program(*register: str, settings: str = "", elsewhere: str = "") -> bytes:
    entries = ",".join(f"{name}:()=>x" for name in ("ANTHROPIC_BASE_URL", *register))
    schema = '{$schema:()=>r(),apiKeyHelper:()=>r().describe("a {[(: \\" quoted)")' + settings + "}"
    return f"// Version: 3.0.0\nQr(a,{{{entries}}});{elsewhere}function Zs(e){{return{schema}}}\0".encode()


def _undecided(code: bytes) -> tuple[str, ...]:
    return review.undecided(program.variables(code), program.settings(code))


def test_a_program_that_knows_only_what_is_decided_passes() -> None:
    code = _program(*pinned.VARIABLES, *waived.by_name(waived.VARIABLES))
    assert program.version(code) == "3.0.0"
    assert _undecided(code) == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CLAUDE_CODE_USE_OTHERCLOUD", "a provider"),
        ("CLAUDE_CODE_SKIP_OTHERCLOUD_AUTH", "a provider"),
        ("ANTHROPIC_OTHERCLOUD_BASE_URL", "an address"),
        ("CLAUDE_CODE_OTHER_SOCKET", "an address"),
        ("OTHER_PROXY", "a proxy"),
        ("OTHER_CA_BUNDLE", "who is believed"),
        ("OTHER_SSL_VERIFY", "who is believed"),
        ("OTHERCLOUD_API_KEY", "a credential"),
        ("OTHER_HELPER", "a command"),
        ("LD_OTHER", "a command"),
        ("OTHER_SETTINGS_PATH", "settings"),
    ],
)
def test_a_variable_of_each_kind_that_a_release_brings_is_undecided(name: str, kind: str) -> None:
    assert _undecided(_program(name)) == (f"variable {name}: may choose {kind}",)


@pytest.mark.parametrize("use", ["process.env.OTHER_PROXY;", 'n(["OTHER_PROXY"])', "\0NODE_OTHER_PROXY\0"])
def test_a_variable_is_found_where_it_is_used_without_being_registered(use: str) -> None:
    assert "OTHER_PROXY: may choose a proxy" in str(_undecided(_program(elsewhere=use)))


def test_every_setting_that_a_release_brings_is_undecided() -> None:
    settings = (
        ",otherAuthRefresh:()=>r().regex(/^[\"(]/)"
        ",nested:()=>c({inner:()=>1,text:`a ${b} }`})"
        ",...on&&{onlySometimes:()=>r()}"
    )  # fmt: skip
    found = _undecided(_program(settings=settings))
    assert found == ("setting nested", "setting onlySometimes", "setting otherAuthRefresh")


@pytest.mark.parametrize("missing", [b"ANTHROPIC_BASE_URL", b"apiKeyHelper", b"{$schema"])
def test_a_program_that_is_built_in_another_way_is_told(missing: bytes) -> None:
    code = _program().replace(missing, b"x")
    with pytest.raises(ValueError, match="was not found"):
        _undecided(code)


def test_a_program_without_a_version_or_an_end_of_its_schema_is_told() -> None:
    with pytest.raises(ValueError, match="version"):
        program.version(b"")
    for cut in (b"c({", b"c('", b"c(/["):
        with pytest.raises(ValueError, match="does not end"):
            program.settings(b"{$schema:()=>r(),apiKeyHelper:()=>" + cut)


def test_waivers_are_reviewable() -> None:
    for waivers in (waived.VARIABLES, waived.SETTINGS):
        for reason, names in waivers.items():
            assert reason.endswith("."), reason
            assert names.split() == sorted(set(names.split())), f"sorted, each once: {reason}"
        assert len(waived.by_name(waivers)) == sum(len(names.split()) for names in waivers.values()), "one reason each"
    assert not set(waived.by_name(waived.VARIABLES)) & set(pinned.environment())
    assert not set(waived.by_name(waived.SETTINGS)) & set(pinned.managed_settings(""))
