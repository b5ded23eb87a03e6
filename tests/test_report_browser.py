from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browsing import listen_to, open_chromium
from report_runs import evaluation, make_run
from simgan.reporting import report


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    return report(make_run(folder), evaluation()).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_chromium()


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1280, "light")], ids=str)
def opened(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report's page at a width and in a colour scheme, with all that it asked for and complained of."""
    width, scheme = request.param
    page = listen_to(browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme))
    page.goto(address)
    yield page
    page.close()


def test_the_page_loads_nothing_and_complains_of_nothing(opened: Any, address: str) -> None:
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [address]


def test_the_page_fits_its_width(opened: Any) -> None:
    wide, seen = opened.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= seen


def test_all_images_are_decoded_and_seen(opened: Any) -> None:
    broken = opened.evaluate(
        "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.clientWidth).map(i => i.alt)"
    )
    assert broken == []
    assert opened.evaluate("document.images.length") > 20


def test_small_images_keep_their_pixels(opened: Any) -> None:
    assert (
        opened.evaluate("getComputedStyle(document.querySelector('.example img')).imageRendering")
        == "pixelated"
    )


def test_text_stands_out_from_what_is_behind_it(opened: Any) -> None:
    """WCAG AA: 4.5 to 1 for every text, against the nearest background that is painted."""
    faint = opened.evaluate("""() => {
      const parse = c => c.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = e => { for (; e; e = e.parentElement) {
        const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
        return [255, 255, 255]; };
      const found = [];
      for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        if (!own || e.closest('title')) continue;
        const style = getComputedStyle(e);
        const ink = light(parse(e.closest('svg') ? style.fill : style.color)), paper = light(behind(e));
        const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        if (ratio < 4.5) found.push(`${e.tagName} ${e.textContent.slice(0, 40)} ${ratio.toFixed(2)}`);
      }
      return found;
    }""")
    assert faint == []


def test_texts_of_charts_do_not_leave_the_page(opened: Any) -> None:
    outside = opened.evaluate("""() => [...document.querySelectorAll('.plot text')].filter(t => {
      const r = t.getBoundingClientRect(), c = t.closest('.chart').getBoundingClientRect();
      return r.left < c.left || r.right > c.right || r.top < c.top || r.bottom > c.bottom;
    }).map(t => t.textContent)""")
    assert outside == []
