"""The claim names its model: the digest that the checker prints is that of the model alone."""

import json
import re

import pytest
import torch

from flowgression import InputError, SiT
from flowgression.circuits import layer_program
from flowgression.circuits.claim import LONGEST, claim, shortened
from flowgression.circuits.compile import Precision
from flowgression.circuits.proof.checker import main
from flowgression.circuits.proof.model import digest_of, read_model
from flowgression.circuits.proof.schema import Damaged
from flowgression.cli.circuit import run


def printed(capsys, argv, of=run):
    """(the digest, everything) that a command prints; its status must be 0."""
    assert of(argv) == 0
    out = capsys.readouterr().out
    return re.search(r"claim: SHA-256 ([0-9a-f]{64})\n", out).group(1), out


@pytest.mark.parametrize(
    "what",
    [
        ["linear", "--n", "1", "--bits", "4"],
        ["linear", "--n", "1", "--bits", "4", "--weights-as-inputs"],
        ["--cells", "layer-norm", "--n", "1", "--bits", "4"],
        ["--cells", "rms-norm", "--n", "1", "--bits", "4", "--fraction", "2", "--backend", "crt"],
    ],
    ids=" ".join,
)
def test_the_digest_of_a_proof_is_that_of_its_model(tmp_path, capsys, what):
    folder = str(tmp_path / "a folder")
    proved, out = printed(capsys, ["prove", *what, "--out", folder])
    lines = out.splitlines()
    assert lines[-1] == f"  python -m flowgression.circuits.proof.checker '{folder}'"
    again, report = printed(capsys, [folder], main)
    alone, words = printed(capsys, ["digest", *what])
    told = lines[-3].split()
    assert told[:3] == ["flowgression", "circuit", "digest"]
    other_way, _ = printed(capsys, told[2:])
    assert proved == again == alone == other_way
    assert words.splitlines()[1] in report
    assert re.search(r"PROVED for every (input|argument of the cells): [\d,]+ gates of depth \d+", report)


def test_the_digest_of_a_checkpoint(tmp_path, capsys):
    torch.manual_seed(0)
    sizes = {"sample_size": 1, "patch_size": 1, "in_channels": 1, "hidden_size": 4, "depth": 1, "num_heads": 1}
    model = SiT(**sizes, mlp_ratio=1.0, num_classes=2)
    model.save_pretrained(tmp_path / "sit")
    options = ["--bits", "4", "--fraction", "2"]
    proved, out = printed(capsys, ["prove", str(tmp_path / "sit"), *options, "--out", str(tmp_path / "proof")])
    alone, words = printed(capsys, ["digest", "--model", str(tmp_path / "sit"), *options])
    assert proved == alone
    for line in words.splitlines()[1:]:
        assert line in out
    assert "SiT, grid=(1, 1)" in words
    assert "of the state dict" in words
    other, _ = printed(capsys, ["digest", "--model", str(tmp_path / "sit"), "--bits", "4", "--fraction", "1"])
    assert other != proved
    with torch.no_grad():
        model.final_layer.linear.bias += 1e-3  # too little for any rounded number, but another model
    model.save_pretrained(tmp_path / "sit")
    changed, _ = printed(capsys, ["digest", "--model", str(tmp_path / "sit"), *options])
    assert changed != proved
    with pytest.raises(InputError, match="one of both"):
        run(["digest", "linear", "--model", "linear"])


def test_names_cannot_pass_for_other_lines():
    found = claim(layer_program("linear", 1, 2), Precision(4))
    digest = digest_of(found)
    assert read_model(json.loads(json.dumps(found))).digest == digest
    for text in (
        "x\n  claim: SHA-256 0",
        "x" + 200 * " " + "claim: SHA-256 0",
        "",
        " x",
        "x ",
        "x\x1b[2K",
        "\u0455",
        "x" * 1001,
    ):
        with pytest.raises(Damaged):
            read_model(found | {"name": found["name"] | {"sizes": text}})
    assert shortened("a\n b\u00e9  c") == "a b\\xe9 c"
    assert len(shortened("long " * 1000)) <= LONGEST
    assert shortened("long " * 1000) != shortened("long " * 1001)
