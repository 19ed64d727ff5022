"""ARFlow's attention, timed: chunk form against naive form against full attention, and sampling over 250 steps.

    python benchmarks/arflow.py [--device cuda] [--json out.json] [--quick] [--plot docs/images/history.png]

Prints images/s of a training step (forward and backward) and of a sampling step (one image and a state in, no
gradient) at S = 2, 5 and 16 images of 256 tokens, the bytes of the state, and the time of single sampling steps over
a walk of 250. The three forms take turns within every repetition, and medians are reported, so that a drift of the
machine's speed meets all of them alike. On CUDA the fast forms run in bf16 under torch.compile.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import torch

import flowgression.layers.hybrid_attention as layer
from flowgression.families.arflow.model import ARFlow
from flowgression.files import atomic_write
from flowgression.ops.hybrid_linear import hybrid_attention_chunk, hybrid_attention_naive

FORMS = {
    "chunk": ("hybrid", hybrid_attention_chunk),
    "naive": ("hybrid", hybrid_attention_naive),
    "full": ("full", hybrid_attention_chunk),
}
TOKENS_SIDE = 16  # 16 x 16 = 256 tokens an image


@contextmanager
def attention_form(function: Callable) -> Iterator[None]:
    """Let the attention layers compute with another form of the same operation."""
    saved, layer.hybrid_attention = layer.hybrid_attention, function
    try:
        yield
    finally:
        layer.hybrid_attention = saved


class Bench:
    """The models of all forms on one device, with equal weights."""

    def __init__(self, args: argparse.Namespace):
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        if not self.cuda:
            torch.set_num_threads(1)
        self.repeats = args.repeats
        size = {"hidden_size": 1024, "depth": 8, "num_heads": 16} if self.cuda else {
            "hidden_size": 128, "depth": 2, "num_heads": 4}  # fmt: skip
        self.batch = args.batch or (16 if self.cuda else 1)
        self.config = {"sample_size": TOKENS_SIDE * 2, "patch_size": 2, "in_channels": 4, **size}
        self.models = {}
        for form, (context, _) in FORMS.items():
            torch.manual_seed(0)
            model = ARFlow(**self.config, context=context).to(self.device)
            # torch.compile unrolls naive's loops over tokens for minutes; it is a reference, not a competitor.
            compiled = self.cuda and form != "naive"
            self.models[form] = torch.compile(model) if compiled else model

    def inputs(self, images: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.randn(self.batch, images, 4, TOKENS_SIDE * 2, TOKENS_SIDE * 2, device=self.device)
        t = torch.rand(self.batch, images, device=self.device).sort().values
        return x, t, torch.zeros(self.batch, dtype=torch.int64, device=self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Time of one call, the device's queue emptied before and after."""
        self.wait()
        start = self.wait()
        run()
        return self.wait() - start

    def wait(self) -> float:
        """The time, once the device has done all its work: on a CPU that of one thread of the processor."""
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def form(self, form: str) -> Iterator[torch.nn.Module]:
        with attention_form(FORMS[form][1]), torch.autocast(self.device.type, torch.bfloat16, enabled=self.cuda):
            yield self.models[form]

    def medians(self, run: Callable[[str], object]) -> dict[str, float]:
        """Median seconds of `run(form)` for every form, the forms in turn."""
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for repeat in range(self.repeats + 1):
            for form, series in times.items():
                elapsed = self.seconds(lambda form=form: run(form))
                if repeat:  # the first round warms up
                    series.append(elapsed)
        return {form: statistics.median(series) for form, series in times.items()}


def training(bench: Bench, images: int) -> dict[str, float]:
    """Images/s of forward and backward."""
    x, t, labels = bench.inputs(images)

    def step(form: str) -> None:
        with bench.form(form) as model:
            loss = model(x, t, labels).velocity.float().square().mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    return {form: bench.batch * images / seconds for form, seconds in bench.medians(step).items()}


@torch.no_grad()
def sampling(bench: Bench, images: int) -> tuple[dict[str, float], dict[str, int]]:
    """Images/s of the last of `images` sampling steps, and the bytes of the state it reads, per image of the batch."""
    x, t, labels = bench.inputs(images)
    states = {}
    for form in FORMS:
        with bench.form(form) as model:
            states[form] = model(x[:, :-1], t[:, :-1], labels).state if images > 1 else None

    def step(form: str) -> None:
        with bench.form(form) as model:
            model(x[:, -1:], t[:, -1:], labels, states[form])

    rates = {form: bench.batch / seconds for form, seconds in bench.medians(step).items()}
    return rates, {form: state_bytes(state) // bench.batch for form, state in states.items()}


@torch.no_grad()
def walk(bench: Bench, steps: int, marks: list[int]) -> dict[str, dict[int, tuple[float, int]]]:
    """Milliseconds of single steps and bytes of the state along a walk: {form: {step: (ms, bytes)}}."""
    result: dict[str, dict[int, tuple[float, int]]] = {}
    x, t, labels = bench.inputs(1)
    for form in ("chunk", "full"):
        times, found, state = [], {}, None
        with attention_form(FORMS[form][1]):
            model = bench.models[form]
            model = getattr(model, "_orig_mod", model)  # full's shapes change at every step: nothing to compile
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.cuda):
                for step in range(1, steps + 1):
                    start = bench.wait()
                    state = model(x, t, labels, state).state
                    times.append(1e3 * (bench.wait() - start))
                    if step in marks:
                        found[step] = (statistics.median(times[-9:]), state_bytes(state) // bench.batch)
        result[form] = found
    return result


def state_bytes(state: list | None) -> int:
    """Bytes of a model's state: one tensor or a pair of tensors per block."""
    parts = [part for entry in state or [] for part in (entry if isinstance(entry, tuple) else (entry,))]
    return sum(part.numel() * part.element_size() for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown, numbers to the right."""
    print(f"\n| {' | '.join(head)} |\n|{'---:|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def report(bench: Bench, args: argparse.Namespace) -> dict:
    cpu = f"{platform.machine()} CPU, one thread, processor time"
    name = torch.cuda.get_device_name() if bench.cuda else cpu
    how = "bf16, torch.compile (naive: eager)" if bench.cuda else "float32"
    print(f"{name}; {how}; torch {torch.__version__}; {date.today()}")
    print(f"ARFlow {bench.config}, batch {bench.batch}, 256 tokens an image, median of {bench.repeats}")
    results: dict = {"device": name, "how": how, "date": str(date.today()), "training": {}, "sampling": {}}
    rates = []
    for images in args.images:
        trained = training(bench, images)
        sampled, sizes = sampling(bench, images)
        results["training"][images] = trained
        results["sampling"][images] = {"images_per_s": sampled, "state_bytes": sizes}
        for step, row in (("training", trained), ("sampling", sampled)):
            ratios = (f"{row['chunk'] / row[other]:.2f}" for other in ("naive", "full"))
            rates.append((str(images), step, *(f"{row[form]:.1f}" for form in FORMS), *ratios))
    table(("S", "step", *(f"{form}, images/s" for form in FORMS), "chunk / naive", "chunk / full"), rates)
    marks = sorted({round(args.steps * share) for share in (0.08, 0.2, 0.4, 0.6, 0.8, 1.0)})
    results["walk"] = found = walk(bench, args.steps, marks)
    rows = [
        (
            str(mark),
            *(f"{milliseconds:,.1f} | {size:,}" for milliseconds, size in (found["chunk"][mark], found["full"][mark])),
        )
        for mark in marks
    ]
    table(("step", "hybrid, ms", "hybrid, bytes of state", "full, ms", "full, bytes of state"), rows)
    for form, label in (("chunk", "hybrid"), ("full", "full")):
        first, last = (found[form][mark][0] for mark in (marks[0], marks[-1]))
        print(f"{label}: step {marks[-1]} takes {last / first:.2f} times as long as step {marks[0]}")
    return results


def plot(found: dict[str, dict[int, tuple[float, int]]], path: Path, title: str) -> None:
    """Time and memory of a step against the steps before it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for form, label, colour in (("chunk", "hybrid", "#1f5fa8"), ("full", "full", "#c0392b")):
        steps = list(found[form])
        left.plot(steps, [found[form][step][0] for step in steps], "o-", color=colour, markersize=3.5, label=label)
        right.plot(
            steps, [found[form][step][1] / 2**20 for step in steps], "o-", color=colour, markersize=3.5, label=label
        )
    for axes, name in ((left, "milliseconds of a step"), (right, "MiB of state")):
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("steps before it")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, nargs="+", default=[2, 5, 16], help="images of a sequence, S")
    parser.add_argument("--steps", type=int, default=250, help="steps of the sampling walk")
    parser.add_argument("--batch", type=int, help="sequences; default 16 on CUDA, 1 on CPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run: S = 2, 10 steps, one repetition")
    parser.add_argument("--json", help="write all figures here")
    parser.add_argument("--plot", type=Path, help="a picture of a step's time and memory by the length of its history")
    args = parser.parse_args()
    if args.quick:
        args.images, args.steps, args.repeats = [2], 10, 1
    results = report(Bench(args), args)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)
    if args.plot:
        plot(results["walk"], args.plot, f"attention across images; {results['device']}; {results['date']}")


if __name__ == "__main__":
    main()
