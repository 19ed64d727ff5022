"""What docs/log/study-digits.md shows of a finished study: its main table, and the pictures in docs/images.

    flowgression study study-mnist --report-only     # FLOPs of an older counter are counted again
    python benchmarks/study_page.py [--study study-mnist]

Prints the table, copies the plots and, once the study is finished, draws the sample grids of six models.
"""

import argparse
import shutil
from pathlib import Path
from statistics import fmean

from PIL import Image

from flowgression.cli.study import find_study
from flowgression.files import atomic_write
from flowgression.study.config import StudyConfig, read_study
from flowgression.study.results import Results, read_real, read_results
from flowgression.study.tables import table
from flowgression.study.work import Unit, point_path

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PLOTS = {
    "fid-flops.png": "study-flops.png",
    "fid-steps.png": "study-steps.png",
    "fid-guidance.png": "study-guidance.png",
}
SHOWN = ("SiT", "ARFlow hybrid, S = 5", "ARFlow none, S = 5", "FlowAR", "FastFlowAR", "ARFlow hybrid, S = 1")


def main_table(config: StudyConfig, results: Results) -> str:
    head = ["Model", "FID", "KID", "Precision", "Recall", "MFLOP an image", "Training, CPU s"]
    rows = []
    for model in config.models:
        one = results.at(model, config.main_point)
        if one is None:
            continue
        trained = [record["cpu_seconds"] for (name, _), record in results.training.items() if name == model]
        fid = f"{one.mean['fid']:.3g} ± {one.spread['fid']:.2g}"
        scores = [f"{one.mean['kid']:.2g}", *(f"{one.mean[name]:.2f}" for name in ("precision", "recall"))]
        cost = [f"{one.mean['cost_flops_per_image'] / 1e6:.0f}", f"{fmean(trained):.0f}" if trained else ""]
        rows.append([model, fid, *scores, *cost])
    if real := read_real(config):
        numbers = [f"{real['fid']:.2g}", f"{real['kid']:.1g}", f"{real['precision']:.2f}", f"{real['recall']:.2f}"]
        rows.append([f"{real['num_samples']} real images", *numbers, "", ""])
    return table(head, rows)


def save_samples(config: StudyConfig, path: Path) -> None:
    """The sample grids of SHOWN in the main point, first seed, each under the model's name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 5.4), layout="constrained")
    for axes, model in zip(figure.subplots(2, 3).flat, SHOWN, strict=True):
        with Image.open(point_path(config, Unit(model, config.seeds[0]), config.main_point, ".png")) as grid:
            axes.imshow(grid.convert("L"), cmap="gray", interpolation="nearest")
        axes.set_title(model, fontsize=9)
        axes.set_axis_off()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="study-mnist", help="YAML file, or the name of a shipped study")
    parser.add_argument("--out", help="folder of the study (that of the file)")
    args = parser.parse_args()
    config = read_study(find_study(args.study), out=args.out)
    results = read_results(config, {})
    if results.missing:
        print(f"{results.missing} points are still open; this is what there is:\n")
    print(main_table(config, results))
    for source, target in PLOTS.items():
        shutil.copyfile(Path(config.out) / source, IMAGES / target)
    if not results.missing:
        save_samples(config, IMAGES / "study-samples.png")


if __name__ == "__main__":
    main()
