"""The families of models: one description each, from which every table of the package follows.

A new family is its folder under `models`, one entry here, and a configuration. Importing this loads no torch: classes
and functions are named as "module:attribute" and imported on first use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from flowgression.errors import InputError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the package knows about one family of models.

    Attributes:
        name: as `model.family` and `--family` spell it.
        title: name of the model class, and of the family in texts.
        paper: title and arXiv number.
        model, pipeline, objective: "module:attribute" of the class of models, of their pipeline, and of what they are
            trained on (see `training.objectives.Objective`).
        presets: module with PRESETS and preset_config.
        converter: "module:attribute" of what reads released weights; None where nothing is released.
        autoencoder: the autoencoder that released models were trained with, a name of `models.autoencoder.presets`.
        nfe_module: the part of the model that one function evaluation (NFE) of the flow calls; "" is the whole model.
        sequence_length: images of a training sequence by default; None for models that read single images.
        null_label: whether training drops labels, so that the model can be guided.
        draws_scales: whether the model draws an image scale by scale, coarse to fine.
        path: between noise and data, that models are trained on by default.
        sampling: defaults of the pipeline's sampling options.
    """

    name: str
    title: str
    paper: str
    model: str
    pipeline: str
    objective: str
    presets: str
    converter: str | None = None
    autoencoder: str | None = None
    nfe_module: str = ""
    sequence_length: int | None = None
    null_label: bool = True
    draws_scales: bool = False
    path: str = "linear"
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads_sequences(self) -> bool:
        """Whether a call of the model in training sees several images of one class."""
        return self.sequence_length is not None

    @property
    def model_class(self) -> Any:
        """The class of models."""
        return _resolve(self.model)

    @property
    def pipeline_class(self) -> Any:
        """The class of pipelines."""
        return _resolve(self.pipeline)

    @property
    def objective_function(self) -> Any:
        """What the models are trained on: (model, images, class_labels, random) -> ObjectiveOutput."""
        return _resolve(self.objective)

    @property
    def presets_module(self) -> Any:
        """The module of published sizes: PRESETS and preset_config."""
        return import_module(self.presets)

    def load_released(self) -> Any:
        """The function that reads released weights. Raises InputError where the family has none."""
        if self.converter is None:
            raise InputError(f"no weights of the family {self.name} were released; families with some: {_released()}.")
        return _resolve(self.converter)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="arflow",
            title="ARFlow",
            paper="ARFlow: Autoregressive Flow with Hybrid Linear Attention, arXiv:2501.16085",
            model="flowgression.models.arflow.model:ARFlow",
            pipeline="flowgression.sampling.arflow_pipeline:ARFlowPipeline",
            objective="flowgression.training.objectives:arflow_objective",
            presets="flowgression.models.arflow.presets",
            converter="flowgression.models.arflow.convert:load_released",
            autoencoder="sd-vae",
            sequence_length=5,
            sampling={"num_inference_steps": 50, "guidance_scale": 1.5},
        ),
        Family(
            name="sit",
            title="SiT",
            paper="SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant Transformers, "
            "arXiv:2401.08740",
            model="flowgression.models.sit.model:SiT",
            pipeline="flowgression.sampling.sit_pipeline:SiTPipeline",
            objective="flowgression.training.objectives:sit_objective",
            presets="flowgression.models.sit.presets",
            converter="flowgression.models.sit.convert:load_released",
            autoencoder="sd-vae",
            sampling={"num_inference_steps": 50, "guidance_scale": 1.5},
        ),
        # FastFlowAR (arXiv:2502.16490) is the same class with attention="lowrank".
        Family(
            name="flowar",
            title="FlowAR",
            paper="FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching, arXiv:2412.15205",
            model="flowgression.models.flowar.model:FlowAR",
            pipeline="flowgression.sampling.flowar_pipeline:FlowARPipeline",
            objective="flowgression.training.objectives:flowar_objective",
            presets="flowgression.models.flowar.presets",
            converter="flowgression.models.flowar.convert:load_released",
            autoencoder="mar-kl16",
            nfe_module="flow_head",
            draws_scales=True,
            sampling={"num_inference_steps": 25, "guidance_scale": 2.0},
        ),
        Family(
            name="hofar",
            title="HOFAR",
            paper="HOFAR: High-Order Augmentation of Flow Autoregressive Transformers, arXiv:2503.08032",
            model="flowgression.models.hofar.model:HOFAR",
            pipeline="flowgression.sampling.flowar_pipeline:FlowARPipeline",
            objective="flowgression.training.objectives:flowar_objective",
            presets="flowgression.models.hofar.presets",
            autoencoder="mar-kl16",
            nfe_module="flow_head",
            draws_scales=True,
            path="gvp",
            sampling={"num_inference_steps": 25, "guidance_scale": 2.0, "solver": "taylor"},
        ),
    )
}


def find_family(name: str, what: str = "model family ") -> Family:
    """The family called `name`. Raises InputError, which begins with `what` and the name, for an unknown one.

    >>> from flowgression.models import find_family
    >>> find_family("flowar").title
    'FlowAR'
    """
    if name not in FAMILIES:
        raise InputError(f"{what}{name!r} is unknown: {did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]


def family_of_class(title: str) -> Family | None:
    """The family whose models are of the class called `title`; None for a class of something else."""
    return next((family for family in FAMILIES.values() if family.title == title), None)


def family_of(model: Any) -> Family:
    """The family of a model. Raises InputError for an object of something else."""
    family = family_of_class(type(model).__name__)
    if family is None:
        known = ", ".join(family.title for family in FAMILIES.values())
        raise InputError(f"no pipeline for a {type(model).__name__}; models with one: {known}.")
    return family


def pipeline_names() -> dict[str, str]:
    """The classes of pipelines: their names, and "module:attribute" of each."""
    return {family.pipeline.partition(":")[2]: family.pipeline for family in FAMILIES.values()}


def pipeline_class(name: str) -> Any:
    """The pipeline class of this name; KeyError for any other than those in `pipeline_names`."""
    return _resolve(pipeline_names()[name])


def _resolve(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _released() -> str:
    return ", ".join(family.name for family in FAMILIES.values() if family.converter is not None)
