"""`flowgression compare`: several models against one reference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FEW = ("--num-images", 30, "--num-inference-steps", 2, "--bootstrap", 10, "--num-threads", 1)


def test_each_model_is_judged_as_evaluate_does(command: Callable[..., Any], tmp_path: Path) -> None:
    found, picture, one = tmp_path / "found.json", tmp_path / "c.png", tmp_path / "one.json"
    models = ("sit-mnist", "flowar-mnist")
    reference = ("--reference", "mnist:test[:200]")
    result = command("compare", *models, *reference, *FEW, "--json", found, "--out", picture)
    assert result.status == 0, result.err
    reports = json.loads(found.read_text())
    assert list(reports) == list(models)
    assert all(name in result.out for name in (*models, "FID", "recall", "images/s", "not told apart"))
    assert command("evaluate", "--model", models[1], *reference, *FEW, "--json", one).status == 0
    alone = json.loads(one.read_text())
    for name in ("fid", "kid", "precision", "recall"):  # the reference's features were computed for the first model
        np.testing.assert_allclose(reports[models[1]][name], alone[name], rtol=1e-5, atol=1e-7)
        assert reports[models[0]][f"{name}_interval"] is not None
    assert f"{reports[models[0]]['fid']:.4g}" in result.out
    with Image.open(picture) as opened:
        assert opened.height > 2 * 60


def test_what_cannot_be_compared(command: Callable[..., Any]) -> None:
    for arguments, words in (
        (("sit-mnist",), "two or more different models"),
        (("sit-mnist", "sit-mnist"), "two or more different models"),
        (("sit-mnist", "arflow-mnist", "--model", "x"), "without a flag"),
        (("sit-mnist", "arflow-mnist", "--num-images", 0), "at least 1"),
    ):
        result = command("compare", *arguments, "--reference", "mnist")
        assert result.status == 2
        assert words in result.err
