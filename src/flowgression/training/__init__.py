"""Training: configuration, loop, optimiser, EMA, checkpoints."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BatchError": "flowgression.training.errors",
        "EmaConfig": "flowgression.training.settings",
        "LoraConfig": "flowgression.training.settings",
        "LostProcessError": "flowgression.training.errors",
        "LostReaderError": "flowgression.training.errors",
        "ModelConfig": "flowgression.training.settings",
        "NonFiniteError": "flowgression.training.errors",
        "OptimizerConfig": "flowgression.training.settings",
        "PreviewConfig": "flowgression.training.settings",
        "RunError": "flowgression.training.errors",
        "ScheduleConfig": "flowgression.training.settings",
        "TimesConfig": "flowgression.training.settings",
        "TrainConfig": "flowgression.training.config",
        "TrainResult": "flowgression.training.session",
        "config_from_dict": "flowgression.training.nested",
        "config_to_dict": "flowgression.training.nested",
        "find_gpu": "flowgression.training.planner",
        "make_plan": "flowgression.training.planner",
        "train": "flowgression.training.loop",
    },
)
