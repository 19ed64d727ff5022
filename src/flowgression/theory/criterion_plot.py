"""The picture of the criterion: logits of all heads of all layers against those at which low rank is still worth it."""

from pathlib import Path

from flowgression.files import atomic_write
from flowgression.theory.criterion import CriterionReport


def plot_criterion(report: CriterionReport, path: Path, title: str) -> None:
    """Largest |logit| of every head, as measured, with centred keys and by Cauchy-Schwarz; and per layer the largest at
    which a rank that is worth it reaches the target error. PNG, SVG or PDF.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = report.layers
    figure, axes = plt.subplots(figsize=(max(5.0, 0.45 * len(layers) + 3), 5.0), layout="constrained")
    for i, layer in enumerate(layers):
        heads = len(layer.bound)
        offsets = [0.0] if heads == 1 else [-0.28 + 0.56 * h / (heads - 1) for h in range(heads)]
        where = [i + offset for offset in offsets]
        axes.scatter(
            where, layer.cauchy_schwarz, s=14, marker="_", color="#888888", label="by Cauchy-Schwarz" if i == 0 else ""
        )
        axes.scatter(where, layer.bound, s=14, color="#1f5fa8", label="measured, one dot per head" if i == 0 else "")
        if not layer.own:
            axes.scatter(
                where,
                layer.centred,
                s=14,
                facecolors="none",
                edgecolors="#1f5fa8",
                label="keys centred" if i == 0 else "",
            )
        limit = "largest at which low rank is worth it at the target error" if i == 0 else ""
        axes.hlines(layer.paying_bound, i - 0.42, i + 0.42, color="#c0392b", label=limit)
    axes.set_xticks(range(len(layers)), [layer.layer for layer in layers], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel("largest |logit|")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=-0.1)  # a line at 0 is seen
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=1)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=150)
    plt.close(figure)
