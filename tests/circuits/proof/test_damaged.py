"""Damaged files: one line and exit status 2, within 5 seconds and 1 GB, whatever they hold."""

import io
import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flowgression.circuits import layer_program
from flowgression.circuits.certify import certify
from flowgression.circuits.compile import Precision
from flowgression.circuits.proof.checker import main
from tests.circuits.proof.forge import IN, OUT, TWO_BITS, cell, certificate, model, write

SECONDS, MEMORY = 5, 1 << 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    certify(layer_program("rms-norm", 1, 2), Precision(4), folder)
    assert main([str(folder)]) == 0
    return folder


def members(folder):
    with zipfile.ZipFile(folder / "circuit.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts, kind=zipfile.ZIP_DEFLATED):
    """parts: (name, bytes), in order; names may repeat."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", kind) as archive:
        for name, part in parts:
            archive.writestr(name, part)
    return data.getvalue()


def array(values, version=(1, 0)):
    data = io.BytesIO()
    np.lib.format.write_array(data, np.asarray(values), version=version, allow_pickle=True)
    return data.getvalue()


def heading(shape, dtype="<i8", rest=b""):
    """An npy file whose heading promises this."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


def circuits(folder):
    """(what, bytes of circuit.npz)."""
    parts = members(folder)
    data = (folder / "circuit.npz").read_bytes()
    yield from ((f"cut at {k}", data[:k]) for k in (0, 1, 4, 30, 100, len(data) // 2, len(data) - 30, len(data) - 1))
    yield "no zip", b"PK\x05\x06" + bytes(18)
    yield "noise", np.random.default_rng(0).bytes(3000)
    yield "another zip", zipped([("a", b"b")])
    for name in parts:
        yield f"no {name}", zipped([(n, p) for n, p in parts.items() if n != name])
        yield f"{name} twice", zipped([*parts.items(), (name, parts[name])])
        yield f"empty {name}", zipped((parts | {name: b""}).items())
        yield f"short {name}", zipped((parts | {name: parts[name][:-1]}).items())
    yield "more", zipped([*parts.items(), ("more.npy", array([1]))])
    yield "bzip2", zipped(parts.items(), zipfile.ZIP_BZIP2)
    odd = [1.0, 2.0], [True], [[1]], 1, np.array([1], dtype="<u8"), np.array([1], dtype=">i8"), ["a"], [None]
    for values in odd:
        for name in ("theta.npy", "outputs.npy"):
            yield f"{name} of {values!r}", zipped((parts | {name: array(values)}).items())
    yield "version 2", zipped((parts | {"theta.npy": array([1], (2, 0))}).items())
    for shape in ((1 << 40,), (-1,), (True,), (1.0,), "x", (1 << 3000,), ()):
        yield f"theta of shape {str(shape)[:20]}", zipped((parts | {"theta.npy": heading(shape)}).items())
    for dtype in ("<U999999999", "|O", "<i8,<i8", "<U-1", "<U\u00b2", 8, None):
        yield f"header of {dtype}", zipped((parts | {"header.npy": heading((), dtype)}).items())
    yield "a bomb", zipped((parts | {"theta.npy": heading((1 << 26,), rest=bytes(1 << 29))}).items())


def headers(folder):
    """(what, header): JSON of a circuit's header."""
    found = json.loads(str(np.load(folder / "circuit.npz")["header"]))
    port = found["input_ports"][0]
    for change in (
        {"num_inputs": 1 << 40}, {"num_inputs": -1}, {"num_inputs": 8.0}, {"num_inputs": True}, {"format": 1},
        {"format": "flowgression-circuit-2"}, {"input_ports": []}, {"output_ports": {}}, {"metadata": []}, {"more": 1},
    ):  # fmt: skip
        yield str(change), json.dumps(found | change)
    for change in (
        {"shape": [1 << 40]}, {"shape": [1 << 22] * 8}, {"shape": [-1, -2]}, {"width": 1 << 40}, {"width": 0},
        {"signed": 1}, {"name": ""}, {"name": "a\nb"}, {"name": 3}, {"shape": 2},
    ):  # fmt: skip
        yield f"port {change}", json.dumps(found | {"input_ports": [port | change]})
        yield f"ports {change}", json.dumps(found | {"input_ports": [port | change], "num_inputs": 1 << 22})
    yield "two", json.dumps(found | {"input_ports": [port, port]})
    yield "a key twice", json.dumps(found)[:-1] + ', "num_inputs": 8}'
    yield "deep", '{"metadata": ' + "[" * 100_000 + "]" * 100_000 + "}"
    yield "no JSON", "x"
    yield "a list", "[]"


def certificates(folder):
    """(what, text of certificate.json)."""
    text = (folder / "certificate.json").read_text()
    yield from ((f"cut at {k}", text[:k]) for k in (0, 1, 50, len(text) // 2, len(text) - 1))
    for found in (
        "null",
        "[]",
        "{}",
        "1",
        '"x"',
        "[" * 200_000,
        '{"a":' * 50_000,
        "1" * 100_000,
        "NaN",
        "\ufeff" + text,
    ):
        yield f"all of {found[:10]!r}", found
    yield "noise", "\x00\x01"
    function = {"function": {"lo": 0, "hi": (1 << 40) - 1, "table": [0]}}
    polynomial = {"function": {"lo": 0, "hi": (1 << 40) - 1, "centre": 0, "coefficients": [1], "shift": 0}}
    for parameters in (function, polynomial):
        operation = ["apply", parameters]
        claim = model([operation], [[0, 0]], [("y", [1], [1])])
        made = [cell(*operation, [TWO_BITS], [TWO_BITS])]
        yield "a table of 40 bits", json.dumps(certificate(claim, made, [[0, 0]], [[1]]))
    proof = json.loads(text)
    for key in proof:
        for wrong in (None, 1, "x", [], {}, [[]], [None], [[None]], [{}], [[[[]]]], [1 << 70], [-1], [[1 << 40]]):
            yield f"{key} {wrong!r}", json.dumps(proof | {key: wrong})
    yield "inputs", json.dumps(proof | {"model": proof["model"] | {"inputs": [["x", [1 << 40], 4, True]]}})
    yield "outputs", json.dumps(proof | {"model": proof["model"] | {"outputs": [["y", [1 << 22] * 2, [0]]]}})


def cases(whole, folder):
    """Writes each case into the folder and yields its name."""
    right = {name: (whole / name).read_bytes() for name in ("circuit.npz", "certificate.json")}

    def put(**changed):
        for name, data in (right | changed).items():
            (folder / name).write_bytes(data)

    for what, data in circuits(whole):
        put(**{"circuit.npz": data})
        yield f"circuit: {what}"
    parts = members(whole)
    for what, text in headers(whole):
        put(**{"circuit.npz": zipped((parts | {"header.npy": array(text)}).items())})
        yield f"header: {what}"
    for what, text in certificates(whole):
        put(**{"certificate.json": text.encode("utf-8", "surrogateescape")})
        yield f"certificate: {what}"
    put(**{"certificate.json": right["certificate.json"].replace(b"rms", b"\xff\xfe")})
    yield "certificate: no UTF-8"


def judge(whole, folder):
    """Statuses and seconds of all cases under the limit of memory, in a process of its own: see the test."""
    from time import process_time

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    made = [(what, dict(read(folder))) for what in cases(whole, folder)]
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    for what, files in made:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        started = process_time()
        status = main([str(folder)])
        print(json.dumps([what, status, process_time() - started]), flush=True)


def read(folder):
    return {name: (folder / name).read_bytes() for name in ("circuit.npz", "certificate.json")}


def test_damaged_files_end_in_one_line(whole, tmp_path):
    code = "import sys, pathlib\nfrom tests.circuits.proof import test_damaged as here\n"
    code += "here.judge(*map(pathlib.Path, sys.argv[1:]))"
    command = [sys.executable, "-W", "ignore", "-c", code, str(whole), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(found) > 150
    assert [(what, status) for what, status, _ in found if status != 2] == []
    assert [(what, seconds) for what, _, seconds in found if seconds > SECONDS] == []
    lines = done.stderr.splitlines()
    assert len(lines) == len(found)
    assert {line.split(":")[0] for line in lines} == {"DAMAGED"}


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_flipped_bytes(whole, tmp_path, capsys, count):
    """Anywhere in either file. What is accepted reads as the same files did."""
    generator = np.random.default_rng(count)
    right = read(whole)
    for k in range(count):
        name = sorted(right)[k % 2]
        data = bytearray(right[name])
        for place in generator.integers(len(data), size=int(generator.integers(1, 4))):
            data[place] ^= 1 << int(generator.integers(8))
        for each, old in (right | {name: bytes(data)}).items():
            (tmp_path / each).write_bytes(old)
        status = main([str(tmp_path)])
        out, err = capsys.readouterr()
        assert status in (0, 1, 2)
        assert len(err.splitlines()) == (status > 0)
        if status == 0 and name == "certificate.json":
            changed, old = (json.loads(text) for text in (bytes(data), right[name]))
            assert changed["model"] == old["model"] or "SHA-256" in out
        if status == 0 and name == "circuit.npz":
            assert all(np.array_equal(a, b) for a, b in zip(*(_lists(f) for f in (whole, tmp_path)), strict=True))


def _lists(folder):
    with np.load(folder / "circuit.npz") as data:
        return [data[name] for name in data.files if name != "header"]


def test_missing_files_and_folders_in_their_place(whole, tmp_path, capsys):
    for name in ("circuit.npz", "certificate.json"):
        folder = tmp_path / name
        folder.mkdir()
        for each, data in read(whole).items():
            if each == name:
                (folder / each).mkdir()
            else:
                (folder / each).write_bytes(data)
        assert main([str(folder)]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_proof_that_would_take_too_long_is_given_up(tmp_path):
    """Small files that ask for much: a function of 2^20 arguments is one of the format, of 2^21 it is not."""
    operation = ["apply", {"function": {"lo": 0, "hi": 1 << 20, "centre": 0, "coefficients": [1], "shift": 0}}]
    claim = model([operation], [[0, 0]], [("y", [1], [1])])
    made = [cell(*operation, [TWO_BITS], [TWO_BITS])]
    write(tmp_path, IN, OUT, [], [0, 1], certificate(claim, made, [[0, 0]], [[1]]))
    assert main([str(tmp_path)]) == 2
