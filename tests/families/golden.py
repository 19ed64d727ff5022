"""Reading the recorded inputs and outputs of released models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens"


class Golden:
    """One npz of recordings: `golden["x"]` is a tensor, `golden.json("config")` a parsed entry."""

    def __init__(self, name: str):
        self._arrays = np.load(GOLDENS / f"{name}.npz", allow_pickle=False)

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self._arrays[key])

    def json(self, key: str) -> Any:
        return json.loads(str(self._arrays[key]))

    def weights(self) -> dict[str, Tensor]:
        return {key[3:]: self[key] for key in self._arrays.files if key.startswith("sd/")}
