"""Writes docs/large.md from the files that the benchmarks leave in benchmarks/results: run `make docs` after one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "benchmarks" / "results"
PAGE = Path(__file__).parent / "large.md"

HEAD = """\
# Large: what was measured

<!-- Made by docs/large.py from benchmarks/results: run the benchmarks, then `make docs`. -->

How to do it stands in the [guide](guide.md#many-images-shards). Each figure names its number of images or updates, and
the command that makes it. Rates are single runs on one machine, whose load at the end stands beside them: above the
number of cores, other programs were at work too.
"""


def large_page() -> str:
    """The text of docs/large.md; what was not measured is not there."""
    return HEAD + "".join(
        section(found) for name, section in SECTIONS.items() if (found := _read(name)) is not None
    )


def _read(name: str) -> Any:
    path = FOLDER / f"{name}.json"
    if path.with_suffix("").is_dir():
        return {run.stem: json.loads(run.read_text("utf-8")) for run in path.with_suffix("").glob("*.json")}
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _shards(found: dict[str, Any]) -> str:
    rates, of_cpu, machine = found["images_per_sec"], found["images_per_cpu_sec"], found["machine"]
    (height, width), refiner = found["size"], found["refiner"]
    memory = ", ".join(f"{most:.0f}" for most in found["rss_anon_mib_by_tenth"])
    return (
        "\n## Many images in shards\n\n"
        f"`python benchmarks/shards.py --count {found['images']} --workers {found['workers']}`: {found['images']:,} "
        f"grey PNG of {height}×{width} in shards, PNG in and PNG out, by a refiner of {refiner['width']} maps and "
        f"{refiner['blocks']} blocks of random weights ({found['route']}); {found['workers']} processes on "
        f"{machine['cores']} cores, load {machine['load'][0]:.1f}. Of them {found['refined_in_this_call']:,} in the "
        f"call that was timed, in {found['seconds']:,.0f} s.\n\n"
        "| | images per second | images per second of processor time |\n|---|---|---|\n"
        f"| network alone, images in memory | {rates['compute']:,.0f} | {of_cpu['compute']:,.0f} |\n"
        f"| shards into shards | {rates['refined']:,.0f} | {of_cpu['refined']:,.0f} |\n"
        f"| share | {found['share_of_compute']:.0%} | {found['share_of_compute_by_cpu_time']:.0%} |\n\n"
        f"Anonymous memory of all processes in MiB, the largest in each tenth of the run: {memory}.\n"
    )


def _engines(runs: dict[str, dict[str, Any]]) -> str:
    """Both engines on the same shards, one after the other, in both orders: the machine itself changes its pace. A
    run's name is the number of its pair, a or b as it was first or second, and its engine."""
    pairs = [
        {run["engine"]: run for name, run in sorted(runs.items()) if name[0] == number}
        for number in sorted({name[0] for name in runs})
    ]
    rows = "".join(
        f"| {number} | {one['ray']['images']:,} | {one['ray']['route']} | "
        f"{one['processes']['seconds']:.0f} s | {one['ray']['seconds']:.0f} s | "
        f"{one['ray']['seconds'] / one['processes']['seconds'] - 1:+.1%} | "
        f"{one['processes']['share_of_compute'] / one['ray']['share_of_compute'] - 1:+.1%} | "
        f"{'Ray' if next(iter(one)) == 'ray' else 'pool'} |\n"
        for number, one in enumerate(pairs, 1)
    )
    routes = dict.fromkeys(one["ray"]["route"] for one in pairs)
    together = ", ".join(f"{_longer(pairs, route):+.1%} ({route})" for route in routes)
    return (
        "\n## Ray beside the pool of processes\n\n"
        "`python benchmarks/shards.py --count IMAGES --workers 2`, without and with `--cluster ray`, and `--out "
        "benchmarks/results/engines/…`, the same images, Ray's start included, nothing else at work on 2 cores "
        "(but for pair 3: scripts of low priority, for about two minutes). "
        "*Against the network*: with each run's time measured in the rate of the network alone just before and after "
        "it.\n\n"
        "| pair | images | route | pool | Ray | Ray longer by | against the network | first was |\n"
        "|---|---|---|---|---|---|---|---|\n"
        f"{rows}\n"
        f"Together {together}. Ray's start costs the same whatever the number of "
        "images, here about 9 s; afterwards its own processes (driver, GCS, raylet, three actors of Ray Data's that "
        "wake a hundred times a second) share the cores with the workers: the more cores, the less of them. "
        "On one machine its actors and monitors run at the lowest priority, when the workers leave something.\n"
    )


def _longer(pairs: list[dict[str, Any]], route: str) -> float:
    """By which share Ray takes longer than the pool, over all pairs of a route."""
    took = {
        engine: sum(one[engine]["seconds"] for one in pairs if one[engine]["route"] == route)
        for engine in ("processes", "ray")
    }
    return took["ray"] / took["processes"] - 1


def _ranks(found: dict[str, Any]) -> str:
    seconds, machine = found["seconds_of_a_step"], found["machine"]
    return (
        "\n## Two processes train one run\n\n"
        f"`python benchmarks/ranks.py --batch {found['batch_size']}`: the networks of {found['recipe']} in float32, "
        f"learning rates a tenth of the published ones, a global batch of {found['batch_size']}. Over the first "
        f"{found['updates_compared']} updates, "
        f"{found['numbers_compared']} numbers of losses and accuracies, two processes of one thread are at most "
        f"{found['largest_relative_difference']:.1e} (relative) from one. A step takes {seconds['one process']:.2f} s "
        f"by one and {seconds['two processes']:.2f} s by two: {found['speed_up']:.2f} times as fast (mean of "
        f"{found['steps_timed']} steps, {machine['cores']} cores, load {machine['load'][0]:.1f}).\n"
    )


def _export(found: dict[str, Any]) -> str:
    rows = "".join(
        f"| {case} ({_weights(about)}) | {label} | {p['n_images']:,} | {p['value_difference']:.1e} | "
        f"{p['level_difference']} | {p['differing_share']:.4%} |\n"
        for case, about in found["cases"].items()
        for label, p in about["parity"].items()
    )
    return (
        "\n## Exported refiners beside torch\n\n"
        "`python benchmarks/export_parity.py --refiner RUN --rounds 0`: largest difference from torch in float32, on "
        "[-1, 1] and in grey levels end to end, and the share of pixels that are on another level.\n\n"
        "| images | computed by | n | on [-1, 1] | levels | other level |\n|---|---|---|---|---|---|\n"
        f"{rows}"
    )


def _weights(about: dict[str, Any]) -> str:
    said = about["provenance"]
    return said if isinstance(said, str) else f"trained, recipe {said['recipe']}, step {said['step']}"


SECTIONS = {"shards": _shards, "engines": _engines, "ranks": _ranks, "export_parity": _export}


if __name__ == "__main__":
    PAGE.write_text(large_page(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
