"""The models. Every family has the same file names: model.py, presets.py, convert.py."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ARFlow": "flowgression.models.arflow.model",
        "FAMILIES": "flowgression.models.registry",
        "FlowAR": "flowgression.models.flowar.model",
        "SiT": "flowgression.models.sit.model",
        "build_model": "flowgression.models.registry",
        "load_autoencoder": "flowgression.models.autoencoder.loading",
        "model_class": "flowgression.models.registry",
        "to_lowrank": "flowgression.models.flowar.to_lowrank",
    },
)
