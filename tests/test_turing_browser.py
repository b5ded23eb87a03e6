from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import listen_to, open_chromium
from simgan.data.trees import ImageTree
from simgan.evaluation.turing import Answer
from simgan.turing import begin_study, gather_results, read_results
from turing_studies import write_trees

TRIALS = 40
SERVE = """
import sys
from simgan.turing import continue_study, serve
serve(continue_study(sys.argv[1]), port=int(sys.argv[2]), ready=lambda address: print(address, flush=True))
"""


class Server:
    """The study's server as a process of its own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.address

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_chromium()


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageTree]:
    return write_trees(tmp_path_factory.mktemp("trees"), count=24, shape=(7, 11, 1))


def started(folder: Path, trees: dict[str, ImageTree]) -> Iterator[Server]:
    begin_study(folder, **trees, trials=TRIALS, examples=4).close()
    serving = Server(folder)
    serving.start()
    yield serving
    if serving.process.poll() is None:
        serving.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, browser: Any, trees: dict[str, ImageTree]
) -> Iterator[Server]:
    """For tests that leave it running; each has subjects of its own."""
    yield from started(tmp_path_factory.mktemp("shared") / "study", trees)


@pytest.fixture
def mortal(tmp_path: Path, browser: Any, trees: dict[str, ImageTree]) -> Iterator[Server]:
    """For the test that kills it."""
    yield from started(tmp_path / "study", trees)


def answers_of(server: Server, subject: str) -> list[Answer]:
    return [answer for answer in read_results(server.folder)[1] if answer.subject == subject]


def open_page(
    browser: Any, address: str, *, width: int = 1280, height: int = 800, touch: bool = False
) -> Any:
    viewport = {"width": width, "height": height}
    page = listen_to(browser.new_context(viewport=viewport, has_touch=touch, is_mobile=touch).new_page())
    page.goto(address)
    return page


def begin(page: Any, name: str, *, comparison: str = "refined") -> None:
    page.fill("#subject", name)
    page.check(f"input[value={comparison}]")
    page.click("button.main")
    page.wait_for_selector(".answer:enabled")


def wait_for(page: Any, count: str) -> None:
    page.wait_for_function("count => document.querySelector('#count').textContent === count", arg=count)
    page.wait_for_selector(".answer:enabled")  # the picture is there, and answers are taken


def looks_real(page: Any) -> bool:
    """What an eye does: real images of these trees are darker."""
    return bool(
        page.evaluate("""() => { const image = document.querySelector('#picture'), c = document.createElement('canvas');
      c.width = image.naturalWidth; c.height = image.naturalHeight; const pen = c.getContext('2d');
      pen.drawImage(image, 0, 0); const all = pen.getImageData(0, 0, c.width, c.height).data;
      return Math.max(...all.filter((v, i) => i % 4 === 0)) <= 100; }""")
    )


@pytest.mark.timeout(400)  # it starts three processes
def test_forty_trials_killed_and_continued_in_the_middle_lose_no_answer(mortal: Server, browser: Any) -> None:
    page = open_page(browser, mortal.address)
    begin(page, "anna")
    said = []
    for k in range(TRIALS):
        wait_for(page, f"{k + 1} of {TRIALS}")
        # Right but for every fifth, so that all four cells of the confusion matrix are filled.
        said.append("real" if looks_real(page) != (k % 5 == 0) else "refined")
        if k == 17:  # in the middle of an answer: the server dies, and is started again
            mortal.stop(signal.SIGKILL)
            page.keyboard.press("ArrowLeft" if said[-1] == "real" else "ArrowRight")
            page.locator("#trouble", has_text="does not answer").wait_for()
            mortal.start()
        elif k == 29:  # and once with the page gone as well
            page.keyboard.press("ArrowLeft" if said[-1] == "real" else "ArrowRight")
            wait_for(page, f"{k + 2} of {TRIALS}")
            mortal.stop(signal.SIGKILL)
            page.close()
            mortal.start()
            page = open_page(browser, mortal.address)
            begin(page, "anna")
        else:
            page.keyboard.press("ArrowLeft" if said[-1] == "real" else "ArrowRight")
    page.wait_for_selector("#done:visible")
    assert mortal.stop(signal.SIGINT) == 0
    record, answers = read_results(mortal.folder)
    assert [answer.said for answer in answers] == said
    assert [answer.trial for answer in answers] == list(range(TRIALS))
    people = gather_results(record, answers).outcomes[0].people
    assert people is not None
    assert people.telling.right == TRIALS - 8
    rows = [json.loads(line) for line in (mortal.folder / "answers.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows].count("answer") == TRIALS  # none was written twice
    assert not [answer for answer in answers if answer.response_sec is None]


def test_touch_undo_and_the_page_of_results_work_on_a_phone(server: Server, browser: Any) -> None:
    page = open_page(browser, server.address, width=360, height=640, touch=True)
    begin(page, "bo", comparison="synthetic")
    for k, name in enumerate(("real", "other", "real")):
        wait_for(page, f"{k + 1} of {TRIALS}")
        page.tap(f".answer.{name}")
    wait_for(page, f"4 of {TRIALS}")
    page.tap("#undo")
    wait_for(page, f"3 of {TRIALS}")
    page.tap("#undo")
    wait_for(page, f"2 of {TRIALS}")
    page.keyboard.press("ArrowRight")
    wait_for(page, f"3 of {TRIALS}")
    page.keyboard.press("u")
    wait_for(page, f"2 of {TRIALS}")
    assert [(one.comparison, one.said) for one in answers_of(server, "bo")] == [("synthetic", "real")]
    assert page.complaints == []
    page.goto(server.address + "results")
    assert "1 of 1 right" in page.inner_text("#synthetic") or "0 of 1 right" in page.inner_text("#synthetic")
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    page.context.close()
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith((server.address, "data:"))] == []


@pytest.mark.parametrize(("width", "height"), [(360, 640), (390, 844), (1280, 800), (1920, 1080)])
def test_image_buttons_and_all_examples_are_in_sight_at_once(
    server: Server, browser: Any, width: int, height: int
) -> None:
    page = open_page(browser, server.address, width=width, height=height, touch=width < 800)
    begin(page, "anna")
    boxes = page.evaluate("""() => [...document.querySelectorAll('#picture, .answer, .examples img, #undo')].map(e => {
      const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; })""")
    assert len(boxes) == 1 + 2 + 8 + 1
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    assert page.evaluate("[...document.images].every(i => i.naturalWidth === 11)")
    assert page.evaluate("getComputedStyle(document.querySelector('#picture')).imageRendering") == "pixelated"
    # A finger needs 44 px (WCAG 2.5.5).
    assert page.evaluate("document.querySelector('.answer').getBoundingClientRect().height") >= 44
    page.context.close()


def test_a_second_window_of_the_same_subject_gives_no_answer_twice(server: Server, browser: Any) -> None:
    first, second = open_page(browser, server.address), open_page(browser, server.address)
    for page in (first, second):
        begin(page, "carl")
    first.keyboard.press("ArrowLeft")
    wait_for(first, f"2 of {TRIALS}")
    second.keyboard.press("ArrowRight")  # to the first image, which was answered
    wait_for(second, f"2 of {TRIALS}")
    assert [answer.said for answer in answers_of(server, "carl")] == ["real"]


def test_a_page_from_elsewhere_can_neither_answer_nor_read(
    server: Server, browser: Any, tmp_path: Path
) -> None:
    own = open_page(browser, server.address)
    begin(own, "anna")
    elsewhere = browser.new_context().new_page()
    elsewhere.route(
        "http://evil.example/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html")
    )
    elsewhere.goto("http://evil.example/")
    before = (server.folder / "answers.jsonl").read_bytes()
    tried = elsewhere.evaluate(
        """async address => {
      const text = JSON.stringify({subject: 'eve', comparison: 'refined'});
      const asks = [
        fetch(address + 'start', {method: 'POST', body: text}),
        fetch(address + 'start', {method: 'POST', mode: 'no-cors', body: text}),
        fetch(address + 'start', {method: 'POST', headers: {'content-type': 'application/json'}, body: text}),
        fetch(address + 'results.csv'),
        new Promise((yes, no) => {
          const image = new Image(); image.onload = yes; image.onerror = no; image.src = address + 'turing.css'; }),
      ];
      return (await Promise.allSettled(asks)).map(a => a.status === 'fulfilled' && a.value.type !== 'opaque');
    }""",
        server.address,
    )
    assert tried == [False] * 5
    assert (server.folder / "answers.jsonl").read_bytes() == before
