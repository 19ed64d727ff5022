"""What constant depth excludes: parity and majority, which are in TC0, beside the word problem of S5, which is believed
not to be.

    python benchmarks/circuit_limits.py [OUT.json]

A word is n letters, each 0 or 1. Tasks: majority of the letters; parity; and S5, where letter 0 is the cycle
(0 1 2 3 4) and letter 1 the transposition (0 1), which generate all 120 permutations, and the answer is where the word
takes 0. First, circuits by this package's builder, checked on random words: depth against n. Then a transformer of this
package's layers (width 32, softmax attention without a mask, layer norm) of fixed depth, trained on the answers of all
prefixes, and its accuracy on the whole word: per task, n and number of blocks. Some minutes of one CPU core.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgression.circuits.builder import Bit, Builder, merge, telescope_bits
from flowgression.circuits.ir import Circuit
from flowgression.circuits.simulate import evaluate
from flowgression.layers.mlp import Mlp
from flowgression.layers.self_attention import SelfAttention

LETTERS = np.array([[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]])
"""What each letter does to the points 0 .. 4."""
CLASSES = {"majority": 2, "parity": 2, "S5": 5}
Matrix = list[list[Bit]]


def answers(task: str, words: np.ndarray) -> np.ndarray:
    """The answer for every prefix: words [B, n] of 0 and 1 -> [B, n]."""
    ones = words.cumsum(1)
    if task == "majority":
        return (2 * ones > np.arange(1, words.shape[1] + 1)).astype(np.int64)
    if task == "parity":
        return ones % 2
    states, point = np.empty_like(words), np.zeros(len(words), dtype=np.int64)
    for i in range(words.shape[1]):
        point = LETTERS[words[:, i], point]
        states[:, i] = point
    return states


# ---- circuits ----


def circuit(task: str, n: int) -> Circuit:
    """The answer for a word of n letters: one bit, or for S5 one bit for each point."""
    builder = Builder()
    letters = builder.inputs(n)
    if task == "majority":
        return builder.finish([builder.at_least([(1, bit) for bit in letters], n // 2 + 1)])
    if task == "parity":
        return builder.finish(telescope_bits(builder, [(1, bit) for bit in letters], 1, lambda v: v))
    matrices = [_letter(bit) for bit in letters]
    while len(matrices) > 1:  # a tree: neighbours are composed, so that depth grows with log n
        pairs = [_compose(builder, *matrices[i : i + 2]) for i in range(0, len(matrices) - 1, 2)]
        matrices = pairs + matrices[2 * len(pairs) :]
    return builder.finish([builder.own_gate([(1, bit)]) for bit in matrices[0][0]])


def _letter(bit: Bit) -> Matrix:
    """The permutation matrix of a letter, affine in its bit."""
    rows = []
    for i in range(5):
        entries = [(int(LETTERS[0][i] == j), int(LETTERS[1][i] == j)) for j in range(5)]
        rows.append([_affine([(one - zero, bit)], zero) for zero, one in entries])
    return rows


def _compose(builder: Builder, first: Matrix, second: Matrix) -> Matrix:
    """first, then second: exclusive ANDs, whose sum is a bit without a gate. Depth 1."""

    def entry(i: int, k: int) -> Bit:
        return _affine([(1, builder.conjunction(first[i][j], second[j][k])) for j in range(5)])

    return [[entry(i, k) for k in range(5)] for i in range(5)]


def _affine(terms: list[tuple[int, Bit]], const: int = 0) -> Bit:
    row = merge(terms, const)
    return Bit(row.const, row.nodes, row.weights)


def circuit_rows() -> list[dict[str, Any]]:
    rows = []
    for task in CLASSES:
        for n in (4, 16, 64, 256):
            words = np.random.default_rng(n).integers(0, 2, (512, n))
            made = circuit(task, n)
            found = evaluate(made, words.astype(bool))
            answer = found.argmax(1) if task == "S5" else found[:, 0]
            figures = made.statistics()
            wrong = int((answer != answers(task, words)[:, -1]).sum())
            rows.append({"task": task, "n": n, "depth": figures.depth, "gates": figures.gates, "wrong": wrong})
            print(
                f"circuit {task:9} n = {n:3}: depth {figures.depth:2}, {figures.gates:6,} gates, {wrong} of 512 wrong"
            )
    return rows


# ---- a transformer of fixed depth ----


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = SelfAttention(width, 4), Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))[0]
        return x + self.mlp(self.norm2(x))


class Reader(nn.Module):
    """Letters [B, n] -> scores of every prefix's answer [B, n, classes]."""

    def __init__(self, n: int, blocks: int, classes: int, width: int = 32):
        super().__init__()
        self.letter = nn.Embedding(2, width)
        self.position = nn.Parameter(0.5 * torch.randn(n, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.blocks(self.letter(words) + self.position))


def train(task: str, n: int, blocks: int, steps: int = 1000, seed: int = 0) -> float:
    """Accuracy on 2048 new words, for the answer of the whole word."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = Reader(n, blocks, CLASSES[task])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        words = generator.integers(0, 2, (128, n))
        scores = model(torch.from_numpy(words))
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), torch.from_numpy(answers(task, words)).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    words = np.random.default_rng(seed + 1).integers(0, 2, (2048, n))
    with torch.no_grad():
        found = model(torch.from_numpy(words))[:, -1].argmax(-1).numpy()
    return float((found == answers(task, words)[:, -1]).mean())


def main() -> None:
    result: dict[str, Any] = {"circuits": circuit_rows(), "trained": []}
    torch.set_num_threads(1)
    for blocks in (1, 3):
        for task in CLASSES:
            for n in (4, 8, 16):
                started = time.process_time()
                accuracy = train(task, n, blocks)
                row = {"task": task, "n": n, "blocks": blocks, "accuracy": accuracy}
                result["trained"].append(row)
                seconds = time.process_time() - started
                print(f"{blocks} blocks, {task:9} n = {n:2}: {accuracy:.1%} ({seconds:.0f} s of CPU)", flush=True)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
