"""What `make site` adds to the page: the classifier as ONNX reads digits as the package's does."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from flowgression.data.mnist import load_mnist
from flowgression.evaluation.features.registry import load_extractor


def test_the_exported_classifier_is_that_of_the_package(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "tools" / "site.py"
    spec = importlib.util.spec_from_file_location("site_tool", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.export_classifier(tmp_path / "classifier.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx")
    digits = torch.from_numpy(np.array(load_mnist("test")[0][:4]))[:, None]
    with torch.no_grad():
        logits = load_extractor("mnist").network(digits)[1]
    for digit, expected in zip(digits, logits.softmax(-1), strict=True):
        pixels = (digit[None].float() / 127.5 - 1).numpy()
        (found,) = session.run(None, {"pixels": pixels})
        np.testing.assert_allclose(found[0], expected, atol=1e-5)
