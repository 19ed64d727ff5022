"""Goals for pictures of one's own: `train --data.path DIR --minutes N`, as shipped, on three sets of free pictures.

    python benchmarks/picture_goals.py [--sets FOLDER] [--runs FOLDER] [--only NAME ...] [--images FOLDER]

The sets are those of `tools/pictures.py`, fetched where they are missing. Trainings run on one thread and are counted
by processor time; one that was stopped resumes, one that is there is not repeated. `quick` is the shipped configuration
on the emoji for as long, the baseline. Prints a table and writes a picture of samples of each run, a column for each
class, and for the cliparts each sample above the training picture nearest to it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from flowgression import load_pipeline
from flowgression.cli import nearest
from flowgression.evaluation.nearest import nearest_images
from flowgression.sampling.batches import sample_batches
from flowgression.sampling.images import make_grid, save_png
from flowgression.training.run_folder import RunFolder

TOOL = Path(__file__).parent.parent / "tools" / "pictures.py"
SAMPLING = {"num_inference_steps": 20, "guidance_scale": 2.0}
JUDGED, ROWS, COPIES = 500, 8, 64  # samples: for the distance, of each class in the picture, compared with the training


class Goal(NamedTuple):
    """A run, and what is wanted of it: the set, minutes, further flags, and whether its distance is measured."""

    data: str
    minutes: float
    flags: tuple[str, ...] = ()
    judged: bool = False


GOALS = {
    "emoji": Goal("emoji", 10, judged=True),
    "quick": Goal("emoji", 10, ("--config", "quick", "--data.image_size", "32"), judged=True),
    "photos": Goal("photos", 30),
    "cliparts": Goal("cliparts", 10),
}


def command(*arguments: object) -> None:
    """Run `flowgression ...`; subprocess.CalledProcessError if it fails."""
    subprocess.run([sys.executable, "-m", "flowgression", *map(str, arguments)], check=True)


def train(goal: Goal, data: Path, run: Path) -> None:
    """Train, or resume, or leave what is there."""
    if (run / "pipeline").is_dir():
        return
    length = ("--minutes", goal.minutes, "--clock", "processor")
    common = ("--data.path", data, "--out", run, "--num_threads", 1, "--tracker", "none", "--resume")
    command("train", *goal.flags, *length, *common)


def distance(run: Path, data: Path, size: int) -> str:
    """FID of samples from the pictures in the features pictures-1, with its interval."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = {"num-images": JUDGED, "seed": 1, "num-threads": 1, "features": "pictures-1", "image-size": size}
        options |= {name.replace("_", "-"): value for name, value in SAMPLING.items()}
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        command("evaluate", "--model", run, "--reference", data, "--json", report, *flags)
        found = json.loads(report.read_text())
    low, high = found["fid_interval"]
    return f"{found['fid']:.1f} [{low:.1f}, {high:.1f}]"


def draw(run: Path, path: Path) -> None:
    """Samples, a column for each class."""
    pipe = load_pipeline(run)
    pipe.set_progress_bar_config(disable=True)
    classes = pipe.transformer.config.num_classes
    guidance = SAMPLING["guidance_scale"] if classes > 1 else 1.0
    labels = [label for _ in range(ROWS) for label in range(classes)] if classes > 1 else [0] * 4 * ROWS
    call = {**SAMPLING, "guidance_scale": guidance}
    drawn = [batch.images for batch in sample_batches(pipe, labels, call, seed=0, batch_size=64)]
    images = torch.cat([torch.from_numpy(each) for each in drawn]).numpy()
    columns = classes if classes > 1 else ROWS
    save_png(make_grid(images, columns, scale=max(1, 64 // images.shape[1])), path)


def copies(run: Path, data: Path, path: Path) -> str:
    """The share of samples that are as near to a training picture as a twentieth of new ones; draws the pairs."""
    argv = ["--model", str(run), "--data", str(data), "--num-images", str(COPIES), "--num-inference-steps", "20"]
    samples, training, held_out = nearest.drawn_and_seen(nearest.make_parser().parse(argv))
    found = nearest_images(samples, training, held_out)
    save_png(nearest.pairs(samples[:24], training[found.indices[:24]], found.distances[:24]), path)
    return f"{found.share:.2f} ({'held-out' if held_out is not None else 'training'} pictures compared)"


def row(name: str, goal: Goal, data: Path, run: Path, images: Path) -> Iterator[str]:
    """The cells of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    args, steps = config["model"]["args"], max(line["step"] for line in RunFolder(run).read_metrics())
    size = config["data"]["image_size"]
    yield f"`{name}`"
    yield f"{config['minutes']:g} min" if config["minutes"] else f"{steps} steps"
    yield f"{size} x {size}, patches of {args['patch_size']}, width {args['hidden_size']}, depth {args['depth']}"
    yield f"{steps * config['batch_size']:,}"
    yield distance(run, data, size) if goal.judged else "-"
    draw(run, images / f"goals-{name}.png")
    yield copies(run, data, images / f"goals-{name}-nearest.png")


def main() -> int:
    """Train what is missing and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, default=Path("pictures"), help="folder of the sets (pictures)")
    parser.add_argument("--runs", type=Path, default=Path("runs/goals"), help="folder of the runs (runs/goals)")
    parser.add_argument("--images", type=Path, default=Path("."), help="folder of the pictures (.)")
    parser.add_argument("--only", nargs="+", choices=GOALS, default=list(GOALS))
    args = parser.parse_args()
    rows = []
    for name in args.only:
        goal, data, run = GOALS[name], args.sets / GOALS[name].data, args.runs / name
        if not data.is_dir():
            subprocess.run([sys.executable, TOOL, goal.data, "--out", data], check=True)
        train(goal, data, run)
        rows.append(list(row(name, goal, data, run, args.images)))
    head = ["run", "time", "chosen", "images seen", "distance (`pictures-1`)", "as near as copies"]
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
    print(f"\n{date.today()}, {torch.backends.cpu.get_cpu_capability()}, one thread, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
