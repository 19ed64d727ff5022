"""The sizes of the ARFlow paper: width, depth and heads as in DiT, for patch sizes 2, 4 and 8."""

from typing import Any

from flowgression.families.presets import look_up

_SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


def _preset(size: str, patch_size: int) -> dict[str, int]:
    depth, hidden_size, num_heads = _SIZES[size]
    if (size, patch_size) == ("XL", 2):
        num_heads = 18  # the released XL/2 has heads of width 64
    return {"patch_size": patch_size, "depth": depth, "hidden_size": hidden_size, "num_heads": num_heads}


PRESETS = {f"{size}/{patch}": _preset(size, patch) for size in _SIZES for patch in (2, 4, 8)}


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Keywords of `ARFlow` for a size such as "XL/2". Raises InputError for an unknown name."""
    return look_up("arflow", PRESETS, name, overrides)
