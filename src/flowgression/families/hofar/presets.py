"""Sizes of HOFAR: those of FlowAR, with the blocks of its flow head shared between two heads. The paper gives none."""

from typing import Any

from flowgression.families.flowar.presets import PRESETS as FLOWAR
from flowgression.families.presets import look_up

PRESETS: dict[str, dict[str, Any]] = {
    name: {**FLOWAR[name], "flow_depth": FLOWAR[name]["flow_depth"] // 2, "path": "gvp"}
    for name in ("S", "B", "L", "H")
}


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The keywords of `HOFAR` for preset `name`, with `overrides` on top. Raises InputError for an unknown name."""
    return look_up("HOFAR", PRESETS, name, overrides)
