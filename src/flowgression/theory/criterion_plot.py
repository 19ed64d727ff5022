"""The picture of the criterion: bounds of all heads of all layers against the line that they must stay below."""

from pathlib import Path

from flowgression.files import atomic_write
from flowgression.theory.criterion import CriterionReport


def plot_criterion(report: CriterionReport, path: Path, title: str) -> None:
    """sqrt(B) of every head, as measured and by Cauchy-Schwarz, beside sqrt(ln N) of its layer; PNG, SVG or PDF."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = report.layers
    figure, axes = plt.subplots(figsize=(max(5.0, 0.45 * len(layers) + 3), 4.2), layout="constrained")
    for i, layer in enumerate(layers):
        heads = len(layer.bound)
        offsets = [0.0] if heads == 1 else [-0.28 + 0.56 * h / (heads - 1) for h in range(heads)]
        where = [i + offset for offset in offsets]
        first = i == 0
        lengths = [value**0.5 for value in layer.cauchy_schwarz]
        measured = [value**0.5 for value in layer.bound]
        axes.scatter(where, lengths, s=14, marker="_", color="#888888", label="by Cauchy-Schwarz" if first else "")
        axes.scatter(where, measured, s=14, color="#1f5fa8", label="measured, one dot per head" if first else "")
        axes.hlines(layer.root_log_tokens, i - 0.42, i + 0.42, color="#c0392b", label="sqrt(ln N)" if first else "")
    axes.set_xticks(range(len(layers)), [layer.layer for layer in layers], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel("square root of the largest |logit|")
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=150)
    plt.close(figure)
