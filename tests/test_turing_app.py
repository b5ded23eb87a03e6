from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import simgan.turing.answers as answers_module
from simgan.errors import ConfigurationError, MissingExtraError
from simgan.evaluation.turing import Confusion, summarize_answers
from simgan.turing import Study
from simgan.turing import app as app_module
from simgan.turing.app import make_app
from simgan.turing.serving import serve
from turing_studies import HERE, PORT, Browser, open_study, write_trees


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_trees(tmp_path_factory.mktemp("trees"), count=9)


@pytest.fixture
def study(tmp_path: Path, trees: Any) -> Iterator[Study]:
    opened = open_study(tmp_path, trees)
    yield opened
    opened.close()


@pytest.fixture
def browser(study: Study) -> Browser:
    return Browser(study)


def written(study: Study) -> int:
    return (study.folder / "answers.jsonl").read_bytes().count(b"\n")


def test_a_subject_goes_through_all_trials_and_the_results_are_theirs(study: Study, browser: Browser) -> None:
    session = browser.start()
    sides = [shown.side for _, shown in study.find(session).trials]
    for k in range(6):
        said = "real" if k == 0 else sides[k]
        reply = browser.answer(session, said)
        assert reply.status == 200
        assert reply.json()["done"] == k + 1
    assert reply.json()["trial"] is None
    result = summarize_answers(study.answers, "refined")
    assert result is not None
    assert result.telling.right == 5 + (sides[0] == "real")
    assert result.confusion.n == 6
    assert browser.answer(session, "real", picture="0" * 32).status == 404


def test_an_answer_can_be_taken_back_once_and_given_anew(study: Study, browser: Browser) -> None:
    session = browser.start()
    first = browser.state(session)["trial"]
    browser.answer(session, "real")
    undo = {"session": session, "picture": first}
    assert browser.post("/undo", undo).json()["trial"] == first
    assert browser.post("/undo", undo).status == 409
    assert browser.answer(session, "refined").status == 200
    assert [answer.said for answer in study.answers] == ["refined"]


def test_several_subjects_each_have_their_own_place_and_images(study: Study, browser: Browser) -> None:
    anna, bo = browser.start("anna"), browser.start("bo")
    browser.answer(anna, "real")
    assert (browser.state(anna)["done"], browser.state(bo)["done"]) == (1, 0)
    assert browser.start("anna") == anna
    assert browser.start(" anna ") == anna
    assert browser.start("anna", "synthetic") not in (anna, bo)
    assert written(study) == 4  # three starts and an answer


def test_a_repeated_post_is_refused_and_changes_nothing(study: Study, browser: Browser) -> None:
    session = browser.start()
    first = browser.state(session)["trial"]
    assert browser.answer(session, "real", picture=first).status == 200
    before = written(study)
    for said in ("real", "refined"):
        assert browser.answer(session, said, picture=first).status == 409
    assert written(study) == before
    assert browser.state(session)["done"] == 1


def test_an_answer_ahead_of_its_turn_is_refused(browser: Browser) -> None:
    session = browser.start()
    assert browser.answer(session, "real", picture=browser.state(session)["next"]).status == 409


def test_nothing_that_the_page_is_sent_tells_what_an_image_is(study: Study, browser: Browser) -> None:
    session = browser.start()
    state = browser.state(session)
    assert set(state) == {"done", "total", "trial", "next", "last"}
    page = browser.get(f"/test/{session}").body.decode()
    names = {name for pool in study.record["pools"].values() for name in pool["names"]}
    assert not [name for name in names if name in page]
    for name, _ in study.find(session).trials:
        assert name not in page
        reply = browser.get(f"/picture/{name}.png")
        assert reply.status == 200
        assert re.search(rb"tEXt|iTXt|eXIf", reply.body) is None


def test_labelled_examples_of_both_sides_are_on_the_page(study: Study, browser: Browser) -> None:
    page = browser.get(f"/test/{browser.start()}").body.decode()
    for name, shown in study.sessions.examples["refined"]:
        assert f'<img src="/picture/{name}.png" alt="example: {shown.side}"' in page
    assert page.count("example: real") == page.count("example: refined") == 2


FORGED = "f" * 32


@pytest.mark.parametrize(
    "path", [f"/test/{FORGED}", f"/state/{FORGED}", f"/picture/{FORGED}.png", "/nowhere"]
)
def test_forged_ids_are_not_found(browser: Browser, path: str) -> None:
    browser.start()
    assert browser.get(path).status == 404


def test_pictures_of_a_session_that_nobody_began_are_not_found(study: Study, browser: Browser) -> None:
    anna = study.find(browser.start())
    stranger = study.sessions._digest("trial", study.sessions._digest("session", "refined", "bo"), 0)
    assert browser.get(f"/picture/{anna.trials[0][0]}.png").status == 200
    assert browser.get(f"/picture/{stranger}.png").status == 404


@pytest.mark.parametrize(
    "path",
    ["/../study.json", "/picture/../study.json", "/picture/..%2fstudy.json", "/picture/../../etc/passwd.png",
     "/picture//etc/passwd.png", "/turing.css/../turing.js", "/test/../../answers.jsonl", "/picture/\0.png"],
)  # fmt: skip
def test_climbing_paths_lead_nowhere(browser: Browser, path: str) -> None:
    reply = browser.get(path)
    assert reply.status == 404
    assert b"secret" not in reply.body


ELSEWHERE: list[dict[str, str | None]] = [
    {"host": "evil.example"},
    {"host": f"evil.example:{PORT}"},
    {"host": f"192.168.1.5:{PORT}"},
    {"host": "127.0.0.1"},
    {"host": None},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": f"http://localhost:{PORT}"},  # another origin than the page's, though on this machine
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", [*ELSEWHERE, {"origin": None}], ids=str)
def test_posts_from_elsewhere_are_refused(
    study: Study, browser: Browser, headers: dict[str, str | None]
) -> None:
    before = written(study)
    reply = browser.post("/start", {"subject": "eve", "comparison": "refined"}, headers)
    assert reply.status == 403
    assert written(study) == before


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_pages_and_pictures_are_kept_from_elsewhere(browser: Browser, headers: dict[str, str | None]) -> None:
    assert browser.get("/results.csv", headers).status == 403


def test_a_link_or_an_address_typed_by_hand_opens_the_page(browser: Browser) -> None:
    assert browser.get("/", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}).status == 200
    assert browser.get("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status == 200
    assert browser.get("/", {"host": f"localhost:{PORT}"}).status == 200
    posted = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert browser.post("/start", {}, posted).status == 403


def test_two_hosts_in_one_request_are_refused(study: Study) -> None:
    browser = Browser(study)
    assert browser.get("/", {"host": HERE.removeprefix("http://"), "Host": "evil.example"}).status == 403


def test_every_reply_forbids_what_the_pages_do_not_need(browser: Browser) -> None:
    for reply in (browser.get("/"), browser.get("/nowhere"), browser.get("/", {"host": "evil.example"})):
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 3000, 400),
        (b"[]", 422),
        ({"subject": "eve"}, 422),
        ({"subject": "eve", "comparison": "refined", "side": "real"}, 422),
        ({"subject": "eve", "comparison": "cartoon"}, 422),
        ({"subject": "eve", "comparison": ["refined"]}, 422),
        ({"subject": "", "comparison": "refined"}, 422),
        ({"subject": "=1+1", "comparison": "refined"}, 422),
        ({"subject": "a\nb", "comparison": "refined"}, 422),
        ({"subject": "\ud800", "comparison": "refined"}, 422),
        ({"subject": "a" * 41, "comparison": "refined"}, 422),
        ({"subject": 7, "comparison": "refined"}, 422),
        (b'{"subject": "' + b"a" * 5000 + b'"}', 413),
    ],
)
def test_a_start_that_is_none_is_refused(study: Study, browser: Browser, body: Any, status: int) -> None:
    reply = browser.post("/start", body)
    assert reply.status == status
    assert reply.json()["refused"]
    assert written(study) == 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"said": "synthetic"}, 422),
        ({"said": ["real"]}, 422),
        ({"response_sec": -1}, 422),
        ({"response_sec": True}, 422),
        ({"response_sec": "fast"}, 422),
        ({"response_sec": float("nan")}, 422),
        ({"response_sec": 1e9}, 422),
        ({"picture": ["a"]}, 404),
        ({"picture": None}, 404),
        ({"session": FORGED}, 404),
        ({"session": 5}, 404),
    ],
)
def test_an_answer_that_is_none_is_refused(
    study: Study, browser: Browser, change: dict[str, Any], status: int
) -> None:
    session = browser.start()
    fields = {
        "session": session,
        "picture": browser.state(session)["trial"],
        "said": "real",
        "response_sec": 1,
    }
    assert browser.post("/answer", fields | change).status == status
    assert written(study) == 1


def test_an_interrupted_answer_has_no_response_time(study: Study, browser: Browser) -> None:
    browser.answer(browser.start(), "real", sec=None)
    assert [answer.response_sec for answer in study.answers] == [None]


def test_other_kinds_of_bodies_and_methods_are_refused(browser: Browser) -> None:
    fields = {"subject": "eve", "comparison": "refined"}
    assert browser.post("/start", fields, {"content-type": "text/plain"}).status == 415
    assert browser.get("/start").status == 405
    assert browser.ask("DELETE", "/", headers={"origin": HERE}).status == 405


def test_a_disk_that_is_full_is_said_and_the_answer_is_not_taken(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = browser.start()
    with monkeypatch.context() as full:
        full.setattr(
            answers_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        reply = browser.answer(session, "real")
    assert reply.status == 507
    assert "No space left" in reply.json()["refused"]
    assert browser.state(session)["done"] == 0
    assert browser.answer(session, "real").status == 200


def test_the_page_of_results_shows_both_comparisons_and_escapes_names(study: Study, browser: Browser) -> None:
    browser.answer(browser.start("O'Brien"), "real")
    page = browser.get("/results").body.decode()
    assert "Real against refined" in page
    assert "Real against synthetic" in page
    assert "O&#39;Brien" in page
    assert "automatic two-sample test" in page
    right = study.answers[0].right
    assert f"{int(right)} of 1 right" in page
    assert Confusion.of(study.answers).n == 1


def test_the_csv_is_a_file_to_keep(browser: Browser) -> None:
    browser.answer(browser.start(), "real")
    reply = browser.get("/results.csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    assert reply.body.decode().splitlines()[1].startswith("refined,anna,1,")


def test_the_first_page_lists_who_began(browser: Browser) -> None:
    browser.answer(browser.start("anna"), "real")
    page = browser.get("/").body.decode()
    assert "anna" in page
    assert "1 of 6" in page


def test_a_port_in_use_or_impossible_is_said(study: Study) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {taken} cannot be had .*--port"):
            serve(study, port=taken, ready=print)
    with pytest.raises(ConfigurationError, match="got 70000"):
        serve(study, port=70000, ready=print)


def test_the_server_listens_on_loopback_alone_and_ends_with_ctrl_c(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    seen = []

    def interrupted(self: Any, sockets: Any) -> None:
        seen.extend(one.getsockname()[0] for one in sockets)
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", interrupted)
    addresses: list[str] = []
    serve(study, port=0, ready=addresses.append)
    assert seen == ["127.0.0.1"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", addresses[0])


def test_without_starlette_the_extra_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str) -> Any:
        raise MissingExtraError(f"{module}: pip install 'simgan[{extra}]'")

    monkeypatch.setattr(app_module, "require_extra", missing)
    with pytest.raises(MissingExtraError, match=r"starlette: .*simgan\[turing\]"):
        make_app(study, port=PORT)


def test_what_is_no_http_is_not_answered(study: Study) -> None:
    import asyncio

    async def never(*_: Any) -> Any:
        raise AssertionError("it was answered")

    asyncio.run(make_app(study, port=PORT)({"type": "websocket"}, never, never))
