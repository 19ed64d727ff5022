"""A FlowAR trained on real digits, compiled to a circuit: exactness, and the distance to PyTorch as p grows.

    python benchmarks/circuit_digits.py OUT_FOLDER

Trains a tiny model (4 x 4 maps of MNIST, scales 2 and 4) in two minutes of CPU, or takes OUT_FOLDER/model if an earlier
run left it; prints the mean and largest absolute distance of the fixed-point model's images to the PyTorch model's for
p = 6, 8, 10, 12; compiles it at p = 10 and compares the circuit with the fixed-point model, bit for bit, and with
PyTorch. Writes model/ and digits.png (a row of images for PyTorch and for each p). The circuit as a file:

    flowgression circuit compile OUT_FOLDER/model --steps 2 --bits 10 --out digits.npz
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from flowgression.circuits.compile import Precision, Program, build, interpret
from flowgression.circuits.frontend import read_flowar
from flowgression.circuits.programs import flowar_program
from flowgression.circuits.simulate import evaluate
from flowgression.data.mnist import load_mnist
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.families.flowar.scales import area_resize
from flowgression.families.flowar.training import flowar_losses

TIMES = (0.0, 0.5, 1.0)
COMPILED = 10
"""p of the circuit that is built."""
SIZES = {
    "sample_size": 4,
    "in_channels": 1,
    "scales": (2, 4),
    "hidden_size": 4,
    "num_heads": 1,
    "encoder_depth": 1,
    "decoder_depth": 1,
    "flow_width": 4,
    "flow_num_heads": 1,
    "flow_depth": 1,
    "num_classes": 10,
}


class Drawn(NamedTuple):
    """What the interpreter drew, int64 [B, 16, 1], from which integers, and the share of saturated results."""

    inputs: dict[str, np.ndarray]
    image: np.ndarray
    saturation: float


def train(steps: int, seed: int = 0) -> FlowAR:
    """The tiny model after `steps` steps of AdamW on batches of 256 digits."""
    torch.manual_seed(seed)
    split = load_mnist("train")
    digits = area_resize(torch.from_numpy(split.images)[:, None].float() / 127.5 - 1, 4)
    labels = torch.from_numpy(split.labels)
    model = FlowAR(**SIZES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.randint(len(digits), (256,))
        noise = torch.randn(256, 20, 1)
        _, loss = flowar_losses(model, digits[chosen], labels[chosen], torch.rand(256, 2), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    return model.eval()


def torch_images(model: FlowAR, labels: np.ndarray, noise: list[np.ndarray]) -> np.ndarray:
    """[B, 16, 1] from the same noise, by the library's sampler without guidance."""
    tensors = [torch.from_numpy(each) for each in noise]
    result = sample(model, torch.from_numpy(labels), noise=tensors, times=TIMES, num_inference_steps=len(TIMES) - 1)
    return result.sample.flatten(2).transpose(1, 2).double().numpy()


def fixed_point(program: Program, precision: Precision, labels: np.ndarray, noise: list[np.ndarray]) -> Drawn:
    """Images by the integer interpreter, and the inputs that the circuit reads too."""
    inputs = {"label": labels} | {f"noise{k + 1}": precision.quantise(each) for k, each in enumerate(noise)}
    result = interpret(program, precision, inputs)
    return Drawn(inputs, result.outputs["image"], result.saturation)


def picture(rows: dict[str, np.ndarray], path: Path) -> None:
    """The first ten images [B, 16, 1] of each row, values in [-1, 1], white on black."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.8 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, (axes, (name, images)) in enumerate(zip(figure.subplots(len(rows), 10), rows.items(), strict=True)):
        for digit, (axis, image) in enumerate(zip(axes, images[:10], strict=True)):
            axis.imshow(image.reshape(4, 4), cmap="gray", vmin=-1, vmax=0.3)
            axis.set(xticks=[], yticks=[], title=str(digit) if row == 0 else "")
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=80)


def report(name: str, images: np.ndarray, reference: np.ndarray, saturation: float) -> None:
    distance = np.abs(images - reference)
    figures = f"mean {distance.mean():.4f}, median {np.median(distance):.4f}, largest {distance.max():.4f}"
    print(f"{name}: {figures}, saturated {saturation:.2%}", flush=True)


def compiled(program: Program, precision: Precision, drawn: Drawn) -> np.ndarray:
    """The circuit's images, after comparing them with the fixed-point model's."""
    started = time.process_time()
    circuit = build(program, precision)
    print(
        f"p = {precision.bits} compiled in {time.process_time() - started:.0f} s of CPU: {circuit.statistics()}",
        flush=True,
    )
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**drawn.inputs)))["image"]
    wrong = int((found != drawn.image).sum())
    print(f"circuit and fixed-point model differ in {wrong} of {found.size} pixels", flush=True)
    return precision.dequantise(found)


def main(folder: Path) -> None:
    stored = folder / "model"
    if not stored.is_dir():
        train(2000).save_pretrained(stored)
    model = FlowAR.from_pretrained(stored).double().eval()
    program = flowar_program(read_flowar(model, TIMES))
    generator = np.random.default_rng(1)
    labels = np.arange(1000) % 10
    noise = [generator.standard_normal(shape) for shape in noise_shapes(model, len(labels))]
    reference = torch_images(model, labels, noise)
    print(f"PyTorch: standard deviation of pixels {reference.std():.4f}")
    rows = {"PyTorch": reference}
    for bits in (12, 10, 8, 6):
        precision = Precision(bits)
        drawn = fixed_point(program, precision, labels, noise)
        rows[f"p = {bits}"] = precision.dequantise(drawn.image)
        report(f"p = {bits:2d}", rows[f"p = {bits}"], reference, drawn.saturation)
    picture(rows, folder / "digits.png")
    precision = Precision(COMPILED)
    drawn = fixed_point(program, precision, labels, noise)
    report("circuit", compiled(program, precision, drawn), reference, drawn.saturation)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
