"""The dashboard and the report in a real browser: Debian's Chromium, headless.

apt-get install chromium fonts-dejavu-core
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from autotuner.cli.report import write_page
from autotuner.stages.perform import perform
from autotuner.stages.search import Search
from autotuner.study.record import Role, Task
from autotuner.testing.simulated import SimulatedRunner
from autotuner.trial.outcome import Status
from autotuner.verdict.result import load_result
from tests.fakes import LOG, Bench, crash_with_many, finished, run_first_trials
from tests.integration.served import Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "correct horse"
PLOTS = ("final", "ratios", "effects", "drift")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
    # one process runs them all, so that there is one study, one dashboard and one browser
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a finished study with its report."""
    bench = finished(tmp_path_factory.mktemp("browser"))
    result = load_result(bench.study)
    assert result is not None
    write_page(result, bench.folder / ".autotune/studies/s")
    return bench


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        # root, as in CI's containers, has no sandbox
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(bench: Bench) -> Iterator[str]:
    """Serve the study read-only, behind a token; return the address."""
    server = Served(bench.folder, "--read-only", "--token", TOKEN)
    yield server.url
    assert server.close() == 0


@pytest.fixture(scope="module")
def inside(browser: Browser, served: str) -> Iterator[BrowserContext]:
    """Log in by the login page."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{served}/dashboard/studies/1/note")
    expect(page.get_by_label("Token")).to_be_visible()
    page.get_by_label("Token").fill("wrong token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("not the token")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/dashboard/studies/1/note")
    yield context
    context.close()


def opened(context: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """Open a page; return it, and the errors of its console and scripts."""
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    return page, complaints


def test_the_studys_note(inside: BrowserContext, served: str) -> None:
    """Verdict, configuration and columns are read as Markdown."""
    page, complaints = opened(inside, f"{served}/dashboard/studies/1/note")
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    expect(page.locator("strong", has_text="FASTER: 1.")).to_be_visible()
    expect(page.locator("code", has_text="TF_NUM_INTRAOP_THREADS").first).to_be_visible()
    expect(page.get_by_role("cell", name="step_ms_p50, _p95, _p99")).to_be_visible()
    assert complaints == []


def test_every_plot_is_drawn(inside: BrowserContext, served: str) -> None:
    """Each of our plots has points on the page."""
    page, complaints = opened(inside, f"{served}/dashboard/studies/1")
    for title in (
        "Search: speed over the default's, by trial",
        "Final: the best against the defaults",
        "Effects of single settings (indicative)",
        "Drift: the defaults themselves",
    ):
        plot = page.locator(".js-plotly-plot", has_text=title)
        expect(plot).to_be_visible()
        assert plot.locator("path.point").count() > 1, title
    expect(page.get_by_text("best.env")).to_have_count(0)  # exported only by a run's end
    assert complaints == []


def test_the_table_sorts_by_an_attribute(inside: BrowserContext, served: str) -> None:
    """The gain of trials is a column of numbers by which the page sorts."""
    page, _ = opened(inside, f"{served}/dashboard/studies/1/smartSelection")
    head = page.locator("th", has_text=re.compile("^UserAttribute gain$|^gain$")).first
    if head.count() == 0:
        head = page.locator("th", has_text="gain").first
    head.scroll_into_view_if_needed()
    column = head.evaluate("cell => cell.cellIndex")
    head.get_by_role("button").first.click()
    shown = page.locator("tbody tr").all()
    cells = [row.locator("td").nth(column).inner_text() for row in shown]
    values = [float(text) for text in cells if text]
    assert len(values) > 5
    assert values in (sorted(values), sorted(values, reverse=True))


def test_a_trials_note_and_log(inside: BrowserContext, served: str, bench: Bench) -> None:
    """A crashed trial shows its reason, and its log as text."""
    trials = bench.study.get_trials()
    number = next(t.number for t in trials if t.user_attrs.get("status") == Status.CRASHED)
    page, _ = opened(inside, f"{served}/dashboard/studies/1/trials?numbers={number}")
    expect(page.locator("code", has_text="ValueError: boom | pipe").first).to_be_visible()
    expect(page.get_by_text("output.log")).to_be_visible()
    link = page.locator("a[href^='/artifacts/1/']").first.get_attribute("href")
    answer = page.request.get(f"{served}{link}")
    assert answer.text() == LOG
    assert answer.headers["content-type"].startswith("text/plain")


def test_read_only_refuses_what_the_page_tries(inside: BrowserContext, served: str) -> None:
    """The pencil is there, what it saves is refused, and the note stays."""
    page, _ = opened(inside, f"{served}/dashboard/studies/1/note")
    before = page.request.get(f"{served}/api/studies/1").json()["note"]
    saved = page.evaluate(
        """async () => (await fetch('/api/studies/1/note', {method: 'PUT', headers:
        {'Content-Type': 'application/json'}, body: '{"body": "mine", "version": 99}'})).status"""
    )
    assert saved == 403
    assert page.request.get(f"{served}/api/studies/1").json()["note"] == before


def test_a_foreign_name_is_refused(browser: Browser, served: str) -> None:
    """A page that reaches the dashboard by a foreign name gets nothing, logged in or not."""
    context = browser.new_context()
    headers = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
    assert context.request.get(f"{served}/api/studies", headers=headers).status == 403
    own = {"Authorization": f"Bearer {TOKEN}"}
    assert context.request.get(f"{served}/api/studies", headers=own).status == 200
    assert context.request.get(f"{served}/api/studies").status == 401
    context.close()


def test_while_a_run_is_writing(bench: Bench, browser: Browser, tmp_path: Path) -> None:
    """The page shows trials that end while it is open; neither waits for the other."""
    writing = Bench(tmp_path)
    writing.on_disk = writing.with_pages = True
    session = writing.session(SimulatedRunner(crash_with_many), trials=8)
    run_first_trials(session)
    again = Task(role=Role.SEARCH, configuration={"onednn": "0"})
    server = Served(tmp_path)
    context = browser.new_context()
    try:
        for _ in range(3):
            perform(session, again, Search().wants)
            count = len(session.trials.records())
            deadline = time.monotonic() + 60  # it keeps what it has read for some seconds
            while len(_trials(context, server.url)) < count:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        context.close()
        server.close()


def _trials(context: BrowserContext, url: str) -> list[Any]:
    found: list[Any] = context.request.get(f"{url}/api/studies/1").json()["trials"]
    return found


@pytest.fixture
def report(bench: Bench) -> str:
    """Return the report's address."""
    return (bench.folder / ".autotune/studies/s/report.html").as_uri()


def test_the_report(browser: Browser, report: str) -> None:
    """No complaints, no network, all pictures drawn, each with a text alternative."""
    context = browser.new_context()
    requested: list[str] = []
    context.on("request", lambda request: requested.append(request.url))
    page, complaints = opened(context, report)
    expect(page.get_by_role("heading", level=1)).to_contain_text("FASTER: 1.")
    for name in PLOTS:
        picture = page.locator(f"#picture-{name}")
        assert picture.locator("path.point").count() > 1, name
        assert len(picture.get_attribute("aria-label") or "") > 40
    assert complaints == []
    assert all(url == report or url.startswith(("data:", "blob:")) for url in requested)
    context.close()


def test_the_reports_button_copies(browser: Browser, report: str) -> None:
    """What is on the clipboard can be pasted into a shell."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page, _ = opened(context, report)
    page.locator("#configuration .copy").click()
    expect(page.locator("#configuration .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    lines = copied.splitlines()
    assert any(line.startswith("export TF_NUM_INTRAOP_THREADS=") for line in lines)
    assert all(line.startswith("export ") for line in lines)
    context.close()


def column(page: Page, table: str, number: int) -> list[str]:
    """Return a column's cells, as they stand."""
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_inner_texts()


def test_the_reports_table_sorts(browser: Browser, report: str) -> None:
    """By numbers as numbers, up and down, with what has none at the end."""
    context = browser.new_context()
    page, _ = opened(context, report)
    button = page.locator("#trials th button", has_text="gain")
    button.click()
    gains = column(page, "#trials", 4)
    values = [float(text.rstrip("x")) for text in gains if text]
    assert values == sorted(values)
    assert gains[-1] == ""
    button.click()
    again = [float(text.rstrip("x")) for text in column(page, "#trials", 4) if text]
    assert again == sorted(values, reverse=True)
    assert page.locator("#trials th[aria-sort=descending]").count() == 1
    context.close()


@pytest.mark.parametrize("width", [320, 390, 768])
def test_the_report_on_a_phone(browser: Browser, report: str, width: int) -> None:
    """The page does not scroll sideways; wide tables do, in their own frame."""
    viewport: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, is_mobile=True, has_touch=True)
    page, _ = opened(context, report)
    page.locator("#picture-final path.point").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_report_in_the_dark(browser: Browser, report: str) -> None:
    """Paper and ink change places, in the pictures too."""
    seen = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page, _ = opened(context, report)
        page.locator("#picture-final path.point").first.wait_for()
        seen[scheme] = page.evaluate(
            """[getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.querySelector('#picture-final .xtick text')).fill]"""
        )
        context.close()
    assert seen["light"] != seen["dark"]
    assert seen["light"][1] != seen["dark"][1]
