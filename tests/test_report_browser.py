from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from browsing import listen_to, open_chromium
from report_runs import evaluation, make_run
from simgan.reporting import report


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    return report(make_run(folder, synthetic=16), evaluation()).as_uri()


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
    for more in opened.locator("button.more:visible").all():
        more.click()
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


def cut(page: Any) -> float:
    """How much of the large pair shows the synthetic image, in percent of its width."""
    style = page.evaluate("getComputedStyle(document.querySelector('.slide .before')).clipPath")
    right = re.search(r"calc\(100% - ([\d.]+)%\)|inset\(0px ([\d.]+)%", style)
    assert right is not None, style
    return float(right[1]) if right[1] else 100 - float(right[2])


def test_the_slider_uncovers_the_refined_image_by_mouse_and_by_key(opened: Any) -> None:
    assert cut(opened) == 50
    opened.locator(".slide").scroll_into_view_if_needed()
    box = opened.locator(".slide").bounding_box()
    opened.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    assert cut(opened) == pytest.approx(20, abs=2)
    opened.locator(".slide input").press("End")
    assert cut(opened) == 100
    both = opened.evaluate("""() => ['.before', '.after'].map(one => {
      const r = document.querySelector('.slide ' + one).getBoundingClientRect();
      return [r.x, r.y, r.width, r.height]; })""")
    assert both[0] == pytest.approx(both[1])


def test_the_large_pair_goes_through_the_examples(opened: Any) -> None:
    def shown() -> Any:
        return opened.evaluate("""() => [...document.querySelectorAll('#viewer img')].map(i => i.src)
          .concat(document.querySelector('#viewer .name').textContent)""")

    def example(number: int) -> Any:
        return opened.evaluate(
            """k => { const e = document.querySelectorAll('.example')[k];
          const i = [...e.querySelectorAll('img')].map(i => i.src);
          return [i[1], i[0], i[2], i[3], e.querySelector('small').textContent]; }""",
            number,
        )

    assert shown() == example(0)
    opened.click("#viewer .next")
    assert shown() == example(1)
    opened.click("#viewer .previous")
    opened.click("#viewer .previous")
    assert shown() == example(opened.locator(".example").count() - 1)
    opened.locator(".example").nth(3).click()
    assert shown() == example(3)
    assert opened.complaints == []


def test_a_long_list_begins_short_on_a_phone_and_opens_whole(opened: Any) -> None:
    count = opened.locator(".example").count()
    seen = opened.locator(".example:visible").count()
    more = opened.locator("button.more")
    if count > 10 and opened.viewport_size["width"] < 720:
        assert seen == 8
        more.click()
        assert opened.locator(".example:visible").count() == count
    else:
        assert seen == count
        assert not more.is_visible()
