"""Tables about the built-in models, as Markdown, and pictures of samples; `make figures` puts them there.

python benchmarks/builtin.py models       # docs/which-model.md: FID and cost of the models of digits
python benchmarks/builtin.py criterion    # docs/fastflowar.md: can polynomials stand in for exp? (and criterion.png)
python benchmarks/builtin.py approximate  # docs/fastflowar.md: error of an approximated model
python benchmarks/builtin.py conversion   # docs/fastflowar.md: a trained FlowAR given low rank, then fine-tuned
python benchmarks/builtin.py calls        # docs/training.md: images in one, two and four calls (and calls.png)
python benchmarks/builtin.py digits       # docs/images/digits.png
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowgression import load_pipeline
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ArrayImages
from flowgression.evaluation.statistics import collect
from flowgression.evaluation.storage import load_statistics
from flowgression.sampling.batches import sample_batches
from flowgression.sampling.images import make_grid, save_png, to_uint8

IMAGES = Path(__file__).parent.parent / "docs" / "images"
DIGITS = ("arflow-mnist", "sit-mnist", "flowar-mnist", "fastflowar-mnist", "flowar-mnist-bounded")
DRAWN = {"num-images": 1000, "num-inference-steps": 8, "guidance-scale": 1.25, "seed": 1}
"""How the models are sampled that a table judges."""
TUNING_STEPS = 400


def command(*arguments: object) -> None:
    """Run `flowgression ...` without its output; subprocess.CalledProcessError if it fails."""
    line = [sys.executable, "-m", "flowgression", *map(str, arguments)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def flags(**values: object) -> Iterator[object]:
    """--name value for each."""
    for name, value in values.items():
        yield from (f"--{name}", value)


def judge(model: str | Path, reference: Path, folder: Path) -> dict[str, Any]:
    """The report of `flowgression evaluate` on samples of a model, and the per cent of them classified correctly."""
    report, samples = folder / "report.json", folder / "samples.npz"
    options = {**DRAWN, "reference": reference, "json": report, "save-samples": samples, "num-threads": 1}
    command("evaluate", "--model", model, *flags(**options))
    return {**json.loads(report.read_text()), "correct": classified(samples)}


def classified(samples: Path) -> float:
    """Per cent of the images in an npz that the built-in classifier gives their label."""
    with np.load(samples) as file:
        images, labels = torch.from_numpy(file["arr_0"]).permute(0, 3, 1, 2), torch.from_numpy(file["labels"])
    with torch.no_grad():
        found = [load_extractor("mnist")(part).logits.argmax(1) for part in images.split(250)]
    return 100 * (torch.cat(found) == labels).double().mean().item()


def make_reference(folder: Path) -> Path:
    """Statistics of the 10,000 test digits."""
    path = folder / "test.safetensors"
    command("reference", "mnist:test", "--out", path)
    return path


def interval(report: dict[str, Any]) -> str:
    """FID and its 95 % bootstrap interval."""
    low, high = report["fid_interval"]
    return f"{report['fid']:.3f} [{low:.3f}, {high:.3f}]"


def models() -> Iterator[str]:
    """Every built-in model of digits, and as many real digits, against the test digits."""
    yield "| model | parameters | FID | classified correctly | MFLOP an image |"
    yield "|---|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = make_reference(folder)
        for model in DIGITS:
            found = judge(model, reference, folder)
            figures = f"{interval(found)} | {found['correct']:.1f} % | {found['cost_flops_per_image'] / 1e6:,.0f}"
            yield f"| `{model}` | {parameters(model):,} | {figures} |"
        real = folder / "real.json"
        command("evaluate", *flags(samples="mnist:train[:1000]", reference=reference, json=real))
        yield f"| 1,000 real training digits | | {interval(json.loads(real.read_text()))} | | |"


CALLS = [("sit-mnist", n, 1.5) for n in (25, 1, 2, 4)] + [("sit-mnist-meanflow", n, 1.0) for n in (1, 2, 4)]
"""A model, its Euler steps, and its guidance: 1 where it is in the weights."""
TOGETHER = 64


def calls() -> Iterator[str]:
    """FID and processor time by the number of calls, of a model of velocities and one of average velocities."""
    yield "| model | Euler steps | rows of the network an image | FID | ms an image |"
    yield "|---|---:|---:|---:|---:|"
    torch.set_num_threads(1)
    shown = []
    with tempfile.TemporaryDirectory() as name:
        reference = load_statistics(make_reference(Path(name)))
        for model, steps, scale in CALLS:
            pipe = load_pipeline(model)
            pipe.set_progress_bar_config(disable=True)
            images, seconds = drawn(pipe, num_inference_steps=steps, guidance_scale=scale)
            samples = collect(ArrayImages(model, images), load_extractor("mnist"))
            fid = compare(samples, reference).estimates["fid"]
            shown.append(images[:20])
            low, high = fid.interval or (float("nan"), float("nan"))
            rows = steps * (1 if scale == 1 else 2)
            yield f"| `{model}` | {steps} | {rows} | {fid.value:.3f} [{low:.3f}, {high:.3f}] | {1000 * seconds:.1f} |"
    save_png(make_grid(np.concatenate(shown), 20), IMAGES / "calls.png")


def drawn(pipe: Any, **settings: Any) -> tuple[np.ndarray, float]:
    """1,000 images uint8 [N,H,W,C] of all classes in turn, and the processor seconds of one, in batches of 64."""
    labels = [index % 10 for index in range(DRAWN["num-images"])]
    begin = time.process_time()
    batches = sample_batches(pipe, labels, settings, seed=DRAWN["seed"], batch_size=TOGETHER, shown=False)
    images = np.concatenate([batch.images for batch in batches])
    return images, (time.process_time() - begin) / len(labels)


def parameters(model: str) -> int:
    return sum(each.numel() for each in load_pipeline(model).transformer.parameters())


def criterion() -> Iterator[str]:
    """An exact and a low-rank model: what limits an approximation, layer by layer the worst."""
    names = ("flowar-mnist", "fastflowar-mnist")
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in names:
            report = Path(folder) / f"{name}.json"
            plot = ("--plot", IMAGES / "criterion.png") if name == names[0] else ()
            command("criterion", "--model", name, *flags(**{"num-images": 8, "json": report}), *plot)
            found[name] = json.loads(report.read_text())["layers"]
    yield f"| | {' | '.join(f'`{name}`' for name in names)} |"
    yield f"|---|{'---|' * len(names)}"
    for title, describe in CRITERION.items():
        yield f"| {title} | {' | '.join(describe(*parts(found[name])) for name in names)} |"


def parts(layers: list[dict]) -> tuple[list[dict], list[dict]]:
    """The layers of the transformer, and those of the flow head."""
    head = [layer for layer in layers if layer["part"].startswith("flow head")]
    return [layer for layer in layers if layer not in head], head


def largest(layers: list[dict], key: str) -> str:
    """The largest value of all layers and heads; a dash where a layer has none."""
    values = [layer[key] for layer in layers]
    if any(value is None for value in values):
        return "-"
    return f"{max(max(value) if isinstance(value, list) else value for value in values):.3g}"


def both(key: str) -> Callable[[list[dict], list[dict]], str]:
    return lambda transformer, head: f"{largest(transformer, key)}; {largest(head, key)}"


def verdict(layers: list[dict]) -> str:
    approximable = "approximable" if all(layer["approximable"] for layer in layers) else "not approximable"
    return f"{approximable}, low rank is {'' if all(layer['pays'] for layer in layers) else 'not '}worth it"


CRITERION: dict[str, Callable[[list[dict], list[dict]], str]] = {
    "largest logit (transformer; flow head)": both("bound"),
    "largest spread of values": both("spread"),
    "head width": both("head_width"),
    "error wanted, 1/N": both("target_error"),
    "degree": both("degree"),
    "rank": both("rank"),
    "certificate": both("certificate"),
    "largest error measured": both("error"),
    "transformer": lambda transformer, head: verdict(transformer),
    "flow head": lambda transformer, head: verdict(head),
}


def approximate() -> Iterator[str]:
    """One model approximated to an error of its output of 0.01."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command("approximate", *flags(**{"model": "flowar-mnist-bounded", "target-error": 0.01, "json": path}))
        found = json.loads(path.read_text())
    yield "| `flowar-mnist-bounded`, error wanted 0.01 | |"
    yield "|---|---:|"
    yield f"| degree; rank for N = 49 and 70 tokens | {found['degree']}; {found['rank']:,} |"
    yield f"| certificate of one attention | {found['certificate']:.2g} |"
    yield f"| bound on the output | {found['bound']:.2g} |"
    yield f"| estimate (first order, along the trajectory) | {found['estimate']:.3g} |"
    yield f"| measured (largest difference of a pixel in [-1, 1]) | {found['measured']:.3g} |"
    yield f"| time, exact / approximated | {found['time_ratio']:.2f} |"


def conversion() -> Iterator[str]:
    """A trained FlowAR with low rank put in place of softmax: as it is, and fine-tuned."""
    yield "| | FID | classified correctly |"
    yield "|---|---:|---:|"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference, converted, run = make_reference(folder), folder / "converted", folder / "run"
        command("lowrank", *flags(model="flowar-mnist", out=converted))
        tuning = {"model.pretrained": converted, "max_steps": TUNING_STEPS, "out": run, "tracker": "none"}
        command("train", "--config", "fastflowar-mnist-finetune", *flags(**tuning))
        rows = {"`flowar-mnist`": "flowar-mnist", "converted, not fine-tuned": converted}
        rows[f"fine-tuned for {TUNING_STEPS} steps ({40 * TUNING_STEPS:,} images)"] = run / "pipeline"
        for title, model in rows.items():
            found = judge(model, reference, folder)
            yield f"| {title} | {interval(found)} | {found['correct']:.1f} % |"


def digits() -> Iterator[str]:
    """Eight of each digit."""
    drawn = {"num-images": 80, "num-inference-steps": 8, "guidance-scale": 2.5, "out": IMAGES / "digits.png"}
    command("sample", "--model", "arflow-mnist", *flags(**drawn))
    yield from ()


def emoji() -> Iterator[str]:
    """Six of each class of sit-emoji, a column for each class."""
    pipe = load_pipeline("sit-emoji")
    labels = list(range(pipe.transformer.config.num_classes)) * 6
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
    drawn = pipe(labels, generator=generators, num_inference_steps=25, guidance_scale=2.0, output_type="np").images
    save_png(make_grid(to_uint8(drawn), len(labels) // 6, scale=2), IMAGES / "sit-emoji.png")
    yield from ()


def emoji64() -> Iterator[str]:
    """Five of each class of sit-emoji64, a column for each class."""
    pipe = load_pipeline("sit-emoji64")
    labels = list(range(pipe.transformer.config.num_classes)) * 5
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
    drawn = pipe(labels, generator=generators, num_inference_steps=25, guidance_scale=2.0, output_type="np").images
    save_png(make_grid(to_uint8(drawn), len(labels) // 5), IMAGES / "sit-emoji64.png")
    yield from ()


TABLES = {each.__name__: each for each in (models, criterion, approximate, conversion, calls, digits, emoji, emoji64)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=TABLES)
    for row in TABLES[parser.parse_args().what]():
        print(row, flush=True)


if __name__ == "__main__":
    main()
