"""What all class-conditional pipelines share: labels, loading and saving, decoding, kinds of output.

Letters: B images, C H W channels and size of a latent (of a pixel image where there is no autoencoder).
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import Generator, Tensor

from flowgression.autoencoders.model import as_autoencoder
from flowgression.classes import Classes
from flowgression.errors import InputError, did_you_mean, reading
from flowgression.files import atomic_folder
from flowgression.flow.solvers import Solver
from flowgression.layers.weights import check_finite, dtype_for_diffusers, own_weights
from flowgression.registry import FAMILIES, check_model_arguments, family_of_class
from flowgression.sampling.components import COMPONENT_CONFIGS, check_component_config, check_index
from flowgression.sampling.folders import CONFIG_NAME, HUB_KEYWORDS, check_weights, find_folder, read_index, read_json
from flowgression.sampling.interpolation import Interpolating
from flowgression.sampling.options import SamplingOptions, make_options
from flowgression.sampling.request import path_of, sampling_defaults

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
ClassLabels = int | str | Sequence[int | str] | Tensor


@dataclass
class SampledImages(ImagePipelineOutput):
    """What a pipeline returns.

    Attributes:
        images: for output_type "pil" a list of B PIL images (mode L or RGB); "np" float32 [B,H,W,C] in [0, 1];
            "pt" float32 [B,C,H,W] in [0, 1]; "latent" the sampler's own [B,C,H,W], neither decoded nor clipped.
        trajectory: None, or a list of the images along the way, each entry of the same type as `images`.
    """

    trajectory: list[Any] | None = None


class ClassConditionalPipeline(Interpolating, DiffusionPipeline):
    """Base of the pipelines that turn class labels into images (in the manner of diffusers' DiTPipeline).

    Args:
        transformer: the model, of the class named by `transformer_class`.
        vae: an AutoencoderKL that decodes the sampled latents z as decode(z / scaling_factor + shift_factor);
            None if the model generates pixels in [-1, 1].
        id2label: names of the classes, {0: "zero", ...}; several names for one class are separated by commas. A list
            of names is taken as it is: {0: ["red, blue"]} is one name.
        latent_space: {"scaling_factor": ..., "shift_factor": ...} of the latents that the model was trained on; that
            of `vae` if it is not given. It is saved with the pipeline, so that a wrong autoencoder is found.
        scheduler: a flow-matching scheduler of diffusers that draws the images instead of our solvers; it can also be
            set later (`pipe.scheduler = ...`), and None takes it away again. See `sampling.schedulers`.

    Raises:
        InputError: a transformer of another class, an autoencoder with another number of latent channels or another
            scale or shift, or a class id outside the model's classes.
    """

    model_cpu_offload_seq = "transformer->vae"  # type: ignore[assignment]
    _optional_components = ["vae", "scheduler"]  # noqa: RUF012
    transformer_class: ClassVar[Any]
    options_class: ClassVar[type[SamplingOptions]]
    transformer: Any
    vae: Any

    def __init__(
        self,
        transformer: ModelMixin,
        vae: ModelMixin | None = None,
        id2label: dict | None = None,
        latent_space: dict | None = None,
        scheduler: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(transformer, self.transformer_class):
            raise InputError(
                f"{type(self).__name__} needs a {self.transformer_class.__name__}; got a {type(transformer).__name__}"
            )
        channels = transformer.config.in_channels
        if vae is not None and vae.config.latent_channels != channels:
            raise InputError(
                f"the autoencoder has {vae.config.latent_channels} latent channels, the model {channels}; "
                "pass the autoencoder the model was trained with"
            )
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)
        self.register_to_config(latent_space=check_latent_space(vae, latent_space))
        self.classes = Classes.from_id2label(id2label, transformer.config.num_classes)
        self.register_to_config(id2label=self.classes.id2label())

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """Load a pipeline from a built-in name ("arflow-mnist"), a folder, or the Hugging Face hub ("owner/name").

        Args:
            kwargs: as in diffusers' DiffusionPipeline.from_pretrained (dtype, revision, token, components, ...);
                use_safetensors=False reads the weights of `save_pretrained(folder, safe_serialization=False)`, and
                runs nothing.

        Raises:
            InputError: an unknown name, a folder of something else, damaged weights, weights of another model.
        """
        name = os.fspath(pretrained_model_name_or_path)
        hub_keywords = {key: kwargs.pop(key) for key in HUB_KEYWORDS if key in kwargs}
        folder = find_folder(name, **hub_keywords)
        return cls.from_folder(folder, folder.name if Path(name).is_dir() else name, **kwargs)

    @classmethod
    def from_folder(cls, folder: Path, shown: str, **kwargs: Any) -> Self:
        """The pipeline in a folder on this machine, called `shown`; the rest as `from_pretrained`."""
        cls._check_folder(folder, passed_components=kwargs)
        # diffusers learns how to load a component from the names in its class's module: it must see ModelMixin there.
        model_class = cls._model_class(folder) if "transformer" not in kwargs else cls.transformer_class
        vars(sys.modules[model_class.__module__]).setdefault("ModelMixin", ModelMixin)
        with reading(f"the pipeline in {folder}", "copy or save it again"):
            pipe = super().from_pretrained(folder, **{"use_safetensors": True, **dtype_for_diffusers(kwargs)})
        if pipe.vae is not None:
            check_finite(pipe.vae.state_dict(), folder / "vae")
            own_weights(pipe.vae)  # the transformer's class does it itself
        # diffusers notes the absolute path of the folder and would write it into every copy.
        pipe.register_to_config(_name_or_path=shown)
        pipe.transformer.register_to_config(_name_or_path=shown)
        return pipe

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:  # type: ignore[override]
        """The content of model_index.json, the model's class in the module where it is now, not where it was saved."""
        config: Any = super().load_config(pretrained_model_name_or_path, **kwargs)
        model_class = cls._model_class(Path(pretrained_model_name_or_path))
        return {**config, "transformer": [model_class.__module__, model_class.__name__]}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Save all components as safetensors with a model_index.json, each file whole or not at all.

        A new folder appears in one step. In an existing one the pipeline's files are replaced one by one,
        model_index.json last, and other files stay. `kwargs` as in diffusers' DiffusionPipeline.save_pretrained.

        Raises:
            InputError: `save_directory` is a file.
        """
        target = Path(save_directory)
        self.register_modules(scheduler=self.scheduler)  # diffusers overlooks one that was set after the start
        if target.is_file():
            raise InputError(f"cannot save a pipeline to {target}: it is a file; give a folder")
        if kwargs.get("push_to_hub"):  # diffusers takes the repository's name from the folder's
            super().save_pretrained(str(target), **kwargs)
        elif not target.exists():
            with atomic_folder(target) as temporary:
                super().save_pretrained(temporary, **kwargs)
        else:
            with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as inside:
                super().save_pretrained(inside, **kwargs)
                _move_files(Path(inside), target)

    def compile(self, **options: Any) -> Self:
        """torch.compile of the networks that sampling calls, in place; call it after `to`. Returns the pipeline.

        ARFlow and SiT become one graph for all steps, FlowAR's flow head one for each scale; the first call with each
        number of images compiles them. Images are the same up to floating-point error.

        Args:
            options: of torch.compile; the default on CUDA is mode="reduce-overhead" (CUDA graphs).
        """
        from flowgression.sampling.compiled import compile_for_sampling

        compile_for_sampling(self.transformer, **options)
        return self

    @property
    def labels(self) -> dict[str, int]:
        """The id of every class name that is one class's alone."""
        return self.classes.ids_by_name

    @property
    def class_names(self) -> list[str]:
        """A name for every class, no two equal: its first one, or its id."""
        return self.classes.titles

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Class ids of one or several class names; `pipe.labels` holds all of them.

        Raises:
            InputError: an unknown name (with the nearest known one), an ambiguous one, or a model without class names.
        """
        return self.classes.ids(label)

    def class_ids(self, class_labels: ClassLabels, *, null: bool = False) -> list[int]:
        """Ids in [0, num_classes) of one label or a sequence of labels, each an id or a class name.

        Args:
            null: let the null label pass, num_classes.

        Raises:
            InputError: no label at all, an unknown or ambiguous name, an id out of range, or a one-hot array.
        """
        return self.classes.ids(class_labels, null=null)

    @classmethod
    def _get_signature_types(cls) -> dict[str, tuple[Any, ...]]:
        """Which classes diffusers' `from_pipe` takes over as which component, by their exact types."""
        names = {each.__name__ for each in cls.__mro__}  # other families are not imported
        models = [family.model_class for family in FAMILIES.values() if family.pipeline.partition(":")[2] in names]
        fitting = tuple(model for model in models if issubclass(model, cls.transformer_class))
        return {**super()._get_signature_types(), "transformer": fitting, "vae": (AutoencoderKL, type(None))}

    @staticmethod
    def repeated(ids: Sequence[int], count: int) -> list[int]:
        """Each id `count` times in a row. InputError for less than one."""
        if not isinstance(count, int) or count < 1:
            raise InputError(f"num_images_per_prompt must be 1 or more, not {count!r}.")
        return [label for label in ids for _ in range(count)]

    def begin(self, guidance_scale: float, num_timesteps: int) -> None:
        """Note what callbacks may ask during a call: `guidance_scale`, `num_timesteps`, `interrupt`."""
        self._guidance_scale, self._num_timesteps, self._interrupt = guidance_scale, num_timesteps, False

    @property
    def guidance_scale(self) -> float:
        """Of the call that runs, or ran last; 1 before the first."""
        return getattr(self, "_guidance_scale", 1.0)

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether that call is guided."""
        return self.guidance_scale != 1

    @property
    def num_timesteps(self) -> int:
        """Steps of that call, or scales."""
        return getattr(self, "_num_timesteps", 0)

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set `_interrupt`, so that the call stops after this step."""
        return getattr(self, "_interrupt", False)

    def sampling_options(self, settings: Mapping[str, Any]) -> Any:
        """The sampling options of a call: `settings` over the defaults of the model's family.

        Raises:
            InputError: an option that this pipeline does not have, or one that its scheduler decides.
        """
        if settings.get("examples") is not None:
            raise InputError(
                f"a {type(self.transformer).__name__} reads no image beside the one it draws, so no examples."
            )
        options = make_options(self.options_class, settings, sampling_defaults(self.transformer))
        if self.scheduler is None:
            return options
        for name in ("solver", "solver_options", "times", "time_grid"):
            if settings.get(name) is not None:
                raise InputError(f"{name} and pipe.scheduler cannot be combined; set pipe.scheduler = None first.")
        return replace(options, solver=type(self.scheduler).__name__)

    def guide_of(self, options: SamplingOptions) -> Any:
        """The model that `guidance_model` names, where this pipeline's is, loaded once; None without a name."""
        name = options.guidance_model
        if name is None:
            return None
        from flowgression.sampling.loading import load_pipeline

        guides: dict[str, Any] = self.__dict__.setdefault("_guides", {})
        if name not in guides:
            guides[name] = load_pipeline(name, dtype=self.transformer.dtype).transformer.eval()
        return guides[name].to(self._execution_device)

    def scheduler_solver(self, generators: Sequence[Generator]) -> Solver | None:
        """The solver that `scheduler` is, if there is one; InputError for a scheduler that does not fit the model."""
        if self.scheduler is None:
            return None
        from flowgression.sampling.schedulers import as_solver

        return as_solver(self.scheduler, path_of(self.transformer), generators)

    def check_output_type(self, output_type: str) -> None:
        """Refuse an unknown output type, or pixels where only latents can be had, before any sampling is done."""
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"unknown output_type {output_type!r}: {did_you_mean(output_type, OUTPUT_TYPES)}")
        channels = self.transformer.config.in_channels
        if output_type == "pil" and self.vae is None and channels not in (1, 3):
            raise InputError(
                f"a latent of {channels} channels is no picture and this pipeline has no autoencoder; "
                'load one with vae=..., or ask for output_type="latent"'
            )

    def to_output(self, latents: Tensor, output_type: str, change: Callable[[Tensor], Tensor] | None = None) -> Any:
        """Decode sampled latents [B,C,H,W] and turn them into the asked type (see `SampledImages.images`).

        change: what else is done to pixels [B,P,H,W] in [0, 1].

        Raises:
            FloatingPointError: a value is not finite.
        """
        if not torch.isfinite(latents).all():
            raise FloatingPointError(
                f"sampling in {self.transformer.dtype} gave values that are not finite; try float32 or a smaller "
                "guidance_scale"
            )
        if output_type == "latent":
            return latents
        pixels = (self._decode(latents).float() / 2 + 0.5).clamp(0, 1)
        pixels = pixels if change is None else change(pixels)
        if output_type == "pt":
            return pixels
        array = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return array if output_type == "np" else self.numpy_to_pil(array)

    def _decode(self, latents: Tensor) -> Tensor:
        return as_autoencoder(self.vae).decode(latents)

    @classmethod
    def _check_folder(cls, folder: Path, passed_components: dict[str, Any]) -> None:
        index = read_index(folder)
        found = index.get("_class_name")
        if found != cls.__name__:
            raise InputError(
                f"{folder} holds a {found}, not a {cls.__name__}; flowgression.load_pipeline picks the class itself."
            )
        check_index(index, folder)
        for name in ("vae", "scheduler"):
            if (index.get(name) or [None])[0] is not None and name not in passed_components:
                file = folder / name / COMPONENT_CONFIGS[name]
                check_component_config(read_json(file), file)
        if "transformer" not in passed_components:
            pickled = passed_components.get("use_safetensors") is False
            check_model_folder(folder / "transformer", cls._model_class(folder), pickled=pickled)

    @classmethod
    def _model_class(cls, folder: Path) -> Any:
        """The class of the model in a pipeline's folder: `transformer_class`, or a family's that is built on it."""
        found = read_json(folder / "transformer" / CONFIG_NAME).get("_class_name")
        family = family_of_class(str(found))
        if family is None or not issubclass(family.model_class, cls.transformer_class):
            raise InputError(f"{folder / 'transformer'} holds a {found}, not a {cls.transformer_class.__name__}.")
        return family.model_class


def check_latent_space(vae: Any, expected: dict[str, float] | None) -> dict[str, float] | None:
    """The scale and shift of the latents; those of `vae` where none are `expected`.

    Raises:
        InputError: `vae` has others.
    """
    if vae is None:
        return expected
    autoencoder = as_autoencoder(vae)
    found = {name: getattr(autoencoder, name) for name in ("scaling_factor", "shift_factor")}
    for name, value in (expected or {}).items():
        if found.get(name) != value:
            raise InputError(
                f"the model was trained on latents with {name}={value:g}, but the autoencoder has {found.get(name)!r}; "
                "pass the autoencoder the model was trained with"
            )
    return found


def check_model_folder(folder: Path, model_class: Any, *, pickled: bool = False) -> None:
    """Refuse a model's folder whose weights are damaged or do not fit its config.json; loads no weights.

    Raises:
        InputError: naming the file, or the first tensor that does not fit.
    """
    config = read_json(folder / "config.json")
    check_component_config(config, folder / "config.json")
    check_model_arguments(model_class, config, f"{folder / 'config.json'}: ")
    config_of = f"{folder / 'config.json'}, of a {model_class.__name__},"
    with reading(config_of, "copy or save the model again"), torch.device("meta"):
        expected = model_class.from_config(config).state_dict()
    check_weights(folder, {name: tuple(value.shape) for name, value in expected.items()}, pickled=pickled)


def _move_files(source: Path, target: Path) -> None:
    """Move every file of `source` to the same place in `target`, those at the top (the index) last."""
    files = [file for file in source.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.parent == source, file)):
        goal = target / file.relative_to(source)
        goal.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, goal)
