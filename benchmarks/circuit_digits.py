"""A FlowAR trained on real digits, compiled to a circuit: exactness, and the distance to PyTorch as p grows.

    python benchmarks/circuit_digits.py OUT_FOLDER

Trains a tiny model (4 x 4 maps of MNIST, scales 2 and 4) in a minute or two, prints the mean and largest absolute
distance of the fixed-point model's images to the PyTorch model's for p = 6, 8, 10, 12, compiles it at p = 8 and
compares the circuit with the fixed-point model bit for bit.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from flowgression.circuits.compile import Precision, build, interpret
from flowgression.circuits.frontend import read_flowar
from flowgression.circuits.programs import flowar_program
from flowgression.circuits.simulate import evaluate
from flowgression.data.mnist import load_mnist
from flowgression.models.flowar.model import FlowAR
from flowgression.models.flowar.scales import area_resize
from flowgression.sampling.flowar import noise_shapes, sample
from flowgression.training.flowar_losses import flowar_losses

TIMES = (1.0, 0.5, 0.0)
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


def main(folder: Path) -> None:
    model = train(2000).double()
    spec = read_flowar(model, TIMES)
    program = flowar_program(spec)
    generator = np.random.default_rng(1)
    labels = np.arange(1000) % 10
    noise = [generator.standard_normal(shape) for shape in noise_shapes(model, len(labels))]
    reference = torch_images(model, labels, noise)
    for bits in (6, 8, 10, 12):
        precision = Precision(bits)
        inputs = {"label": labels} | {f"noise{k + 1}": precision.quantise(each) for k, each in enumerate(noise)}
        result = interpret(program, precision, inputs)
        distance = np.abs(precision.dequantise(result.outputs["image"]) - reference)
        figures = f"mean {distance.mean():.4f}, largest {distance.max():.4f}"
        print(f"p = {bits:2d}: {figures}, saturated {result.saturation:.2%}", flush=True)
    precision = Precision(8)
    started = time.process_time()
    circuit = build(program, precision)
    print(f"p = 8 compiled in {time.process_time() - started:.0f} s of CPU: {circuit.statistics()}", flush=True)
    inputs = {"label": labels} | {f"noise{k + 1}": precision.quantise(each) for k, each in enumerate(noise)}
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))["image"]
    wrong = int((found != interpret(program, precision, inputs).outputs["image"]).sum())
    print(f"circuit and fixed-point model differ in {wrong} of {found.size} pixels")
    circuit.save(folder / "digits.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
