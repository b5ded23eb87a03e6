from __future__ import annotations

from pathlib import Path

import pytest

from test_refinement import kill_and_continue, tree

__all__ = ["tree"]  # the fixture


@pytest.mark.soak
def test_a_refinement_killed_twenty_times_continues_to_the_same_bytes(
    tree: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = kill_and_continue(tree, tmp_path, kills=20, seed=7)  # type: ignore[arg-type]
    with capsys.disabled():
        print(line)
