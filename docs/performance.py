"""Writes docs/performance.md and its pictures from the newest files in benchmarks/results: run `make docs`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PAGE = DOCS / "performance.md"
PICTURES = DOCS / "images"

PARTS = {
    "refine": "refine",
    "update_refiner": "update of R",
    "update_discriminator": "update of D",
    "step": "step of Algorithm 1",
}
_TOGETHER = (
    "in the same process, with the same allocator settings"  # records older than `benchmarks/elsewhere.py`
)
AIMED = 5.0  # times as fast as the reference

HEAD = """\
# How fast, how large, how it grows

<!-- Made by docs/performance.py from benchmarks/results: run `make bench`, then `make docs`. -->

Everything here is of a processor; `benchmarks/gpu.py` measures GPUs. Times are wall time, medians with quartiles;
beside their ratios stand those by processor time, which other programs on the machine disturb less. The *reference* is
Algorithm 1 written plainly (`benchmarks/reference.py`: eager, float32), which is tested to compute the same losses.
*channels_last* is the reference in that memory layout. The *peak* is the best of three products of matrices in the
same run and precision: 2048³, 4096³, and one of the shape of a layer; another library may be above it. The
reference runs in a process of its own, at PyTorch's defaults, as it would for its users. There the C library hands back
the memory of large feature maps, and the system clears it again: up to two fifths of the reference's time (refining
128 images: 550 ms with simgan's setting, `nn.allocation`, 937 ms without).
"""


def performance_page() -> str:
    """The text of docs/performance.md."""
    parts = [HEAD]
    sections = {
        "steps": _steps,
        "refine_folder": _folder,
        "memory": _memory,
        "growth": _growth,
        "demo_routes": _routes,
    }
    for name, section in sections.items():
        found = newest(name)
        if found is not None:
            parts.append(section(found))
    return "".join(parts)


def newest(name: str) -> dict[str, Any] | None:
    """The newest results of a benchmark: benchmarks/results/NAME/DATE.json, or NAME.json; None where there are none."""
    files = sorted((RESULTS / name).glob("*.json")) or [RESULTS / f"{name}.json"]
    if not files[-1].exists():
        return None
    found: dict[str, Any] = json.loads(files[-1].read_text("utf-8"))
    return found


def _machine(found: dict[str, Any]) -> str:
    m = found["machine"]
    load = f", load {m['load']:.1f} when it began" if "load" in m else ""
    return (
        f"Measured {m['date']} on {m['processor']}, {m['cores']} cores, "
        f"{m['threads']} thread{'s' * (m['threads'] > 1)}, torch {m['torch']}{load}.\n"
        + (f"Beside it: {m['beside']}.\n" if "beside" in m else "")
    )


def _steps(found: dict[str, Any]) -> str:
    text = "\n## Refining and training\n\n`make bench`, or `simgan bench`. " + _machine(found)
    peaks = ", ".join(
        f"{name} {found['peak'][name]['best_flops'] / 1e12:.2f}" for name in ("bfloat16", "float32")
    )
    text += f"Peak in TFLOP/s: {peaks}.\n"
    for task in (name for name in ("paper-gaze", "default", "paper-hands") if name in found):
        results = found[task]
        text += (
            f"\n### {task}\n\nBatch {results['batch']}; refined are {results['refined_images']} images in memory. The "
            f"reference ran {results.get('reference_ran', _TOGETHER)}.\n\n"
            "| | route | ms (quartiles) | × reference | by processor time | share of peak |\n"
            "|---|---|---:|---:|---:|---:|\n"
        )
        for part, title in PARTS.items():
            for route, taken in results[part].items():
                text += _row(title, route, taken)
                title = ""
        text += _errors(results["refine"]) + _said_of(results)
    return text


def _row(title: str, route: str, taken: dict[str, Any]) -> str:
    low, middle, high = (taken[f"{key}_sec"] * 1e3 for key in ("quartile_low", "median", "quartile_high"))
    share = f"{taken['share_of_peak']:.0%}" if "share_of_peak" in taken else ""
    return (
        f"| {title} | {route} | {middle:.1f} ({low:.1f} to {high:.1f}; n = {taken['n']}) | "
        f"{taken['times_as_fast_as_reference']:.2f} | {taken['in_processor_time']:.2f} | {share} |\n"
    )


def _errors(refine: dict[str, Any]) -> str:
    text = (
        "\nHow far each route is from torch in float32:\n\n"
        "| route | images | largest, on [-1, 1] | grey levels | values on another level |\n"
        "|---|---:|---:|---:|---:|\n"
    )
    for route, taken in refine.items():
        if "error" in taken:
            e = taken["error"]
            text += (
                f"| {route} | {e['n_images']} | {e['value_difference']:.1e} | {e['level_difference']} | "
                f"{e['differing_share']:.2%} |\n"
            )
    return text


def _said_of(results: dict[str, Any]) -> str:
    """Which aims are met and which are not, from the figures alone."""
    met, missed = [], []
    for part, title in PARTS.items():
        routes = results[part]
        mine = routes.get("simgan bfloat16")
        if mine is not None:
            ratio = mine["times_as_fast_as_reference"]
            (met if ratio >= AIMED else missed).append(
                f"{title} {ratio:.1f}× the reference ({AIMED:.0f}× is aimed at)"
            )
        plain, own = routes["reference channels_last"], routes["simgan float32"]
        share = own["median_sec"] / plain["median_sec"]
        said = f"{title} in float32 takes {share:.2f} of the plain one's time in channels_last"
        slower = own["quartile_low_sec"] > plain["quartile_high_sec"]
        (missed if slower else met).append(f"{said} (not slower is aimed at: beyond the quartiles)")
    fastest = max(results["refine"].items(), key=lambda one: one[1]["times_as_fast_as_reference"])
    name, taken = fastest
    ratio, share = taken["times_as_fast_as_reference"], taken.get("share_of_peak", 0.0)
    said = f"refine by the fastest route, {name}: {ratio:.1f}× the reference, {share:.0%} of the peak (6× and 75 %)"
    (met if ratio >= 6 and share >= 0.75 else missed).append(said)
    text = "\nReached: " + ("; ".join(met) or "nothing") + ".\n"
    return text + (f"\n**Not reached:** {'; '.join(missed)}.\n" if missed else "")


def _folder(found: dict[str, Any]) -> str:
    share, by_cpu = found["folder_share_of_compute"], found["folder_share_of_compute_by_cpu_time"]
    rates, start = found["images_per_sec"], found["start_beyond_torch_sec"]
    ceiling = found["ceiling_by_cpu_time"]

    def spread(value: dict[str, float], form: str) -> str:
        return f"{value['median']:{form}} ({value['low']:{form}} to {value['high']:{form}})"

    return (
        "\n## From folder to folder\n\n`python benchmarks/refine_folder.py`. " + _machine(found)
        + f"\n{found['images']:,} PNG of 35×55 by the published gaze refiner, {found['rounds']} rounds, medians with "
        "lowest and highest:\n\n| | |\n|---|---:|\n"
        f"| network alone, images a second | {spread(rates['compute'], '.0f')} |\n"
        f"| arrays to arrays | {spread(rates['refined'], '.0f')} |\n"
        f"| folder to folder | {spread(rates['folder'], '.0f')} |\n"
        f"| the same files decoded, encoded and written, no network | {spread(rates['files'], '.0f')} |\n"
        f"| folder to folder, share of the network alone (80 % is aimed at) | {spread(share, '.0%')} |\n"
        f"| the same by processor time | {spread(by_cpu, '.0%')} |\n"
        f"| what it would be if all but network and files cost nothing | {spread(ceiling, '.0%')} |\n"
        f"| start of the command beyond importing torch, s (2 is aimed at) | {spread(start, '.2f')} |\n"
        f"| largest resident memory, MiB | {found['largest_resident_mib']:.0f} |\n"
    )  # fmt: skip


def _memory(found: dict[str, Any]) -> str:
    text = (
        "\n## Memory\n\n`python benchmarks/memory.py --work DIR`. " + _machine(found)
        + "\nTraining by `default`, with task consistency and self-ensembling, from shards of labelled PNG: the "
        "largest anonymous memory (RssAnon, read every 20 ms) while the images are listed and decoded into the "
        "memory-mapped cache, and while it trains; 1,536 MiB is aimed at. One run each.\n\n"
        "| synthetic images | real | reading, MiB | training, MiB |\n|---:|---:|---:|---:|\n"
    )  # fmt: skip
    for row in found["measured"]:
        text += (
            f"| {row['images']:,} | {row['real_images']:,} | {row['peak_reading_mib']:,.0f} | "
            f"{row['peak_training_mib']:,.0f} |\n"
        )
    return text + "\n![Anonymous memory over the number of images](images/memory.svg)\n"


def _growth(found: dict[str, Any]) -> str:
    text = (
        "\n## Growth\n\n`python benchmarks/growth.py`. " + _machine(found)
        + "\nThe published gaze refiner, and the step of Algorithm 1 with its networks at batch 16; one thing is "
        "varied in each row. The slope is that of log seconds over log work, of the points within a factor of 20 of "
        "the most work: 1 is growth as the work, above 1 is faster.\n\n"
        "| varied | from, to | slope | by processor time |\n|---|---:|---:|---:|\n"
    )  # fmt: skip
    for name, series in found["series"].items():
        ends = f"{series['points'][0]['at']:g}, {series['points'][-1]['at']:g}"
        text += f"| {name} | {ends} | {series['slope']:.2f} | {series['slope_in_processor_time']:.2f} |\n"
    return text + "\n![Seconds over work](images/growth.svg)\n"


def _routes(found: dict[str, Any]) -> str:
    text = (
        f"\n## The same quality\n\n`python benchmarks/demo_routes.py --work DIR --seed {found['seed']}`. "
        + _machine(found)
        + "\n`simgan demo` by the route that this processor has, and in float32 throughout. Accuracy of digit models "
        "on real handwritten digits (test), with 95 % intervals over task seeds and test images, one refiner each:\n\n"
        "| route | n | synthetic | **refined** | gain, points |\n|---|---:|---:|---:|---:|\n"
    )  # fmt: skip
    for one in found["routes"].values():
        arms = one["evaluation"]["downstream"]
        synthetic, refined, gain = arms["synthetic"], arms["refined"], arms["gain"]["over_synthetic"]
        text += (
            f"| {one['route']} | {refined['n_test']} | {_points(synthetic)} | {_points(refined)} | "
            f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}] |\n"
        )
    return text


def _points(arm: dict[str, float]) -> str:
    return f"{arm['mean']:.1%} [{arm['low']:.1%}, {arm['high']:.1%}]"


def draw() -> None:
    """The pictures of growth and of memory."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "simgan", "font.size": 8, "svg.fonttype": "none"}
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    growth, memory = newest("growth"), newest("memory")
    if growth is not None:
        figure, panels = plt.subplots(2, 4, figsize=(11, 5), layout="constrained")
        for panel, (name, series) in zip(panels.flat, growth["series"].items(), strict=True):
            work = [point["operations"] / 1e9 for point in series["points"]]
            taken = [point["median_sec"] for point in series["points"]]
            panel.loglog(work, taken, "o-", color="#0a6", markersize=4, label="measured")
            panel.loglog(
                work, [taken[-1] * one / work[-1] for one in work], ":", color="#777", label="as the work"
            )
            for point, x, y in zip(series["points"], work, taken, strict=True):
                panel.annotate(
                    f"{point['at']:g}", (x, y), xytext=(0, 5), textcoords="offset points", ha="center"
                )
            panel.set_title(f"{name}\nslope {series['slope']:.2f}", fontsize=8)
            panel.set_xlabel("work, 10⁹ operations")
            panel.set_ylabel("seconds")
            panel.margins(y=0.15)
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_minor_formatter(NullFormatter())
        panels.flat[0].legend(frameon=False)
        figure.savefig(PICTURES / "growth.svg", metadata={"Date": None})
    if memory is not None:
        figure, panel = plt.subplots(figsize=(5, 3), layout="constrained")
        images = [row["images"] for row in memory["measured"]]
        for key, colour in (("training", "#0a6"), ("reading", "#06a")):
            panel.semilogx(
                images, [row[f"peak_{key}_mib"] for row in memory["measured"]], "o-", color=colour, label=key
            )
        panel.axhline(1536, color="#a33", linestyle=":", label="aimed at")
        panel.set_ylim(0)
        panel.set_xlabel("synthetic images of 35×55")
        panel.set_ylabel("RssAnon at most, MiB")
        panel.legend(frameon=False)
        figure.savefig(PICTURES / "memory.svg", metadata={"Date": None})


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(f"docs/performance.py takes no arguments, got {sys.argv[1:]}")
    PAGE.write_text(performance_page(), encoding="utf-8")
    draw()
