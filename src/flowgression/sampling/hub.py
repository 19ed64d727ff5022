"""Model cards, and model folders on the Hugging Face hub."""

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from flowgression.errors import InputError
from flowgression.files import atomic_write
from flowgression.registry import family_of
from flowgression.text import markdown

CARD = "README.md"
AUTOENCODER_PAPER = "High-Resolution Image Synthesis with Latent Diffusion Models, arXiv:2112.10752"


def pipeline_card(pipe: Any, title: str, *, origin: str | None = None, license: str | None = None) -> str:
    """The model card of a pipeline: metadata in YAML, then what the model is and how it is used, in Markdown.

    Args:
        title: heading, and the name in the example of use.
        origin: where the weights come from, a sentence.
        license: identifier of the weights' licence, such as "mit"; left out of the metadata if it is not known.
    """
    model, kind = pipe.transformer, type(pipe.transformer).__name__
    config = model.config
    space = pipe.config.get("latent_space")
    facts = {
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "generates": f"{config.in_channels} channels of size {config.sample_size}"
        + (" (latents)" if space or pipe.vae is not None else " (pixels)"),
        "classes": f"{config.num_classes}" + (" with names" if pipe.labels else ""),
        "autoencoder": "included" if pipe.vae is not None else "none included",
    }
    if space:
        facts["latents are"] = f"(z - {space['shift_factor']:g}) * {space['scaling_factor']:g}"
    use = f"""```python
from flowgression import load_pipeline

pipe = load_pipeline({json.dumps(title)})
images = pipe(class_labels=[0, 1]{"" if pipe.vae is not None or not space else ', output_type="latent"'}).images
```"""
    family = family_of(model)
    tags = ["flow-matching", "class-conditional", family.name]
    return _card(kind, title, facts, use, origin, license, tags, family.paper)


def autoencoder_card(vae: Any, title: str, *, origin: str | None = None, license: str | None = None) -> str:
    """The model card of an AutoencoderKL; arguments as in `pipeline_card`."""
    config = vae.config
    facts = {
        "parameters": f"{sum(parameter.numel() for parameter in vae.parameters()):,}",
        "latent channels": str(config.latent_channels),
        "sides of latents": f"1/{2 ** (len(config.block_out_channels) - 1)} of the image's",
        "scaling_factor": f"{config.scaling_factor:g}",
    }
    use = f"""```python
from diffusers import AutoencoderKL

vae = AutoencoderKL.from_pretrained({json.dumps(title)})
```"""
    tags, paper = ["autoencoder"], AUTOENCODER_PAPER
    return _card("AutoencoderKL", title, facts, use, origin, license, tags, paper, library="diffusers")


def save_card(text: str, folder: str | os.PathLike) -> None:
    """Write a model card into a model's folder."""
    with atomic_write(Path(folder) / CARD, "w") as file:
        file.write(text)


def check_upload(repository: str) -> None:
    """See that an upload to `repository` can work, before anything long is done.

    Raises:
        InputError: the name is not owner/name, or nobody is logged in.
    """
    try:
        validate_repo_id(repository)
        named = repository.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise InputError(f"{repository!r} is no name on the Hugging Face hub; expected owner/name")
    try:
        HfApi().whoami()
    except (OSError, LocalTokenNotFoundError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"cannot upload to {repository}: not logged in to the hub ({reason}); run `hf auth login`"
        ) from error


def push_to_hub(folder: str | os.PathLike, repository: str, *, private: bool = False) -> str:
    """Upload a model's folder, making the repository if there is none.

    Args:
        folder: as `save_pretrained` wrote it.
        repository: "owner/name".
        private: whether a new repository is.

    Returns:
        The address of the upload.

    Raises:
        InputError: the hub refuses it or cannot be reached.
    """
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Upload model"))
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the upload to {repository} failed ({reason}); {folder} is whole, try again") from error


def _card(
    kind: str,
    title: str,
    facts: dict[str, str],
    use: str,
    origin: str | None,
    license: str | None,
    tags: list[str],
    paper: str,
    library: str = "flowgression",
) -> str:
    metadata = ModelCardData(library_name=library, tags=["image-generation", *tags], license=license)
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {markdown(title)}",
        f"| | |\n|---|---|\n| model | {kind} |\n{rows}",
        use,
    ]
    if origin is not None:
        parts.append(origin)
    return "\n\n".join([*parts, f"Paper: {paper}"]) + "\n"
