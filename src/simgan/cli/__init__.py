"""The command line: parses, calls, prints. It decides nothing.

Results go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 failed (one sentence says why; the
traceback only with --debug), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from simgan.errors import SimganError, require_extra

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """The command `simgan`: runs the arguments of this process and exits with the code of `run`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line, such as ["train", "my.toml", "--run", "runs/x"]; returns the exit code."""
    debug = False
    try:
        require_extra("cyclopts", extra="cli")
        require_extra("rich", extra="cli")
        from simgan.cli.verbs import WrongUsageError, parse

        try:
            command, switches = parse(arguments)
        except WrongUsageError as error:
            print(f"simgan: {error}", file=sys.stderr)
            return WRONG_USAGE
        debug = switches.debug
        command()
        sys.stdout.flush()
    except SimganError as error:
        return _fail(error, debug=debug)
    except KeyboardInterrupt:
        print("simgan: interrupted; the same command again continues where it can", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has had enough: `simgan recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        hint = "" if debug else "; --debug prints where"
        message = f"this is a fault of simgan, {type(error).__name__}: {error}{hint}; please report it"
        return _fail(error, debug=debug, message=message)
    return DONE


def _fail(error: Exception, *, debug: bool, message: str | None = None) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"simgan: {message or error}", file=sys.stderr)
    return FAILED
