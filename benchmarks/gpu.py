"""A GPU measured in one command, at most 25 minutes: speed, memory, training, sampling, low rank, tests.

    make benchmark-gpu            # or: python benchmarks/gpu.py [--out docs/benchmarks] [--minutes 25]
    python benchmarks/gpu.py --dry --out /tmp/dry     # the same parts with tiny models on the CPU

Needs torch >= 2.6 built for the GPU and this package; nothing is downloaded, and inputs are random. Every part stands
alone: one that fails is reported with its error, the others run, and the report is written again after each. Time that
is used up leaves the parts that remain out, by name. Writes gpu-NAME.md and gpu-NAME.json.

MFU is FLOPs of the step, by `flowgression.flops`, over its time and the speed of a large bf16 product measured
first. Training is forward, backward and fused AdamW under bf16 autocast; the batch is the largest power of 2 that fits.
"""

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from flowgression.evaluation.hardware import processor_name
from flowgression.files import atomic_write
from flowgression.flops import flop_counter
from flowgression.ops.lowrank import lowrank_attention
from flowgression.ops.lowrank.backends import LOWRANK
from flowgression.registry import FAMILIES, build_model
from flowgression.sampling.loading import make_pipeline
from flowgression.training.config import TrainConfig
from flowgression.training.optimizer import make_optimizer
from flowgression.training.planner import Gpu, make_plan
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import ModelConfig, OptimizerConfig

MODELS = [
    ("arflow", "S/2"),
    ("arflow", "XL/2"),
    ("sit", "XL/2"),
    ("flowar", "S"),
    ("flowar", "H"),
    ("flowar", "fast-S"),
]
DRY_MODELS = {
    "arflow": {"sample_size": 8, "hidden_size": 32, "depth": 1, "num_heads": 2},
    "flowar": {
        "sample_size": 4, "hidden_size": 32, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "flow_width": 32,
        "flow_depth": 1, "flow_num_heads": 2,
    },
}  # fmt: skip
SMALLEST_BATCH = 1


@dataclass
class Run:
    """What is measured, on what, until when.

    Attributes:
        results: by part, what it measured. failures: by part, its error. left_out: parts for which no time was left.
    """

    device: torch.device
    folder: Path
    name: str
    deadline: float
    dry: bool
    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def part(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure one part, whatever happens in it, and write what there is so far."""
        if time.monotonic() > self.deadline:
            self.left_out.append(name)
        else:
            print(f"{name} ...", flush=True)
            try:
                self.results[name] = measure()
            except Exception as error:
                self.failures[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                traceback.print_exc()
            self.free()
        self.write()

    def free(self) -> None:
        """Give memory back, so that a part that ran out of it harms no other."""
        torch._dynamo.reset()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, step: Callable[[], Any], repeats: int = 5) -> float:
        """Median wall-clock seconds of a step, after two that warm up (and compile)."""
        times = []
        for repeat in range((1 if self.dry else 2) + (2 if self.dry else repeats)):
            self.synchronise()
            start = time.perf_counter()
            step()
            self.synchronise()
            if repeat >= (1 if self.dry else 2):
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def write(self) -> None:
        """The JSON and the report."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "device": self.name, "torch": torch.__version__, "date": str(date.today()), "dry": self.dry,
            "results": self.results, "failures": self.failures, "left_out": self.left_out,
        }  # fmt: skip
        stem = "gpu-" + (re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "unknown")
        for ending, text in (("json", json.dumps(facts, indent=1)), ("md", report(facts))):
            with atomic_write(self.folder / f"{stem}.{ending}", "w") as file:
                file.write(text)


def report(facts: dict[str, Any]) -> str:
    """The figures as a page."""
    lines = [f"# {facts['device']}", "", f"torch {facts['torch']}, {facts['date']}. Written by `make benchmark-gpu`."]
    if facts["dry"]:
        lines += ["", "**A dry run with tiny models: the figures mean nothing.**"]
    for part, found in facts["results"].items():
        lines += ["", f"## {part}", ""]
        rows = found if isinstance(found, list) else [found]
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        lines += ["| " + " | ".join(_shown(row.get(name, "")) for name in names) + " |" for row in rows]
    if facts["failures"]:
        lines += ["", "## Failed", ""] + [f"- {part}: `{error}`" for part, error in facts["failures"].items()]
    if facts["left_out"]:
        lines += ["", "## Left out for want of time", ""] + [f"- {part}" for part in facts["left_out"]]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def machine_speed(run: Run) -> dict[str, float]:
    """TFLOP/s of a square product in bf16 and in float32 with and without TF32, and GB/s of a copy."""
    side, found = (64 if run.dry else 8192), {}
    precision = torch.get_float32_matmul_precision()
    for name, dtype, wanted in (("bf16", torch.bfloat16, "highest"), ("fp32", torch.float32, "highest"),
                                ("tf32", torch.float32, "high")):  # fmt: skip
        torch.set_float32_matmul_precision(wanted)
        a = torch.randn(side, side, device=run.device, dtype=dtype)
        found[f"{name}, TFLOP/s"] = 2 * side**3 / run.seconds(lambda a=a: a @ a) / 1e12
    torch.set_float32_matmul_precision(precision)
    source = torch.zeros(side, side, device=run.device)
    target = torch.empty_like(source)
    found["copy, GB/s"] = 2 * source.nbytes / run.seconds(lambda: target.copy_(source)) / 1e9
    return found


def gpu_tests(run: Run) -> dict[str, Any]:
    """The tests that need a GPU, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(run_tests_in(run))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=420)
    last = (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1]
    return {"status": done.returncode, "summary": last}


def run_tests_in(run: Run) -> Path:
    """All tests; in a dry run one file, which has none that needs a GPU."""
    tests = Path(__file__).parents[1] / "tests"
    return tests / "test_flops.py" if run.dry else tests


def sizes(run: Run, family: str) -> dict[str, Any]:
    return DRY_MODELS[family] if run.dry else {}


def training_step(run: Run, family: str, preset: str | None, batch: int, compiled: bool) -> Callable[[], None]:
    """Forward, backward and optimiser on random latents."""
    description = FAMILIES[family]
    model = build_model(family, preset, **sizes(run, family)).to(run.device).train()
    if compiled:
        model.compile()
    optimizer = make_optimizer(model, OptimizerConfig())
    config = model.config
    images = (description.sequence_length,) if description.reads_sequences else ()
    x = torch.randn(batch, *images, config.in_channels, config.sample_size, config.sample_size, device=run.device)
    labels = torch.randint(config.num_classes, (batch,), device=run.device)

    def step() -> None:
        with torch.autocast(run.device.type, torch.bfloat16):
            loss = description.objective_function(model, x, labels, StepRandomness(0, 0, run.device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def training(run: Run, family: str, preset: str | None) -> list[dict[str, Any]]:
    """Eager and compiled, at the largest batch that fits eagerly; memory beside what the planner says."""
    batch, rows = (2 if run.dry else 64), []
    while True:
        try:
            step = training_step(run, family, preset, batch, compiled=False)
            step()
            break
        except torch.OutOfMemoryError:
            step = None
            run.free()
            if batch == SMALLEST_BATCH:
                raise
            batch //= 2
    with flop_counter() as counter:
        step()
    flops = counter.get_total_flops()
    images = batch * (FAMILIES[family].sequence_length or 1)
    peak = run.results.get("speed", {}).get("bf16, TFLOP/s")
    for form in ("eager", "compiled"):
        step = None
        run.free()
        step = training_step(run, family, preset, batch, compiled=form == "compiled" and not run.dry)
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)
        seconds = run.seconds(step)
        row = {"form": form, "batch": batch, "s a step": seconds, "images/s": images / seconds}
        row["MFU"] = flops / seconds / (peak * 1e12) if peak else "speed not measured"
        if run.device.type == "cuda":
            row["memory, GiB"] = torch.cuda.max_memory_allocated(run.device) / 2**30
        rows.append({**row, "planned, GiB": planned(run, family, preset, images)})
    return rows


def planned(run: Run, family: str, preset: str | None, images: int) -> Any:
    """What the planner says for the same model and batch without EMA weights, or why it says nothing."""
    try:
        config = TrainConfig(
            model=ModelConfig(family=family, preset=preset, args=sizes(run, family)),
            sequence_length=FAMILIES[family].sequence_length or 1,
            batch_size=images,
            precision="bf16",
        )
        plan = make_plan(config, Gpu(1, 1, 1, 0), 1)
        return (plan.peak - plan.memory.get("EMA weights", 0)) / 2**30
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def sampling(run: Run, family: str, preset: str | None) -> list[dict[str, Any]]:
    """Guided sampling in bf16, eager and compiled, of few and of many images."""
    rows = []
    for batch in (2,) if run.dry else (8, 64):
        for form in ("eager", "compiled"):
            model = build_model(family, preset, **sizes(run, family)).eval()
            pipe = make_pipeline(model).to(run.device, torch.bfloat16)
            pipe.set_progress_bar_config(disable=True)
            if form == "compiled" and not run.dry:
                pipe.compile()
            steps = 2 if run.dry else 25
            call = {"class_labels": list(range(batch)), "num_inference_steps": steps, "guidance_scale": 2.0}
            seconds = run.seconds(lambda pipe=pipe, call=call: pipe(output_type="latent", **call), repeats=3)
            rows.append({"form": form, "images": batch, "s": seconds, "images/s": batch / seconds})
            del pipe, model
            run.free()
    return rows


def lowrank(run: Run) -> list[dict[str, Any]]:
    """Attention of low rank (d = 8, degree 2) beside torch's fused attention of equal width, in bf16.

    By every backend for GPUs that takes such tensors; the gain is that of the backend which is chosen without a name.
    """
    rows = []
    ones = (torch.ones(1, 1, 8, device=run.device),) * 4
    backends = [name for name in ("torch", "triton") if not LOWRANK.backends[name].refuses(*ones, degree=2)]
    chosen = LOWRANK.name_for(None, *ones, degree=2)
    for tokens in (64, 128) if run.dry else (1024, 4096, 16384, 65536):
        q, k, v = torch.randn(3, 1, 16, tokens, 8, device=run.device, dtype=torch.bfloat16)
        row: dict[str, Any] = {"N": tokens}
        for backend in backends:
            call = partial(lowrank_attention, q, k, v, degree=2, bound=2.0, backend=backend)
            row[f"low rank by {backend}, ms"] = 1e3 * run.seconds(call)
        row["fused softmax, ms"] = 1e3 * run.seconds(lambda q=q, k=k, v=v: scaled_dot_product_attention(q, k, v))
        rows.append({**row, "gain": row["fused softmax, ms"] / row[f"low rank by {chosen}, ms"]})
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--dry", action="store_true", help="tiny models on the CPU: whether every part runs")
    args = parser.parse_args(argv)
    if not args.dry and not torch.cuda.is_available():
        print(
            "this machine has no NVIDIA GPU that torch can use; --dry runs the same parts on the CPU", file=sys.stderr
        )
        return 2
    device = torch.device("cpu" if args.dry else "cuda")
    name = "dry run" if args.dry else processor_name(device)
    run = Run(device, args.out, name, time.monotonic() + 60 * args.minutes, args.dry)
    models = [(family, None) for family in DRY_MODELS] if args.dry else MODELS
    run.part("speed", lambda: machine_speed(run))
    run.part("low rank", lambda: lowrank(run))
    for family, preset in models:
        shown = f"{family} {preset}" if preset else family
        run.part(f"training, {shown}", lambda family=family, preset=preset: training(run, family, preset))
        run.part(f"sampling, {shown}", lambda family=family, preset=preset: sampling(run, family, preset))
    run.part("tests", lambda: gpu_tests(run))
    print(f"{len(run.results)} parts measured, {len(run.failures)} failed, {len(run.left_out)} left out; {args.out}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
