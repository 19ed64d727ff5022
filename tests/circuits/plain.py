"""A proof's text (docs/proofs.md) evaluated: gates by their definition, the model by meaning.py's formulas."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flowgression.circuits.proof import meaning


class Claim:
    """inputs, outputs: (value, weights of nodes); steps of the model; gates (theta, row)."""

    def __init__(self, path: Path):
        text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        self.words: Iterator[str] = iter(text.split())
        assert next(self.words) == "flowgression-plain-2"
        self.inputs = self.section("inputs", self.port)
        self.steps = self.section("model", self.step)
        self.outputs = self.section("outputs", lambda: (self.one(), self.port()))
        self.section("cells", self.cell)
        self.section("calls", lambda: (self.one(), self.one(), self.many(self.one)))
        assert next(self.words) == "banks"
        self.first = self.one()
        self.banks = self.many(self.bank)

    # ---- reading ----

    def one(self) -> int:
        return int(next(self.words))

    def many(self, read: Callable[[], Any]) -> list[Any]:
        return [read() for _ in range(self.one())]

    def section(self, name: str, read: Callable[[], Any]) -> list[Any]:
        assert next(self.words) == name
        return self.many(read)

    def port(self) -> list[tuple[int, int]]:
        signed, nodes = self.one(), self.many(self.one)
        weights = [1 << j for j in range(len(nodes))]
        weights[-1] *= -1 if signed else 1
        return list(zip(weights, nodes, strict=True))

    def bank(self) -> tuple[list[int], list[tuple[int, int]]]:
        return self.many(self.one), self.many(lambda: (self.one(), self.one()))

    def form(self) -> tuple[int, list[tuple[int, int]]]:
        return self.one(), self.many(lambda: (self.one(), self.one()))

    def operation(self) -> tuple[str, dict[str, Any]]:
        name, found = next(self.words), {}
        for key in WORDS[name]:
            found[key] = self.many(self.one) if key in ("coefficients", "table") else self.one()
        if "width" in found:
            found["width"] = found["width"] or None
        if "table" in found:
            lo, table = found.pop("lo"), found.pop("table")
            found["function"] = {"lo": lo, "hi": lo + len(table) - 1, "table": table}
        return name, found

    def step(self) -> Any:
        if next(self.words) == "constant":
            return self.one()
        return *self.operation(), self.many(lambda: self.many(self.one))

    def number(self) -> Any:
        return self.one(), self.one(), self.one(), self.many(lambda: (self.one(), *self.form()))

    def cell(self) -> Any:
        rows = (self.one(), self.operation(), self.many(lambda: self.many(self.number)), self.many(self.number))
        return *rows, self.many(self.bank), self.hint()

    def hint(self) -> Any:
        forms = partial(self.many, self.form)
        rule = next(self.words)
        if rule == "added":
            stages = partial(self.many, lambda: self.many(lambda: (self.one(), self.one(), forms())))
            return self.many(forms), stages(), self.many(lambda: (self.form(), self.form())), forms(), forms()
        return forms() if rule == "scaled" else rule

    # ---- evaluating ----

    def holds_for(self, bits: dict[int, bool]) -> bool:
        """Whether the outputs are the model's, for the bits of the input nodes."""
        nodes = dict(bits)
        following = self.first
        for thetas, row in self.banks:
            total = sum(w * nodes[n] for n, w in row)
            for theta in thetas:
                nodes[following] = total >= theta
                following += 1
        values = [sum(w * nodes[n] for w, n in port) for port in self.inputs]
        for step in self.steps:
            if isinstance(step, int):
                values.append(step)
                continue
            name, parameters, rows = step
            taken = [[values[v - 1] for v in row] for row in rows]
            arguments = [row if k in ROWS.get(name, ()) else row[0] for k, row in enumerate(taken)]
            result = getattr(meaning, name)(*arguments, **parameters)
            values.extend(result if name == "inverse" else [result])
        return all(values[v - 1] == sum(w * nodes[n] for w, n in port) for v, port in self.outputs)

    def input_nodes(self) -> list[int]:
        return sorted({n for port in self.inputs for _, n in port})


WORDS = {
    "dot": ("bias_shift", "shift", "width"),
    "fused": ("shift", "width"),
    "mix": ("shift", "width", "coefficients"),
    "total": ("plus",),
    "square_sum": ("plus", "shift", "width"),
    "centred_square_sum": (),
    "ceiling": ("shift",),
    "at_least_one": (),
    "apply": ("lo", "table"),
    "inverse": ("bits", "root", "lo", "table"),
    "rescale": ("shift", "width"),
    "one_hot": ("size",),
    "select": (),
}
ROWS = {"dot": (0, 1), "total": (0,), "square_sum": (0,), "centred_square_sum": (0,), "ceiling": (0,), "select": (1,)}
