"""A generator of plausible lies: proofs in which several things are changed together, as a forger would.

A case is (header, arrays as lists, certificate). A lie changes gates of every call of a cell alike, keeps levels right,
and changes claim and proof to match where that is what makes it plausible. Most lies are false, some are true; which,
is for independent.py to say.
"""

import json

import numpy as np


class Case:
    """A proof to be changed."""

    def __init__(self, header, arrays, proof):
        self.header = json.loads(json.dumps(header))
        self.arrays = {name: list(values) for name, values in arrays.items()}
        self.proof = json.loads(json.dumps(proof))

    @property
    def cells(self):
        return self.proof["cells"]

    def places(self):
        """The first gate of each call."""
        found = [0]
        for call in self.proof["calls"]:
            size = self.cells[call[0]]["gates"] if isinstance(call, list) and 0 <= call[0] < len(self.cells) else 0
            found.append(found[-1] + (size if isinstance(size, int) else 0))
        return found

    def rows_of_gate(self, cell, gate):
        """The rows of this gate of the cell, one for each of its calls."""
        row_of = self.arrays["gate_row"]
        pairs = zip(self.proof["calls"], self.places(), strict=False)
        gates = [place + gate for call, place in pairs if isinstance(call, list) and call[0] == cell]
        return [(g, row_of[g]) for g in gates if g < len(row_of)]

    def entries(self, row):
        return range(self.arrays["row_ptr"][row], self.arrays["row_ptr"][row + 1])

    def level(self):
        """Levels as they have to be."""
        bits, ptr, idx = self.header["num_inputs"], self.arrays["row_ptr"], self.arrays["row_idx"]
        levels = [0] * bits
        for row in self.arrays["gate_row"]:
            levels.append(1 + max((levels[n] for n in idx[ptr[row] : ptr[row + 1]] if n < len(levels)), default=0))
        self.arrays["level"] = levels[bits:]


def numbers_in(tree):
    """All numbers (objects with bits) in a part of a certificate."""
    if isinstance(tree, dict):
        if "bits" in tree and "lo" in tree:
            yield tree
        else:
            for each in tree.values():
                yield from numbers_in(each)
    elif isinstance(tree, list):
        for each in tree:
            yield from numbers_in(each)


def leaves_of(tree, path=()):
    """Paths of all that is no list or object."""
    if isinstance(tree, dict | list):
        for key, each in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves_of(each, (*path, key))
    else:
        yield path


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def nudged(value, generator):
    """Another value of the same look, or one that only a careless reader takes for it."""
    if isinstance(value, bool):
        return bool(generator.integers(2))
    if isinstance(value, int):
        near = [value - 1, value + 1, -value, 2 * value, value ^ 1, 0, 1, -1]
        far = [True, float(value), str(value), value + 2**32, value + 2**64, 2**63, None, [value]]
        pool = far if generator.random() < 0.1 else near
        return pool[generator.integers(len(pool))]
    if value is None:
        return [2, 3, 4, 8][generator.integers(4)]
    return value + "x"


# ---- lies: functions of (case, generator) that change the case ----


def a_field(case, generator):
    paths = list(leaves_of(case.proof["cells"] if generator.random() < 0.7 else case.proof))
    tree = case.proof["cells"] if paths and isinstance(paths[0][0], int) else case.proof
    path = paths[generator.integers(len(paths))]
    at(tree, path[:-1])[path[-1]] = nudged(at(tree, path), generator)


def a_list(case, generator):
    """Shortened, doubled, turned or emptied."""
    found = []

    def visit(tree):
        if isinstance(tree, list):
            found.append(tree)
        for each in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
            visit(each)

    visit(case.proof)
    some = found[generator.integers(len(found))]
    kind = generator.integers(5)
    if kind == 0:
        some[:] = some[:-1]
    elif kind == 1 and some:
        some.append(json.loads(json.dumps(some[generator.integers(len(some))])))
    elif kind == 2:
        some.reverse()
    elif kind == 3 and some:
        del some[generator.integers(len(some))]
    elif len(some) > 1:
        i, j = generator.choice(len(some), 2, replace=False)
        some[i], some[j] = some[j], some[i]


def a_gate(case, generator):
    """One gate of a cell in all its calls: threshold, weight, wire, or a node twice."""
    with_gates = [k for k, cell in enumerate(case.cells) if isinstance(cell["gates"], int) and cell["gates"] > 0]
    if not with_gates:
        return
    cell = with_gates[generator.integers(len(with_gates))]
    gate = int(generator.integers(case.cells[cell]["gates"]))
    found, arrays = case.rows_of_gate(cell, gate), case.arrays
    if not found:
        return
    kind, step = generator.integers(5), int(generator.choice([-1, 1, 2, -2]))
    entries = len(case.entries(found[0][1]))
    place = int(generator.integers(entries)) if entries else None
    other = int(generator.integers(entries)) if entries else None
    far = int(generator.choice([0, 0, 0, 2**52, 2**62, 2**63 - 4]))
    for g, row in found:
        if kind == 0 or place is None:
            arrays["theta"][g] = max(min(arrays["theta"][g] + step + far, 2**63 - 1), -(2**63))
        elif kind == 1:
            e = case.entries(row)[place]
            arrays["row_w"][e] = max(min(arrays["row_w"][e] + step + far, 2**63 - 1), -(2**63))
        elif kind == 2:
            e = case.entries(row)[place]
            arrays["row_idx"][e] = max(arrays["row_idx"][e] + step, 0)
        elif kind == 3:
            arrays["row_idx"][case.entries(row)[place]] = arrays["row_idx"][case.entries(row)[other]]
        else:
            e = case.entries(row)[place]
            arrays["row_w"][e] = -arrays["row_w"][e]
    case.level()


def a_result(case, generator):
    """One more, one fewer, a constant for a number, a number for a constant."""
    cell = case.cells[generator.integers(len(case.cells))]
    results = cell["results"]
    kind = generator.integers(4)
    value = int(generator.integers(-2, 3))
    if kind == 0 or not results:
        results.append(json.loads(json.dumps(results[0])) if generator.random() < 0.5 and results else value)
    elif kind == 1:
        results.pop()
    elif kind == 2:
        results[-1] = value
        for hint in ("columns", "stages", "sum"):
            cell.pop(hint, None)
    else:
        known = list(numbers_in(case.proof["cells"]))
        results[-1] = json.loads(json.dumps(known[generator.integers(len(known))]))


def an_interval(case, generator):
    """The same change to all numbers of one interval, results and arguments alike."""
    known = list(numbers_in(case.proof["cells"]))
    old = known[generator.integers(len(known))]
    ends = old["lo"], old["hi"]
    if not all(isinstance(end, int) for end in ends):
        return
    new = [end + int(generator.choice([-1, 0, 1, -ends[0], ends[1] - ends[0]])) for end in ends]
    for x in known:
        if (x["lo"], x["hi"]) == ends:
            x["lo"], x["hi"] = new


def a_stage(case, generator):
    with_stages = [cell for cell in case.cells if cell.get("stages")]
    if not with_stages:
        return
    cell = with_stages[generator.integers(len(with_stages))]
    stages = cell["stages"]
    stage = stages[generator.integers(len(stages))]
    kind = generator.integers(6)
    if kind == 0:
        stages.append(json.loads(json.dumps(stage)))
    elif kind == 1:
        stages.remove(stage)
    elif not stage:
        return
    elif kind == 2:
        stage.append(json.loads(json.dumps(stage[generator.integers(len(stage))])))
    elif kind == 3:
        each = stage[generator.integers(len(stage))]
        each[1] = [-1, 0, 1, 2, each[1] - 1, each[1] + 1][generator.integers(6)]
    elif kind == 4:
        each = stage[generator.integers(len(stage))]
        each[0] = [-1, 0, each[0] - 1, each[0] + 1][generator.integers(4)]
    else:
        each = stage[generator.integers(len(stage))][2]
        if each:
            each.append(each[generator.integers(len(each))])


def a_column(case, generator):
    """A bit more, a bit twice, a bit elsewhere, a constant."""
    with_columns = [cell for cell in case.cells if cell.get("columns")]
    if not with_columns:
        return
    columns = with_columns[generator.integers(len(with_columns))]["columns"]
    one, other = (columns[generator.integers(len(columns))] for _ in range(2))
    if generator.random() < 0.3:
        other.append([1])
    elif one:
        bit = one[generator.integers(len(one))]
        other.append(bit)
        if generator.random() < 0.5:
            one.remove(bit)


def a_call(case, generator):
    """Another cell of as many gates, another number, or two calls exchanged, gates and all."""
    calls = [k for k, call in enumerate(case.proof["calls"]) if isinstance(call, list)]
    if not calls:
        return
    k = calls[generator.integers(len(calls))]
    call = case.proof["calls"][k]
    kind = generator.integers(3)
    if kind == 0:
        call[0] = int(generator.integers(len(case.cells)))
    elif kind == 1 and len(call) > 1:
        number, place = int(generator.integers(-1, max(call[1:]) + 2)), int(generator.integers(1, len(call)))
        _rewire(case, k, place, number)
    elif len(call) > 2:
        i, j = generator.choice(np.arange(1, len(call)), 2, replace=False)
        call[i], call[j] = call[j], call[i]


def _rewire(case, k, place, number):
    """The call reads another number, and so do its gates where both are known."""
    inputs = []
    start = 0
    for port in case.header["input_ports"]:
        for _ in range(int(np.prod(port["shape"], dtype=np.int64))):
            inputs.append(list(range(start, start + port["width"])))
            start += port["width"]
    old, call = case.proof["calls"][k][place], case.proof["calls"][k]
    call[place] = number
    if 0 <= number < len(inputs) and 0 <= old < len(inputs) and len(inputs[number]) == len(inputs[old]):
        moved = dict(zip(inputs[old], inputs[number], strict=True))
        places, ptr = case.places(), case.arrays["row_ptr"]
        rows = case.arrays["gate_row"][places[k] : places[k + 1]]
        if rows:
            for e in range(ptr[rows[0]], ptr[rows[-1] + 1]):
                case.arrays["row_idx"][e] = moved.get(case.arrays["row_idx"][e], case.arrays["row_idx"][e])


def an_output(case, generator):
    proof, nodes = case.proof, case.arrays["outputs"]
    kind = generator.integers(4)
    port = proof["outputs"][generator.integers(len(proof["outputs"]))]
    if kind == 0 and len(nodes) > 1:
        i, j = generator.choice(len(nodes), 2, replace=False)
        nodes[i], nodes[j] = nodes[j], nodes[i]
    elif kind == 1 and port:
        port[generator.integers(len(port))] = [int(generator.integers(-2, 3))]
    elif kind == 2 and port:
        port[generator.integers(len(port))] = int(generator.integers(12))
    else:
        each = case.header["output_ports"][generator.integers(len(case.header["output_ports"]))]
        each["signed"] = not each["signed"]


def a_parameter(case, generator):
    """The same in the claim and in the cells: another operation is claimed, of the old gates."""
    operations = case.proof["model"]["operations"]
    if not operations:
        return
    k = generator.integers(len(operations))
    name, parameters = operations[k]
    old = json.dumps(parameters, sort_keys=True)
    paths = list(leaves_of(parameters))
    if not paths:
        return
    path = paths[generator.integers(len(paths))]
    at(parameters, path[:-1])[path[-1]] = nudged(at(parameters, path), generator)
    for cell in case.cells:
        if cell["operation"] == name and json.dumps(cell["parameters"], sort_keys=True) == old:
            cell["parameters"] = json.loads(json.dumps(parameters))


def a_constant(case, generator):
    """A weight replaced in the claim and in the cells' arguments alike, or in one of them."""
    steps = [k for k, step in enumerate(case.proof["model"]["steps"]) if type(step) is int]
    if not steps:
        return
    k = steps[generator.integers(len(steps))]
    old = case.proof["model"]["steps"][k]
    new = old + int(generator.choice([-1, 1, -2 * old, 2]))
    if generator.random() < 0.8:
        case.proof["model"]["steps"][k] = new
    if generator.random() < 0.8:
        for cell in case.cells:
            for row in cell["arguments"]:
                if isinstance(row, list):
                    row[:] = [new if x == old and type(x) is int else x for x in row]


def an_argument(case, generator):
    """A fresh argument's claim or its proof, or both; steps that read other values."""
    model = case.proof["model"]
    fresh = [step for step in model["steps"] if isinstance(step, dict)]
    likes = [call for call in case.proof["calls"] if isinstance(call, dict)]
    if not fresh:
        steps = [step for step in model["steps"] if isinstance(step, list)]
        if steps:
            step = steps[generator.integers(len(steps))]
            place = generator.integers(1, len(step)) if len(step) > 1 else 0
            if isinstance(step[place], list) and step[place]:
                step[place][generator.integers(len(step[place]))] = int(generator.integers(8))
            else:
                step[place] = int(generator.integers(8))
        return
    k = generator.integers(min(len(fresh), len(likes)))
    key = ("like", "lo", "hi", "one_hot")[generator.integers(4)]
    fresh[k][key] = nudged(fresh[k][key], generator)
    if key == "like" and generator.random() < 0.7:
        likes[k]["like"] = nudged(likes[k]["like"], generator)


def a_bit(case, generator):
    """An affine form for a bit: scaled, shifted, negated, of two nodes."""
    known = list(numbers_in(case.proof["cells"]))
    bits = known[generator.integers(len(known))]["bits"]
    if not isinstance(bits, list) or not bits:
        return
    k = generator.integers(len(bits))
    node = bits[k] if type(bits[k]) is int and bits[k] >= 0 else 0
    forms = [[0, node, 2], [1, node, 1], [0, node, -1], [0, node, 1, node + 1, -1], [0], [1], [2], -1 - node, node + 1]
    forms += [[0, node, 1 + 2**64], [0, node, 1 + 2**32], [0, node, 1, node, 0], [2**64, node, 1]]
    bits[k] = forms[generator.integers(len(forms))]


def a_port(case, generator):
    """In circuit and claim alike."""
    k = generator.integers(len(case.proof["model"]["inputs"]))
    port, claimed = case.header["input_ports"][k], case.proof["model"]["inputs"][k]
    if generator.random() < 0.5:
        port["signed"] = claimed[3] = not claimed[3]
    else:
        port["shape"] = claimed[1] = [[], [1], [1, 1], [2], [2, 2], [-1, -1], [4]][generator.integers(7)]


def a_gift(case, generator):
    """A cell that costs no gates and is called at the end: it may claim what it likes, and an output may read it."""
    known = list(numbers_in(case.proof["cells"]))
    argument = json.loads(json.dumps(known[generator.integers(len(known))]))
    result = json.loads(json.dumps(argument))
    result["lo"], result["hi"] = result["lo"] - int(generator.integers(2)), result["hi"] + int(generator.integers(2))
    size = argument["hi"] - argument["lo"] + 1
    if not 1 <= size <= 64:
        return
    table = [argument["lo"] + i for i in range(size)]
    table[generator.integers(size)] += int(generator.choice([0, 1, -1]))
    operation = ["apply", {"function": {"lo": argument["lo"], "hi": argument["hi"], "table": table}}]
    results = [result] if generator.random() < 0.7 else [result, int(generator.integers(3))]
    case.cells.append(
        {"operation": "apply", "parameters": operation[1], "arguments": [argument], "results": results, "gates": 0}
    )
    case.proof["calls"].append([len(case.cells) - 1, int(generator.integers(6))])


LIES = [
    a_field, a_list, a_gate, a_result, an_interval, a_stage, a_column, a_call, an_output, a_parameter, a_constant,
    an_argument, a_bit, a_port, a_gift,
]  # fmt: skip


def crossed(case, other, generator):
    """Parts of another proof: its claim, cells, calls or gates."""
    for key in ("model", "cells", "calls", "outputs"):
        if generator.random() < 0.3:
            case.proof[key] = json.loads(json.dumps(other.proof[key]))
    if generator.random() < 0.3:
        case.arrays = {name: list(values) for name, values in other.arrays.items()}
        if generator.random() < 0.5:
            case.header = json.loads(json.dumps(other.header))


def lie(bases, generator):
    """One to four lies about one of the bases, or a mixture of two."""
    share = np.array([len(arrays["theta"]) for _, arrays, _ in bases]) ** -0.7  # small proofs are checked faster
    k, other = generator.choice(len(bases), 2, p=share / share.sum())
    case = Case(*bases[k])
    if generator.random() < 0.05:
        crossed(case, Case(*bases[other]), generator)
    told = []
    for _ in range(int(generator.choice([1, 1, 2, 2, 3, 4]))):
        each = LIES[generator.integers(len(LIES))]
        try:
            each(case, generator)
        except (TypeError, IndexError, KeyError, AttributeError, ValueError):  # an earlier lie left nothing to change
            continue
        told.append(each.__name__)
    return k, told, case
