from __future__ import annotations

import subprocess
import sys

import pytest

from simgan.nn.allocation import keep_freed_memory

FAULTS = """
import resource, torch
from simgan.nn.allocation import keep_freed_memory
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        maps = [torch.zeros(2**24) for _ in range(2)]
        del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults_of(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library here is not glibc")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    assert faults_of("keep_freed_memory()") * 10 < faults_of("")


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simgan.nn.allocation.ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
