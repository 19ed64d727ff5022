"""Every model of this package as a circuit: small siblings built whole, and the error against PyTorch as p grows.

    for each in flowar fastflowar sit arflow; do flowgression train --config configs/circuit-$each.yaml; done
    python benchmarks/circuit_models.py whole RUNS OUT [NAME ...]  # built, compared bit for bit, and drawn
    python benchmarks/circuit_models.py precision [NAME ...]       # built-in names or folders: errors for p = 8 to 20
    python benchmarks/circuit_models.py counts [NAME ...]          # gates, wires and depth at full size

`make figures` writes the last two into docs/circuits-measured.md, with the digests of the weights.
RUNS is the folder of the trained runs; NAME flowar, fastflowar, sit or arflow. `whole` writes OUT/circuit_models.png:
for each model a row drawn by PyTorch in floats and a row by the circuit, from the same noise.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowgression.circuits.calibrate import measured_precision
from flowgression.circuits.compile import Precision, Program, build, count, interpret, outline
from flowgression.circuits.frontend import load_model, program_of, read_model
from flowgression.circuits.simulate import evaluate
from flowgression.families.arflow import sampling as arflow
from flowgression.families.flowar import sampling as flowar
from flowgression.families.flowar.model import FlowAR
from flowgression.families.sit import sampling as sit
from flowgression.families.sit.model import SiT
from flowgression.sampling.folders import find_folder

BITS = 8
"""p of the circuits that are built whole."""
STEPS = {"flowar": 4, "fastflowar": 4, "sit": 6, "arflow": 6}
"""Euler steps (per scale in FlowAR) of the circuits that are built whole."""
LARGE_STEPS, GUIDANCE, IMAGES = 6, 2.0, 8
"""How the models of `precision` are sampled."""
COUNTED_STEPS = 10
"""Euler steps (per scale in FlowAR) of `counts`."""
BUILT_IN = ("flowar-mnist", "fastflowar-mnist", "sit-mnist", "arflow-mnist")
Table = Callable[[list[str]], Iterator[str]]


def open_model(name: str) -> Any:
    """A built-in model or one in a pipeline's folder."""
    return load_model(find_folder(name) / "transformer").eval()


def normal_noise(program: Program, images: int) -> dict[str, np.ndarray]:
    """Labels 0, 1, ... and noise for every other input of the program."""
    generator = np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {"label": np.arange(images) % 10}
    for name, item in program.inputs.items():
        if item.limit is None:
            inputs[name] = generator.standard_normal((images, *item.shape))
    return inputs


def torch_images(model: Any, inputs: dict[str, np.ndarray], steps: int, guidance_scale: float) -> np.ndarray:
    """The library's own sampler in float32, pixels [B, H W, C]."""
    labels = torch.from_numpy(inputs["label"])
    if isinstance(model, FlowAR):
        noise = [torch.from_numpy(inputs[f"noise{k + 1}"]).float() for k in range(len(model.scales))]
        found = flowar.sample(
            model, labels, noise=noise, num_inference_steps=steps, guidance_scale=guidance_scale
        ).sample
    else:
        z = torch.from_numpy(inputs["noise"]).float().transpose(1, 2).unflatten(2, model.size)
        sample: Any = sit.sample if isinstance(model, SiT) else arflow.sample
        found = sample(model, z, labels, num_inference_steps=steps, guidance_scale=guidance_scale).sample
    return found.flatten(2).transpose(1, 2).double().numpy()


def whole(name: str, runs: Path, out: Path) -> None:
    """Build one small model, compare it, and keep ten images of PyTorch and of the circuit in OUT/NAME.npz."""
    model, steps = open_model(str(runs / f"circuit-{name}" / "pipeline")), STEPS[name]
    program = program_of(read_model(model, steps))
    precision = measured_precision(program, BITS)
    inputs = normal_noise(program, 640)
    reference = torch_images(model, inputs, steps, 1.0)
    integers = program.quantise(precision, inputs)
    expected = interpret(program, precision, integers)
    started = time.process_time()
    circuit = build(program, precision)
    seconds = time.process_time() - started
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**integers)))["image"]
    wrong = int((found != expected.outputs["image"]).sum())
    images = np.ldexp(found.astype(float), -expected.fractions["image"])
    figures = circuit.statistics()
    size = f"{steps} | {figures.gates:,} | {figures.wires:,} | {figures.depth:,} | {seconds:.0f}"
    error = np.abs(images - reference).mean()
    print(f"| {name} | {size} | {wrong} of {found.size:,} | {error:.3f} |", flush=True)
    np.savez(out / f"{name}.npz", torch=reference[:10], circuit=images[:10])


def whole_models(runs: Path, out: Path, names: list[str]) -> None:
    """Build, compare and draw the small models named, or all."""
    print("| model | Euler steps | gates | wires | depth | built in s of CPU | pixels that differ | error |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for name in names or STEPS:
        whole(name, runs, out)
    stored = [np.load(out / f"{name}.npz") for name in STEPS if (out / f"{name}.npz").is_file()]
    picture([each[key] for each in stored for key in ("torch", "circuit")], out / "circuit_models.png")


def picture(rows: list[np.ndarray], path: Path, zoom: int = 5) -> None:
    """Rows of ten square one-channel images, values in [-1, 1], white on black."""
    from PIL import Image

    side = round(rows[0].shape[1] ** 0.5)
    tiles = np.stack(rows).reshape(len(rows), 10, side, side)
    framed = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    flat = framed.transpose(0, 2, 1, 3).reshape(len(rows) * (side + 2), 10 * (side + 2))
    image = Image.fromarray(((flat + 1) * 127.5).clip(0, 255).astype(np.uint8))
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path)


def precision_table(names: list[str]) -> Iterator[str]:
    """Mean distance of pixels to PyTorch's; the integer interpreter stands for the circuit."""
    columns = (8, 10, 12, 14, 16, 20)
    yield f"| model (standard deviation of pixels) | {' | '.join(f'p = {bits}' for bits in columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for name in names:
        model = open_model(name)
        guidance = GUIDANCE
        program = program_of(read_model(model, LARGE_STEPS, guidance_scale=guidance))
        inputs = normal_noise(program, IMAGES)
        reference = torch_images(model, inputs, LARGE_STEPS, guidance)
        errors, ranges = [], measured_precision(program, 8, 2 * IMAGES).ranges
        for bits in columns:
            precision = Precision(bits, ranges=ranges)
            result = interpret(program, precision, program.quantise(precision, inputs))
            errors.append(np.abs(result.real("image") - reference).mean())
        figures = " | ".join(f"{error:.2g}" for error in errors)
        yield f"| {name} ({reference.std():.2f}) | {figures} |"


def counts_table(names: list[str]) -> Iterator[str]:
    """Size of the circuits with measured formats, p = 8 and weights as inputs, from one cell of each kind."""
    yield "| model | gates | wires | depth | nominal bound | distinct cells | s of CPU |"
    yield f"|---|{'---:|' * 6}"
    for name in names:
        started = time.process_time()
        program = program_of(read_model(open_model(name), COUNTED_STEPS, guidance_scale=GUIDANCE))
        precision = measured_precision(program, BITS)
        counted, nominal = count(program, precision, wired=False), outline(program, precision).depth
        found, seconds = counted.total_statistics, time.process_time() - started
        sizes = f"{found.gates:,} | {found.wires:.3g} | {found.depth:,} | {nominal:,} | {counted.cells_built:,}"
        yield f"| {name} | {sizes} | {seconds:.0f} |"


TABLES: dict[str, Table] = {"precision": precision_table, "counts": counts_table}


def main() -> None:
    action, *rest = sys.argv[1:]
    if action == "whole":
        whole_models(Path(rest[0]), Path(rest[1]), rest[2:])
        return
    for row in TABLES[action](rest or list(BUILT_IN)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
