"""Builds kernels for sm_90 ahead of time, without a GPU, and prints as JSON what each takes.

    python tests/kernels/build.py [NAME ...]

Ends with status 77 where the tool that reads the built kernel did not come with Triton.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from flowgression.ops import gated_norm_kernels, gated_norm_triton
from flowgression.ops.hybrid_linear import triton_attention as hybrid_attention
from flowgression.ops.hybrid_linear import triton_kernels as hybrid_kernels
from flowgression.ops.lowrank import triton_attention, triton_kernels

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
FLOATS, INTEGERS = "*fp32", "*i64"
Kernel = tuple[Any, dict[str, str], dict[str, Any], dict[str, Any]]


def lowrank(d: int, degree: int, e: int) -> dict[str, Kernel]:
    """The three kernels of low-rank attention, at the sizes that triton_attention.py launches them with."""
    common = {"x": FLOATS, "codes": INTEGERS, "pieces": "*i32", "tokens": "i32", "rank": "i32"}
    rows = triton_attention._rows(e)
    sizes = {"D": d, "E": e, "BLOCK": triton_attention.BLOCK}
    return {
        f"fold d={d} g={degree}": (
            triton_kernels.fold_kernel,
            {**common, "values": FLOATS, "last": FLOATS, "sums": "*fp64"},
            {**sizes, "G": degree, "ROWS": rows, "ONES": False},
            triton_attention._OPTIONS,
        ),
        f"read d={d} g={degree}": (
            triton_kernels.read_kernel,
            {**common, "states": FLOATS, "output": FLOATS, "normaliser": FLOATS},
            {**sizes, "G": degree, "TOKENS": rows, "DIVIDE": True},
            triton_attention._OPTIONS,
        ),
        f"differentiate d={d} g={degree}": (
            triton_kernels.differentiate_kernel,
            {**common, "states": FLOATS, "values": FLOATS, "last": FLOATS, "index": INTEGERS, "factors": FLOATS,
             "grad": FLOATS, "lower": "i32"},
            {**sizes, "G": degree - 1, "TOKENS": rows, "ONES": False},
            triton_attention._OPTIONS,
        ),
    }  # fmt: skip


def hybrid(d: int, kind: str) -> dict[str, Kernel]:
    """The kernels of hybrid attention in one precision."""
    common = {**dict.fromkeys(("q", "k", "v"), f"*{kind}"), "gate": FLOATS, "found": FLOATS}
    common |= dict.fromkeys(("images", "tokens", "heads"), "i32")
    sizes = hybrid_attention._sizes(d)
    written = ("grad_q", "grad_k", "grad_v", "grad_reach", "grad_mean", "grad_start", "grad_final")
    return {
        f"hybrid forward d={d} {kind}": (
            hybrid_kernels.forward_kernel,
            {**common, "start": FLOATS, "out": f"*{kind}", "final": FLOATS},
            {**sizes, "ZERO": False, "KEEP": True},
            hybrid_attention._FORWARD,
        ),
        f"hybrid backward d={d} {kind}": (
            hybrid_kernels.backward_kernel,
            {**common, **dict.fromkeys(written, FLOATS), "grad_out": f"*{kind}", "numbers": "i64"},
            {**sizes, "ZERO": False},
            hybrid_attention._BACKWARD,
        ),
    }


def gated(d: int) -> dict[str, Kernel]:
    """RMS norm and gate in bfloat16."""
    tensors = dict.fromkeys(("x", "gate", "out", "grad", "grad_x", "grad_gate"), "*bf16")
    types = {**tensors, "count": "i32", "eps": "fp32"}
    both = {"forward": gated_norm_kernels.forward_kernel, "backward": gated_norm_kernels.backward_kernel}
    return {
        f"gated norm {name} d={d}": (
            function,
            {n: types[n] for n in function.arg_names if n in types},
            gated_norm_triton._sizes(d),
            gated_norm_triton._OPTIONS,
        )
        for name, function in both.items()
    }


def kernels() -> dict[str, Kernel]:
    """By name: function, types of its arguments, constants, options."""
    found: dict[str, Kernel] = {}
    for d, degree, e in ((8, 2, 8), (8, 4, 8), (16, 2, 16), (16, 4, 16), (4, 4, 3), (16, 8, 7), (48, 2, 48)):
        found |= lowrank(d, degree, e)
    for d in (64, 72, 128):
        for kind in ("fp32", "bf16"):
            found |= hybrid(d, kind)
        found |= gated(d)
    return found


def build(kernel: Kernel) -> dict[str, int]:
    """REG: registers of a thread; STACK, LOCAL, SHARED: bytes."""
    function, types, constants, options = kernel
    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    signature = {name: signature[name] for name in function.arg_names}
    source = ASTSource(function, signature, {(function.arg_names.index(name),): v for name, v in constants.items()})
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        text = subprocess.check_output([CUOBJDUMP, "--dump-resource-usage", file.name], text=True)
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", text)}


if __name__ == "__main__":
    if not CUOBJDUMP.exists():
        print(f"this Triton comes without {CUOBJDUMP.name}")
        sys.exit(77)
    wanted = sys.argv[1:]
    print(json.dumps({name: build(kernel) for name, kernel in kernels().items() if not wanted or name in wanted}))
