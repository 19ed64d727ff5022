"""The table of docs/fastflowar.md: a bounded FlowAR and its approximations, same weights, same noise, no training.

    python benchmarks/approximation.py --model flowar-mnist-bounded --degrees 2 4 6
    python benchmarks/approximation.py --model runs/fastflowar-mnist64/pipeline --degrees 2 4 --num-images 4

FID is in the features of the built-in digit classifier, against the 10,000 test digits; "classified correctly" is the
share of samples to which the classifier gives their label. Differences are in grey levels of 255, time is processor
time of sampling.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression import load_pipeline
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.run import evaluate, open_reference
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import attention_names
from flowgression.families.flowar.sampling import sample
from flowgression.ops.lowrank import rank
from flowgression.theory.approximation import of_degree
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="flowar-mnist-bounded")
    parser.add_argument("--degrees", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=2.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
    model = exact_form(load_pipeline(args.model).transformer.eval())
    labels, noise = starting_points(model, args.num_images, seed=0)
    judged = args.num_images >= 100
    reference = open_reference("mnist:test", None) if judged else None
    exact, seconds = draw(model, labels, noise, settings)
    print(f"{args.model}, {args.num_images} images, {args.steps} steps, guidance {args.guidance:g}, one thread")
    measured = "mean difference | largest | certificate | time, s | exact / this"
    print(f"| attention | rank | FID | classified correctly | {measured} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    fid, named = judge(exact, labels, reference) if judged else (float("nan"), float("nan"))
    print(f"| exact | - | {fid:.3f} | {named:.1f} % | - | - | - | {seconds:.1f} | 1 |", flush=True)
    for degree in args.degrees:
        first = [each[:1] for each in noise]
        other, certificate = of_degree(model, labels[:1], first, degree, bounds="cauchy-schwarz", **settings)
        grey, taken = draw(other, labels, noise, settings)
        fid, named = judge(grey, labels, reference) if judged else (float("nan"), float("nan"))
        difference = np.abs(grey - exact)
        size = max(rank(other.get_submodule(name).attention.head_size, degree) for name in attention_names(other))
        print(
            f"| degree {degree} | {size:,} | {fid:.3f} | {named:.1f} % | {difference.mean():.2g} | "
            f"{difference.max():.2g} | {certificate:.2g} | {taken:.1f} | {seconds / taken:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
