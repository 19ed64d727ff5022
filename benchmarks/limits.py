"""Training and sampling against the limit of this machine, for every built-in model and two larger ones.

    python benchmarks/limits.py [--json out.json] [--only NAME ...] [--repeats 5] [--where]

The limit of a step is the time of its matrix products alone, each replayed by itself on tensors of the same shapes,
strides and dtype, plus the bytes that everything else must move, over the speed at which memory of that size is copied.
Nothing is counted by hand: a dispatch mode writes down every operation of the real step. What lies between two matrix
products counts as one fused kernel, which reads each tensor from outside once and writes once what is read later; its
arithmetic (exp, tanh, sums) counts as free. So the limit is that of a perfect compiler on the same matrix products,
whose operands are in the cache. The ratio is limit over time, 1 at best.

Times are processor time of one thread (--threads); step and replay take turns, and medians of ratios are reported.
`--where` adds the time of each kind of operation by torch's profiler.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from flowgression.data import DataConfig
from flowgression.evaluation.hardware import processor_name
from flowgression.sampling.loading import load_pipeline
from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict
from flowgression.training.settings import ModelConfig, PreviewConfig
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

BUILTIN = ("arflow-mnist", "sit-mnist", "flowar-mnist", "fastflowar-mnist")
LARGER: dict[str, dict[str, Any]] = {
    "ARFlow-S/2, depth 4": {
        "model": ModelConfig(family="arflow", args={"patch_size": 2, "hidden_size": 384, "depth": 4, "num_heads": 6}),
        "data": DataConfig("mnist", split="test", image_size=32, num_workers=0),
        "sequence_length": 5,
        "batch_size": 5,
    },
    "FlowAR-S, reduced": {
        "model": ModelConfig(
            family="flowar",
            args={"hidden_size": 768, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 12, "flow_depth": 1},
        ),
        "data": DataConfig("mnist", split="test", image_size=16, num_workers=0),
        "sequence_length": 1,
        "batch_size": 4,
    },
}
CALL = {"class_labels": list(range(10)), "num_inference_steps": 25, "guidance_scale": 2.0, "output_type": "latent"}
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "addmv", "mv", "dot")
VIEWS = {
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "permute",
    "expand",
    "slice",
    "select",
    "split",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
}
VIEWS |= {"unbind", "as_strided", "split_with_sizes", "_reshape_alias", "unfold", "lift_fresh", "chunk"}


def is_product(name: str) -> bool:
    """Whether an operator of torch is a matrix product, a convolution or an attention."""
    return name in PRODUCTS or name.startswith("_scaled_dot_product")


@dataclass
class Segment:
    """What lies between two matrix products: bytes read and written, by the address of the memory."""

    read: dict[int, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    product_reads: set[int] = field(default_factory=set)  # by the matrix product at its end


class Recorder(TorchDispatchMode):
    """Writes down the operations of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Any] = Counter()
        self.arguments: dict[Any, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}
        self._kept: list[Any] = []  # storages, so that no address is used twice
        self._segments = [Segment()]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in VIEWS:
            return out
        read, segment = self._storages((args, kwargs)), self._segments[-1]
        if is_product(name):
            shapes = tree_map_only(Tensor, lambda x: (tuple(x.shape), x.stride(), x.dtype), (args, kwargs))
            key = (str(func), repr(shapes))
            self.arguments.setdefault(key, (func, *tree_map_only(Tensor, _alike, (args, kwargs))))
            self.products[key] += 1
            segment.product_reads = set(read)
            self._segments.append(Segment())
            return out
        for storage, size in read.items():
            if storage not in segment.written:
                segment.read[storage] = max(size, segment.read.get(storage, 0))
        segment.written |= self._storages(out)
        if name.endswith("_"):  # in place, also where nothing is returned
            segment.written |= read if name.startswith(("_foreach", "_fused")) else {}
        return out

    def moved(self) -> list[int]:
        """The sizes in bytes of all that the segments must read and write, each as one kernel."""
        sizes, later = [], set[int]()
        for segment in reversed(self._segments):
            needed = later | segment.product_reads | segment.read.keys()
            sizes += [*segment.read.values(), *(n for storage, n in segment.written.items() if storage in needed)]
            later |= segment.product_reads | segment.read.keys()
        return sizes

    def _storages(self, tree: Any) -> dict[int, int]:
        found = {}
        for tensor in tree_leaves(tree):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.numel() > 1:
                storage = tensor.untyped_storage()
                self._kept.append(storage)
                # A tensor that was expanded is as large as its memory.
                found[storage.data_ptr()] = min(tensor.numel() * tensor.element_size(), storage.nbytes())
        return found


def _alike(x: Tensor) -> Tensor:
    """A tensor of the same shape, strides and dtype with memory of its own."""
    size = (
        1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    )
    memory = torch.randn(size).to(x.dtype) if x.is_floating_point() else torch.ones(size, dtype=x.dtype)
    return memory.as_strided(x.shape, x.stride())


def seconds(run: Callable[[], object], at_least: float = 0.0) -> float:
    """Processor time of one call, the mean of as many as take `at_least` seconds."""
    calls, start = 0, time.process_time()
    while True:
        run()
        calls += 1
        elapsed = time.process_time() - start
        if elapsed >= at_least:
            return elapsed / calls


class Memory:
    """The time to read or write a number of bytes, from the speed at which a tensor of that size is copied."""

    def __init__(self) -> None:
        self._rates: dict[int, float] = {}

    def seconds(self, size: int) -> float:
        power = max(12, min(26, size.bit_length()))
        if power not in self._rates:
            source = torch.zeros(2**power // 4)
            target = torch.zeros_like(source)
            self._rates[power] = 2 * 2**power / min(seconds(lambda: target.copy_(source), 2e-3) for _ in range(5))
        return size / self._rates[power]


def measure(step: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median seconds of a step, of its products alone and of its bytes, and the median ratio of limit to time."""
    step()
    with Recorder() as recorder:
        step()
    products_of, arguments, sizes = recorder.products, recorder.arguments, recorder.moved()
    del recorder  # and the memory of the step
    memory, rows = Memory(), []
    with torch.no_grad():
        moved = sum(memory.seconds(size) for size in sizes)
        for _ in range(repeats):
            with torch.enable_grad():
                whole = seconds(step)
            products = 0.0
            for key, count in products_of.items():
                func, args, kwargs = arguments[key]
                func(*args, **kwargs)
                products += count * seconds(lambda f=func, a=args, k=kwargs: f(*a, **k), 1e-3)
            rows.append((whole, products, (products + moved) / whole))
    whole, products, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"seconds": whole, "products": products, "bytes": moved, "ratio": ratio}


def training(name: str, folder: str) -> Callable[[], object]:
    """An optimisation step of a model on the built-in digits, its batches made before."""
    own = {"device": "cpu", "num_threads": None, "out": folder, "preview": PreviewConfig(every=0), "tracker": "none"}
    if name in LARGER:
        config = TrainConfig(**LARGER[name], **own)
    else:
        file = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
        given = config_from_dict(TrainConfig, yaml.safe_load(file.read_text()))
        config = TrainConfig(**{**vars(given), **own, "data": DataConfig("mnist", split="test", num_workers=0)})
    trainer = Trainer(config)
    batch = next(islice(trainer.batches(0), 1))
    return lambda: training_step(trainer, 1, batch)


def sampling(name: str) -> Callable[[], object]:
    """Ten images of ten classes, 25 guided Euler steps."""
    pipe = load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    return lambda: pipe(generator=torch.Generator().manual_seed(0), **CALL)


def where(step: Callable[[], object], console: Console, title: str) -> None:
    """Print which operations the time of a step goes to."""
    with torch.profiler.profile() as profile:
        step()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    table = Table("operation", "calls", "% of the time", title=title)
    for event in events[:18]:
        table.add_row(event.key, str(event.count), f"{100 * event.self_cpu_time_total / total:.1f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="PATH", help="write the ratios here")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the models")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--where", action="store_true", help="also show where the time goes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    console.print(f"{processor_name(torch.device('cpu'))}, {args.threads} thread(s), torch {torch.__version__}, "
                  f"Python {platform.python_version()}, {date.today()}")  # fmt: skip
    table = Table("", "model", "s", "products alone, s", "bytes, s", "limit / time")
    ratios: dict[str, dict[str, float]] = {"training": {}, "sampling": {}}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ratios:
            names = [*LARGER, *BUILTIN] if kind == "training" else BUILTIN
            for name in names:
                if args.only and name not in args.only:
                    continue
                step = training(name, f"{folder}/{name.replace('/', '-')}") if kind == "training" else sampling(name)
                found = measure(step, args.repeats)
                ratios[kind][name] = found["ratio"]
                table.add_row(kind, name, *(f"{found[key]:.3f}" for key in ("seconds", "products", "bytes", "ratio")))
                if args.where:
                    where(step, console, f"{kind} of {name}")
    console.print(table)
    if args.json:
        Path(args.json).write_text(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main()
