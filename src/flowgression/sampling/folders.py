"""From a model's name to a checked folder on disk: built-in names first, then folders, then the Hugging Face hub.

A pipeline's folder is laid out as diffusers does it: model_index.json, and for each component a folder with
config.json and safetensors files. Everything wrong with it is found here, before any weight is loaded.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from flowgression import documents
from flowgression.errors import InputError, did_you_mean, refuse_pointer

INDEX_NAME = "model_index.json"
CONFIG_NAME = "config.json"
ADAPTER_NAME = "adapter.json"  # see lora.py
RUN_PIPELINE = "pipeline"  # where a training run puts its model
RUN_EMA, RUN_STATE = "ema", "trainer.json"  # of a checkpoint: the model to sample from, and what else it remembers
RUN_BEST = "best"  # the same with the lowest loss on held-out images, where some are
HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def builtin_models() -> dict[str, Path]:
    """The models that come inside the package: their names and folders."""
    root = Path(str(resources.files("flowgression"))) / "builtin"
    if not root.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / INDEX_NAME).is_file()}


def find_folder(name_or_path: str | Path, **hub_keywords: Any) -> Path:
    """The local folder of a built-in name, a folder, a training run's folder, or a hub model "owner/name".

    Of a run that is not finished it is that of the newest checkpoint's EMA weights, also while training goes on.

    What is on the hub is downloaded to the hub's cache.

    Args:
        hub_keywords: `cache_dir`, `force_download`, `local_files_only`, `revision`, `token` as in diffusers.

    Raises:
        InputError: nothing of that name exists, or the hub cannot be reached.
    """
    name = str(name_or_path)
    known = builtin_models()
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.is_dir():
        return path if (path / INDEX_NAME).is_file() else _model_of_run(path) or path
    if path.is_file():
        raise InputError(
            f"{name!r} is a file; expected a model's folder. Released weights become one by `flowgression convert`."
        )
    if name.count("/") == 1 and not name.startswith((".", "~", "/")) and not name.endswith("/"):
        return _download(name, hub_keywords)
    raise InputError(
        f"no model {name!r}: it is neither built in nor a folder here; {did_you_mean(name, known)} "
        "A model on the Hugging Face hub is named owner/name."
    )


def _model_of_run(run: Path) -> Path | None:
    """The pipeline of a training run, or the best EMA weights that its newest checkpoint holds, or the newest where no
    images are held out; None if `run` is no run's folder.
    """
    if (run / RUN_PIPELINE / INDEX_NAME).is_file():
        return run / RUN_PIPELINE
    finished = sorted(run.glob(f"checkpoints/step-*/{RUN_EMA}/{CONFIG_NAME}"))
    if not finished:
        return None
    best = finished[-1].parent.with_name(RUN_BEST)
    return best if (best / CONFIG_NAME).is_file() else finished[-1].parent


def weights_of_run(run: Path) -> str | None:
    """Which weights of a training run its model has, in words; None for another folder, or where it is plain."""
    states = sorted(run.glob(f"checkpoints/step-*/{RUN_STATE}"))
    if not states:
        return None
    state = read_json(states[-1])
    if best := state.get("best"):
        loss = f"{best['held_out_loss']:.4f}"
        return f"EMA weights of step {best['step']}, whose loss on held-out images is the lowest ({loss})"
    if (run / RUN_PIPELINE).is_dir():
        return None
    return f"EMA weights of step {state['step']}, the newest of a run that is not finished"


def checkpoint_classes(folder: Path) -> Any:
    """The names of the classes of a checkpoint's model `folder`, as the run wrote them; None if it is in none."""
    state = folder.parent / RUN_STATE
    return read_json(state).get("data", {}).get("class_names") if state.is_file() else None


def is_adapter(folder: Path) -> bool:
    """Whether an adapter (LoRA) is saved there."""
    return (folder / ADAPTER_NAME).is_file()


def read_index(folder: Path) -> dict[str, Any]:
    """The content of a pipeline folder's model_index.json.

    Raises:
        InputError: the folder has none (the message says what is there instead), or it is damaged.
    """
    if (folder / INDEX_NAME).is_file():
        return read_json(folder / INDEX_NAME)
    if (folder / CONFIG_NAME).is_file():
        kind = read_json(folder / CONFIG_NAME).get("_class_name", "component")
        fix = f"it is the folder of a single {kind}; a pipeline's folder is one level up."
    else:
        inside = [file.parent for name in (INDEX_NAME, CONFIG_NAME) for file in sorted(folder.glob(f"*/{name}"))]
        fix = f"did you mean {inside[0]}?" if inside else "give a folder written by save_pretrained or by training."
    raise InputError(f"{folder} holds no {INDEX_NAME}: {fix}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; InputError if it is damaged."""
    try:
        content = documents.read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; copy or save the model again.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); copy or save the model again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors in a component's safetensors files; reads their headers only.

    Raises:
        InputError: there are none, a shard is missing, or a file is truncated.
    """
    files = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        places = read_json(index).get("weight_map", {})
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise InputError(f"{index}: weight_map must say the file of each tensor; copy the model again")
        needed = set(places.values())
        if missing := sorted(needed - {file.name for file in files}):
            raise InputError(f"{folder} lacks {missing[0]}, which {index.name} names; copy the model again")
    if not files:
        raise InputError(f"{folder} holds no .safetensors file; copy or save the model again")
    return {name: shape for file in files for name, shape in tensor_shapes(file).items()}


def pickled_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """As `weight_shapes`, of the .bin files that `save_pretrained(safe_serialization=False)` writes; runs nothing."""
    from flowgression.checkpoints import read_checkpoint

    files = sorted(folder.glob("*.bin"))
    if not files:
        raise InputError(f"{folder} holds no .bin file; leave use_safetensors=False out")
    return {name: tuple(value.shape) for file in files for name, value in read_checkpoint(file).items()}


def check_weights(folder: Path, expected: Mapping[str, tuple[int, ...]], *, pickled: bool = False) -> None:
    """Refuse weights whose names or shapes are not those the configuration beside them asks for.

    Raises:
        InputError: naming the first tensor that is missing, unknown or of another shape.
    """
    found = pickled_shapes(folder) if pickled else weight_shapes(folder)
    for name, shape in expected.items():
        if name not in found:
            raise InputError(f"{folder}: the weights lack {name!r}; they belong to another model than config.json")
        if tuple(found[name]) != tuple(shape):
            raise InputError(
                f"{folder}: {name!r} has shape {tuple(found[name])}, but config.json asks for {tuple(shape)}"
            )
    if unknown := sorted(set(found) - set(expected)):
        raise InputError(f"{folder}: the weights hold {unknown[0]!r}, which the model of config.json does not have")


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in one safetensors file; InputError if it is truncated or something else."""
    from safetensors import SafetensorError, safe_open

    refuse_pointer(documents.check_regular(file))
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{file} ({file.stat().st_size:,} bytes) is truncated or no safetensors file ({error}); copy it again"
        ) from error


def _download(name: str, hub_keywords: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    # diffusers' own download refuses components that are defined outside of diffusers, so the files are fetched here.
    patterns = ["*.json", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **hub_keywords))
    except (OSError, HFValidationError) as error:  # the hub's network and not-found errors are OSErrors
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"no model {name!r}: no such folder here, and the Hugging Face hub gave none ({reason}); "
            f"{did_you_mean(name, builtin_models())}"
        ) from error
