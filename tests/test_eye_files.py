"""Drawn eyes as files: annotations, tables, continuing, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simgan.cli import run
from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, OutputError
from simgan.images import read_image
from simgan.simulators import simulation_folder
from simgan.simulators.eyes import EyeBatch, simulate_eyes, write_eyes, writing
from simgan.simulators.eyes.annotations import label_table, unityeyes_annotations


@pytest.fixture(scope="module")
def batch() -> EyeBatch:
    return simulate_eyes(12, seed=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("eyes") / "drawn"
    write_eyes(out, count=12, seed=1)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def shape_of(value: Any) -> Any:
    """The keys and kinds of values of a JSON document; text of numbers as how many there are."""
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [len(value), *{json.dumps(shape_of(inner)) for inner in value}]
    if isinstance(value, str) and value.startswith("("):
        return f"text of {len(value.split(','))} numbers"
    try:
        float(value)
    except ValueError:
        return type(value).__name__
    return f"{type(value).__name__} of a number"


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]


def test_annotations_have_every_key_and_kind_of_value_of_a_unityeyes_file(
    batch: EyeBatch, simgan_data: Path
) -> None:
    example = json.loads((simgan_data / "unityeyes" / "example.json").read_bytes())
    for annotation in unityeyes_annotations(batch):
        assert shape_of(json.loads(annotation)) == shape_of(example)


def test_annotations_have_the_keys_that_readers_of_unityeyes_ask_for(batch: EyeBatch) -> None:
    three, number = "text of 3 numbers", "str of a number"
    for annotation in unityeyes_annotations(batch):
        assert shape_of(json.loads(annotation)) == {
            "interior_margin_2d": [16, f'"{three}"'],
            "caruncle_2d": [7, f'"{three}"'],
            "iris_2d": [32, f'"{three}"'],
            "eye_details": {
                "look_vec": "text of 4 numbers",
                "pupil_size": number,
                "iris_size": number,
                "iris_texture": "str",
            },
            "lighting_details": {
                "skybox_texture": "str",
                "skybox_exposure": number,
                "skybox_rotation": number,
                "ambient_intensity": number,
                "light_rotation": three,
                "light_intensity": number,
            },
            "eye_region_details": {"pca_shape_coeffs": [20, f'"{number}"'], "primary_skin_texture": "str"},
            "head_pose": three,
        }


def test_landmarks_in_annotations_have_y_up_from_the_lower_edge_and_depth_in_centimetres(
    batch: EyeBatch,
) -> None:
    """A pixel's centre lies half a pixel from its edges: u + 0.5, and 35 − 0.5 − v."""
    for i, annotation in enumerate(unityeyes_annotations(batch)):
        document = json.loads(annotation)
        for key, points in (
            ("interior_margin_2d", batch.landmarks.interior_margin),
            ("caruncle_2d", batch.landmarks.caruncle),
            ("iris_2d", batch.landmarks.iris_rim),
        ):
            theirs = np.array([numbers(text) for text in document[key]])
            np.testing.assert_allclose(theirs[:, 0], points[i, :, 0] + 0.5, atol=1e-4)
            np.testing.assert_allclose(theirs[:, 1], 34.5 - points[i, :, 1], atol=1e-4)
            np.testing.assert_allclose(theirs[:, 2], points[i, :, 2] / 10, atol=1e-4)
        assert numbers(document["eye_details"]["look_vec"]) == pytest.approx(
            [*batch.landmarks.look[i].tolist(), 0], abs=1e-4
        )
        upper, lower = (np.mean([numbers(t)[1] for t in document["interior_margin_2d"][k]]) for k in
                        (slice(2, 7), slice(10, 15)))  # fmt: skip
        assert upper > lower
        caruncle = np.mean([numbers(text)[0] for text in document["caruncle_2d"]])
        assert caruncle < np.mean([numbers(text)[0] for text in document["interior_margin_2d"]])


def test_the_head_pose_in_annotations_is_the_camera_s_turn_as_unity_composes_it(batch: EyeBatch) -> None:
    """Unity turns by Y·X·Z in left-handed axes; its inverse brings the head's forward (0, 0, 1) to the camera."""
    p = batch.parameters
    for i, annotation in enumerate(unityeyes_annotations(batch)):
        a, b, c = np.deg2rad(numbers(json.loads(annotation)["head_pose"]))
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        forward = (about_y @ about_x @ about_z).T @ [0, 0, 1]
        pitch, yaw, roll = (np.deg2rad(float(p[f"head_{name}_deg"][i])) for name in ("pitch", "yaw", "roll"))
        # By hand: turned to the right by yaw, tilted up by pitch about the camera's x, rolled counter-clockwise.
        x, y, z = np.sin(yaw), np.cos(yaw) * np.sin(pitch), np.cos(yaw) * np.cos(pitch)
        by_hand = [x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll), -z]
        np.testing.assert_allclose(forward, by_hand, atol=1e-5)


def test_angles_in_the_table_are_those_of_the_look_vector(batch: EyeBatch) -> None:
    table = label_table(batch)
    column = {name: table.values[:, i] for i, name in enumerate(table.names)}
    pitch, yaw = np.deg2rad(column["pitch_deg"]), np.deg2rad(column["yaw_deg"])
    np.testing.assert_allclose(column["gaze_x"], np.cos(pitch) * np.sin(yaw), atol=1e-12)
    np.testing.assert_allclose(column["gaze_y"], -np.sin(pitch), atol=1e-12)
    np.testing.assert_allclose(column["gaze_z"], -np.cos(pitch) * np.cos(yaw), atol=1e-12)


def test_the_written_tree_holds_images_masks_annotations_and_labels(written: Path, batch: EyeBatch) -> None:
    tree = ImageTree(written, "images/*.png")
    paths = tree.paths()
    assert paths == tuple(f"images/{i:06d}.png" for i in range(12))
    annotations = unityeyes_annotations(batch)
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(read_image(written / path), batch.images[i].permute(1, 2, 0))
        np.testing.assert_array_equal(
            read_image(written / path.replace("images", "masks")), batch.masks[i].permute(1, 2, 0)
        )
        assert (written / path).with_suffix(".json").read_bytes() == annotations[i]
    labels, table = read_labels(tree, format="csv-columns"), label_table(batch)
    assert labels.kind == "value"
    assert labels.names == table.names
    np.testing.assert_allclose(labels.values, table.values, atol=1e-6)
    assert labels.groups is not None
    assert len(set(labels.groups)) == 12
    learned, annotated = read_labels(tree), read_labels(tree, format="unityeyes")
    assert learned.names == annotated.names == ("gaze_x", "gaze_y", "gaze_z")
    np.testing.assert_allclose(learned.values, annotated.values, atol=1e-4)
    with (written / "parameters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == list(paths)
    for name, column in batch.parameters.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], column, rtol=1e-7)


def test_an_interrupted_simulation_continues_and_ends_with_the_same_files(
    tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "eyes"
    monkeypatch.setattr(writing, "_BLOCK", 5)

    def stop(done: int, total: int) -> None:
        assert total == 12
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_eyes(out, count=12, seed=1, progress=stop)
    assert not (out / "labels.csv").exists()
    (out / "images" / "000002.png").write_bytes(b"torn by a power failure")
    (out / "masks" / f".{'0' * 16}.tmp").write_bytes(b"left by a killed process")
    kept = (out / "images" / "000001.png").stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    write_eyes(out, count=12, seed=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 12), (10, 12), (12, 12)]
    assert contents(out) == contents(written)
    assert (out / "images" / "000001.png").stat().st_mtime_ns == kept
    write_eyes(out, count=12, seed=1, progress=lambda *_: pytest.fail("all was there already"))


def test_another_command_or_foreign_files_in_the_folder_are_refused(tmp_path: Path, written: Path) -> None:
    before = contents(written)
    with pytest.raises(OutputError, match=r"another simulation \(count was 12, now 13; seed was 1, now 2\)"):
        write_eyes(written, count=13, seed=2)
    assert contents(written) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="is not empty; choose a new folder for the eyes"):
        write_eyes(tmp_path / "other", count=1)
    with pytest.raises(OutputError, match="is a file; a new or empty folder is wanted"):
        write_eyes(tmp_path / "other" / "thesis.txt", count=1)
    (tmp_path / "other" / "simulation.json").write_text("{")
    with pytest.raises(OutputError, match=r"simulation\.json: cannot be read"):
        write_eyes(tmp_path / "other", count=1)
    (tmp_path / "other" / "simulation.json").write_text("[]")
    with pytest.raises(OutputError, match="another simulation"):
        write_eyes(tmp_path / "other", count=1)


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    monkeypatch.setattr(
        simulation_folder, "write_atomically", lambda path, data: Path(path).write_bytes(data)
    )
    with pytest.raises(OutputError, match=r"No space left on device.*run the same command again"):
        write_eyes(tmp_path / "eyes", count=1)
    assert list((tmp_path / "eyes" / "images").iterdir()) == []


def test_faults_of_the_request_are_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="count: at least 1 is wanted, got 0"):
        write_eyes(tmp_path / "eyes", count=0, size=(35, 4000))
    assert not (tmp_path / "eyes").exists()


def test_the_command_draws_eyes_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "eyes"
    line = ["simulate", "eyes", "--count", "3", "--size", "20x32", "--seed", "2", "--out", str(out)]
    assert run([*line, "--look", "pseudo-real"]) == 0
    assert "wrote 3 pseudo-real eyes" in capsys.readouterr().out
    assert read_image(out / "images" / "000002.png").shape == (20, 32, 1)
    expected = simulate_eyes(3, size=(20, 32), seed=2, look="pseudo-real").images[2, 0]
    np.testing.assert_array_equal(
        torch.from_numpy(read_image(out / "images" / "000002.png"))[:, :, 0], expected
    )
    groups = read_labels(ImageTree(out, "images/*.png")).groups
    assert groups is not None
    assert all(group.startswith("pseudo-real-") for group in groups)
    assert run(line) == 1
    assert "another simulation" in capsys.readouterr().err
    assert run(["simulate", "eyes", "--out", str(out), "--size", "35"]) == 2
    assert run(["simulate", "eyes", "--out", str(tmp_path / "none"), "--size", "8x8"]) == 1
    assert "sides of 16 to 1024 px are wanted, got 8x8" in capsys.readouterr().err
