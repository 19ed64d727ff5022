"""What a pipeline's folder may name: a closed list, and no programs.

A pipeline's index says which class of which module each component is, and diffusers imports that module: some versions
import any, and some run a Python file that lies in the folder under the module's name. So the index is checked here, on
every version, before diffusers sees the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgression.errors import InputError
from flowgression.registry import family_of_class

AUTOENCODERS = ("AutoencoderKL",)
SCHEDULERS = (
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
LIBRARY = "diffusers"
OURS = "flowgression."
COMPONENT_CONFIGS = {"vae": "config.json", "scheduler": "scheduler_config.json"}
VALUES = ("id2label", "latent_space")  # what an index holds besides components
CODE_KEYS = ("quantization_config", "auto_map")  # of a component's configuration: they choose code


def check_index(index: Mapping[str, Any], folder: Path) -> None:
    """Refuse an index that names anything but the classes that pipelines here are made of, or programs beside it.

    Raises:
        InputError: naming the entry or the file.
    """
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if name in VALUES:
            if not isinstance(value, dict | None):
                raise InputError(f"{folder}: {name} is a {type(value).__name__}; expected names and values, or null")
        elif not _allowed(name, value):
            raise InputError(
                f"{folder} names {value!r} as its {name}; a pipeline's transformer is a model of this library, its vae "
                f"{' or '.join(AUTOENCODERS)} of {LIBRARY}, its scheduler one of {', '.join(SCHEDULERS)} or null"
            )
    programs = sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])
    if programs:
        raise InputError(
            f"{folder} holds a program, {programs[0].relative_to(folder)}, which some versions of {LIBRARY} would run; "
            "if you trust the model, move that file elsewhere"
        )


def check_component_config(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a component's configuration that is of no class, or that chooses code."""
    if not isinstance(config.get("_class_name"), str | None):
        raise InputError(f"{file}: _class_name is {config['_class_name']!r}; expected the name of a class")
    for name in CODE_KEYS:
        if config.get(name) is not None:
            raise InputError(f"{file} holds {name}, which chooses code; this library loads plain weights only")


def _allowed(name: str, value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    if name in ("vae", "scheduler") and tuple(value) == (None, None):
        return True
    library, class_name = value
    if not isinstance(library, str) or not isinstance(class_name, str):
        return False
    if name == "transformer":
        family = family_of_class(class_name)
        return family is not None and (library.startswith(OURS) or library == family.model.partition(":")[0])
    known = {"vae": AUTOENCODERS, "scheduler": SCHEDULERS}.get(name, ())
    return library == LIBRARY and class_name in known
