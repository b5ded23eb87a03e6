"""Refining shards: one unit of work, the same bytes whoever does it, nothing lost and nothing done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refiners import build_refiner, noise
from simgan.cli import run
from simgan.data.conversion import convert
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, OutputError, RunError, WeightsError
from simgan.images import write_image
from simgan.nn.route import Route
from simgan.refinement import MANIFEST, refine
from simgan.refinement import shards as module
from simgan.refinement.journal import JOURNAL
from simgan.refinement.shard import WORK, ShardWork, read_record, record_file, refine_shard
from simgan.weights import save_refiner


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def members(shard: Path) -> list[tuple[str, bytes, int]]:
    with tarfile.open(shard) as archive:
        return [(m.name, archive.extractfile(m).read(), m.mtime) for m in archive]  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for i in range(23):
        path = root / "images" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, noise(20, 30 + (i % 5 == 0), 1, seed=i))
        path.with_suffix(".json").write_text(json.dumps({"i": i}))
    (root / "labels.csv").write_text("path,angle\n")
    return root


@pytest.fixture
def tree(folder: Path, tmp_path: Path) -> ImageTree:
    convert(folder, tmp_path / "shards", samples=6)
    return ImageTree(tmp_path / "shards")


def test_another_runtime_is_refused_for_shards_which_workers_refine_with_torch(
    tree: ImageTree, tmp_path: Path
) -> None:
    class OtherRoute(Route):
        def __str__(self) -> str:
            return "onnxruntime 1.0 float32"

    trained = replace(build_refiner(), route=OtherRoute(torch.device("cpu"), torch.float32))
    with pytest.raises(ConfigurationError, match=r"not with onnxruntime 1\.0 float32"):
        refine(tree, trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the same as a folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_refined_shards_hold_what_the_refined_folder_holds(
    folder: Path, tree: ImageTree, tmp_path: Path, precision: str
) -> None:
    trained = build_refiner(precision=precision)
    report = refine(tree, trained, tmp_path / "out")
    whole = refine(ImageTree(folder), trained, tmp_path / "whole")
    names = sorted(p.name for p in (tmp_path / "shards").glob("*.tar"))
    assert sorted(contents(tmp_path / "out")) == [*names, MANIFEST]
    refined: dict[str, bytes] = {}
    for name in names:
        before, after = members(tmp_path / "shards" / name), members(tmp_path / "out" / name)
        assert [(m[0], m[2]) for m in after] == [(m[0], m[2]) for m in before]  # keys, order, times
        refined |= {name: data for name, data, _ in after}
    (tmp_path / "whole" / MANIFEST).unlink()
    assert refined == contents(tmp_path / "whole")
    assert (report.n_images, report.n_refined, report.n_carried) == (23, 23, 24)
    # The same but for the example's name
    assert [said.split("(")[0] for said in report.warnings] == [said.split("(")[0] for said in whole.warnings]
    assert report.tree.paths() == tree.paths()


def test_the_bytes_are_the_same_whoever_refines_the_shards(tree: ImageTree, tmp_path: Path) -> None:
    trained = build_refiner()
    refine(tree, trained, tmp_path / "one")
    refine(tree, trained, tmp_path / "pool", workers=2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        refine(tree, trained, tmp_path / "threads")
    finally:
        torch.set_num_threads(before)
    refine(tree, trained, tmp_path / "backwards", engine=lambda work, names: iter(
        [module.attempt_shard(work, name, 1) for name in reversed(names)]))  # fmt: skip
    for other in ("pool", "threads", "backwards"):
        assert contents(tmp_path / other) == contents(tmp_path / "one")


def test_members_that_are_no_images_are_carried_with_their_headers(tree: ImageTree, tmp_path: Path) -> None:
    shard = tmp_path / "shards" / "shard-000000.tar"
    with tarfile.open(shard, "a") as archive:
        entry = tarfile.TarInfo("notes/über.bin")
        entry.mode, entry.uname, entry.pax_headers = 0o600, "someone", {"comment": "kept"}
        archive.addfile(entry)
        empty = tarfile.TarInfo("an empty folder")
        empty.type = tarfile.DIRTYPE
        archive.addfile(empty)
    refine(tree, build_refiner(), tmp_path / "out")
    with tarfile.open(shard) as before, tarfile.open(tmp_path / "out" / shard.name) as after:
        for name in ("notes/über.bin", "an empty folder", "images/00.json"):
            assert before.getmember(name).get_info() == after.getmember(name).get_info()
        assert after.getmember("notes/über.bin").pax_headers["comment"] == "kept"


def test_the_manifest_names_both_sides_of_each_shard_and_sums_over_all(
    folder: Path, tree: ImageTree, tmp_path: Path
) -> None:
    refine(tree, build_refiner(), tmp_path / "out")
    refine(ImageTree(folder), build_refiner(), tmp_path / "whole")
    ours, theirs = (json.loads((tmp_path / name / MANIFEST).read_text()) for name in ("out", "whole"))
    for key in ("format", "counts", "levels", "refiner", "command", "rejects"):
        assert ours[key] == theirs[key]
    assert list(ours["shards"]) == [f"shard-{i:06}.tar" for i in range(4)]
    assert sum(entry["images"] for entry in ours["shards"].values()) == 23
    assert "images" not in ours


# --- images left out --------------------------------------------------------------------------------------


def test_images_left_out_are_listed_and_their_sidecars_stay(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "07.png").write_bytes(b"no image")
    (folder / "images" / "08.png").write_bytes(b"")
    convert(folder, tmp_path / "shards", samples=6)
    tree = ImageTree(tmp_path / "shards")
    with pytest.raises(DataError, match="2 of 23 images cannot be used"):
        refine(tree, build_refiner(), tmp_path / "out")
    report = refine(tree, build_refiner(), tmp_path / "out", max_reject_share=0.1)
    assert report.n_continued == 23
    assert [(r.path, r.reason.split(" (")[0]) for r in report.rejects] == [
        ("shard-000001.tar/images/07.png", "not an image in a supported format"),
        ("shard-000001.tar/images/08.png", "the file is empty"),
    ]
    names = [name for name, _, _ in members(tmp_path / "out" / "shard-000001.tar")]
    assert "images/07.json" in names
    assert "images/07.png" not in names


def test_a_shard_of_which_no_image_can_be_used_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 of 4 shards were refused.*\n.*none of its 6 images .* 8-bit RGB"):
        refine(tree, build_refiner(channels=3), tmp_path / "out", max_reject_share=1)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_shards_without_an_image_of_the_pattern_are_refused(tree: ImageTree, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no member of the shards matches the pattern 'none/\*'"):
        refine(ImageTree(tree.root, "none/*"), build_refiner(), tmp_path / "out")


def test_masks_are_not_refined_though_they_have_shards_of_their_own(folder: Path, tmp_path: Path) -> None:
    for i in range(23):
        (folder / "masks").mkdir(exist_ok=True)
        write_image(folder / "masks" / f"{i:02}.png", noise(20, 30, 1, seed=i) // 128)
    convert(folder, tmp_path / "shards", samples=5)
    with pytest.raises(DataError, match="most likely label masks"):
        refine(ImageTree(tmp_path / "shards"), build_refiner(), tmp_path / "out")
    report = refine(ImageTree(tmp_path / "shards", "images/*"), build_refiner(), tmp_path / "images")
    assert report.n_refined == 23


# --- interruption, repetition, damage ---------------------------------------------------------------------


def stop_after(shards: int) -> Callable[[int, int], None]:
    def progress(done: int, _: int) -> None:
        if done == shards:
            raise KeyboardInterrupt

    return progress


def test_a_second_call_does_only_what_is_missing(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), out, progress=stop_after(2))
    (out / ".0123456789abcdef.tmp").write_bytes(b"half")
    asked: list[str] = []

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[module.Outcome]:
        asked.extend(names)
        return module.in_this_process(work, names)

    report = refine(tree, build_refiner(), out, engine=engine)
    assert asked == ["shard-000002.tar", "shard-000003.tar"]
    assert report.n_continued == 12
    refine(tree, build_refiner(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")
    assert refine(tree, build_refiner(), out).already_done


@pytest.mark.parametrize("damage", ["shard", "record", "source", "gone"])
def test_a_shard_that_is_not_what_its_record_says_is_refined_again(
    tree: ImageTree, tmp_path: Path, damage: str
) -> None:
    out, name = tmp_path / "out", "shard-000001.tar"
    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), out, progress=stop_after(3))
    if damage == "shard":
        (out / name).write_bytes((out / name).read_bytes()[:-1] + b"x")
    elif damage == "gone":
        (out / name).unlink()
    elif damage == "record":
        (out / WORK / f"{name}.json").write_bytes(b'{"name": 3}')
    else:
        os.utime(Path(tree.root) / name, (5, 5))
    assert refine(tree, build_refiner(), out).n_continued == 12
    refine(tree, build_refiner(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_the_unit_of_work_done_twice_does_nothing_the_second_time(tree: ImageTree, tmp_path: Path) -> None:
    works: list[ShardWork] = []

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[module.Outcome]:
        works.append(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), tmp_path / "out", engine=engine)
    first = refine_shard(works[0], "shard-000000.tar", 1)
    changed = (tmp_path / "out" / "shard-000000.tar").stat().st_mtime_ns
    assert refine_shard(works[0], "shard-000000.tar", 2) == first == read_record(works[0], "shard-000000.tar")
    assert (tmp_path / "out" / "shard-000000.tar").stat().st_mtime_ns == changed
    assert record_file(works[0], "a/b.tar").name == "a%2Fb.tar.json"


def test_a_damaged_shard_does_not_keep_the_others_from_being_refined(tree: ImageTree, tmp_path: Path) -> None:
    bad = Path(tree.root) / "shard-000001.tar"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:3000])
    with pytest.raises(DataError, match=r"1 of 4 shards were refused, the others are refined.*\n.*truncated"):
        refine(tree, build_refiner(), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3
    bad.write_bytes(whole)
    assert refine(tree, build_refiner(), tmp_path / "out").n_continued == 17


def test_a_finished_refinement_that_was_changed_since_is_not_called_done(
    tree: ImageTree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refine(tree, build_refiner(), out)
    calls: list[tuple[int, int]] = []
    assert refine(tree, build_refiner(), out, progress=lambda *at: calls.append(at)).already_done
    assert calls == [(4, 4)]
    with pytest.raises(OutputError, match="another refinement"):
        refine(tree, build_refiner(seed=1), out)
    good = (out / "shard-000001.tar").read_bytes()
    (out / "shard-000001.tar").write_bytes(good[:-1])
    with pytest.raises(OutputError, match="1 shards were changed or removed"):
        refine(tree, build_refiner(), out)
    (out / "shard-000001.tar").write_bytes(good)
    (Path(tree.root) / "shard-000003.tar").unlink()
    with pytest.raises(OutputError, match=r"shard-000003.tar is new, gone or"):
        refine(ImageTree(tree.root), build_refiner(), out)


def test_a_folder_that_holds_something_else_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="the folder is not empty"):
        refine(tree, build_refiner(), out)
    shutil.rmtree(out)
    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), out, progress=stop_after(1))
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"1 files that do not belong .* mine.txt"):
        refine(tree, build_refiner(), out)
    assert (out / JOURNAL).exists()


def test_workers_for_a_folder_of_files_are_refused_with_the_way_to_shards(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="simgan convert"):
        refine(ImageTree(folder), build_refiner(), tmp_path / "out", workers=2)
    with pytest.raises(ConfigurationError, match="`workers` must be 1 or more"):
        refine(ImageTree(folder), build_refiner(), tmp_path / "out", workers=0)


# --- the pool ---------------------------------------------------------------------------------------------


def test_a_killed_worker_loses_no_shard(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, killed = module._started, []

    def kill_the_first(work: ShardWork, threads: int) -> Any:
        worker = started(work, threads)
        if not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        return worker

    monkeypatch.setattr(module, "_started", kill_the_first)
    done: list[int] = []
    refine(tree, build_refiner(), tmp_path / "out", workers=2, progress=lambda at, _: done.append(at))
    assert killed
    assert done == [1, 2, 3, 4]
    refine(tree, build_refiner(), tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_shard_that_kills_every_worker_ends_it(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = module._started

    def kill(work: ShardWork, threads: int) -> Any:
        worker = started(work, threads)
        worker.process.kill()
        return worker

    monkeypatch.setattr(module, "_started", kill)
    with pytest.raises(RunError, match="3 workers ended while they refined this shard"):
        refine(tree, build_refiner(), tmp_path / "out", workers=2)


def test_an_error_of_a_worker_that_is_not_about_its_shard_ends_it(tree: ImageTree, tmp_path: Path) -> None:
    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[module.Outcome]:
        (Path(work.out) / WORK / "refiner.safetensors").write_bytes(b"damaged")
        return module.in_processes(2)(work, names)

    with pytest.raises(WeightsError, match="damaged"):
        refine(tree, build_refiner(), tmp_path / "out", engine=engine)


# --- the command line -------------------------------------------------------------------------------------


def test_the_commands_convert_and_refine_shards(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_refiner(tmp_path / "refiner.safetensors", build_refiner())
    shards, out, back = (str(tmp_path / name) for name in ("shards", "out", "back"))
    assert run(["convert", str(folder), "--out", shards, "--samples", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_shards"] == 4
    refiner = str(tmp_path / "refiner.safetensors")
    assert run(["refine", refiner, f"{shards}/*.tar", "--out", out, "--workers", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_refined"] == 23
    assert run(["convert", out, "--out", back]) == 0
    assert len(contents(tmp_path / "back")) == 2 * 23 + 2  # images and sidecars, labels.csv, the manifest
    (tmp_path / "shards" / "shard-000000.tar").write_bytes(b"no tar")
    assert run(["refine", refiner, f"{shards}/*.tar", "--out", str(tmp_path / "again")]) == 1
    assert "1 of 4 shards were refused" in capsys.readouterr().err
