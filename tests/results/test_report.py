"""results/report.html: what the committed runs give, and how it behaves in a real browser."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import dfa_bench
from dfa_bench.experiments.request import EVERYTHING, build_request
from dfa_bench.reporting.existing import existing
from dfa_bench.reporting.page.build import build_page
from dfa_bench.reporting.page.page import Page
from dfa_bench.reporting.page.render import render
from tests.browser import CHROMIUM, Browser, browser

ROOT = Path(dfa_bench.__file__).parents[1]
SCREENSHOTS = ROOT / "build" / "screenshots"  # kept for people; git ignores it
WEBP = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/=]*")

in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    nothing = tmp_path_factory.mktemp("store")
    request = build_request(EVERYTHING, [f"store.root={nothing}"], results=ROOT / "results")
    return build_page(existing(request), request)


@pytest.fixture(scope="module")
def text(page: Page) -> str:
    return render(page)


@pytest.fixture(scope="module")
def file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def test_the_committed_report_is_what_the_committed_runs_give(text):
    committed = ROOT / "results" / "report.html"
    assert committed.exists(), "`make results` writes it"
    # The checksum of a figure's file stands beside the figure: another Pillow may pack the same pixels otherwise.
    assert WEBP.sub("", committed.read_text()) == WEBP.sub("", text), "`make results` renews it"


def test_the_same_records_give_the_same_bytes(page, text):
    assert render(page) == text


def test_it_is_small_enough_to_send(text):
    assert len(text.encode()) < 4 * 2**20


def test_every_cell_with_runs_has_its_command_and_its_runs(page, text):
    cells = [each for section in (*page.tables, *page.studies) for each in section.details.values()]
    assert len(cells) > 200
    for each in cells:
        assert f'id="{each.anchor}"' in text
        assert each.command.startswith("dfa-bench run ")
        assert all(run.identity in text for run in each.runs)


def test_a_stand_in_is_in_no_table_of_the_paper_and_says_so_in_a_study(page):
    for section in (*page.tables, *page.studies):
        for cell, runs in section.table.runs.items():
            assert not any(run.scale == "smoke" for run in runs)
            if {run.data_kind for run in runs} != {"real"}:
                assert section in page.studies
                assert "(stand-in)" in cell.row
                assert not section.table.experiment.paper


@in_chromium
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True])
def test_it_complains_of_nothing_asks_for_nothing_and_fits(chromium: Browser, file, width, dark):
    chromium.open(file, width, 900, dark)
    chromium.screenshot(SCREENSHOTS / f"report-{width}{'-dark' if dark else ''}.png", height=4000)
    assert chromium.complaints() == []
    assert chromium.requests() == [file.as_uri()]
    assert chromium.value("document.documentElement.scrollWidth") == width, "the page itself scrolls sideways"


@in_chromium
def test_a_complaint_and_a_request_would_be_seen(chromium: Browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='other.png'><script>console.error('x'); throw Error('y')</script>")
    chromium.open(bad, 800, 600)
    assert len(chromium.complaints()) >= 2
    assert any(url.endswith("other.png") for url in chromium.requests())


@in_chromium
def test_every_link_leads_to_one_place_of_the_page(chromium: Browser, file):
    chromium.open(file, 1280, 900)
    links = chromium.value("[...document.links].map(link => link.getAttribute('href'))")
    assert len(links) > 50
    assert [link for link in links if not link.startswith("#")] == []
    ids = Counter(chromium.value("[...document.querySelectorAll('[id]')].map(each => each.id)"))
    assert [name for name, count in ids.items() if count > 1] == []
    assert {link[1:] for link in links} - set(ids) == set()


@in_chromium
def test_a_number_leads_to_its_runs(chromium: Browser, file):
    chromium.open(file, 1280, 900)
    target = chromium.value("document.querySelector('td.cell a').getAttribute('href')")
    chromium.value("document.querySelector('td.cell a').click()")
    chromium.value("new Promise(done => setTimeout(done, 0))")
    seen = f"document.querySelector({json.dumps(target)})"
    assert chromium.value(f"{seen}.open && {seen}.checkVisibility()")
    assert "dfa-bench run" in chromium.value(f"{seen}.innerText")


@in_chromium
def test_tables_and_headings_are_what_a_screen_reader_needs(chromium: Browser, file):
    chromium.open(file, 1280, 900)
    without = chromium.value(
        "[...document.querySelectorAll('table')].filter(t => !t.caption || !t.caption.textContent).length"
    )
    assert without == 0
    assert chromium.value("document.querySelectorAll('th:not([scope])').length") == 0
    assert chromium.value("document.querySelectorAll('img:not([alt]), img[alt=\"\"]').length") == 0
    assert chromium.value("document.documentElement.lang") == "en"
    levels = chromium.value("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - higher <= 1 for higher, deeper in pairwise(levels))
    scrolling = "[...document.querySelectorAll('.scroll, .wide')].filter(e => e.tabIndex !== 0 || !e.ariaLabel).length"
    assert chromium.value(scrolling) == 0


@in_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_their_ground(chromium: Browser, file, dark):
    chromium.open(file, 1280, 900, dark)
    low = chromium.value(
        """(() => {
          const parts = colour => colour.match(/[\\d.]+/g).map(Number);
          const linear = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
          const light = c => { const [r, g, b] = c.map(linear); return .2126 * r + .7152 * g + .0722 * b; };
          const ground = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
                                if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
          const low = new Set();
          for (const e of document.querySelectorAll('p, td, th, a, summary, code, dt, dd, li, figcaption, span')) {
            const a = light(parts(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e));
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < 4.5) low.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
          }
          return [...low];
        })()"""
    )
    assert low == []


@in_chromium
def test_it_prints(chromium: Browser, file):
    chromium.open(file, 1280, 900)
    pdf = chromium.pdf()
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") > 3
