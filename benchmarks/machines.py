"""What differs between machines and decides which defaults are fast, as one table to compare them by.

    python benchmarks/machines.py [--quick] [--json out.json]

Speed of matrix products by dtype; a training step with Muon against AdamW's; drawing in half precision against float32;
low-rank attention by its matrix of logits (dense) against its features; all threads against one. Sides take turns;
medians; processor time on one thread, but for the last row.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
import yaml

import flowgression
from flowgression.layers import lowrank_attention as lowrank
from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

CONFIGS = Path(__file__).parents[1] / "configs"
TRAINED = ("sit-mnist", "arflow-mnist", "flowar-mnist")
ALLOWED = 1.25  # Muon's step over AdamW's
Compute = Callable[[], object]


def in_turn(sides: dict[str, Compute], rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, float]:
    """Median seconds of each side after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, compute in sides.items():
            begin = clock()
            compute()
            times[name].append(clock() - begin)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def products(side: int, rounds: int) -> dict[str, float]:
    """GFLOP/s of square matrix products by dtype."""
    matrices = {name: torch.ones(side, side, dtype=getattr(torch, name)) for name in ("float32", "bfloat16", "float16")}
    seconds = in_turn({name: (lambda x=x: x @ x) for name, x in matrices.items()}, rounds)
    return {f"{name} products, GFLOP/s": 2 * side**3 / value / 1e9 for name, value in seconds.items()}


def muon(names: tuple[str, ...], rounds: int) -> dict[str, float | str]:
    """A training step with Muon over one with AdamW, for built-in recipes, and in which dtype Muon multiplies."""
    found: dict[str, float | str] = {}
    for name in names:
        values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        config = config_from_dict(TrainConfig, {**values, "num_threads": 1, "tracker": "none"})
        trainers = {
            kind: Trainer(replace(config, optimizer=replace(config.optimizer, name=kind))) for kind in ("adamw", "muon")
        }
        seconds = in_turn({kind: stepping(trainer) for kind, trainer in trainers.items()}, rounds)
        found["Muon multiplies in"] = trainers["muon"].config.optimizer.muon_dtype
        found[f"{name}: step with Muon / with AdamW"] = seconds["muon"] / seconds["adamw"]
    return found


def stepping(trainer: Trainer) -> Compute:
    """A training step on one batch, again and again."""
    batch = next(trainer.batches(0))
    return lambda: training_step(trainer, 1, batch)


def drawing(rounds: int, steps: int) -> dict[str, float]:
    """Time of drawing in half precision over that in float32."""
    sides = {}
    for dtype in ("float32", "bfloat16", "float16"):
        pipe = flowgression.load_pipeline("sit-mnist", dtype=getattr(torch, dtype))
        pipe.set_progress_bar_config(disable=True)
        sides[dtype] = lambda pipe=pipe: pipe([0, 1, 2, 3], num_inference_steps=steps)
    seconds = in_turn(sides, rounds)
    return {f"drawing in {name} / in float32": seconds[name] / seconds["float32"] for name in ("bfloat16", "float16")}


def dense(tokens: tuple[int, ...], rounds: int) -> dict[str, float]:
    """Low-rank attention (four heads of width 8, degree 2) by its matrix of logits over the same by its features."""
    found, limits = {}, (lowrank.DENSE_PER_RANK, lowrank.MOST_DENSE)
    layer = lowrank.LowRankAttention(4, 8, lowrank.LowRank(2, 2.0), causal=False)

    def attend(x: torch.Tensor, most: int) -> None:
        lowrank.DENSE_PER_RANK = lowrank.MOST_DENSE = most  # above it features are made
        with torch.no_grad():
            layer(x, x, x, [x.shape[2]])

    try:
        for count in tokens:
            x = torch.randn(4, 4, count, 8)
            sides = {"dense": lambda x=x: attend(x, 10**6), "features": lambda x=x: attend(x, 0)}
            seconds = in_turn(sides, 10 * rounds)
            found[f"low-rank attention, {count} tokens: logits / features"] = seconds["dense"] / seconds["features"]
    finally:
        lowrank.DENSE_PER_RANK, lowrank.MOST_DENSE = limits
    return found


def threads(side: int, rounds: int) -> dict[str, float]:
    """A product on all threads over one, in time by the clock on the wall."""
    x, most = torch.ones(side, side), os.cpu_count() or 1

    def on(count: int) -> None:
        torch.set_num_threads(count)
        x @ x

    seconds = in_turn({"one": lambda: on(1), "all": lambda: on(most)}, rounds, time.perf_counter)
    torch.set_num_threads(1)
    return {f"product on {most} threads / on one": seconds["all"] / seconds["one"]}


def measure(quick: bool) -> dict[str, float | str]:
    """All rows of the table."""
    torch.set_num_threads(1)
    rounds = 1 if quick else 5
    return {
        **products(128 if quick else 768, rounds),
        **muon(TRAINED[:1] if quick else TRAINED, rounds),
        **drawing(rounds, 1 if quick else 4),
        **dense((16,) if quick else (16, 64, 128), rounds),
        **threads(128 if quick else 1024, rounds),
    }


def main() -> int:
    """Measure and print. Exit status 1 where a step with Muon takes more than 1.25 times one with AdamW."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute, with figures that mean little")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args.quick)
    machine = (
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {date.today()}"
    )
    print(f"| | {machine} |\n|---|---:|")
    for name, value in found.items():
        print(f"| {name} | {value if isinstance(value, str) else f'{value:.2f}' if value < 100 else f'{value:.0f}'} |")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n")
    slow = [name for name, value in found.items() if "AdamW" in name and isinstance(value, float) and value > ALLOWED]
    return 0 if args.quick or not slow else 1


if __name__ == "__main__":
    sys.exit(main())
