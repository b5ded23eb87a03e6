"""serve(): the study's page on this machine's own address, until Ctrl+C."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from simgan.errors import ConfigurationError, require_extra
from simgan.turing.app import make_app
from simgan.turing.guard import HOST
from simgan.turing.study import Study


def serve(study: Study, *, port: int, ready: Callable[[str], None]) -> None:
    """Serves `study` at 127.0.0.1 and that port (0: any free one) until the process is interrupted.

    `ready` is called once with the address to open. `ConfigurationError` where the port cannot be had,
    `MissingExtraError` without uvicorn or what the pages need.
    """
    require_extra("uvicorn", extra="turing")
    import uvicorn

    with _listen(port) as listening:
        found = listening.getsockname()[1]
        config = uvicorn.Config(
            make_app(study, port=found),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=60,
        )
        ready(f"http://{HOST}:{found}/")
        with contextlib.suppress(KeyboardInterrupt):  # its ordinary end
            uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    """A socket bound to the loopback address; never to another."""
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"port: 0 to 65535 is wanted, 0 for any free one; got {port}")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"port {port} cannot be had ({error.strerror}): another program uses it; choose another with --port, or 0 "
            "for any free one"
        ) from error
    return listening
