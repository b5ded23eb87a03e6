"""What a GPU makes of SimGAN, in one run: ceilings, roofline, refining, whole steps, agreement, total time, streaming.

    python benchmarks/gpu.py --out gpu.json                 all sections but the long training, about four minutes
    python benchmarks/gpu.py --out gpu.json --full          also trains paper-gaze to its end, with sample grids
    python benchmarks/gpu.py --device cpu --quick           the same code on small sizes, to try it

Needs torch ≥ 2.9 and numpy, and makes its own data. Every section that fails is said and left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import measuring
import torch
from gpu_refining import CEILINGS, layer_table, refine_rates, stream_through
from gpu_refining import ceilings as measure_ceilings
from gpu_training import Scale, check_capture, loss_curves, profile, step_times, train_whole
from measuring import Report, describe_machine, say

_NEEDS_SEC = {"stream": 12.0, "compiled": 40.0, "compiled_steps": 40.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file of all results, written after each section")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--full", action="store_true", help="train paper-gaze to its end")
    parser.add_argument("--sections", help="names, comma separated")
    parser.add_argument("--seconds", type=float, default=0.0, help="for all sections but the whole training")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    scale = Scale.quick() if chosen.quick else Scale.whole()
    folder = chosen.out.parent if chosen.out else Path()
    seconds = chosen.seconds or (60 if chosen.quick else 225)
    report = Report(chosen.out, describe_machine(device), seconds + (3600 if chosen.full else 0))
    say(f"{report.results['machine']}")
    sections = {
        "ceilings": lambda: measure_ceilings(scale, device),
        "refine": lambda: refine_rates(scale, device, CEILINGS),
        "steps": lambda: step_times(scale, device, CEILINGS),
        "curves": lambda: loss_curves(scale, device),
        "layers": lambda: layer_table(scale, device, CEILINGS),
        "profile": lambda: profile(scale, device),
        "stream": lambda: stream_through(scale, device),
        "capture_check": lambda: check_capture(scale, device),
        "compiled": lambda: refine_rates(scale, device, CEILINGS, compiling=True),
        "compiled_steps": lambda: step_times(scale, device, CEILINGS, compiling=True),
    }
    if chosen.full:
        sections = {
            "ceilings": sections["ceilings"],
            "full": lambda: train_whole(scale, device, folder),
            **sections,
        }
    default = [name for name in sections if device.type == "cuda" or not name.startswith("compiled")]
    names = chosen.sections.split(",") if chosen.sections else default
    unknown = sorted(set(names) - set(sections))
    if unknown:
        parser.error(f"no sections {', '.join(unknown)}; there are: {', '.join(sections)}")
    if "ceilings" not in names:
        names = ["ceilings", *names]  # all shares are of what this machine does in this run
    started = time.perf_counter()
    for name in names:
        report.section(name, sections[name], needs_sec=_NEEDS_SEC.get(name, 2))
    say(f"done in {time.perf_counter() - started:.0f} s{f'; written to {chosen.out}' if chosen.out else ''}")


if __name__ == "__main__":
    measuring.quiet_warnings()
    main()
