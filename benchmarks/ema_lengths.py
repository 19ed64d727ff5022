"""What another length of the average gains: FID of a run's weights averaged over several lengths, on the same noise.

    python benchmarks/ema_lengths.py --run RUN --reference IMAGES [--lengths S ...] [--seeds N] [--num-images N]
        [--features NAME] [--steps N] [--guidance S] [--json out.json]

The run kept snapshots (ema.snapshot_every). Its own average (ema.decay) and its last weights stand beside the lengths.
What an image is drawn from depends on seed and number alone, so a difference is paired by seed; its interval is
Student's over the seeds, of noise and not of trainings. FID of few samples is high for all of them alike.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from flowgression import InputError, load_pipeline
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.images import ArrayImages
from flowgression.evaluation.run import extractor_for, open_reference
from flowgression.evaluation.statistics import Statistics, collect
from flowgression.sampling.batches import sample_batches
from flowgression.study.differences import paired, shown
from flowgression.training.checkpoint import latest_checkpoint
from flowgression.training.post_hoc_ema import LONGEST, reconstruct
from flowgression.training.run_folder import RunFolder

LENGTHS = (0.02, 0.05, 0.1, 0.15, 0.2, LONGEST)
OWN, LAST = "the run's own", "none: the last weights"
Judge = Callable[[Any], dict[int, float]]
"""A pipeline -> FID by seed."""


def averages(run: Path, pipe: Any, lengths: list[float]) -> Iterator[str]:
    """Names of the averages, one after the other; while one is in hand, `pipe` has its weights."""
    yield OWN
    folder = RunFolder(run)
    newest = latest_checkpoint(folder.checkpoints)
    if newest is None:
        raise InputError(f"{run} has no checkpoint, so its last weights are not known")
    last = load_pipeline(str(newest / "model"))
    pipe.transformer.load_state_dict(last.transformer.state_dict())
    yield LAST
    for length in lengths:
        weights = reconstruct(folder.snapshots, length)
        pipe.transformer.load_state_dict(pipe.transformer.state_dict() | weights)
        yield f"length {length:.3g}"


def judge(args: argparse.Namespace) -> Judge:
    """FID of `args.num_images` samples for each seed against the reference."""
    reference = open_reference(args.reference, args.image_size)
    extractor = extractor_for(reference, args.features, "cpu")
    real = reference if isinstance(reference, Statistics) else collect(reference, extractor)

    def found(pipe: Any) -> dict[int, float]:
        call = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
        call = {name: value for name, value in call.items() if value is not None}
        labels = [number % pipe.transformer.config.num_classes for number in range(args.num_images)]
        values = {}
        for seed in range(1, args.seeds + 1):
            # Image i of a seed is drawn from seed + i, so seeds are so far apart that none is drawn twice.
            batches = sample_batches(pipe, labels, call, seed=seed * args.num_images, batch_size=50, shown=False)
            images = np.concatenate([batch.images for batch in batches])
            samples = collect(ArrayImages("samples", images), extractor)
            fid = compare(samples, real, num_replicates=0).estimates["fid"]
            if fid.value is None:
                raise InputError(f"no FID: {fid.reason}")
            values[seed] = fid.value
        return values

    return found


def table(values: dict[str, dict[int, float]]) -> Iterator[str]:
    """FID of each average, and its difference to the run's own with the 95 % interval."""
    yield "| average | FID | beside the run's own |"
    yield "|---|---:|---:|"
    for name, by_seed in values.items():
        difference = "" if name == OWN else shown(paired(by_seed, values[OWN]), 3)
        yield f"| {name} | {fmean(by_seed.values()):.3f} | {difference} |"


def main() -> int:
    """Draw, judge and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="the folder of the run")
    add("--reference", required=True, help="images, or their statistics, as of `flowgression evaluate`")
    add("--features", help="by default those that fit the reference")
    add("--image-size", type=int)
    add("--lengths", type=float, nargs="+", default=list(LENGTHS))
    add("--seeds", type=int, default=5)
    add("--num-images", type=int, default=500, help="of each seed")
    add("--steps", type=int, help="Euler steps (the model's)")
    add("--guidance", type=float, help="(the model's)")
    add("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = load_pipeline(str(args.run))
    pipe.set_progress_bar_config(disable=True)
    fids: Judge = judge(args)
    values = {}
    for name in averages(args.run, pipe, args.lengths):
        values[name] = fids(pipe)
        print(f"{name}: {fmean(values[name].values()):.3f}", file=sys.stderr, flush=True)
    print("\n".join(table(values)))
    machine = torch.backends.cpu.get_cpu_capability()
    print(
        f"\n{args.seeds} seeds of {args.num_images} samples each; {date.today()}, {machine}, torch {torch.__version__}"
    )
    if args.json:
        args.json.write_text(json.dumps(values, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
