"""Small models of every family, one line each: listed here, a family is tested by everything in this folder.

Others add stages (export, fake devices) by parametrising over `FAMILY_CASES` as `test_families.py` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from flowgression.models import FAMILIES, build_model
from flowgression.registry import Family

SCALES = {
    "patch_size": 4, "scales": [1, 2, 4], "hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2,
    "flow_width": 16, "flow_depth": 1, "flow_num_heads": 2,
}  # fmt: skip
PATCHES = {"patch_size": 4, "hidden_size": 16, "depth": 2, "num_heads": 2}
SIDE = 16


@dataclass(frozen=True)
class FamilyCase:
    """A family at a size for tests.

    Attributes:
        family: its name.
        args: of the model, for grey images of 16 x 16 pixels and ten classes.
        golden: released weights in tests/goldens, for families that have a converter.
    """

    family: str
    args: Mapping[str, Any]
    golden: str | None = None

    @property
    def description(self) -> Family:
        """The entry in the package."""
        return FAMILIES[self.family]

    def model(self, **overrides: Any) -> Any:
        """A model in evaluation mode whose weights are all random: none of the zeros of a fresh one hides a path."""
        facts = {"sample_size": SIDE, "in_channels": 1, "num_classes": 10}
        model = build_model(self.family, **{**self.args, **facts, **overrides})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15, generator=generator)
        return model.eval()


LOWRANK = {"attention": "lowrank", "attention_degree": 2, "attention_max_tau": 2.0}
FAMILY_CASES = {
    "arflow": FamilyCase("arflow", PATCHES, golden="arflow_dev"),
    "sit": FamilyCase("sit", PATCHES, golden="sit_dev"),
    "flowar": FamilyCase("flowar", SCALES, golden="flowar_dev"),
    "hofar": FamilyCase("hofar", SCALES),
    "fastflowar": FamilyCase("flowar", {**SCALES, **LOWRANK}),
}
every_family = pytest.mark.parametrize("case", FAMILY_CASES.values(), ids=list(FAMILY_CASES))
