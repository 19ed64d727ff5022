"""Training, sampling and memory beside other implementations of the same networks, on one thread.

    python benchmarks/peers.py [--sit CHECKOUT] [--flowar CHECKOUT] [--batch N] [--rounds R] [--quick] [--json out.json]
    python benchmarks/peers.py --fid IMAGES

diffusers' DiT and, where it is installed, torchcfm's flow matcher come from the packages; SiT and FlowAR from checkouts
of their released code that are named, which need timm. Nothing of theirs is here. With --fid: FID against processor
time of sit-mnist's weights, by the plain loop of guided Euler steps that such peers are walked by, and by this library.
docs/benchmarks/peers.md says what is equal.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from flowgression import load_pipeline
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ArrayImages, open_image_set
from flowgression.evaluation.statistics import collect
from flowgression.families.flowar.released import load_released as load_released_flowar
from flowgression.families.flowar.sampling import sample as sample_flowar
from flowgression.families.flowar.training import flowar_losses
from flowgression.families.sit.model import SiT
from flowgression.families.sit.released import load_released
from flowgression.families.sit.sampling import sample
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.sequence import noise_at
from flowgression.memory import LiveTensors

CLASSES, SCALE = 10, 1.5
SIZES = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "hidden_size": 192, "depth": 6, "num_heads": 6}
QUICK = {"sample_size": 8, "patch_size": 4, "in_channels": 4, "hidden_size": 32, "depth": 1, "num_heads": 2}
Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """A peer's work and ours, on equal batches.

    Attributes:
        name: of the peer. equal: what is the same on both sides.
        theirs, ours: by the name of the work, such as "training step".
        difference: of the velocities of both for one input, where the weights are equal; None where they are not.
    """

    name: str
    equal: str
    theirs: dict[str, Work]
    ours: dict[str, Work]
    difference: float | None = None


@dataclass(frozen=True)
class Batch:
    """x1 [B,C,H,W], its labels [B], and noise like x1; steps: of sampling."""

    x1: Tensor
    labels: Tensor
    noise: Tensor
    steps: int


def training(model: nn.Module, loss: Callable[[], Tensor]) -> Work:
    """A step of AdamW on a loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_loss(model: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    """Flow matching of our SiT, times and noise drawn anew."""

    def loss() -> Tensor:
        noised = noise_at(batch.x1, torch.randn_like(batch.x1), torch.rand(len(batch.x1)))
        return flow_matching_loss(model(noised.x_t, noised.t, batch.labels).velocity, noised.target)

    return loss


def our_work(model: Any, batch: Batch) -> dict[str, Work]:
    """Of a SiT of ours: a training step, and images by guided Euler steps."""
    return {
        "training step": training(model.train(), our_loss(model, batch)),
        "sampling": lambda: sample(
            model, batch.noise, batch.labels, num_inference_steps=batch.steps, guidance_scale=SCALE
        ),
    }


def guided_euler(velocity: Callable[[Tensor, Tensor, Tensor], Tensor], batch: Batch, null: int) -> Tensor:
    """Guided Euler steps by a network [2B] of a peer that brings no sampler of its own; t = 1 is data."""
    x, labels = batch.noise, torch.cat([batch.labels, torch.full_like(batch.labels, null)])
    times = torch.linspace(0, 1, batch.steps + 1)
    with torch.no_grad():
        for step in range(batch.steps):
            both = velocity(torch.cat([x, x]), times[step].expand(len(labels)), labels)
            v, v_null = both.chunk(2)
            x = x + (times[step + 1] - times[step]) * (v_null + SCALE * (v - v_null))
    return x


def diffusers_dit(sizes: dict[str, Any], batch: Batch) -> Pair:
    """diffusers' DiTTransformer2DModel: the same layers as SiT, with weights of its own; it has no flow sampler."""
    from diffusers import DiTTransformer2DModel

    heads = sizes["num_heads"]
    theirs = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=sizes["hidden_size"] // heads,
        in_channels=sizes["in_channels"],
        out_channels=sizes["in_channels"],
        num_layers=sizes["depth"],
        sample_size=sizes["sample_size"],
        patch_size=sizes["patch_size"],
        num_embeds_ada_norm=CLASSES,
    )

    def velocity(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return theirs(x, timestep=1000 * (1 - t), class_labels=labels).sample

    def loss() -> Tensor:
        noised = noise_at(batch.x1, torch.randn_like(batch.x1), torch.rand(len(batch.x1)))
        return flow_matching_loss(velocity(noised.x_t, noised.t, batch.labels), noised.target)

    work = {
        "training step": training(theirs.train(), loss),
        "sampling": lambda: guided_euler(velocity, batch, CLASSES),
    }
    ours = SiT(**sizes, num_classes=CLASSES, learn_sigma=False)
    return Pair("diffusers DiT", "width, depth, heads, tokens; weights differ", work, our_work(ours, batch))


def torchcfm(sizes: dict[str, Any], batch: Batch) -> Pair:
    """torchcfm's conditional flow matcher around the same network: what the method costs beside the network."""
    matcher = import_module("torchcfm.conditional_flow_matching").ConditionalFlowMatcher(sigma=0.0)
    torch.manual_seed(0)
    theirs = SiT(**sizes, num_classes=CLASSES, learn_sigma=False)
    torch.manual_seed(0)
    ours = SiT(**sizes, num_classes=CLASSES, learn_sigma=False)

    def loss() -> Tensor:
        t, x_t, target = matcher.sample_location_and_conditional_flow(torch.randn_like(batch.x1), batch.x1)
        return (theirs(x_t, t, batch.labels).velocity - target).square().mean()

    work = {
        "training step": training(theirs.train(), loss),
        "sampling": lambda: guided_euler(lambda x, t, labels: theirs(x, t, labels).velocity, batch, CLASSES),
    }
    return Pair("torchcfm", "the network itself and its weights", work, our_work(ours, batch))


def released_sit(checkout: Path, sizes: dict[str, Any], batch: Batch) -> Pair:
    """The released SiT with its transport: the same weights, training loss and guided Euler steps."""
    sys.path.insert(0, str(checkout))
    models, transport = import_module("models"), import_module("transport")
    torch.manual_seed(0)
    kept = {name: value for name, value in sizes.items() if name != "sample_size"}
    theirs = models.SiT(input_size=sizes["sample_size"], num_classes=CLASSES, learn_sigma=False, **kept)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:  # none of the zeros of a fresh model hides a part of it
                parameter.add_(0.02 * torch.randn_like(parameter))
    ours = load_released(theirs.state_dict(), num_heads=sizes["num_heads"], num_classes=CLASSES)
    t, given = torch.full((len(batch.labels),), 0.3), batch.labels
    with torch.no_grad():
        difference = (theirs.eval()(batch.x1, t, given) - ours(batch.x1, t, given).velocity).abs().max().item()
    flow = transport.create_transport()
    walk = transport.Sampler(flow).sample_ode(sampling_method="euler", num_steps=batch.steps + 1)

    def draw() -> Tensor:
        labels = torch.cat([batch.labels, torch.full_like(batch.labels, CLASSES)])
        both = torch.cat([batch.noise, batch.noise])
        with torch.no_grad():
            return walk(both, theirs.forward_with_cfg, y=labels, cfg_scale=SCALE)[-1].chunk(2)[0]

    def loss() -> Tensor:
        return flow.training_losses(theirs, batch.x1, {"y": batch.labels})["loss"].mean()

    work = {"training step": training(theirs.train(), loss), "sampling": draw}
    return Pair("SiT, released code", "weights, loss, guided Euler steps", work, our_work(ours, batch), difference)


def on_processor() -> Any:
    """While it is entered, `.cuda()` of a tensor is the tensor itself: for code that is written for one device."""
    return patch.object(Tensor, "cuda", lambda tensor: tensor)


def released_flowar(checkout: Path, sizes: dict[str, Any], batch: Batch) -> Pair:
    """The released FlowAR: the same weights, its own training loss and guided sampling with its cache.

    Its code fixes 1,000 classes and 16 x 16 x 16 latents.
    """
    sys.path.insert(0, str(checkout))
    torch.manual_seed(0)
    width, depth, heads = sizes["hidden_size"], sizes["depth"], sizes["num_heads"]
    theirs = import_module("models.flowar").FlowAR(
        encoder_embed_dim=width, encoder_depth=depth, encoder_num_heads=heads,
        decoder_embed_dim=width, decoder_depth=depth, decoder_num_heads=heads,
        diffloss_d=2, diffloss_w=max(width, 64),
    )  # fmt: skip
    ours = load_released_flowar(theirs.state_dict())
    count, x1 = len(batch.labels), torch.randn(len(batch.labels), 16, 16, 16)
    tokens = sum(side**2 for side in ours.scales)
    with on_processor(), torch.no_grad():
        theirs.eval()
        embedded = theirs.class_emb(batch.labels)
        first = theirs.forward_mae_encoder(embedded.unsqueeze(1), embedded, None, 0, 1)
        first = theirs.forward_mae_decoder(first, embedded, None, 0, 1)
        difference = (first - ours(x1, batch.labels).semantics[0]).abs().max().item()

    def their_loss() -> Tensor:
        theirs.train()
        with on_processor():
            return theirs(x1, batch.labels)

    def loss() -> Tensor:
        labels = torch.where(torch.rand(count) < 0.1, 1000, batch.labels)
        noise = torch.randn(count, tokens, 16)
        return flowar_losses(ours.train(), x1, labels, torch.rand(count, len(ours.scales)), noise)[1]

    def draw() -> Tensor:
        theirs.eval()
        with on_processor(), torch.no_grad():
            return theirs.sample_tokens(num_steps=batch.steps, guidance=1.0, cfg=SCALE, labels=batch.labels)

    def our_draw() -> Tensor:
        steps = {"num_inference_steps": batch.steps, "guidance_scale": SCALE}
        return sample_flowar(ours.eval(), batch.labels, generator=torch.Generator(), **steps).sample

    theirs_work = {"training step": training(theirs, their_loss), "sampling": draw}
    work = {"training step": training(ours, loss), "sampling": our_draw}
    return Pair("FlowAR, released code", "weights, loss, guided Euler steps", theirs_work, work, difference)


def pairs(sizes: dict[str, Any], batch: Batch, sit: Path | None, flowar: Path | None) -> Iterator[Pair | str]:
    """The peers at hand, one after the other, or why one is not."""
    yield diffusers_dit(sizes, batch)
    yield torchcfm(sizes, batch) if find_spec("torchcfm") else "torchcfm: not installed"
    for name, checkout, make in (("SiT", sit, released_sit), ("FlowAR", flowar, released_flowar)):
        if checkout is None:
            yield f"{name}, released code: no --{name.lower()} CHECKOUT"
        elif find_spec("timm") is None:
            yield f"{name}, released code: it needs timm, which is not installed"
        else:
            for known in [each for each in sys.modules if each.split(".")[0] == "models"]:
                del sys.modules[known]  # both call their package so
            yield make(checkout, sizes, batch)


def in_turn(sides: dict[str, Work], rounds: int) -> dict[str, float]:
    """Median processor seconds of each side after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, work in sides.items():
            begin = time.process_time()
            work()
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def peak_mib(work: Work) -> float:
    """The most memory of live tensors during the work, beyond what lived before it."""
    with LiveTensors() as memory:
        work()
    return memory.peak / 2**20


def measure(pair: Pair, rounds: int) -> list[dict[str, Any]]:
    """Rows of the table: each work's seconds and memory on both sides."""
    rows = []
    for what, theirs in pair.theirs.items():
        sides = {"theirs": theirs, "ours": pair.ours[what]}
        seconds = in_turn(sides, rounds)
        memory = {name: peak_mib(work) for name, work in sides.items()}
        rows.append({"peer": pair.name, "equal": pair.equal, "work": what, "seconds": seconds, "mib": memory})
    return rows


def to_equal_fid(count: int, together: int, least: int, real: str = "mnist:test") -> Iterator[str]:
    """FID and processor time an image of sit-mnist's weights from the same noise, by a plain loop and by this library.

    Args:
        count: images a row; together: in a batch. least: the fewest Euler steps; twice and four times as many follow.
        real: the images that all are compared with.
    """
    pipe, average = load_pipeline("sit-mnist"), load_pipeline("sit-mnist-meanflow")
    model, extractor = pipe.transformer, load_extractor("mnist")
    reference = collect(open_image_set(real, 28), extractor)
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))

    def plain(z: Tensor, ids: Tensor, steps: int) -> Tensor:
        batch = Batch(z, ids, z, steps)
        return guided_euler(lambda x, t, given: model(x, t, given).velocity, batch, CLASSES)

    def library(z: Tensor, ids: Tensor, steps: int, network: Any = model, **settings: Any) -> Tensor:
        settings = {"guidance_scale": SCALE, **settings}
        return sample(network, z, ids, num_inference_steps=steps, **settings).sample

    def late(z: Tensor, ids: Tensor, steps: int) -> Tensor:
        return library(z, ids, steps, guidance_interval=(0.4, 1.0))

    def one_row(z: Tensor, ids: Tensor, steps: int) -> Tensor:
        return library(z, ids, steps, average.transformer, guidance_scale=1.0)

    walks = {"plain loop": plain, "ours, Euler": library, "ours, guided from time 0.4 on": late}
    rows = [(name, walk, steps) for steps in (least, 2 * least, 4 * least) for name, walk in walks.items()]
    rows += [("ours, `sit-mnist-meanflow`", one_row, steps) for steps in (1, 2)]
    yield "| sampler | Euler steps | FID | ms an image |\n|---|---:|---:|---:|"
    for name, walk, steps in rows:
        begin = time.process_time()
        drawn = [walk(z, ids, steps) for z, ids in zip(noise.split(together), labels.split(together), strict=True)]
        each = 1000 * (time.process_time() - begin) / count
        pixels = (255 * (torch.cat(drawn) / 2 + 0.5).clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1)
        fid = compare(collect(ArrayImages(name, np.asarray(pixels)), extractor), reference).estimates["fid"].value
        yield f"| {name} | {steps} | {fid:.3f} | {each:.1f} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sit", type=Path, metavar="CHECKOUT", help="of the released SiT")
    parser.add_argument("--flowar", type=Path, metavar="CHECKOUT", help="of the released FlowAR")
    parser.add_argument("--only", metavar="PART", help="peers whose name holds this")
    parser.add_argument("--fid", type=int, metavar="IMAGES", help="sampling to equal FID, with so many images a row")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny networks and one round: figures that mean little")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    if args.fid:
        print(f"{machine}, one thread, {date.today()}; {args.fid} images, guidance {SCALE}, batches of 50\n")
        small = {"least": 1, "real": "mnist:test[:500]"} if args.quick else {"least": 4}
        for line in to_equal_fid(args.fid, 50, **small):
            print(line, flush=True)
        return 0
    sizes, rounds, steps = (QUICK, 1, 2) if args.quick else (SIZES, args.rounds, 10)
    shape = (args.batch, sizes["in_channels"], sizes["sample_size"], sizes["sample_size"])
    batch = Batch(torch.randn(shape), torch.arange(args.batch) % CLASSES, torch.randn(shape), steps)
    rows: list[dict[str, Any]] = []
    print(f"{machine}, one thread, {date.today()}; batch {args.batch}, {steps} guided Euler steps, {sizes}\n")
    print("| peer | work | theirs | ours | theirs / ours | memory, theirs / ours |\n|---|---|---:|---:|---:|---:|")
    for pair in pairs(sizes, batch, args.sit, args.flowar):
        if args.only and args.only not in (pair if isinstance(pair, str) else pair.name):
            continue
        if isinstance(pair, str):
            print(f"| {pair} | | | | | |")
            continue
        for row in measure(pair, rounds):
            theirs, ours = (row["seconds"][side] for side in ("theirs", "ours"))
            mib = f"{row['mib']['theirs']:.1f} / {row['mib']['ours']:.1f} MiB"
            print(f"| {pair.name} | {row['work']} | {theirs:.3f} s | {ours:.3f} s | {theirs / ours:.2f} | {mib} |")
            rows.append(row)
        if pair.difference is not None:
            print(f"| {pair.name} | largest difference of an output | | | {pair.difference:.1e} | |")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
