"""The page in a real browser: it opens from a file, asks for nothing, and is used with a keyboard, wide and narrow.
What keeps people out axe-core looks for."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import npm_packages
import pytest
from headless_browser import PROGRAM, Browser, opened
from reported_sandboxes import (
    ATTACKS,
    docker_host,
    fleet,
    hostile_report,
    on_docker,
    on_kubernetes,
    reported,
    unmeasured,
    with_result,
)

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.model import Day, Report, Trend, Verdict

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium; Debian has it in the package chromium")
slow = pytest.mark.slow
AXE = "axe-core@4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with opened() as found:
        yield found


def failing() -> Report:
    bad = with_result(
        on_kubernetes(name="bob"), "PRIV-01", Result.FAIL, "it is", required=True, remedy="Do it.",
        evidence={"source": "LiveObject", "value": "privileged: true"},
    )  # fmt: skip
    hosts = [docker_host("build-1"), docker_host("build-2", version={"Version": "27.5.1"})]
    stood = {Verdict.COMPLIANT: 2, Verdict.NOT_COMPLIANT: 1, Verdict.NOT_VERIFIED: 1}
    days = tuple(Day(date(2026, 2, one), stood, worse=one % 3, better=0, healed=0, denied=0) for one in range(1, 29))
    return replace(
        reported(on_kubernetes(), bad, on_docker(), unmeasured(), hosts=hosts), trend=Trend(days, "/var/lib/trail")
    )


async def shown(browser: Browser, report: Report, directory: Path) -> None:
    file = directory / "report.html"
    file.write_text(page.written(report))
    await browser.open(file)


def unexpected(browser: Browser) -> list[Any]:
    """Everything that the page did but ask for itself."""
    return [
        (event, told)
        for event, told in browser.heard
        if event != "Network.requestWillBeSent" or not told["request"]["url"].endswith("/report.html")
    ]


async def test_it_asks_for_nothing_and_keeps_its_own_policy(browser: Browser, tmp_path: Path) -> None:
    await shown(browser, failing(), tmp_path)
    assert unexpected(browser) == []
    # The style and the script are those that the policy lets through.
    assert await browser.of("getComputedStyle(document.querySelector('td.f')).backgroundColor") == "rgb(194, 31, 48)"
    assert await browser.of("document.getElementById('heatmap').getAttribute('role')") == "grid"


@slow
async def test_a_script_that_gets_into_the_page_all_the_same_does_not_run(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(
        page.written(failing()).replace("<main", "<script>attacked = 1</script><img src=x onerror='attacked=1'><main")
    )
    await browser.open(file)
    assert await browser.of("typeof attacked") == "undefined"
    assert [one["entry"]["source"] for event, one in browser.heard if event == "Log.entryAdded"]


@slow
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_hostile_text_stays_text(browser: Browser, tmp_path: Path, attack: str) -> None:
    await shown(browser, hostile_report(attack), tmp_path)
    await browser.of("for (const one of document.querySelectorAll('#heatmap tbody td')) one.click()")
    assert unexpected(browser) == []
    assert await browser.of("typeof attacked") == "undefined"
    assert await browser.of("document.querySelectorAll('img, iframe, svg[onload], [onmouseover]').length") == 0


@slow
async def test_a_mark_is_chosen_with_the_keyboard_and_left_with_escape(browser: Browser, tmp_path: Path) -> None:
    await shown(browser, failing(), tmp_path)
    assert await browser.of("document.querySelectorAll('#heatmap [tabindex=\"0\"]').length") == 1
    await browser.of("document.querySelector('#heatmap [tabindex=\"0\"]').focus()")
    await browser.press("ArrowDown")
    await browser.press("Enter")
    told = await browser.of("document.getElementById('details').innerText")
    for text in ("PRIV-01 Not privileged: agents/bob", "Fail", "it is", "Do it.", "privileged: true", "C-0057"):
        assert text in told
    await browser.press("ArrowRight")
    assert "PRIV-02" in await browser.of("document.getElementById('details').innerText")
    await browser.press("Escape")
    assert await browser.of("document.getElementById('details').hidden")
    assert await browser.of("document.activeElement.cellIndex") == 2


@slow
async def test_rows_are_found_by_name_and_verdict(browser: Browser, tmp_path: Path) -> None:
    await shown(browser, failing(), tmp_path)
    rows = "[...document.querySelectorAll('#heatmap tbody tr:not([hidden]) th')].map(one => one.firstChild.data.trim())"
    choose = "judged.value = '{}'; judged.dispatchEvent(new Event('change'))"
    await browser.of(choose.format("NotCompliant"))
    assert await browser.of(rows) == ["agents/bob"]
    await browser.of(choose.format(""))
    await browser.of("named.value = ' AL'; named.dispatchEvent(new Event('input'))")
    assert await browser.of(rows) == ["agents/alice"]
    assert await browser.of("shown.textContent") == "1 of 4 shown"


@slow
async def test_200_sandboxes_open_in_a_second(browser: Browser, tmp_path: Path) -> None:
    """Of the page's own thread, whatever else the machine does: it waits for nothing else."""
    await shown(browser, failing(), tmp_path)
    await browser.call("Performance.enable", timeDomain="threadTicks")
    before = await worked(browser)
    await shown(browser, reported(*fleet(200)), tmp_path)
    assert await browser.of("document.querySelectorAll('#heatmap tbody td').length") > 11_000
    took = await worked(browser) - before
    assert 0 < took < 1.0, took


async def worked(browser: Browser) -> float:
    """Seconds of CPU that the page's thread has had."""
    told = await browser.call("Performance.getMetrics")
    return float(next(one["value"] for one in told["metrics"] if one["name"] == "TaskDuration"))


@slow
@pytest.mark.parametrize("width", [320, 390, 1440])
async def test_only_tables_scroll_sideways(browser: Browser, tmp_path: Path, width: int) -> None:
    await browser.size(width, 800)
    await shown(browser, failing(), tmp_path)
    assert await browser.of("document.documentElement.scrollWidth") <= width


@slow
async def test_it_can_be_printed(browser: Browser, tmp_path: Path) -> None:
    await shown(browser, failing(), tmp_path)
    told = await browser.call("Page.printToPDF", preferCSSPageSize=True)
    assert len(told["data"]) > 10_000
    await browser.call("Emulation.setEmulatedMedia", media="print")
    # A sheet of A4 is 297 mm wide, less two margins of 12 mm, at 96 pixels an inch.
    await browser.size(1031, 700)
    assert await browser.of("document.documentElement.scrollWidth") <= 1031
    assert await browser.of("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize(
    ("report", "width", "scheme"),
    [
        (failing(), 390, "dark"),
        (failing(), 1440, "light"),
        pytest.param(failing(), 390, "light", marks=slow),
        pytest.param(failing(), 1440, "dark", marks=slow),
        *(pytest.param(reported(), width, scheme, marks=slow) for width in (390, 1440) for scheme in ("light", "dark")),
    ],
)
async def test_it_keeps_nobody_out(browser: Browser, tmp_path: Path, report: Report, width: int, scheme: str) -> None:
    await browser.size(width, 900)
    await browser.scheme(scheme)
    await shown(browser, report, tmp_path)
    await browser.of("document.querySelector('#heatmap tbody td')?.click()")
    await browser.of(f"{npm_packages.member(AXE, AXE_SHA512, 'package/axe.min.js').decode()}; 1")
    found = await browser.of("axe.run().then(told => told.violations.map(one => [one.id, one.nodes[0].html]))")
    assert found == []
