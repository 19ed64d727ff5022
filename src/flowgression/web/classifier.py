"""The built-in classifier of digits, for what is drawn on the page."""

from functools import cache
from typing import Any

import torch

from flowgression.errors import InputError
from flowgression.web.arrays import decode

SIZE = 28


def classify(body: Any) -> list[float]:
    """Probabilities of the ten digits for {"x": a picture of 28 x 28 in [-1, 1]}; InputError for anything else."""
    if not isinstance(body, dict) or set(body) != {"x"}:
        raise InputError('the request must be {"x": a picture}')
    x = decode(body["x"], (1, 1, SIZE, SIZE), "x")
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    with torch.no_grad():
        logits = _extractor()(pixels).logits
    return logits.softmax(-1)[0].tolist()


@cache
def _extractor() -> Any:
    from flowgression.evaluation.features.registry import load_extractor

    return load_extractor("mnist")
