"""The sizes of the SiT paper, which are those of DiT, for patch sizes 2, 4 and 8."""

from typing import Any

from flowgression.families.presets import look_up

_SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}

PRESETS = {
    f"{size}/{patch}": {"patch_size": patch, "depth": depth, "hidden_size": width, "num_heads": heads}
    for size, (depth, width, heads) in _SIZES.items()
    for patch in (2, 4, 8)
}


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Keywords of `SiT` for a size such as "XL/2". Raises InputError for an unknown name."""
    return look_up("sit", PRESETS, name, overrides)
