"""Plausible lies, thousands of them: whatever the checker accepts is evaluated gate by gate, by other code."""

from collections import Counter

import numpy as np
import pytest

from flowgression.circuits.certify import certify
from flowgression.circuits.certify_cells import certify_cells
from flowgression.circuits.compile import Precision
from flowgression.circuits.programs import layer_program
from flowgression.circuits.proof.checker import check_folder
from flowgression.circuits.proof.schema import Rejected
from tests.circuits.proof import forge, independent
from tests.circuits.proof.cases import every_operation
from tests.circuits.proof.lies import LIES, lie

SMALL = ("linear", "rms-norm", "layer-norm", "euler-step", "mlp")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Honest proofs: small layers, every operation, cells alone; all accepted and right."""
    folders = [tmp_path_factory.mktemp(name) for name in SMALL]
    for name, folder in zip(SMALL, folders, strict=True):
        certify(layer_program(name, 1, 2), Precision(4), folder)
    for wired in (True, False):
        folders.append(tmp_path_factory.mktemp("all"))
        certify(every_operation(), Precision(4), folders[-1], wired=wired)
    for name in ("rms-norm", "layer-norm"):
        folders.append(tmp_path_factory.mktemp("cells"))
        certify_cells(layer_program(name, 1, 2), Precision(4), folders[-1], wired=True)
    generator, found = np.random.default_rng(0), []
    for folder in folders:
        check_folder(folder)
        wrong, tried = independent.mismatches(folder, generator)
        assert (wrong, tried > 0) == (0, True)
        header, arrays, proof = independent.read(folder)
        found.append((header, {name: values.tolist() for name, values in arrays.items()}, proof))
    return found


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_lie_is_accepted(bases, tmp_path, count):
    generator = np.random.default_rng(count)
    accepted, told_of = 0, Counter()
    for k in range(count):
        _, told, case = lie(bases, generator)
        told_of.update(told)
        try:
            forge.save(tmp_path, case.header, case.arrays)
        except (OverflowError, TypeError):  # NumPy cannot even write it
            continue
        forge.put(tmp_path, case.proof)
        try:
            check_folder(tmp_path)
        except Rejected:
            continue
        accepted += 1
        wrong, tried = independent.mismatches(tmp_path, generator)
        assert wrong == 0, f"case {k} of seed {count}: {told} is wrong on {wrong} of {tried} inputs"
    assert set(told_of) == {each.__name__ for each in LIES}
    assert 0 < accepted < count / 3
