"""Small studies, and requests to their application without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan.data.trees import ImageTree
from simgan.turing import Study, begin_study
from simgan.turing.app import make_app
from tiny_runs import write_side

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"


def write_trees(folder: Path, *, count: int = 30, **kind: Any) -> dict[str, ImageTree]:
    """Trees of 8×8 noise; real images are darker than the others, so that tests can tell them by their pixels."""
    levels = {"real": (0, 100), "refined": (101, 255), "synthetic": (101, 255)}
    return {
        side: ImageTree(write_side(folder / side, count, seed=seed, low=low, high=high, **kind))
        for seed, (side, (low, high)) in enumerate(levels.items())
    }


def open_study(folder: Path, trees: Mapping[str, ImageTree], **changes: Any) -> Study:
    """A study of 6 trials and 2 examples a side."""
    return begin_study(folder / "study", **trees, **({"trials": 6, "examples": 2} | changes))


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Sends requests to a study's application as a page of it would, but for what a test changes."""

    def __init__(self, study: Study) -> None:
        self.app = make_app(study, port=PORT)

    def get(self, path: str, headers: Mapping[str, str | None] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, fields: Any, headers: Mapping[str, str | None] | None = None) -> Reply:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        own = {"content-type": "application/json", "origin": HERE}
        return self.ask("POST", path, headers=own | dict(headers or {}), body=body)

    def ask(
        self, method: str, path: str, *, headers: Mapping[str, str | None] | None = None, body: bytes = b""
    ) -> Reply:
        """One request; a header of None is left out."""
        given = {"host": HERE.removeprefix("http://")} | dict(headers or {})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items() if v is not None],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", PORT),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        head = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Reply(sent[0]["status"], head, b"".join(m.get("body", b"") for m in sent[1:]))

    def start(self, subject: str = "anna", comparison: str = "refined") -> str:
        """The id of the subject's session."""
        return str(self.post("/start", {"subject": subject, "comparison": comparison}).json()["session"])

    def state(self, session: str) -> Any:
        return self.get(f"/state/{session}").json()

    def answer(self, session: str, said: str, *, picture: str | None = None, sec: Any = 1.5) -> Reply:
        """An answer to the picture that is due, or to `picture`."""
        due = picture or self.state(session)["trial"]
        return self.post("/answer", {"session": session, "picture": due, "said": said, "response_sec": sec})
