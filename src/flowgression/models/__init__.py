"""The models. Every family has the same file names: model.py, presets.py, convert.py."""

from flowgression._lazy import lazy_names
from flowgression.families import FAMILIES

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{family.title: family.model.partition(":")[0] for family in FAMILIES.values()},
        "FAMILIES": "flowgression.families",
        "build_model": "flowgression.models.registry",
        "find_family": "flowgression.families",
        "load_autoencoder": "flowgression.models.autoencoder.loading",
        "to_lowrank": "flowgression.models.flowar.to_lowrank",
    },
)
