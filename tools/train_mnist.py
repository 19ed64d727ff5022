"""Train the extractor `mnist`: python tools/train_mnist.py --out FOLDER.

One thread and seeded draws: on one machine the weights come out the same bit for bit.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save
from torch import Tensor

from flowgression.data.mnist import load_mnist
from flowgression.documents import read_yaml
from flowgression.errors import InputError
from flowgression.evaluation.features.mnist import SIZE, DigitClassifier, resize
from flowgression.files import atomic_write

CONFIG = "features-mnist.yaml"


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How the classifier is trained.

    Attributes:
        epochs: passes over the 60,000 training digits.
        batch_size: images in one step.
        lr: largest learning rate of the one-cycle schedule.
        weight_decay: of AdamW.
        shift: digits are moved by up to so many pixels, alike within a batch.
        smallest: every other batch is shrunk to a random size from this to 28 and enlarged again, so that digits of
            small models are read as well.
        seed: decides everything random.
    """

    epochs: int = 5
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.01
    shift: int = 2
    smallest: int = 14
    seed: int = 0


def train(config: ClassifierConfig) -> DigitClassifier:
    """Train on the training split; prints the loss and both test accuracies after each epoch."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    model = DigitClassifier()
    images, labels = load_split("train")
    steps = len(images) // config.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.epochs * steps)
    for epoch in range(config.epochs):
        start = time.process_time()
        model.train()
        order = torch.randperm(len(images), generator=random)
        for step in range(steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            loss = F.cross_entropy(model.read(varied(images[chosen], config, random))[1], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds = time.process_time() - start
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, {describe(accuracies(model))}, {seconds:.0f} s", flush=True)
    return normalised(model)


@torch.inference_mode()
def normalised(model: DigitClassifier) -> DigitClassifier:
    """The same classifier with features whose mean square over the training digits is 1, a fit scale for KID."""
    model.eval()
    features = torch.cat([model(part)[0] for part in load_split("train")[0].split(500)])
    scale = features.double().square().mean().sqrt().float()
    last, head = model.trunk[-1], model.head[-1]
    assert isinstance(last, torch.nn.Linear)
    assert isinstance(head, torch.nn.Linear)
    for parameter in (last.weight, last.bias):
        parameter.div_(scale)
    head.weight.mul_(scale)  # the ReLU between both is homogeneous, so the logits stay
    return model


def varied(images: Tensor, config: ClassifierConfig, random: torch.Generator) -> Tensor:
    """The batch uint8 [B,1,28,28], shifted and perhaps coarsened, as float32 in [-1, 1]."""
    down, right = torch.randint(-config.shift, config.shift + 1, (2,), generator=random).tolist()
    pixels = images.float().roll((down, right), (2, 3))  # the border of the digits is empty
    if torch.rand((), generator=random) < 0.5:
        small = int(torch.randint(config.smallest, SIZE + 1, (), generator=random))
        pixels = resize(resize(pixels, small).clamp(0, 255), SIZE)
    return pixels.div(127.5).sub(1.0)


@torch.inference_mode()
def accuracies(model: DigitClassifier) -> dict[str, float]:
    """Share of the test digits that are named rightly, as they are and after shrinking to 16 x 16."""
    model.eval()
    images, labels = load_split("test")
    small = resize(images.float(), 16).clamp(0, 255).round().byte()
    return {
        name: torch.cat([model(part)[1].argmax(1) for part in digits.split(500)]).eq(labels).double().mean().item()
        for name, digits in (("28 x 28", images), ("16 x 16", small))
    }


def describe(found: dict[str, float]) -> str:
    """{"28 x 28": 0.99} -> "test accuracy 99.00 % (28 x 28)"."""
    return "test accuracy " + ", ".join(f"{value:.2%} ({name})" for name, value in found.items())


def load_split(name: str) -> tuple[Tensor, Tensor]:
    """Digits of a split: uint8 [N,1,28,28] and labels int64 [N]."""
    images, labels = load_mnist(name)
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels)


def main() -> None:
    """Read the configuration, train, and write model.safetensors and config.json into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    shipped = Path(__file__).parents[1] / "configs" / CONFIG
    parser.add_argument("--config", type=Path, default=shipped, help=f"YAML file (the shipped {CONFIG})")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and config.json")
    args = parser.parse_args()
    try:
        config = ClassifierConfig(**read_yaml(args.config))
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{args.config}: {error}") from error
    model = train(config)
    with atomic_write(args.out / "model.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    facts = {"classifier": "DigitClassifier", "trained": asdict(config), "test_accuracy": accuracies(model)}
    with atomic_write(args.out / "config.json", "w") as file:
        file.write(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
