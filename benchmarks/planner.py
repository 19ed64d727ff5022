"""The planner's memory and time against runs on a CPU.

    python benchmarks/planner.py [--json out.json]

Each case trains two steps on the built-in digits in processes of its own, on one thread. Memory is the most that is
resident, less what was before the network was made, when a tiny one had loaded the libraries. Time is processor time of
the faster step. The efficiency is that of the first case, against the speed of a large matrix
product; with it the planner predicts the time of the others.
"""

import argparse
import ctypes
import json
import multiprocessing
import platform
import re
import time
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from flowgression.data import DataConfig
from flowgression.training.config import TrainConfig
from flowgression.training.planner import Gpu, make_plan
from flowgression.training.settings import ModelConfig, PreviewConfig
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

TRANSFORMER = {"patch_size": 2, "hidden_size": 384, "depth": 6, "num_heads": 6, "in_channels": 1, "num_classes": 10}
FLOWAR = {
    "hidden_size": 384, "encoder_depth": 2, "decoder_depth": 2, "num_heads": 6, "flow_width": 384, "flow_depth": 2,
    "flow_num_heads": 6, "in_channels": 1, "num_classes": 10,
}  # fmt: skip
SIT = TrainConfig(
    model=ModelConfig(family="sit", args={**TRANSFORMER, "sample_size": 32}),
    data=DataConfig("mnist", split="test", image_size=32),
    sequence_length=1,
    batch_size=4,
    device="cpu",
    num_threads=1,
    out="unused",
    preview=PreviewConfig(every=0),
    tracker="none",
)
CASES = {
    "SiT, batch 4": SIT,
    "SiT, batch 8 in two parts": replace(SIT, batch_size=8, gradient_accumulation=2),
    "SiT, batch 8, checkpointing": replace(SIT, batch_size=8, activation_checkpointing=True),
    "ARFlow, one sequence of 5": replace(
        SIT, model=replace(SIT.model, family="arflow"), sequence_length=5, batch_size=5
    ),
    "FlowAR, batch 8": replace(
        SIT,
        model=ModelConfig(family="flowar", args={**FLOWAR, "sample_size": 16}),
        data=replace(SIT.data, image_size=16),
        batch_size=8,
    ),
}


def resident(name: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (at most)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])  # type: ignore[index]


def measured(config: TrainConfig, results: Any) -> None:
    """Put (peak bytes, processor seconds of a step) into a queue."""
    torch.set_num_threads(1)
    train_steps(replace(config, model=tiny(config.model)), [])
    ctypes.CDLL(None).malloc_trim(0)  # glibc: what the tiny one left would be used again, uncounted
    before, seconds = resident("VmRSS"), list[float]()
    train_steps(config, seconds)
    results.put((resident("VmHWM") - before, min(seconds)))


def tiny(model: ModelConfig) -> ModelConfig:
    """The same kind of network with few weights."""
    return replace(model, args=model.args | {name: 72 for name in ("hidden_size", "flow_width") if name in model.args})


def train_steps(config: TrainConfig, seconds: list[float]) -> None:
    """Two steps, with the processor seconds of each; the highest mark of memory is the second's."""
    trainer = Trainer(config)
    for step, batch in enumerate(islice(trainer.batches(0), 2)):
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
        start = time.process_time()
        training_step(trainer, step, batch)
        seconds.append(time.process_time() - start)


def matrix_speed() -> float:
    """TFLOP/s of a large product on one thread."""
    torch.set_num_threads(1)
    a, b = torch.randn(2, 1536, 1536)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        a @ b
        seconds.append(time.process_time() - start)
    return 2 * 1536**3 / min(seconds) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    console, context = Console(width=110), multiprocessing.get_context("fork")
    speed, efficiency = matrix_speed(), 0.0
    console.print(f"{platform.machine()} CPU, one thread, {1000 * speed:.0f} GFLOP/s; {date.today()}")
    names = ("MiB", "planned", "error", "s a step", "planned", "error", "efficiency")
    table, figures = Table("case", *names), {}
    for name, config in CASES.items():
        queue = context.SimpleQueue()
        process = context.Process(target=measured, args=(config, queue))
        process.start()
        peak, seconds = queue.get()
        process.join()
        plan = make_plan(config, Gpu(speed, speed, 1, 0), 1, efficiency or 1.0)
        reached = plan.flops / (seconds * speed * 1e12)
        if not efficiency:
            efficiency, plan = reached, replace(plan, seconds=seconds)
        error, late = plan.peak / peak - 1, plan.seconds / seconds - 1
        memory = [f"{size / 2**20:.0f}" for size in (peak, plan.peak)]
        table.add_row(
            name, *memory, f"{error:+.0%}", f"{seconds:.2f}", f"{plan.seconds:.2f}", f"{late:+.0%}", f"{reached:.2f}"
        )
        figures[name] = {"memory_error": error, "time_error": late, "efficiency": reached}
    console.print(table)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
