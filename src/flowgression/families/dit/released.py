"""Reading the configuration of a DiT-like checkpoint (ARFlow, SiT) off the shapes of its weights."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.layers.released import check_constant, load_exactly

PUBLISHED_CLASSES = 1000  # of ImageNet

# The tensors that the configuration is read off, and their numbers of dimensions.
_NEEDED = {
    "x_embedder.proj.weight": 4,
    "y_embedder.embedding_table.weight": 2,
    "final_layer.linear.weight": 2,
    "pos_embed": 3,
    "blocks.0.mlp.fc1.weight": 2,
}


_FOREIGN = {
    r"projectors\.": "a SiT of REPA, with projectors onto another network's features and time from data to noise",
    r"blocks\.0\.mlp\.w12\.": "a LightningDiT, with SwiGLU, RMS norms and rotary positions",
    r"feat_rope\.": "a LightningDiT, with rotary positions",
    r"blocks\.0\.attn\.q_norm\.": "a DiT with normalised queries and keys",
}
"""Models of the same lineage by a name that theirs alone have."""


def infer_config(
    weights: Mapping[str, Tensor],
    family: str,
    *matrices: str,
    num_classes: int | None = None,
    trained_with: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The keywords that both models share.

    The number of heads is not seen in the shapes of every family, so it is left to the caller.

    Args:
        matrices: further weights with two dimensions that the caller reads sizes off.
        num_classes: C, which decides whether the table of labels has a row for the null label; None takes that of
            `trained_with`, else the 1000 of ImageNet where the table has 1000 or 1001 rows, else one row less; see
            `require_classes`.
        trained_with: arguments of the training script.

    Raises:
        InputError: a name that every such checkpoint has is missing, or of another shape.
    """
    for pattern, what in _FOREIGN.items():
        if any(re.match(pattern, name) for name in weights):
            raise InputError(f"this is not a released {family} checkpoint: it is {what}; that has no converter here.")
    needed = _NEEDED | dict.fromkeys(matrices, 2)
    missing = [name for name in needed if name not in weights]
    if missing:
        raise InputError(f"this is not a released {family} checkpoint: it lacks {', '.join(missing)}.")
    if wrong := [name for name, dims in needed.items() if weights[name].ndim != dims or 0 in weights[name].shape]:
        raise InputError(
            f"this is not a released {family} checkpoint: {wrong[0]} has shape {tuple(weights[wrong[0]].shape)}."
        )
    hidden_size, in_channels, patch_size, _ = weights["x_embedder.proj.weight"].shape
    side = math.isqrt(weights["pos_embed"].shape[1]) * patch_size
    out_channels = weights["final_layer.linear.weight"].shape[0] // patch_size**2
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    return {
        "sample_size": side,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "hidden_size": hidden_size,
        "depth": len(blocks),
        "mlp_ratio": weights["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size,
        "learn_sigma": out_channels == 2 * in_channels,
        **_classes(weights["y_embedder.embedding_table.weight"].shape[0], num_classes, trained_with or {}),
    }


def _classes(rows: int, num_classes: int | None, trained_with: Mapping[str, Any]) -> dict[str, Any]:
    """How many of the rows of a table of labels are classes, and whether the model knows the null label."""
    if num_classes is None and isinstance(trained_with.get("num_classes"), int):
        num_classes = trained_with["num_classes"]
    if num_classes is None:
        num_classes = rows if rows == PUBLISHED_CLASSES else rows - 1
    if rows not in (num_classes, num_classes + 1):
        raise InputError(
            f"the table of labels has {rows} rows, which fits neither {num_classes} classes nor these and the null "
            f"label; say how many classes there are: num_classes={rows - 1} or {rows}, or --num-classes."
        )
    return {"num_classes": num_classes, **({"class_dropout_prob": 0.0} if rows == num_classes else {})}


def require_classes(
    weights: Mapping[str, Tensor], num_classes: int | None, trained_with: Mapping[str, Any], label_table: str
) -> None:
    """InputError where nothing says whether the last row of the table of labels is a class or the null label.

    A caller asks it last, so that weights of another model are refused for what they are.
    """
    rows = len(weights[label_table])
    told = num_classes is not None or isinstance(trained_with.get("num_classes"), int)
    if not told and rows not in (PUBLISHED_CLASSES, PUBLISHED_CLASSES + 1):
        raise InputError(
            f"the table of labels has {rows} rows, and nothing says whether the last one is a class or the null label: "
            f"give num_classes={rows - 1} (it is the null label) or {rows} (it is a class), or --num-classes of "
            "`flowgression convert`."
        )


def load_weights(model: Any, weights: dict[str, Tensor], family: str) -> None:
    """Load released weights: the table of positions is compared, and a table of labels without null row gets one."""
    check_constant("pos_embed", weights.pop("pos_embed"), model.pos_embed)
    table = weights[model.label_table]
    if len(table) == model.config.num_classes:  # no row for the null label, which such a model never reads
        weights[model.label_table] = torch.cat([table, torch.zeros_like(table[:1])])
    load_exactly(model, weights, family)
