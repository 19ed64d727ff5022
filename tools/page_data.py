"""The figures and circuits that the page ships, as small JSON files in src/flowgression/web/page/data.

    python tools/page_data.py circuits     # three threshold circuits from the package's own constructions (seconds)
    python tools/page_data.py fid          # FID against NFE of four built-in models (about 15 minutes of CPU)

The circuits are deterministic; a test builds them again and compares. FID is of 500 samples each, guidance 1.5, Euler,
against the training digits, in the features of the digit classifier.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from flowgression.circuits.arithmetic.addition import add
from flowgression.circuits.arithmetic.number import Number, input_tensor, output_port
from flowgression.circuits.arithmetic.product import multiply
from flowgression.circuits.builder import Builder
from flowgression.circuits.compile import Input, Program, build
from flowgression.circuits.ir import Circuit
from flowgression.circuits.lower.attention import softmax_attention
from flowgression.circuits.lower.precision import Precision
from flowgression.files import atomic_write

DATA = Path(__file__).parent.parent / "src" / "flowgression" / "web" / "page" / "data"
MODELS = ("sit-mnist", "arflow-mnist", "flowar-mnist", "fastflowar-mnist")
STEPS = (1, 2, 4, 8, 16)
IMAGES, GUIDANCE = 500, 1.5


def circuits() -> dict[str, Circuit]:
    """The adder, the product and the tiny attention of the page."""
    return {
        "adder": _arithmetic(lambda builder, numbers: add(builder, *numbers), 5, 3),
        "product": _arithmetic(lambda builder, numbers: multiply(builder, *numbers), 2, 3),
        "attention": _attention(),
    }


def _arithmetic(operation: Any, count: int, bits: int) -> Circuit:
    """`operation` of `count` unsigned numbers of `bits` bits each."""
    builder = Builder()
    numbers, port = input_tensor(builder, "x", (count,), bits, False)
    result = np.empty((), dtype=object)
    number: Number = operation(builder, list(numbers))
    result[()] = number
    outputs, output = output_port("y", result)
    return builder.finish(outputs, [port], [output])


def _attention() -> Circuit:
    """softmax(q k^T) v of two tokens of width 1, four bits a number, two of them behind the point."""
    inputs = {name: Input((2, 1)) for name in "qkv"}
    program = Program("attention", inputs, lambda ops, t: {"y": softmax_attention(ops, t["q"], t["k"], t["v"])})
    return build(program, Precision(4, 2))


def as_json(circuit: Circuit) -> dict[str, Any]:
    """The arrays of a circuit as lists, its ports, and its figures."""
    arrays = ("row_ptr", "row_idx", "row_w", "gate_row", "theta", "level", "outputs")
    ports = {
        kind: [
            {"name": p.name, "shape": list(p.shape), "width": p.width, "signed": p.signed}
            for p in getattr(circuit, kind)
        ]
        for kind in ("input_ports", "output_ports")
    }
    fraction = circuit.metadata.get("fraction") or 0
    head = {"num_inputs": circuit.num_inputs, "fraction": fraction, "statistics": circuit.statistics().to_dict()}
    return head | ports | {name: getattr(circuit, name).tolist() for name in arrays}


def fid() -> dict[str, Any]:
    """FID of every built-in model at every number of steps, with the NFE and FLOPs that an image took."""
    points = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.safetensors"
        _run("reference", "mnist:train", "--out", str(reference))
        for model in MODELS:
            points[model] = [_point(model, steps, reference, Path(folder) / "report.json") for steps in STEPS]
    return {
        "num_images": IMAGES,
        "guidance_scale": GUIDANCE,
        "solver": "euler",
        "reference": "mnist:train",
        "features": "mnist",
        "measured": f"{datetime.date.today().isoformat()}, {platform.machine()}; tools/page_data.py fid",
        "models": points,
    }


def _point(model: str, steps: int, reference: Path, report: Path) -> dict[str, Any]:
    flags = {
        "model": model,
        "reference": reference,
        "num-images": IMAGES,
        "num-inference-steps": steps,
        "guidance-scale": GUIDANCE,
        "solver": "euler",
        "bootstrap": 0,
        "seed": 0,
        "json": report,
    }
    _run("evaluate", *(str(part) for name, value in flags.items() for part in (f"--{name}", value)))
    found = json.loads(report.read_text())
    return {
        "steps": steps,
        "nfe": found["cost_network_calls"],
        "fid": round(found["fid"], 3),
        "mflop": round(found["cost_flops_per_image"] / 1e6),
    }


def _run(*arguments: str) -> None:
    print("flowgression", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "flowgression", *arguments], check=True)


def write(name: str, content: Any) -> None:
    """Write data/NAME."""
    DATA.mkdir(parents=True, exist_ok=True)
    with atomic_write(DATA / name) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
    print(f"{DATA / name}: {(DATA / name).stat().st_size:,} bytes")


def main() -> None:
    """Make what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("circuits", "fid"))
    if parser.parse_args().what == "circuits":
        write("circuits.json", {name: as_json(circuit) for name, circuit in circuits().items()})
    else:
        write("fid.json", fid())


if __name__ == "__main__":
    main()
