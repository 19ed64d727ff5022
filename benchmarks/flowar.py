"""FlowAR, timed: training, sampling with and without the key-value cache and step annealing, scale by scale.

    python benchmarks/flowar.py [--device cuda] [--preset L] [--json out.json] [--quick]

Prints images/s of a training step (forward, backward, AdamW) and of guided sampling in four ways that take turns within
every repetition, so that a drift of the machine's speed meets all of them alike (medians); the time of every scale,
the part of the transformer in it; and the memory of the cache against its bound. On CUDA everything runs in bf16
under torch.compile, on the latents of ImageNet at 256 pixels; on the CPU in float32, on a model of the size of
flowar-mnist.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import torch

from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.sampling import sample
from flowgression.families.flowar.training import flowar_losses

SMALL = {
    "sample_size": 28, "in_channels": 1, "patch_size": 4, "scales": (1, 2, 4, 7), "hidden_size": 128,
    "encoder_depth": 1, "decoder_depth": 1, "num_heads": 4, "flow_width": 128, "flow_depth": 2, "num_classes": 10,
}  # fmt: skip


class Bench:
    """One model on one device, and a clock that waits for the device."""

    def __init__(self, args: argparse.Namespace):
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        if not self.cuda:
            torch.set_num_threads(1)
        self.repeats, self.steps = args.repeats, args.steps
        torch.manual_seed(0)
        preset = args.preset or ("S" if self.cuda else None)
        self.name = f"FlowAR-{preset}" if preset else "FlowAR of the size of flowar-mnist"
        self.model = (FlowAR.from_preset(preset) if preset else FlowAR(**SMALL)).to(self.device)
        # Modulations are zero in a fresh model, and zeros may be faster: random weights everywhere.
        for parameter in self.model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        self.batch = args.batch or (64 if self.cuda else 16)
        config = self.model.config
        self.labels = torch.arange(self.batch, device=self.device) % config.num_classes
        shape = (self.batch, config.in_channels, config.sample_size, config.sample_size)
        self.latents = torch.randn(shape, device=self.device)
        if self.cuda:
            torch._dynamo.config.recompile_limit = 64  # every scale has shapes of its own
            self.model.compile(dynamic=False)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda)

    def wait(self) -> float:
        """The time, once the device has done all its work: on a CPU that of one thread of the processor."""
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def medians(self, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median seconds of each run, the runs in turn; the first round warms up."""
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(self.repeats + 1):
            for name, run in runs.items():
                start = self.wait()
                run()
                if repeat:
                    times[name].append(self.wait() - start)
        return {name: statistics.median(series) for name, series in times.items()}


def training(bench: Bench) -> float:
    """Images/s of a training step."""
    model = bench.model.train()
    tokens = sum(side**2 for side in model.scales)
    times = torch.rand(bench.batch, len(model.scales), device=bench.device)
    noise = torch.randn(bench.batch, tokens, model.flow_head.token_channels, device=bench.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def step() -> None:
        with bench.autocast():
            _, loss = flowar_losses(model, bench.latents, bench.labels, times, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return bench.batch / bench.medians({"step": step})["step"]


def sampling(bench: Bench) -> dict[str, float]:
    """Seconds of sampling a batch with guidance, in four ways."""
    options = {"guidance_scale": 2.4, "guidance_interval": (0.1, 1.0), "num_inference_steps": bench.steps}
    fewer = max(1, bench.steps // 5)

    def run(**changes: Any) -> Callable[[], object]:
        def call() -> None:
            with bench.autocast():
                sample(bench.model.eval(), bench.labels, **{**options, **changes})

        return call

    annealed = f"steps falling to {fewer}"
    return bench.medians(
        {
            "with cache": run(),
            "without cache": run(use_cache=False),
            f"with cache, {annealed}": run(steps_last_scale=fewer),
            "with cache, no guidance": run(guidance_scale=1.0),
        }
    )


def per_scale(bench: Bench) -> list[tuple[float, float, float]]:
    """Median milliseconds per scale: transformer with cache, transformer without, and the whole scale in sampling."""
    model, rows = bench.model.eval(), []
    marks: list[float] = []
    walks = []
    for _ in range(bench.repeats + 1):
        marks[:] = [bench.wait()]
        with bench.autocast():
            out = sample(
                model, bench.labels, num_inference_steps=bench.steps, callback=lambda k, x: marks.append(bench.wait())
            )
        walks.append([1e3 * (b - a) for a, b in pairwise(marks)])
    whole = [statistics.median(column) for column in zip(*walks[1:], strict=True)]
    with torch.no_grad(), bench.autocast():
        cache = model.new_cache(bench.batch)
        for k in range(len(model.scales)):
            previous = out.maps[k - 1] if k else None
            seconds = bench.medians(
                {
                    "cached": lambda previous=previous, cache=cache: model.next_semantics(
                        previous, bench.labels, cache
                    ),
                    "recomputed": lambda k=k: model.semantics(out.maps[:k], bench.labels),
                }
            )
            rows.append((1e3 * seconds["cached"], 1e3 * seconds["recomputed"], whole[k]))
            _, cache = model.next_semantics(previous, bench.labels, cache)
    return rows


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown, numbers to the right."""
    print(f"\n| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def report(bench: Bench) -> dict[str, Any]:
    model = bench.model
    name = torch.cuda.get_device_name() if bench.cuda else f"{platform.machine()} CPU, one thread, processor time"
    how = "bf16, torch.compile" if bench.cuda else "float32"
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{name}; {how}; torch {torch.__version__}; {date.today()}")
    print(
        f"{bench.name}: {parameters:,} parameters, scales {model.scales}, batch {bench.batch}, "
        f"{bench.steps} Euler steps a scale, median of {bench.repeats}"
    )
    results: dict[str, Any] = {"device": name, "how": how, "date": str(date.today()), "model": bench.name}
    results["training_images_per_s"] = training(bench)
    seconds = sampling(bench)
    results["sampling_images_per_s"] = {way: bench.batch / s for way, s in seconds.items()}
    rates = [("training", f"{results['training_images_per_s']:.1f}", "")]
    for way, rate in results["sampling_images_per_s"].items():
        rates.append((f"sampling {way}", f"{rate:.2f}", f"{seconds['with cache'] / seconds[way]:.2f}"))
    print_table(("what", "images/s", "times as fast as with cache"), rates)
    rows = per_scale(bench)
    results["scales_ms"] = dict(zip(model.scales, rows, strict=True))
    total = sum(row[2] for row in rows)
    cells = [
        (str(side), *(f"{value:.2f}" for value in row), f"{row[2] / total:.0%}")
        for side, row in zip(model.scales, rows, strict=True)
    ]
    cells.append(("all", *(f"{sum(row[i] for row in rows):.2f}" for i in range(3)), "100%"))
    head = ("side", "transformer, cached, ms", "transformer, recomputed, ms", "whole scale, ms", "share")
    print_table(head, cells)
    cache = model.new_cache(2 * bench.batch)
    bound = model.cache_bytes(2 * bench.batch)
    results["cache_bytes"], results["cache_bound_bytes"] = cache.nbytes, bound
    print(
        f"cache for {bench.batch} guided images: {cache.nbytes:,} bytes; bound 2 x blocks x 2B x tokens x width x "
        f"bytes per number: {bound:,}; {cache.nbytes / bound:.3f} of it"
    )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", help="S, B, L or H at 16 x 16 x 16 (S on CUDA, a small model on the CPU)")
    parser.add_argument("--steps", type=int, default=25, help="Euler steps at every scale")
    parser.add_argument("--batch", type=int, help="images; default 64 on CUDA, 16 on the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke run: 5 steps, 4 images, one repetition")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.batch, args.repeats = 5, 4, 1
    results = report(Bench(args))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
