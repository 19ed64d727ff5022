"""Low-rank attention on a processor with its features in registers: native.cpp, built for the sizes of a call.

A C++ compiler (GCC: `g++`) builds it when a size is met for the first time in a process, which takes seconds. One
thread computes. Backward is that of torch_attention.py. Letters as in polynomial.py.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.ops.backends import needs_torch
from flowgression.ops.lowrank.features import rank
from flowgression.ops.lowrank.tables import weight_table

_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
_HIGHEST_DEGREE = 8


def refuses(q: Tensor, k: Tensor, v: Tensor, initial: Tensor, *, degree: int) -> str | None:
    """Why `attend` cannot take these tensors; None if it can."""
    widest = 31 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 15  # two vectors hold a key and a 1
    if q.device.type != "cpu":
        return f"it needs tensors on the CPU, got {q.device}"
    if any(x.dtype != torch.float32 for x in (q, k, v, initial)):
        return "it takes float32 and half precision"
    if degree > _HIGHEST_DEGREE or q.shape[-1] > widest:
        limits = f"degrees up to {_HIGHEST_DEGREE} and queries up to a width of {widest}"
        return f"it is made for {limits}, got {degree} and {q.shape[-1]}"
    if compiler() is None:
        return "it needs GCC's C++ compiler, and there is no g++ (set CXX to where it is)"
    return needs_torch(q, k, v, initial)


def compiler() -> str | None:
    """The C++ compiler: $CXX or g++, None where neither can be found."""
    return _found(os.environ.get("CXX") or "g++", os.environ.get("PATH"))


@lru_cache(maxsize=16)
def _found(name: str, path: str | None) -> str | None:
    return shutil.which(name, path=path)


def attend(
    q: Tensor, k: Tensor, v: Tensor, initial: Tensor, degree: int, bound: float, lengths: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `torch_attention.attend`; all tensors in float32 on the CPU."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    heads, _, d = q.shape
    e, r = v.shape[-1], rank(d, degree)
    library = _library(d, e, degree)
    of_queries, of_keys = (tuple(lengths) or (x.shape[1],) for x in (q, k))
    sums = torch.empty(len(of_keys), heads, r, e + 1, dtype=torch.float64)
    for scale, (x, y) in enumerate(zip(k.split(of_keys, 1), v.split(of_keys, 1), strict=True)):
        for head in range(heads):
            library.fold(*_pointers(x[head], y[head], sums[scale, head]), ctypes.c_long(x.shape[1]))
    wide = sums.cumsum(0)  # scale l reads the tokens of the scales 0..l
    states = torch.addcmul(initial.double(), wide, weight_table(d, degree, bound, k, torch.float64)).float()
    output, normaliser = torch.empty_like(q[..., :1].expand(-1, -1, e)), torch.empty_like(q[..., :1])
    parts = (x.split(of_queries, 1) for x in (q, output, normaliser))
    for scale, (x, y, z) in enumerate(zip(*parts, strict=True)):
        for head in range(heads):
            library.read(*_pointers(x[head], states[scale, head], y[head], z[head]), ctypes.c_long(x.shape[1]))
    return output, states[-1].clone(), states, normaliser


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    """Where contiguous tensors begin."""
    assert all(x.is_contiguous() for x in tensors)
    return [ctypes.c_void_p(x.data_ptr()) for x in tensors]


@lru_cache(maxsize=16)
def _library(d: int, e: int, degree: int) -> ctypes.CDLL:
    """native.cpp for these sizes; built into a folder that is removed once it is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "native.so"
        sizes = (f"-DD={d}", f"-DE={e}", f"-DG={degree}")
        done = subprocess.run(
            [str(compiler()), *_FLAGS, *sizes, str(_SOURCE), "-o", str(built)], capture_output=True, text=True
        )
        if done.returncode:
            raise InputError(
                f"{compiler()} could not build {_SOURCE.name}: {done.stderr.strip()[:500]}\n"
                "Use backend='torch', or set CXX to another compiler."
            )
        library = ctypes.CDLL(str(built))
    library.prepare()
    return library
