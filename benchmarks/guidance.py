"""Forms of guidance at equal work, five seeds each: FID and recall of built-in models of digits.

    python benchmarks/guidance.py --write     # draws, and writes docs/data/guidance-FAMILY.json after each family
    python benchmarks/guidance.py             # the table, from these files

Every form gets at most 16 rows of the network an image (a scale, in FlowAR): twice as many steps where a step takes one
row. What an image is drawn from depends on seed and number alone, so forms are compared on the same noise. Seeds are of
the noise, of one trained model a family. FID and recall are of 200 samples in the features of the digit classifier
against the 10,000 test digits; FID of so few is high for real digits too, as their row shows.
"""

import argparse
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from flowgression import load_pipeline
from flowgression.data.mnist import load_mnist
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.hardware import processor_name
from flowgression.evaluation.images import ArrayImages
from flowgression.evaluation.statistics import Statistics, collect
from flowgression.files import atomic_write
from flowgression.sampling.batches import sample_batches

DATA = Path(__file__).parents[1] / "docs" / "data"
SEEDS, SAMPLES, BATCH = range(5), 200, 50
PLAIN = "plain"
FORMS: dict[str, dict[str, Any]] = {
    PLAIN: {"num_inference_steps": 8},
    "none": {"num_inference_steps": 16, "guidance_scale": 1.0},
    "CFG-Zero*": {"num_inference_steps": 8, "guidance": "cfg-zero"},
    "from time 0.4 on": {"num_inference_steps": 10, "guidance_interval": (0.4, 1.0)},
    "every second step": {"num_inference_steps": 10, "guidance_every": 2},
}
"""Rows: 16, 16, 16, 16 (6 of 10 steps take two) and 15."""
BOTH_READ = {"from time 0.4 on": {"num_inference_steps": 8, "guidance_interval": (0.4, 1.0)}}
"""Of a model whose steps read earlier ones, both halves run at every step: 16 rows."""
FAMILIES = {"sit": ("sit-mnist", 1.5), "arflow": ("arflow-mnist", 1.5), "flowar": ("flowar-mnist", 2.0)}


def forms(family: str) -> dict[str, dict[str, Any]]:
    """Those that a family knows, with their settings."""
    if family != "arflow":
        return FORMS
    return {name: BOTH_READ.get(name, chosen) for name, chosen in FORMS.items() if "guidance_every" not in chosen}


def judged(images: np.ndarray, reference: Statistics) -> tuple[float, float]:
    """FID and recall of images uint8 [N, 28, 28, 1]."""
    found = compare(collect(ArrayImages("samples", images), load_extractor("mnist")), reference, num_replicates=0)
    return found.estimates["fid"].value, found.estimates["recall"].value


def drawn(pipe: Any, seed: int, settings: dict[str, Any]) -> np.ndarray:
    labels = [number % 10 for number in range(SAMPLES)]
    batches = sample_batches(pipe, labels, settings, seed=seed * SAMPLES, batch_size=BATCH, shown=False)
    return np.concatenate([batch.images for batch in batches])


def measured(family: str, reference: Statistics) -> dict[str, Any]:
    """The study of one family, as docs/data/README.md describes it."""
    model, scale = FAMILIES[family]
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    models: dict[str, dict[str, Any]] = {}
    for name, chosen in forms(family).items():
        values, recalls = {}, {}
        for seed in SEEDS:
            images = drawn(pipe, seed, {"guidance_scale": scale, **chosen})
            values[str(seed)], recalls[str(seed)] = judged(images, reference)
        models[name] = {"values": values, "recall": recalls}
    training = load_mnist("train").images[..., None]
    real = [judged(training[seed * SAMPLES : (seed + 1) * SAMPLES], reference) for seed in SEEDS]
    return {
        "title": f"forms of guidance, {model}, scale {scale:g}, at most 16 rows an image",
        "command": "python benchmarks/guidance.py --write",
        "date": str(datetime.date.today()),
        "machine": processor_name(torch.device("cpu")),
        "measure": f"FID of {SAMPLES} samples in the features of the digit classifier",
        "better": "lower",
        "settings_fixed_before": True,
        "seeds_of": "noise",
        "comparisons": sum(len(forms(each)) - 1 for each in FAMILIES),
        "real": fmean(fid for fid, _ in real),
        "real_recall": fmean(recall for _, recall in real),
        "log": "docs/sampling.md",
        "models": models,
        "differences": [{"ours": name, "theirs": PLAIN} for name in models if name != PLAIN],
    }


def table() -> Iterator[str]:
    yield "| model | guidance | FID | recall |"
    yield "|---|---|---:|---:|"
    for family, (model, scale) in FAMILIES.items():
        path = DATA / f"guidance-{family}.json"
        if not path.exists():
            continue
        study = json.loads(path.read_text(encoding="utf-8"))
        for name, found in study["models"].items():
            fids, recalls = list(found["values"].values()), list(found["recall"].values())
            title = f"{name}, scale {scale:g}" if name == PLAIN else name
            yield f"| `{model}` | {title} | {fmean(fids):.3f} ± {stdev(fids):.3f} | {fmean(recalls):.3f} |"
        yield f"| real digits | | {study['real']:.3f} | {study['real_recall']:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="draw and judge; writes docs/data")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    args = parser.parse_args()
    if args.write:
        torch.set_num_threads(1)
        test = load_mnist("test").images[..., None]
        reference = collect(ArrayImages("test", test), load_extractor("mnist"))
        for family in args.families:
            study = measured(family, reference)
            with atomic_write(DATA / f"guidance-{family}.json", "w") as file:
                json.dump(study, file, indent=1)
    print("\n".join(table()))


if __name__ == "__main__":
    main()
