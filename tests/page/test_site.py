"""What `make site` adds to the page: the classifier as ONNX reads digits as the package's does."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from flowgression.data import load_mnist
from flowgression.evaluation import load_extractor
from flowgression.export.directory import TOLERANCE
from tests.onnx_export import needs_onnx
from tests.scripts import load_script


@needs_onnx
def test_the_exported_classifier_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_script("tools/site.py", monkeypatch).export_classifier(tmp_path / "classifier.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx")
    digits = torch.from_numpy(np.array(load_mnist("test")[0][:4]))[:, None]
    with torch.no_grad():
        logits = load_extractor("mnist").network(digits)[1]
    probabilities = logits.softmax(-1)
    # A probability p changes by p (1 - p) times an error of the logits, which 1e-5 thus bounds by TOLERANCE.
    assert (probabilities * (1 - probabilities)).max() <= 1e-5 / TOLERANCE
    for digit, expected in zip(digits, probabilities, strict=True):
        pixels = (digit[None].float() / 127.5 - 1).numpy()
        (found,) = session.run(None, {"pixels": pixels})
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)
