"""What context gives where labels are known: small models draw capitals of fonts, with K other letters to read.

    python benchmarks/glyph_context.py --train fonts/train --fonts fonts/judge
    python benchmarks/glyph_context.py --experiment chunks --train fonts/train --fonts fonts/judge
    python benchmarks/glyph_context.py --table docs/log/glyph-context.json

The first two lines train and judge every model of every seed that `--out` does not hold yet, seed by seed, so that a
run that was stopped resumes; --limit minutes of processor time. Then they write `--out`/results.json and the tables,
which the last line makes of results alone. "context" asks what reading other letters gives, "chunks" what softmax
attention inside an image gives. What was fixed beforehand is in docs/log/glyph-context.md, docs/log/glyph-chunks.md
and in the constants below.

F fonts, T letters drawn of each, K examples, H = W pixels.
"""

import argparse
import json
import shutil
import time
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from glyph_classifier import Classifier, classifier_of
from glyph_context_tables import tables
from torch import Tensor

from flowgression.data import DataConfig, open_dataset
from flowgression.data.fonts.dataset import GlyphImages
from flowgression.families.arflow.model import ARFlow
from flowgression.families.arflow.sampling import sample as sample_arflow
from flowgression.families.sit.model import SiT
from flowgression.families.sit.sampling import sample as sample_sit
from flowgression.files import atomic_write
from flowgression.training import TrainConfig, config_from_dict, train

CONFIG = Path(__file__).parents[1] / "configs" / "glyph-context.yaml"
LENGTHS = (125, 250, 500)  # steps of 120 images
RATES = (8e-3, 16e-3)
TUNING_SEED, TUNING_STEPS = 100, 250
SEEDS = (0, 1, 2, 3, 4)
EXAMPLES = (0, 1, 2, 4, 8, 16)
DRAWN = 6  # letters of a font; examples are among the others
STEPS = 10
NO_CLEAN = {"sequence": {"clean": 0.0}}
ARMS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "full": {"model": {"args": {"context": "full"}}},
    "none": {"model": {"args": {"context": "none"}}, **NO_CLEAN},
    "SiT": {"model": {"family": "sit", "args": {"mlp_ratio": 4.5}}, "sequence_length": 1, "sequence": {}},
    "falling": {"sequence": {"noise": "falling"}},
    "falling, no clean": {"sequence": {"noise": "falling", "clean": 0.0}},
    "random, no clean": NO_CLEAN,
    "clean alone": {"sequence": {"memory": "clean"}},
    "hybrid, 16 tokens": {"model": {"args": {"patch_size": 6}}},
    "linear, 16 tokens": {"model": {"args": {"patch_size": 6, "context": "linear"}}},
}
"""What differs from the configuration."""


class Experiment(NamedTuple):
    """Which models are trained.

    tuned: compared with each other, each at its own learning rate. others: at that of the first of those; they differ
    in the sequences that they were trained on.
    """

    tuned: tuple[str, ...]
    others: tuple[str, ...] = ()


EXPERIMENTS = {
    "context": Experiment(
        ("hybrid", "full", "none", "SiT"), ("falling", "falling, no clean", "random, no clean", "clean alone")
    ),
    "chunks": Experiment(("hybrid, 16 tokens", "linear, 16 tokens")),
}


class Task(NamedTuple):
    """What is drawn of F fonts, and what is shown: letters by their ids.

    true: [F, 26, 1, H, W] in [-1, 1]. shown: [F, 26 - T]. drawn: [F, T].
    """

    true: Tensor
    shown: Tensor
    drawn: Tensor


def main() -> None:
    """Train, judge and print, or print alone."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", help="folder of the fonts to train on")
    parser.add_argument("--fonts", help="folder of the fonts that are judged")
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="context", help="what is compared (context)")
    parser.add_argument("--out", help="folder of the results (runs/glyph-EXPERIMENT)")
    parser.add_argument("--limit", type=float, default=60, help="minutes of processor time (60)")
    parser.add_argument("--table", metavar="JSON", help="print the tables of these results and do nothing else")
    args = parser.parse_args()
    if args.table:
        print(tables(json.loads(Path(args.table).read_text())))
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    out = Path(args.out or f"runs/glyph-{args.experiment}")
    experiment = EXPERIMENTS[args.experiment]
    out.mkdir(parents=True, exist_ok=True)
    config = config_from_dict(TrainConfig, yaml.safe_load(CONFIG.read_text()))
    config = replace(config, data=replace(config.data, path=f"fonts:{args.train}"))
    classifier = classifier_of(opened(config.data, split="train"), out / "classifier.pt")
    rates = tuned_rates(experiment.tuned, config, opened(config.data, split="test", most_per_family=None), out)
    judged = opened(replace(config.data, path=f"fonts:{args.fonts}"), split="all", most_per_family=None)
    task = make_task(judged)
    results = {"experiment": args.experiment, "rates": rates, "fonts": len(task.true), "drawn": DRAWN}
    results["letters"] = judge_real(task, classifier)
    for arms in experiment:
        for seed, arm in product(SEEDS, arms):
            path = out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            if not path.exists() and time.process_time() < 60 * args.limit:
                rate = rates[arm if arm in experiment.tuned else experiment.tuned[0]]
                write(path, run(config, arm, seed, rate, task, classifier, out / "run"))
                print(f"{arm}, seed {seed}: {time.process_time():.0f} s of processor time", flush=True)
            if path.exists():
                results.setdefault("runs", {}).setdefault(arm, {})[str(seed)] = json.loads(path.read_text())
    write(out / "results.json", results)
    print(tables(results))


def opened(config: DataConfig, split: str, **options: Any) -> GlyphImages:
    """The glyphs of a split, unchanged."""
    dataset = open_dataset(replace(config, split=split, fonts=replace(config.fonts, augment=0.0, **options)))
    assert isinstance(dataset, GlyphImages)
    return dataset


def write(path: Path, value: Any) -> None:
    """As JSON, by a temporary name."""
    with atomic_write(path) as file:
        file.write(json.dumps(value).encode())


def make_task(dataset: GlyphImages) -> Task:
    """The first font of every family that has all letters."""
    random = np.random.default_rng(0)
    complete = dataset.fonts.present.all(1)
    numbers, orders = [], []
    for family in np.unique(dataset.fonts.clusters):
        members = np.flatnonzero((dataset.fonts.clusters == family) & complete)
        order = random.permutation(dataset.num_classes)
        if len(members):
            numbers.append(int(members[0]))
            orders.append(order)
    true = torch.from_numpy(dataset.fonts.images[numbers]).float().div(127.5).sub(1).unsqueeze(2)
    order = torch.from_numpy(np.stack(orders))
    return Task(true, order[:, DRAWN:], order[:, :DRAWN])


def tuned_rates(arms: tuple[str, ...], config: TrainConfig, held_out: GlyphImages, out: Path) -> dict[str, float]:
    """For each of these models, the learning rate whose letters of held-out fonts are nearest."""
    path = out / "rates.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    task = make_task(held_out)
    for arm in arms:
        for rate in RATES:
            if str(rate) in found.get(arm, {}):
                continue
            folder = trained(replace(config, max_steps=TUNING_STEPS), arm, TUNING_SEED, rate, out / "run")
            drawn = draw(load(folder, TUNING_STEPS, arm), arm, task, 4 if reads(arm) else 0)
            found.setdefault(arm, {})[str(rate)] = float(distance(task, drawn).mean())
            write(path, found)
            print(f"learning rate {rate} of {arm}: {found[arm][str(rate)]:.4f}", flush=True)
    return {arm: float(min(found[arm], key=lambda rate: found[arm][rate])) for arm in arms}


def reads(arm: str) -> bool:
    """Whether the model reads examples."""
    return arm not in ("none", "SiT")


def trained(config: TrainConfig, arm: str, seed: int, rate: float, folder: Path) -> Path:
    """Train a model into the folder, which is emptied."""
    changes = ARMS[arm]
    document = {"family": config.model.family, "args": config.model.args} | {
        key: value for key, value in changes.get("model", {}).items() if key != "args"
    }
    document["args"] = config.model.args | changes.get("model", {}).get("args", {})
    sequence = config.sequence if changes.get("sequence") is None else replace(config.sequence, **changes["sequence"])
    length = changes.get("sequence_length", config.sequence_length)
    if length == 1:
        sequence = type(sequence)()
    shutil.rmtree(folder, ignore_errors=True)
    train(
        replace(
            config,
            model=type(config.model)(**document),
            sequence=sequence,
            sequence_length=length,
            optimizer=replace(config.optimizer, lr=rate),
            seed=seed,
            out=str(folder),
        )
    )
    return folder


def load(folder: Path, steps: int, arm: str) -> Any:
    """The averaged weights after so many steps."""
    kind = SiT if arm == "SiT" else ARFlow
    return kind.from_pretrained(folder / "checkpoints" / f"step-{steps:07d}" / "ema").eval()


def run(
    config: TrainConfig, arm: str, seed: int, rate: float, task: Task, classifier: Classifier, folder: Path
) -> dict[str, Any]:
    """What is measured of one model of one seed: by steps and condition, lists over the fonts."""
    trained(config, arm, seed, rate, folder)
    found: dict[str, Any] = {}
    for steps in LENGTHS:
        model = load(folder, steps, arm)
        found["parameters"] = sum(p.numel() for p in model.parameters())
        for name, options in conditions(arm, steps).items():
            drawn = draw(model, arm, task, **options)
            found.setdefault(str(steps), {})[name] = judge(task, drawn, classifier)
    shutil.rmtree(folder)
    return found


def conditions(arm: str, steps: int) -> dict[str, dict[str, Any]]:
    """Under which conditions a model is judged: all at the end of training, the first and K = 4 before it."""
    if not reads(arm):
        return {"0": {"count": 0}}
    if steps < LENGTHS[-1]:
        return {str(count): {"count": count} for count in (0, 4)}
    found = {str(count): {"count": count} for count in EXAMPLES}
    if arm in ("hybrid", "full"):
        found |= {
            "4, another font": {"count": 4, "swap": True},
            "4, labels permuted": {"count": 4, "permute": True},
            "0, own steps": {"count": 0, "history": "all"},
            "4, own steps": {"count": 4, "history": "all"},
        }
    return found


def draw(
    model: Any, arm: str, task: Task, count: int, *, swap: bool = False, permute: bool = False, history: str = "none"
) -> Tensor:
    """[F, T, 1, H, W] in [-1, 1], from the same noise for all models.

    swap: the examples are of the next font. permute: each example has the next one's label.
    """
    fonts, drawn = task.drawn.shape
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(fonts * drawn, *task.true.shape[2:], generator=generator)
    options: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 1.0}
    if arm == "SiT":
        found = sample_sit(model, z, task.drawn.flatten(), **options)
    else:
        options["history"] = history
        if count:
            shown = task.shown[:, :count]
            rows = torch.arange(fonts)[:, None]
            examples = task.true.roll(-1, 0)[rows, shown] if swap else task.true[rows, shown]
            noise = torch.randn(examples.shape, generator=generator)
            labels = shown.roll(1, 1) if permute else shown
            options |= {
                "examples": examples.repeat_interleave(drawn, 0),
                "example_noise": noise.repeat_interleave(drawn, 0),
                "example_labels": labels.repeat_interleave(drawn, 0),
            }
        found = sample_arflow(model, z, task.drawn.flatten(), **options)
    return found.sample.clamp(-1, 1).unflatten(0, (fonts, drawn))


def targets(task: Task) -> Tensor:
    """The true glyphs [F, T, 1, H, W] of what is drawn."""
    return task.true[torch.arange(len(task.true))[:, None], task.drawn]


def distance(task: Task, drawn: Tensor) -> Tensor:
    """Mean difference from the true glyphs, 0 to 1, of each font: [F]."""
    return (drawn - targets(task)).abs().mean((1, 2, 3, 4)) / 2


def judge(task: Task, drawn: Tensor, classifier: Classifier) -> dict[str, list[float]]:
    """Of each font: the distance, how often it is the nearest of all fonts, how often the letter is named right."""
    own = []
    for number, images in enumerate(drawn):
        squares = (images - task.true[:, task.drawn[number]]).square().mean((2, 3, 4))
        own.append(int((squares.argmin(0) == number).sum()))
    right = classifier.right((drawn.flatten(0, 1) + 1) / 2, task.drawn.flatten()).unflatten(0, drawn.shape[:2])
    return {
        "distance": [round(value, 5) for value in distance(task, drawn).tolist()],
        "identified": own,
        "legible": right.sum(1).tolist(),
    }


def judge_real(task: Task, classifier: Classifier) -> dict[str, list[float]]:
    """The same of the true glyphs: how legible they are is the most that can be reached."""
    return judge(task, targets(task), classifier)


if __name__ == "__main__":
    main()
