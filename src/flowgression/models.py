"""The models, by their public names; each family is a folder of `flowgression.families`."""

from flowgression._lazy import lazy_names
from flowgression.registry import FAMILIES

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{family.title: family.model.partition(":")[0] for family in FAMILIES.values()},
        "FAMILIES": "flowgression.registry",
        "build_model": "flowgression.registry",
        "find_family": "flowgression.registry",
        "load_autoencoder": "flowgression.autoencoders.loading",
        "to_lowrank": "flowgression.families.flowar.to_lowrank",
    },
)
