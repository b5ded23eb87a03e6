"""Who may ask: pages of this server, on this machine, in this browser. Everything else is refused.

A page from elsewhere can make a browser send requests to 127.0.0.1, and can let its own name point there (DNS
rebinding). The first is told by Origin and Sec-Fetch-Site, the second by Host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOST = "127.0.0.1"

_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
     b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class LocalOnly:
    """An ASGI application around another: refuses what does not come from the server's own pages."""

    def __init__(self, app: App, *, port: int) -> None:
        self._app = app
        self._hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        reason = self._objection(scope)
        if reason is not None:
            await _refuse(send, reason)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in given)]
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _objection(self, scope: Scope) -> str | None:
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        (host, *more), writes = headers.get(b"host", [""]), scope["method"] not in ("GET", "HEAD")
        if more or host not in self._hosts:
            return "this server answers to its own address alone"
        origins = headers.get(b"origin", [])
        if [origin for origin in origins if origin != f"http://{host}"] or (writes and not origins):
            return "requests from other pages are refused"
        site = headers.get(b"sec-fetch-site", ["same-origin"])
        opened_by_hand = headers.get(b"sec-fetch-mode") == ["navigate"] and not writes
        if site not in (["same-origin"], ["none"]) and not opened_by_hand:
            return "requests from other pages are refused"
        return None


async def _refuse(send: Send, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
