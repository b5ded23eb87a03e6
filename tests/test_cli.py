from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import simgan
from simgan.cli import run
from simgan.cli.arguments import parse_crop, parse_overrides
from simgan.cli.printing import align, bullets, describe_evaluation, plain
from simgan.cli.progress import ProgressDisplay, format_seconds, showing_progress
from simgan.config import recipe_names, recipe_text, resolve_configuration
from simgan.errors import TrainingError
from simgan.images import ValueRange
from simgan.settings import Configuration
from simgan.simulators.digits import simulate_digits
from simgan.training.loop import Progress as Turn

TINY: list[str] = []
for _setting in (
    "training.steps=4",
    "training.batch_size=4",
    "training.warmup_refiner_steps=0",
    "training.warmup_task_steps=0",
    "training.warmup_self_ensembling_steps=0",
    "training.warmup_discriminator_steps=2",
    "objective.task_consistency_weight=0",
    "refiner.width=4",
    "refiner.blocks=1",
    "run.checkpoint_every=2",
    "run.log_every=1",
    "run.device=cpu",
    "run.precision=float32",
):
    TINY += ["--set", _setting]


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 20 synthetic and 60 real digits in `synthetic` and `real`."""
    simulate_digits(tmp_path / "synthetic", count=20, seed=1)
    simulate_digits(tmp_path / "real", count=60, seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Recorder:
    """Stands for a public function and remembers how it was called."""

    result: Any = None
    error: BaseException | None = None
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        if self.error is not None:
            raise self.error
        return self.result


# -- exit codes, streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian x", 'did you mean "train"'),
        ("train x", "--run"),
        ("train x --run y --stepz 4", "--stepz"),
        ("train x --run y --set steps", "key=value"),
        ("train x --run y --set Training.steps=5", "key=value"),
        ("prepare a --out b --crop 1,2,3", "top,left,height,width"),
        ("prepare a --out b --crop center:5", "center:heightxwidth"),
        ("prepare a --out b --crop eye:wide", "eye:margin"),
        ("prepare a --out b --size 35", "heightxwidth"),
        ("prepare a --out b --size ٣x٣", "heightxwidth"),
        ("prepare a --out b --crop 0,0,٣,3", "top,left,height,width"),
        (f"prepare a --out b --size {'9' * 5000}x1", "heightxwidth"),
        ("prepare a --out b --invalid low", "--invalid"),
        ("simulate digits a --count many", "--count"),
        ("refine a", "tree"),
        ("refine a b --out c --out-of-range wrap", "--out-of-range"),
        ("refine a b --out c --jpeg-quality high", "--jpeg-quality"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong_and_where_help_is(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.lower()
    assert "--help)" in err
    assert err.count("\n") == 1


def test_a_failure_is_exit_code_1_and_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["train", str(tmp_path / "none.toml"), "--run", str(tmp_path / "run")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("simgan: ")
    assert "none.toml cannot be read" in err
    assert "Traceback" not in err


def test_debug_prints_the_traceback_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "nothing", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("simgan: no recipe is called 'nothing'")


def test_a_fault_of_our_own_is_exit_code_1_and_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simgan, "info", Recorder(error=ZeroDivisionError("by zero")))
    assert run(["info", "x"]) == 1
    err = capsys.readouterr().err
    assert "fault of simgan, ZeroDivisionError: by zero" in err
    assert "--debug" in err
    assert "Traceback" not in err


def test_an_interrupted_command_is_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simgan, "train", Recorder(error=KeyboardInterrupt()))
    assert run(["train", "default", "--run", "r"]) == 130
    assert "same command again continues" in capsys.readouterr().err


def test_an_interruption_while_starting_up_is_exit_code_130_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("simgan.cli.require_extra", "simgan.cli.verbs.parse"):
        with monkeypatch.context() as patch:
            patch.setattr(place, Recorder(error=KeyboardInterrupt()))
            assert run(["recipes"]) == 130
        assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "listed"), [("", "train"), ("simulate", "digits")])
def test_a_command_line_without_a_verb_is_wrong_usage_and_answered_with_help(
    line: str, listed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert listed in err
    assert err.splitlines()[-1] == f"simgan: a verb is wanted after: {f'simgan {line}'.strip()}"
    for flag in ("--help", "-h"):
        assert run([*line.split(), flag]) == 0
        assert listed in capsys.readouterr().out


def test_an_error_of_training_is_told_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simgan, "train", Recorder(error=TrainingError("it diverged")))
    assert run(["train", "default", "--run", "r"]) == 1
    assert capsys.readouterr().err == "simgan: it diverged\n"


@pytest.mark.parametrize("module", ["cyclopts", "rich"])
def test_a_missing_package_of_the_command_line_names_the_extra(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["recipes"]) == 1
    assert "pip install 'simgan[cli]'" in capsys.readouterr().err


def test_help_and_recipes_do_not_load_torch() -> None:
    code = (
        "import sys\nfrom simgan.cli import run\n"
        "codes = [run(a) for a in (['--help'], ['train', '--help'], ['recipes'], ['--version'])]\n"
        "print(codes, [m for m in ('torch', 'numpy', 'cv2', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []", done.stderr


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "simgan.cli", "recipes", "paper-gaze"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)


# -- new, recipes, check ---------------------------------------------------------------------------------------


def test_recipes_lists_all_and_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(recipe_names())
    assert run(["recipes", "paper-gaze"]) == 0
    assert capsys.readouterr().out.strip() == recipe_text("paper-gaze").strip()
    assert run(["recipes", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(recipe_names())


@pytest.mark.parametrize("folder", ["data", 'a "quoted" name', "back\\slash", "Bücher/👁", "tab\there"])
def test_a_new_configuration_is_the_recipe_with_its_comments_and_the_folders(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    assert run(["new", "paper-gaze", str(file), "--synthetic", folder, "--real", "r"]) == 0
    text = file.read_text("utf-8")
    assert text.startswith(recipe_text("paper-gaze"))
    configuration = resolve_configuration(file)
    assert (configuration.synthetic.root, configuration.real.root) == (folder, "r")
    recipe = resolve_configuration("paper-gaze")
    assert configuration.training == recipe.training
    assert configuration.recipe == "paper-gaze"
    assert "simgan check" in capsys.readouterr().out


def test_a_new_configuration_without_folders_has_tables_to_fill_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    assert run(["new", "default", str(file)]) == 0
    assert "fill in root under [synthetic] and [real]" in capsys.readouterr().out
    assert tomllib.loads(file.read_text())["synthetic"] == {"root": "", "images": "**/*"}


@pytest.mark.parametrize("folder", ["a\x7fb", 'q"\\', "tab\there", "ünï"])
def test_a_new_configuration_names_any_folder_that_toml_can_name(tmp_path: Path, folder: str) -> None:
    file = tmp_path / "my.toml"
    assert run(["new", "default", str(file), "--real", folder]) == 0
    assert resolve_configuration(file).real.root == folder


def test_a_new_configuration_of_a_folder_that_toml_cannot_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new", "default", str(tmp_path / "my.toml"), "--real", "data/\udcff"]) == 1
    assert "bytes that are not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "my.toml").exists()


def test_new_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.toml"
    file.write_text("mine")
    assert run(["new", "default", str(file)]) == 1
    assert file.read_text() == "mine"
    assert "exists already and was left alone" in capsys.readouterr().err


def test_a_new_configuration_is_called_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "default", str(tmp_path / "my")]) == 1
    assert "must end in .toml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_training_would_do_and_trains_nothing(
    trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["new", "default", "my.toml", "--synthetic", "synthetic", "--real", "real"])
    before = {path: path.stat().st_mtime_ns for path in trees.rglob("*")}
    capsys.readouterr()
    assert run(["check", "my.toml", "--set", "training.batch_size=4"]) == 0
    out = capsys.readouterr().out
    for said in (
        "20 images, 8×8, 8-bit grey", "receptive field", "8×8 patches", "in mean form", "in the paper's form",
        "steps of 4 images", "simgan train my.toml --run runs/my --set training.batch_size=4",
    ):  # fmt: skip
        assert said in out
    assert {path: path.stat().st_mtime_ns for path in trees.rglob("*")} == before


def test_check_gives_the_same_as_json(trees: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["check", "default", "--set", "synthetic.root=synthetic", "--set", "real.root=real"]
    assert run([*line, "--set", "training.batch_size=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["synthetic"]["n"] == 20
    assert found["discriminator"]["patch_grid"] == [8, 8]
    assert found["configuration"]["training"]["batch_size"] == 4


def test_check_names_only_the_warm_ups_and_terms_that_there_are(
    trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["check", "default", "--set", "synthetic.root=synthetic", "--set", "real.root=real"]
    line += ["--set", "training.batch_size=4", "--set", "training.warmup_discriminator_steps=0"]
    line += ["--set", "training.warmup_task_steps=0", "--set", "objective.task_consistency_weight=0"]
    assert run(line) == 0
    out = capsys.readouterr().out
    assert "warm-up        none" in out
    assert "μ" not in out
    line += ["--set", "training.warmup_refiner_steps=7", "--set", "training.warmup_task_steps=8"]
    assert run([*line, "--set", "objective.task_consistency_weight=0.5"]) == 0
    out = capsys.readouterr().out
    assert "7 of the refiner alone, 8 of the task network alone, 1,500 of it with real images" in out
    assert "μ = 0.5" in out
    assert (
        run(
            [
                *line,
                "--set",
                "objective.task_consistency_weight=0.5",
                "--set",
                "objective.self_ensembling_weight=0",
            ]
        )
        == 0
    )
    assert "with real images" not in capsys.readouterr().out


def test_check_says_the_faults_of_both_trees_at_once(trees: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trees / "synthetic" / "0" / "00000.png").write_bytes(b"not an image")
    (trees / "synthetic" / "1" / "00001.png").write_bytes(b"not an image either")
    assert run(["check", "default", "--set", "synthetic.root=synthetic", "--set", "real.root=nowhere"]) == 1
    err = capsys.readouterr().err
    assert "both trees have faults" in err
    assert "00000.png" in err
    assert "nowhere: no such folder" in err


def test_check_says_both_missing_roots_and_every_wrong_key_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check", "default"]) == 1
    err = capsys.readouterr().err
    assert "`synthetic.root` is not set" in err
    assert "`real.root` is not set" in err
    assert (
        run(["check", "default", "--set", "training.stepz=5", "--set", "seed=x", "--set", "run.device=3"])
        == 1
    )
    assert "3 faults" in capsys.readouterr().err


# -- train, refine, info, report: a tiny run from end to end -----------------------------------------------------


def test_a_run_is_trained_refined_described_and_reported(
    trees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "default", "--run", "runs/a", "--synthetic", "synthetic", "--real", "real", *TINY]
    assert run(line) == 0
    out, err = capsys.readouterr()
    assert "runs/a/refiner.safetensors (of step" in out
    assert "simgan refine runs/a SYNTHETIC --out REFINED" in out
    assert "100%  6 of 6" in err

    weights = Path("runs/a/refiner.safetensors").read_bytes()
    assert run([*line, "--json"]) == 0, "the same command again has nothing left to do"
    assert json.loads(capsys.readouterr().out)["refiner"] == "runs/a/refiner.safetensors"
    assert Path("runs/a/refiner.safetensors").read_bytes() == weights

    assert run([*line, "--set", "seed=7"]) == 1
    assert "seed: the run has 0, asked for 7" in capsys.readouterr().err

    assert run(["refine", "runs/a", "synthetic", "--out", "refined"]) == 0
    assert "20" in capsys.readouterr().out
    names = {path.relative_to("synthetic") for path in Path("synthetic").rglob("*.*")}
    assert names <= {path.relative_to("refined") for path in Path("refined").rglob("*.*")}

    assert run(["info", "runs/a"]) == 0
    assert "runs/a" in capsys.readouterr().out
    assert run(["info", "runs/a/refiner.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "weights"
    assert run(["info", "synthetic", "--images", "0/*.png"]) == 0
    assert "0/*.png" in capsys.readouterr().out

    assert run(["report", "runs/a", "--refined", "refined", "--out", "page.html"]) == 0
    assert capsys.readouterr().out == f"wrote page.html\nwrote {Path('runs/a') / 'MODEL_CARD.md'}\n"
    assert Path("page.html").read_text("utf-8").lstrip().lower().startswith("<!doctype html")


def test_an_interrupted_training_leaves_a_checkpoint_and_exit_code_130(trees: Path) -> None:
    line = ["train", "default", "--run", "run", "--synthetic", "synthetic", "--real", "real", *TINY]
    line += ["--set", "training.steps=100000", "--set", "run.checkpoint_every=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "simgan.cli", *line], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    metrics = trees / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("simgan: interrupted")
    assert (trees / "run" / "checkpoints" / "latest.pt").exists()


def test_simulated_digits_are_written_once(trees: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "digits", "drawn", "--count", "12", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "wrote 12 digits to drawn\n"
    assert len(list(Path("drawn").rglob("*.png"))) == 12
    assert run(["simulate", "digits", "drawn", "--count", "12"]) == 1
    assert "not empty" in capsys.readouterr().err


# -- what reaches the functions ---------------------------------------------------------------------------------


def test_prepare_hands_on_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = simgan.PreparationReport(
        simgan.ImageTree("out"), 3, 2, ("labels.csv",), 4, (), ("box 7 left",), 1
    )
    prepare = Recorder(report)
    monkeypatch.setattr(simgan, "prepare", prepare)
    line = "prepare in --out out --crop 1,2,30,40 --size 15x20 --images i/*.png --masks m/*.png --invalid 0"
    assert run([*line.split(), "--carry-unknown", "--mirror", "--grey"]) == 0
    (args, kwargs), out = prepare.calls[0], capsys.readouterr()
    assert args == (simgan.ImageTree(Path("in"), "i/*.png"), Path("out"))
    assert callable(kwargs.pop("progress"))
    assert kwargs == {
        "crop": (1, 2, 30, 40), "size": (15, 20), "masks": "m/*.png", "invalid": 0, "carry_unknown": True,
        "mirror": True, "grey": True,
    }  # fmt: skip
    assert "images       3" in out.out
    assert out.err == "warning: box 7 left\n"


def test_refine_hands_on_its_options_and_warns_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def refine(*args: Any, **kwargs: Any) -> SimpleNamespace:
        calls.append((args, dict(kwargs)))
        kwargs["warn"]("1 of 20 images was left out")
        return SimpleNamespace(warnings=("1 of 20 images was left out",))

    monkeypatch.setattr(simgan, "refine", refine)
    monkeypatch.setattr("simgan.cli.refining.summarize", lambda report: [("refined", 19)])
    assert run(["refine", "runs/a", "s", "--out", "r", "--images", "i/*.png"]) == 0
    out, err = capsys.readouterr()
    assert err == "warning: 1 of 20 images was left out\n"
    assert out.startswith("refined  19\n")
    options = "--out-of-range clip --jpeg-quality 80 --max-reject-share 0.2 --max-drift 1.5"
    assert run(f"refine runs/a s --out r {options}".split()) == 0
    wanted = [("refuse", 95, 0.05, None), ("clip", 80, 0.2, 1.5)]
    for (args, kwargs), pattern, values in zip(calls, ("i/*.png", "**/*"), wanted, strict=True):
        assert args == (simgan.ImageTree("s", pattern), Path("runs/a"), Path("r"))
        given = ("out_of_range", "jpeg_quality", "max_reject_share", "max_drift_px")
        assert tuple(kwargs[name] for name in given) == values


def test_a_centred_crop_is_height_times_width() -> None:
    assert parse_crop("center:6x8") == simgan.CenterCrop(height=6, width=8)
    assert parse_crop(None) is None


def test_a_crop_around_the_eye_has_a_margin_in_eye_widths() -> None:
    assert parse_crop("eye") == simgan.EyeCrop(margin=0.05)
    assert parse_crop("eye:0.2") == simgan.EyeCrop(margin=0.2)


def test_evaluate_hands_on_its_options_and_prints_the_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Recorder(simgan.Evaluation(RECORD))
    monkeypatch.setattr(simgan, "evaluate", evaluate)
    line = "evaluate --synthetic s --refined f --real r --real-labelled t --images i/* --real-images *.png"
    assert run([*line.split(), "--out", "e", "--seed", "5", "--task-seeds", "2", "--mirror"]) == 0
    kwargs = evaluate.calls[0][1]
    assert kwargs["synthetic"] == simgan.ImageTree(Path("s"), "i/*")
    assert kwargs["refined"] == simgan.ImageTree(Path("f"), "i/*")
    assert kwargs["real"] == simgan.ImageTree(Path("r"), "*.png")
    assert kwargs["real_labelled"] == simgan.ImageTree(Path("t"), "*.png")
    assert kwargs["real_dev"] is None
    assert (kwargs["out"], kwargs["seed"], kwargs["task_seeds"], kwargs["mirror"]) == (Path("e"), 5, 2, True)
    assert (kwargs["real_paths"], kwargs["value_range"]) == (None, None)
    assert capsys.readouterr().out.strip() == describe_evaluation(RECORD).strip()
    assert run([*line.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == RECORD


def test_evaluate_takes_the_value_range_and_the_held_out_images_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Recorder(simgan.Evaluation(RECORD))
    monkeypatch.setattr(simgan, "evaluate", evaluate)
    line = f"evaluate --synthetic s --refined f --real r --run {tmp_path}"
    assert run(line.split()) == 1
    assert "no data.json" in capsys.readouterr().err
    scale = {"low": 0, "high": 240, "step": 15, "invalid": 7}
    (tmp_path / "data.json").write_text(json.dumps({"real_held_out_paths": ["a.png"], "value_range": scale}))
    assert run(line.split()) == 0
    assert evaluate.calls[0][1]["real_paths"] == ["a.png"]
    assert evaluate.calls[0][1]["value_range"] == ValueRange(0, 240, 15, invalid=7)


def test_the_demo_is_run_in_its_folder_and_its_evaluation_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simgan.studies import demo

    def run_demo(run_dir: Path, **kwargs: Any) -> simgan.Evaluation:
        assert (run_dir, kwargs["seed"]) == (Path("here"), 4)
        kwargs["say"]("drawing digits")
        kwargs["warn"]("the levels differ")
        kwargs["progress"](Turn("adversarial", 10, 20, {"discriminator_accuracy": 0.75}, 90.0))
        return simgan.Evaluation(RECORD)

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert run(["demo", "--run", "here", "--seed", "4"]) == 0
    out, err = capsys.readouterr()
    assert "report: here/report.html" in out
    assert err.splitlines() == [
        "demo: drawing digits",
        "warning: the levels differ",
        "demo   50%  10 of 20  90 s left  adversarial  discriminator right 75%",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("[32, 48]", [32, 48]),
        ('"5"', "5"),
        ("data/real", "data/real"),
        ("a=b", "a=b"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_setting_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert parse_overrides([f"a.key={text}"]) == {"a.key": value}


def test_later_settings_win() -> None:
    assert parse_overrides(["seed=1", "seed=2"]) == {"seed": 2}
    assert parse_overrides(None) == {}


# -- progress, printing -----------------------------------------------------------------------------------------


def test_without_a_terminal_progress_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay("work")
    for done in range(1, 1001):
        display.advance(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "work    0%  1 of 1,000"
    assert lines[-1] == "work  100%  1,000 of 1,000"


def test_the_end_is_said_once_and_a_second_piece_of_work_anew(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay("work")
    for done, total in ((99, 100), (100, 100), (100, 100), (1, 2), (2, 2)):
        display.advance(done, total)
    said = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["99 of 100", "100 of 100", "1 of 2", "2 of 2"]


def test_on_a_terminal_a_bar_is_drawn_and_warnings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    written = io.StringIO()
    monkeypatch.setattr(
        "simgan.cli.progress.Console", lambda stderr: Console(file=written, force_terminal=True, width=100)
    )
    with showing_progress("training") as display:
        display.advance(1, 2, "half [of] it")
        display.say("still at it")
        display.warn("look [here]")
    assert "training" in written.getvalue()
    assert "warning: look [here]" in written.getvalue()
    with showing_progress("training") as display:
        display.show_turn(Turn("adversarial", 1, 2, {"discriminator_accuracy": 0.75}, 9.0))
    assert "adversarial  discriminator right 75%" in written.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (5900, "98 min"), (7500, "2 h 05 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_results_become_json_types() -> None:
    tree = simgan.ImageTree(Path("a/b"))
    assert plain({"tree": tree, "pair": (1, Path("c"))}) == {
        "tree": {"root": "a/b", "images": "**/*", "labels": None},
        "pair": [1, "c"],
    }
    assert plain(Configuration())["training"]["steps"] == Configuration().training.steps


def test_lines_are_aligned_and_empty_ones_left_out() -> None:
    assert align([("a", 1), ("longer", "x"), ("none", None), ("empty", "")]) == "a       1\nlonger  x"
    assert bullets("warnings", []) == ""
    assert bullets("warnings", ["one"]) == "\nwarnings:\n  - one"


_SIDE = {"auc": 0.9, "auc_low": 0.85, "auc_high": 0.95, "sliced_wasserstein": 0.1234}
_ARM = {"mean": 0.5, "low": 0.4, "high": 0.6, "n_seeds": 3, "n_test": 100, "n_train": 200}
RECORD: dict[str, Any] = {
    "realism": {
        "n": 50,
        "synthetic": _SIDE,
        "refined": {**_SIDE, "auc": 0.6},
        "floor": {**_SIDE, "auc": 0.5},
    },
    "downstream": {
        "task": "classification",
        "metric": "accuracy",
        "unit": "share of images",
        "real": {**_ARM, "mean": 0.9},
        "synthetic": _ARM,
        "refined": {**_ARM, "mean": 0.75},
        "gain": {"over_synthetic": {"mean": 0.25, "low": 0.2, "high": 0.3}},
        "gap_closed": {"median": 0.625, "low": 0.5, "high": 0.7, "n_seeds": 1},
        "reason": None,
    },
    "labels": {
        "judge_on_refined": 0.95,
        "judge_on_real": 0.93,
        "judge_on_synthetic": 0.97,
        "difference_points": 2.0,
        "low": -1.0,
        "high": 5.0,
        "holds": True,
    },
    "warnings": ["few groups"],
}


def test_an_evaluation_is_told_with_its_intervals() -> None:
    text = describe_evaluation(RECORD)
    for said in (
        "floor AUC 0.500",
        "synthetic 0.5 [0.4, 0.6]",
        "gain over_synthetic +0.25 [+0.2, +0.3]",
        "62% [50%, 70%]",
        "100 real test images, 1 refiner × 3 task models; the interval does not contain the spread",
        "labels hold",
        "+2.0 points [-1.0, +5.0]",
        "originals at 0.970 (refining cost +2.0 points)",
        "- few groups",
    ):
        assert said in " ".join(text.split())
    arms = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert arms.index("synthetic") < arms.index("refined") < arms.index("real") or "real" in arms


def test_what_was_not_measured_is_said_to_be_so() -> None:
    nothing = {"realism": None, "downstream": None, "labels": None, "warnings": []}
    assert describe_evaluation(nothing) == "realism: not measured\ndownstream: not measured"
    reason = {**RECORD["downstream"], "gap_closed": None, "reason": "there is no gap"}
    broken = {**RECORD["labels"], "holds": False}
    text = describe_evaluation({**RECORD, "downstream": reason, "labels": broken})
    assert "not said: there is no gap" in text
    assert "labels DO NOT HOLD" in text
    assert "not the refiner" not in text
    hard = {**broken, "judge_on_synthetic": 0.955, "cost_points": 0.5}
    assert "refining cost +0.5 points, so it is not the refiner" in describe_evaluation(
        {**RECORD, "labels": hard}
    )


def test_a_pooled_evaluation_is_told_with_its_refiners() -> None:
    text = describe_evaluation({**RECORD, "n_runs": 3})
    assert "100 real test images, 3 refiners × 1 task model\n" in text
