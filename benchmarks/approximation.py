"""The table of docs/fastflowar.md: a bounded FlowAR and its approximations, same weights, same noise, no training.

    python benchmarks/approximation.py --model flowar-mnist-bounded --degrees 2 4 6
    python benchmarks/approximation.py --tokens 64 --num-images 1 --degrees 2 4 --certificates 0.01 0.005
    python benchmarks/approximation.py --model runs/fastflowar-mnist64/pipeline --degrees 2 4 --num-images 4

--certificates gives each head the smallest degree with which no call is off by more, by its own bound on logits.

FID is in the features of the built-in digit classifier, against the 10,000 test digits; "classified correctly" is the
share of samples to which the classifier gives their label. Differences are in grey levels of 255, time is processor
time of sampling.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flowgression import load_pipeline
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.run import evaluate, open_reference
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import attention_names
from flowgression.families.flowar.sampling import sample
from flowgression.ops.lowrank import rank
from flowgression.theory.approximation import approximated_by, polynomials_of
from flowgression.theory.degrees import largest_certificate
from flowgression.theory.error.polynomial import LayerPolynomial
from flowgression.theory.survey import LayerBounds, survey
from flowgression.theory.trajectory import starting_points

BATCH = 50


def exact_form(model: FlowAR) -> FlowAR:
    """The model with exact softmax: a low-rank one with the same weights and attention="bounded"."""
    if model.config.attention != "lowrank":
        return model
    arguments = {name: value for name, value in model.config.items() if not name.startswith("_")}
    exact = FlowAR(**{**arguments, "attention": "bounded"})
    exact.load_state_dict(model.state_dict())
    return exact.eval()


def enlarged(model: FlowAR, side: int) -> FlowAR:
    """The same weights on a finest map of `side` tokens a side: its positions are interpolated, the other scales stay.

    It draws large digits with the texture of small ones: good for time and for differences, not for quality.
    """
    last = model.scales[-1]
    scales = (*model.scales[:-1], side)
    arguments = {name: value for name, value in model.config.items() if not name.startswith("_")}
    other = FlowAR(**{**arguments, "sample_size": side * model.config.patch_size, "scales": scales})
    weights = model.state_dict()
    for name in ("encoder_position", "decoder_position", "semantics_position"):
        coarse, fine = weights[name][:, : -(last**2)], weights[name][:, -(last**2) :]
        grid = interpolate(fine.mT.unflatten(2, (last, last)), size=(side, side), mode="bicubic", align_corners=False)
        weights[name] = torch.cat([coarse, grid.flatten(2).mT], dim=1)
    other.load_state_dict(weights)
    return other.eval()


def by_construction(model: FlowAR, settings: dict[str, Any]) -> dict[str, LayerBounds]:
    """Bounds of every attention; those that normalise values have values 2 apart at most, whatever they read."""
    labels, noise = starting_points(model, 1, seed=0)
    measured = survey(model, labels, noise, **settings)
    for name, each in measured.items():
        if getattr(model.get_submodule(name).attention, "unit_values", False):
            each.diameters = torch.full_like(each.diameters, 2.0)
    return measured


def draw(model: FlowAR, labels: Tensor, noise: list[Tensor], settings: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Images as float grey levels [N, H, W], and the processor time they took."""
    parts, start = [], time.process_time()
    for first in range(0, len(labels), BATCH):
        here = slice(first, first + BATCH)
        parts.append(sample(model, labels[here], noise=[each[here] for each in noise], **settings).sample)
    seconds = time.process_time() - start
    return ((torch.cat(parts)[:, 0].clamp(-1, 1) + 1) * 127.5).numpy(), seconds


def judge(grey: np.ndarray, labels: Tensor, reference: Any) -> tuple[float, float]:
    """FID, and the share classified correctly in per cent."""
    images = grey.round().astype(np.uint8)[..., None]
    fid = evaluate(images, reference, features="mnist", num_replicates=0).report["fid"]
    with torch.no_grad():
        logits = load_extractor("mnist")(torch.from_numpy(images).permute(0, 3, 1, 2)).logits
    return fid, 100 * (logits.argmax(1).cpu() == labels).float().mean().item()


def ranks(model: FlowAR, polynomials: Mapping[str, LayerPolynomial]) -> str:
    """Of the heads, smallest first, and how many have each: 45 x 16, 495 x 2."""
    counts: Counter[int] = Counter()
    for name in attention_names(model):
        attention: Any = model.get_submodule(name).attention
        pairs = polynomials[name].heads
        heads = pairs * attention.num_heads if len(pairs) == 1 else pairs
        counts.update(rank(attention.head_size, degree) for degree, _ in heads)
    return ", ".join(f"{size:,} x {counts[size]}" for size in sorted(counts)) if len(counts) > 1 else f"{min(counts):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="flowar-mnist-bounded")
    parser.add_argument("--degrees", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--certificates", type=float, nargs="*", default=[], help="a degree for each head, by these")
    parser.add_argument("--tokens", type=int, help="enlarge the finest map to this many tokens a side")
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=2.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
    model = exact_form(load_pipeline(args.model).transformer.eval())
    surveyed = by_construction(model, settings)
    if args.tokens:
        model = enlarged(model, args.tokens)
    labels, noise = starting_points(model, args.num_images, seed=0)
    judged = args.num_images >= 100
    reference = open_reference("mnist:test", None) if judged else None
    exact, seconds = draw(model, labels, noise, settings)
    print(f"{args.model}, {args.num_images} images, {args.steps} steps, guidance {args.guidance:g}, one thread")
    print(f"scales {', '.join(map(str, model.scales))} ({sum(side**2 for side in model.scales):,} tokens)")
    quality = ("FID", "classified correctly") if judged else ()
    heads = ("attention", "ranks", *quality, "mean difference", "largest", "certificate", "time, s", "exact / this")
    print(f"| {' | '.join(heads)} |\n|---|---|{'---:|' * (len(heads) - 2)}")

    def show(title: str, size: str, grey: np.ndarray, *figures: str) -> None:
        judgement = ()
        if judged:
            fid, correct = judge(grey, labels, reference)
            judgement = (f"{fid:.3f}", f"{correct:.1f} %")
        print(f"| {' | '.join((title, size, *judgement, *figures))} |", flush=True)

    show("exact", "-", exact, "-", "-", "-", f"{seconds:.1f}", "1")
    ways: list[tuple[str, dict[str, Any]]] = [(f"degree {degree}", {"degree": degree}) for degree in args.degrees]
    ways += [(f"each head certified to {value:g}", {"certificate": value}) for value in args.certificates]
    for title, way in ways:
        polynomials = polynomials_of(surveyed, "cauchy-schwarz", **way)
        other = approximated_by(model, polynomials)
        certificate = max(largest_certificate(surveyed[name], each) for name, each in polynomials.items())
        grey, taken = draw(other, labels, noise, settings)
        off = np.abs(grey - exact)
        figures = (f"{off.mean():.2g}", f"{off.max():.2g}", f"{certificate:.2g}", f"{taken:.1f}")
        show(title, ranks(model, polynomials), grey, *figures, f"{seconds / taken:.2f}")


if __name__ == "__main__":
    main()
