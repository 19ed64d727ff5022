"""ARFlow by example: how often a sample is of the class of the images that were read before, classes never trained on.

    python benchmarks/examples.py --model runs/arflow-examples/pipeline --picture docs/images/examples.png

The examples are test digits in the styles of held-out classes (`data.path: mnist-classes`). A sample is judged in three
ways:

    colours     `nearest_colours` finds the ink and the ground of its class among those of all held-out classes
    digit       the built-in classifier names the digit of its class, after `take_off` of the class's colours and turns,
                so that a digit that is turned or mirrored in another way is mostly named wrongly
    class mean  of all held-out classes, the mean of its class's real images (of the training digits) is nearest

"in class" is colours and digit. "copied" is the distance to the nearest example that was shown, as the root mean square
in grey levels of 255; that of another real image of the class says what is no copy.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression import load_pipeline
from flowgression.data.config import ClassesConfig
from flowgression.data.many_classes import MnistClasses, nearest_colours, take_off
from flowgression.evaluation.features.registry import load_extractor
from flowgression.sampling.images import make_grid, save_png

BATCH = 100


class Judge:
    """What the held-out classes look like, and which samples are of their class.

    Args:
        config: the classes, as in training. size: height and width of images. count: C, of how many classes there are
            samples.
    """

    def __init__(self, config: ClassesConfig, size: int, count: int) -> None:
        self.real = MnistClasses(config, "test", size)
        self.styles = self.real.styles
        self.count = min(count, len(self.styles.digits))
        train = MnistClasses(config, "train", size)
        turns = range(train.images_per_class)
        self.means = torch.stack([train.pixels(self._of_turn(turn)).float() for turn in turns]).mean(0).flatten(1)
        self.classifier = load_extractor("mnist")

    def shown(self, turns: range) -> Tensor:
        """Real images of every class, uint8 [C, K, 3, H, W]."""
        return torch.stack([self.real.pixels(self._of_turn(turn)[: self.count]) for turn in turns], dim=1)

    def _of_turn(self, turn: int) -> range:
        classes = len(self.styles.digits)
        return range(turn * classes, (turn + 1) * classes)

    def report(self, samples: Tensor, shown: Tensor) -> dict[str, float]:
        """Shares in per cent, and the distance to the nearest image shown: samples uint8 [C, 3, H, W], one a class."""
        labels = np.arange(self.count)
        colours = np.concatenate([self.styles.inks, self.styles.grounds], axis=1)
        right_colours = (colours[nearest_colours(samples, self.styles)] == colours[labels]).all(1)
        with torch.no_grad():
            named = self.classifier(take_off(samples, labels, self.styles)).logits.argmax(1).cpu().numpy()
        right_digit = named == self.styles.digits[labels]
        nearest = torch.cdist(samples.flatten(1).float(), self.means).argmin(1).numpy()
        distance = (samples[:, None].float() - shown.float()).square().mean((2, 3, 4)).sqrt().min(1).values
        shares = {
            "colours": right_colours,
            "digit": right_digit,
            "in class": right_colours & right_digit,
            "class mean": nearest == labels,
        }
        return {name: 100 * float(right.mean()) for name, right in shares.items()} | {"copied": float(distance.mean())}


def draw(pipe: Any, shown: Tensor | None, count: int, settings: dict[str, Any]) -> Tensor:
    """A sample by the examples of each class, uint8 [C, 3, H, W]; by none where `shown` is None."""
    parts = []
    for first in range(0, count, BATCH):
        rows = range(first, min(first + BATCH, count))
        generators = [torch.Generator().manual_seed(row) for row in rows]
        z = pipe.starting_noise(generators, None)
        if shown is None:
            null = [pipe.transformer.config.num_classes] * len(rows)
            plain = {name: value for name, value in settings.items() if name != "example_times"}
            request = pipe.request(null, pipe.sampling_options(plain))
            found = type(pipe).walk_function(pipe.transformer, z, request).sample
        else:
            here = shown[rows.start : rows.stop]
            found = pipe(examples=here, latents=z, generator=generators, output_type="latent", **settings).images
        parts.append(((found.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(parts)


def picture(pipe: Any, judge: Judge, settings: dict[str, Any], path: str, examples: int) -> None:
    """Some classes: the examples, a gap, samples by them."""
    rows, columns = range(0, judge.count, max(1, judge.count // 8))[:8], 8
    shown = judge.shown(range(examples))[list(rows)]
    images = []
    for index, row in enumerate(rows):
        samples = pipe(
            examples=shown[index],
            num_images=columns,
            generator=torch.Generator().manual_seed(row),
            output_type="np",
            **settings,
        ).images
        pixels = (np.asarray(samples) * 255).round().astype(np.uint8)
        gap = np.full_like(pixels[:1], 255)
        images += [shown[index].permute(0, 2, 3, 1).numpy(), gap, pixels]
    save_png(make_grid(np.concatenate(images), examples + 1 + columns, scale=2), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/arflow-examples/pipeline")
    parser.add_argument("--num-classes", type=int, default=10_000, help="of data.classes, as in training")
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--num-samples", type=int, default=500, help="one for each of so many held-out classes")
    parser.add_argument("--num-inference-steps", type=int, default=20)
    parser.add_argument("--guidance-scales", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--num-examples", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--histories", nargs="+", default=["none", "all"])
    parser.add_argument("--picture", help="where to save a picture of examples and samples")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    classes = ClassesConfig(num_classes=args.num_classes, held_out=args.held_out, part="held-out")
    judge = Judge(classes, pipe.transformer.size[0], args.num_samples)
    most = max(args.num_examples)
    print("| examples | of | times | history | guidance | colours | digit | in class | class mean | copied | CPU, s |")
    print("|---:|---|---|---|---:|---:|---:|---:|---:|---:|---:|")

    def line(name: str, samples: Tensor, shown: Tensor, seconds: float) -> None:
        found = judge.report(samples, shown)
        *shares, copied = found.values()
        print(
            f"| {name} | " + " | ".join(f"{share:.1f} %" for share in shares) + f" | {copied:.0f} | {seconds:.0f} |",
            flush=True,
        )

    all_shown = judge.shown(range(most))
    line("- | the real images | - | - | -", judge.shown(range(most, most + 1))[:, 0], all_shown, 0)

    def measure(scale: float, history: str, count: int, times: list[float] | None, another: bool = False) -> None:
        settings = {
            "num_inference_steps": args.num_inference_steps,
            "guidance_scale": scale,
            "history": history,
            "example_times": times,
        }
        own = all_shown[:, : max(count, 1)]
        given = own.roll(1, 0) if another else own
        start = time.process_time()
        samples = draw(pipe, given if count else None, judge.count, settings)
        whose = ("another class" if another else "its class") if count else "-"
        words = ("clean" if times else "rising") if count else "-"
        line(f"{count} | {whose} | {words} | {history} | {scale:g}", samples, own, time.process_time() - start)

    for history in args.histories:
        measure(1.0, history, 0, None)
    for scale in args.guidance_scales:
        for history in args.histories:
            for count in args.num_examples:
                measure(scale, history, count, [1.0])
                if count > 1:  # one example at the default time is clean too
                    measure(scale, history, count, None)
            measure(scale, history, most, [1.0], another=True)
    if args.picture:
        settings = {
            "num_inference_steps": args.num_inference_steps,
            "history": args.histories[0],
            "example_times": [1.0],
        }
        picture(pipe, judge, settings | {"guidance_scale": args.guidance_scales[-1]}, args.picture, most)


if __name__ == "__main__":
    main()
