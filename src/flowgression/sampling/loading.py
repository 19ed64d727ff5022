"""From a name to a pipeline, and from a model to one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.classes import Classes
from flowgression.errors import InputError
from flowgression.registry import family_of, family_of_class, pipeline_class, pipeline_names
from flowgression.sampling.folders import (
    CONFIG_NAME,
    HUB_KEYWORDS,
    INDEX_NAME,
    builtin_models,
    checkpoint_classes,
    find_folder,
    is_adapter,
    read_index,
    read_json,
)

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin

    from flowgression.sampling.pipeline import ClassConditionalPipeline

__all__ = ["builtin_models", "load_pipeline", "make_pipeline"]


def load_pipeline(name_or_path: str | os.PathLike, **kwargs: Any) -> "ClassConditionalPipeline":
    """Load any of this library's pipelines; the class is that of the folder's model_index.json.

    Args:
        name_or_path: a built-in name ("arflow-mnist"; no network needed), a folder, or "owner/name" on the hub.
            The folder may also be that of a training run, finished or not, that of a model alone (no class names then),
            or an adapter (LoRA): the model that it names is loaded, and the adapter merged into its weights.
        kwargs: as in diffusers' DiffusionPipeline.from_pretrained (dtype, revision, token, ...).

    Raises:
        InputError: an unknown name (with the nearest built-in one), a folder of something else, damaged weights.
    """
    return _load(os.fspath(name_or_path), kwargs)


def make_pipeline(
    model: "ModelMixin",
    vae: "ModelMixin | None" = None,
    id2label: dict | None = None,
    latent_space: dict | None = None,
) -> "ClassConditionalPipeline":
    """The pipeline of a model, that of its family: ARFlowPipeline for an ARFlow, and so on.

    Args:
        vae, id2label, latent_space: see `ClassConditionalPipeline`.

    Raises:
        InputError: no pipeline exists for this class of models.
    """
    return family_of(model).pipeline_class(model, vae=vae, id2label=id2label, latent_space=latent_space)


def _load(name: str, kwargs: dict[str, Any], above: tuple[Path, ...] = ()) -> "ClassConditionalPipeline":
    hub_keywords = {key: value for key, value in kwargs.items() if key in HUB_KEYWORDS}
    others = {key: value for key, value in kwargs.items() if key not in HUB_KEYWORDS}
    folder = find_folder(name, **hub_keywords)
    if is_adapter(folder):
        return _adapted_pipeline(folder, kwargs, above)
    if (folder / CONFIG_NAME).is_file() and not (folder / INDEX_NAME).is_file():
        return _pipeline_of_model(folder, others)
    found = read_index(folder).get("_class_name")
    if not isinstance(found, str) or found not in pipeline_names():
        raise InputError(f"{folder} holds a {found}; this library loads {', '.join(pipeline_names())}.")
    return pipeline_class(found).from_folder(folder, folder.name if Path(name).is_dir() else name, **others)


def _adapted_pipeline(folder: Path, kwargs: dict[str, Any], above: tuple[Path, ...]) -> "ClassConditionalPipeline":
    """The model that an adapter names, with it merged; `above` are the adapters that named this one."""
    from flowgression.sampling.lora import adapter_classes, base_sha256, load_adapter, read_adapter, with_classes

    info, adapters = read_adapter(folder)
    if folder.resolve() in above:
        raise InputError(f"{folder} is an adapter of itself: its `base` leads back to it; name the model instead")
    dtypes = [kwargs.pop(name, None) for name in ("dtype", "torch_dtype")]
    # As it was trained on: rounded once, after the adapter.
    pipe: Any = _load(info["base"], kwargs, (*above, folder.resolve()))
    if base_sha256(pipe.transformer) != (info.get("base_sha256") or base_sha256(pipe.transformer)):
        raise InputError(
            f"{folder} was made for other weights than are now in {info['base']!r}; put the model back that it was "
            "trained on, or merge it all the same with flowgression.sampling.load_adapter(pipe, folder)."
        )
    classes = adapter_classes(info, adapters)
    if classes is not None and classes != pipe.classes:
        pipe = with_classes(pipe, classes)
    load_adapter(pipe, folder)
    if dtype := dtypes[0] or dtypes[1]:
        pipe.to(dtype)
    names, space = info.get("id2label") or pipe.config.get("id2label"), pipe.config.get("latent_space")
    return make_pipeline(pipe.transformer, vae=pipe.vae, id2label=names, latent_space=space)


def _pipeline_of_model(folder: Path, kwargs: dict[str, Any]) -> "ClassConditionalPipeline":
    from flowgression.sampling.pipeline import check_model_folder

    found = str(read_json(folder / CONFIG_NAME).get("_class_name"))
    family = family_of_class(found)
    if family is None:
        known = ", ".join(pipeline_names())
        raise InputError(f"{folder} holds a {found}; this library loads {known} and their models.")
    check_model_folder(folder, family.model_class)
    names = checkpoint_classes(folder)
    return make_pipeline(
        family.model_class.from_pretrained(folder, **kwargs), id2label=Classes(names).id2label() if names else None
    )
