"""What torch.compile brings on this CPU: the same samples by plain PyTorch and compiled, in turn.

    python benchmarks/compiled.py [--models sit-mnist ...] [--rounds 3]

Ten images, 25 guided Euler steps (8 a scale in FlowAR), one thread, processor time, medians. "Compiling" is the first
call less a later one, with an empty cache of compiled code and, in a fresh process, with that of the run before
(TORCHINDUCTOR_CACHE_DIR); "worth it after" is how many images earn the first.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

import torch

from flowgression import load_pipeline

MODELS = {"sit-mnist": 25, "arflow-mnist": 25, "flowar-mnist": 8, "fastflowar-mnist": 8}
IMAGES = 10


def seconds() -> float:
    """Processor time of this process and of the compilers that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(pipe, steps: int) -> float:
    start = seconds()
    pipe(
        list(range(IMAGES)),
        num_inference_steps=steps,
        guidance_scale=1.5,
        generator=[torch.Generator().manual_seed(number) for number in range(IMAGES)],
        output_type="np",
    )
    return seconds() - start


def measure(model: str, steps: int, rounds: int) -> dict[str, float]:
    """Seconds of the first compiled call, and medians of a later one and of a plain one."""
    torch.set_num_threads(1)
    plain, compiled = load_pipeline(model), load_pipeline(model)
    for pipe in (plain, compiled):
        pipe.set_progress_bar_config(disable=True)
    compiled.compile()
    timed(plain, steps)
    first = timed(compiled, steps)
    pairs = [(timed(plain, steps), timed(compiled, steps)) for _ in range(rounds)]
    eager, fast = (statistics.median(series) for series in zip(*pairs, strict=True))
    return {"first": first, "eager": eager, "fast": fast}


def in_process(model: str, rounds: int, cache: str) -> dict[str, float]:
    """`measure` in a fresh process with this cache."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    command = [sys.executable, __file__, "--one", model, "--rounds", str(rounds)]
    printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, MODELS[args.one], args.rounds)))
        return
    print("| model | plain, s | compiled, s | gain | compiling, s | with a filled cache, s | worth it after, images |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for model in args.models:
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = in_process(model, args.rounds, cache), in_process(model, 1, cache)
        compiling, filled = (each["first"] - each["fast"] for each in (cold, warm))
        gained = (cold["eager"] - cold["fast"]) / IMAGES
        after = f"{compiling / gained:,.0f}" if gained > 0 else "never"
        print(
            f"| `{model}` | {cold['eager']:.2f} | {cold['fast']:.2f} | {cold['eager'] / cold['fast']:.2f} | "
            f"{compiling:.1f} | {filled:.1f} | {after} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
