"""The sizes of Drift."""

from typing import Any

from flowgression.families.presets import look_up

PRESETS = {"S": {"hidden_size": 64}, "L": {"hidden_size": 512}}


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    return look_up("drift", PRESETS, name, overrides)
