"""Refining as a pipeline: how images fall together, how threads take turns, and when the disk has them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refiners import build_refiner, noise
from simgan.data.output_folder import wait_for_disk
from simgan.data.trees import ImageTree
from simgan.errors import DataError, OutputError
from simgan.images import read_image, write_image
from simgan.refinement import MANIFEST, pipeline, refine
from simgan.refinement.journal import JOURNAL
from simgan.refinement.pipeline import in_groups, in_parallel
from simgan.weights import TrainedRefiner

SIZES = [(20, 30), (20, 31), (8, 8)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    """15 images of three sizes, mixed."""
    (tmp_path / "in").mkdir()
    for i in range(15):
        write_image(tmp_path / "in" / f"{i:02}.png", noise(*SIZES[i % 7 % 3], 1, seed=i))
    return ImageTree(tmp_path / "in")


def trained_on(trained: TrainedRefiner, sizes: dict[tuple[int, int], int]) -> TrainedRefiner:
    return replace(trained, training_scan=replace(trained.training_scan, n=sum(sizes.values()), sizes=sizes))


# --- batches ----------------------------------------------------------------------------------------------


def test_the_compute_batch_is_a_function_of_the_size_of_an_image_and_of_how_frequent_it_was_in_training() -> (
    None
):
    trained = trained_on(
        build_refiner(), {(35, 55): 70, (8, 8): 13, (128, 128): 12, (20, 30): 5, (640, 480): 20}
    )
    assert trained.compute_batch(35, 55) == 8  # 2¹⁴ / 1925
    assert trained.compute_batch(8, 8) == 1  # 13 of 120 are less than an eighth
    trained = trained_on(
        build_refiner(), {(35, 55): 70, (8, 8): 15, (128, 128): 15, (55, 35): 4, (640, 480): 16}
    )
    assert trained.compute_batch(8, 8) == 32  # 15 of 120 are an eighth; 256 would fit
    assert trained.compute_batch(128, 128) == 1
    assert trained.compute_batch(640, 480) == 1
    assert trained.compute_batch(55, 35) == 1
    assert trained.compute_batch(36, 60) == 1  # never seen in training


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_sees_the_same_number_of_images_whatever_was_given(precision: str) -> None:
    trained = build_refiner(precision=precision)
    seen: list[int] = []
    network = trained.network

    def counting(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return network(images)

    trained.network = counting
    for count in (1, 27, 28):
        trained(noise(count, 20, 30, 1))
    assert seen == [27, 27, 27, 27]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("files_of_group", [1, 4])
def test_the_refined_bytes_do_not_depend_on_which_images_stand_together(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, files_of_group: int
) -> None:
    trained = trained_on(build_refiner(precision=precision, blocks=1), {(20, 30): 4, (8, 8): 4, (20, 31): 1})
    refine(tree, trained, tmp_path / "whole")
    monkeypatch.setattr("simgan.refinement.pipeline._FILES_OF_GROUP", files_of_group)
    refine(tree, trained, tmp_path / "grouped")
    assert contents(tmp_path / "grouped") == contents(tmp_path / "whole")
    for path in tree.paths()[:3]:
        np.testing.assert_array_equal(read_image(tmp_path / "whole" / path), trained(tree.read(path)))


def test_groups_end_at_a_number_of_files_or_of_bytes() -> None:
    assert list(map(len, in_groups(range(300), lambda _: 10))) == [128, 128, 44]
    assert list(in_groups([2**18, 1, 2**17, 2**17, 5], lambda size: size)) == [
        [2**18],
        [1, 2**17, 2**17],
        [5],
    ]
    assert list(in_groups([], len)) == []


# --- threads ----------------------------------------------------------------------------------------------


def test_results_come_in_order_while_items_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []
    gate = threading.Event()

    def items() -> Any:
        for i in range(100):
            drawn.append(i)
            yield i

    def slow(i: int) -> int:
        if i == 0:
            gate.wait(10)  # all the others overtake it
        return i * i

    results = in_parallel(slow, items(), threads=2)
    gate.set()
    assert next(results) == 0
    assert len(drawn) <= 8
    assert [0, *results] == [i * i for i in range(100)]


def test_each_thread_computes_alone_and_the_caller_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    assert set(in_parallel(lambda _: torch.get_num_threads(), range(20), threads=3)) == {1}
    assert torch.get_num_threads() == before


def test_what_a_group_had_done_when_it_failed_is_noted(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simgan.refinement import tree as module

    written: list[Path] = []
    write = module.write_atomically

    def refuse_the_fifth(path: Path, *args: Any, **kwargs: Any) -> None:
        if len(written) == 4:
            raise OutputError("the disk is full")
        written.append(path)
        write(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", refuse_the_fifth)
        with pytest.raises(OutputError, match="the disk is full"):
            refine(tree, build_refiner(), tmp_path / "out")
    assert refine(tree, build_refiner(), tmp_path / "out").n_continued == 4


# --- the disk ---------------------------------------------------------------------------------------------


def interrupted(tree: ImageTree, out: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), out, progress=stop)


@pytest.mark.parametrize("tear", [lambda data: b"", lambda data: data[:20], lambda data: b"\0" * len(data)])
def test_a_file_that_a_power_cut_left_without_its_bytes_is_refined_again(
    tree: ImageTree, tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    out = tmp_path / "out"
    interrupted(tree, out)
    torn = out / tree.paths()[3]
    torn.write_bytes(tear(torn.read_bytes()))
    assert refine(tree, build_refiner(), out).n_continued == 14
    refine(tree, build_refiner(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_carried_file_that_a_power_cut_left_without_its_bytes_is_carried_again(
    tree: ImageTree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (Path(tree.root) / "labels.csv").write_bytes(b"path,angle\n")
    interrupted(tree, out)
    (out / "labels.csv").write_bytes(b"\0" * 11)
    stat = (Path(tree.root) / "labels.csv").stat()
    os.utime(out / "labels.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    refine(tree, build_refiner(), out)
    assert (out / "labels.csv").read_bytes() == b"path,angle\n"


def test_the_disk_has_every_file_before_the_manifest_calls_them_finished(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []

    def watch(folder: Path) -> None:
        seen.append((folder, (out / MANIFEST).exists(), len(list(out.glob("*.png")))))

    monkeypatch.setattr("simgan.refinement.tree.wait_for_disk", watch)
    refine(tree, build_refiner(), out)
    assert seen == [(out, False, 15)]
    assert not (out / JOURNAL).exists()


def test_a_disk_that_fails_to_take_the_files_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_disk(tmp_path)
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        wait_for_disk(tmp_path / "none")

    class Failing:
        @staticmethod
        def syncfs(_: int) -> int:
            ctypes.set_errno(5)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Failing)
    with pytest.raises(OutputError, match="Input/output error"):
        wait_for_disk(tmp_path)
    waited: list[bool] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())  # not Linux
    monkeypatch.setattr(os, "sync", lambda: waited.append(True))
    wait_for_disk(tmp_path)
    assert waited


def test_an_image_that_changes_while_it_is_refined_is_a_data_error(tree: ImageTree, tmp_path: Path) -> None:
    last = Path(tree.root) / tree.paths()[-1]

    def change(done: int, _: int) -> None:
        if done == 1:
            write_image(last, noise(9, 9, 1))

    with pytest.raises(DataError, match=f"{last.name}: was changed while it was refined"):
        refine(tree, build_refiner(), tmp_path / "out", progress=change)
    refine(tree, build_refiner(), tmp_path / "out")
    assert read_image(tmp_path / "out" / last.name).shape == (9, 9, 1)


def test_what_refines_keeps_freed_memory_for_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(pipeline, "keep_freed_memory", lambda: kept.append(True))
    assert list(in_parallel(lambda batch: (batch, list(kept)), [1, 2], threads=1)) == [
        (1, [True]),
        (2, [True]),
    ]
