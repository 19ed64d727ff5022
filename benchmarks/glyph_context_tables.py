"""The tables of benchmarks/glyph_context.py, from its results alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

ENOUGH = 5  # seeds, for a verdict
Comparison = tuple[str, tuple[str, str], tuple[str, str]]
CONTEXT: tuple[Comparison, ...] = (
    ("four examples: hybrid - none", ("hybrid", "4"), ("none", "0")),
    ("four examples: hybrid - SiT", ("hybrid", "4"), ("SiT", "0")),
    ("no examples, own steps read: hybrid - SiT", ("hybrid", "0, own steps"), ("SiT", "0")),
    ("four examples: hybrid - full", ("hybrid", "4"), ("full", "4")),
    ("hybrid: eight examples - four", ("hybrid", "8"), ("hybrid", "4")),
    ("hybrid, four: of another font - of the font", ("hybrid", "4, another font"), ("hybrid", "4")),
    ("hybrid, four: labels permuted - right", ("hybrid", "4, labels permuted"), ("hybrid", "4")),
    ("hybrid, four: own steps read too - examples alone", ("hybrid", "4, own steps"), ("hybrid", "4")),
    ("trained on falling noise - on any order", ("falling", "4"), ("hybrid", "4")),
    ("trained without clean images - with", ("random, no clean", "4"), ("hybrid", "4")),
    ("trained on clean images alone as memory - on all", ("clean alone", "4"), ("hybrid", "4")),
)
CHUNKS: tuple[Comparison, ...] = (
    ("four examples: linear - hybrid", ("linear, 16 tokens", "4"), ("hybrid, 16 tokens", "4")),
    ("no examples: linear - hybrid", ("linear, 16 tokens", "0"), ("hybrid, 16 tokens", "0")),
)
COMPARED = {"context": CONTEXT, "chunks": CHUNKS}
"""The comparisons of each experiment, fixed before anything ran: (title, ours, theirs), each an arm and a condition at
the end of its training. A difference below 0 is nearer to the true letters."""


def tables(results: dict[str, Any]) -> str:
    """What was measured, then what follows from it."""
    runs, drawn = results.get("runs", {}), results["drawn"]
    compared = COMPARED[results["experiment"]]
    real = float(np.mean(results["letters"]["legible"])) / drawn
    lines = [
        f"{results['fonts']} fonts, {drawn} letters of each. The classifier names {real:.1%} of the true letters. "
        f"Learning rates: {', '.join(f'{arm} {rate:g}' for arm, rate in results['rates'].items())}.",
        "",
        "| trained on | steps | shown | seeds | distance | font identified | named |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for arm, seeds in runs.items():
        measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for found in seeds.values():
            for steps in (key for key in found if key.isdigit()):
                for condition, values in found[steps].items():
                    measured.setdefault((steps, condition), []).append(values)
        for (steps, condition), values in measured.items():
            cells = [spread([np.mean(each["distance"]) for each in values], "{:.4f}")]
            cells += [
                spread([100 * np.mean(each[name]) / drawn for each in values], "{:.1f} %")
                for name in ("identified", "legible")
            ]
            lines.append(f"| {arm} | {steps} | {condition} | {len(values)} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Distance, paired; intervals of 95 % together for {len(compared)} comparisons (Bonferroni).",
        "",
        "| comparison | seeds | difference | over seeds | over fonts | verdict |",
        "|---|---:|---:|---|---|---|",
    ]
    for title, ours, theirs in compared:
        pairs = differences(runs, ours, theirs)
        if len(pairs) < 2:
            lines.append(f"| {title} | {len(pairs)} | | | | not run |")
            continue
        of_seeds, of_fonts = (interval(pairs.mean(axis), len(compared)) for axis in (1, 0))
        lines.append(
            f"| {title} | {len(pairs)} | {pairs.mean():+.4f} | {brackets(of_seeds)} | {brackets(of_fonts)} | "
            f"{verdict(len(pairs), of_seeds, of_fonts)} |"
        )
    return "\n".join(lines)


def spread(values: list[Any], form: str) -> str:
    """The mean over seeds and its standard deviation."""
    mean = form.format(float(np.mean(values)))
    return mean if len(values) < 2 else f"{mean} ± {form.split(' ')[0].format(float(np.std(values, ddof=1)))}"


def differences(runs: dict[str, Any], ours: tuple[str, str], theirs: tuple[str, str]) -> NDArray[np.float64]:
    """Ours minus theirs at the end of training, of the seeds that both have: [seeds, fonts]."""
    rows = []
    for seed, found in runs.get(ours[0], {}).items():
        other = runs.get(theirs[0], {}).get(seed)
        if other is None:
            continue
        mine, his = (
            np.asarray(value[max((key for key in value if key.isdigit()), key=int)][condition]["distance"])
            for value, (_, condition) in ((found, ours), (other, theirs))
        )
        rows.append(mine - his)
    return np.asarray(rows, dtype=np.float64)


def interval(values: NDArray[np.float64], comparisons: int) -> tuple[float, float]:
    """Of the mean, by Student's t, corrected for the number of comparisons (Bonferroni)."""
    half = student.ppf(1 - 0.025 / comparisons, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - half), float(values.mean() + half)


def brackets(found: tuple[float, float]) -> str:
    """An interval as text."""
    return f"[{found[0]:+.4f}, {found[1]:+.4f}]"


def verdict(seeds: int, *intervals: tuple[float, float]) -> str:
    """Nearer or farther where there are enough seeds and no interval holds zero."""
    if seeds >= ENOUGH and all(high < 0 for _, high in intervals):
        return "nearer"
    if seeds >= ENOUGH and all(low > 0 for low, _ in intervals):
        return "farther"
    return "not enough evidence"
