"""`flowgression models`: what there is: sizes, recorded FIDs, licences, and a command for each model."""

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.registry import find_family

SUMMARY = "list the models and autoencoders that there are, and how to get them"

DESCRIPTION = """List the models and autoencoders that come with this package, and the models whose authors publish
weights on the Hugging Face hub. FIDs of built-in models were measured here (docs/log/digits.md) and compare with each
other alone; those of released models are what the papers report, with guidance, on ImageNet, and were not measured
here."""

NOTES = """PSNR of an autoencoder: of crops of photographs that it never saw, 128 x 128 (docs/your-pictures.md).
FID of built-in models: 1,000 samples, 8 Euler steps (of FlowAR at each scale), the best of guidance 1.25,
1.5 and 2, against the 10,000 test digits in the features of the built-in classifier: compare them with each other
only (docs/log/digits.md).
FID of released models: what the papers report, with guidance; not measured here. Licences of released weights are as
their model cards state them; "see the hub": none was known to us. Which files are there, the hub says; none was at
hand to try.
sit-mnist-meanflow draws in one or two calls, without guidance: its FIDs are in docs/training.md.
Emoji are Noto Color Emoji's (SIL Open Font License 1.1).
Digits are MNIST's, whose licence is in src/flowgression/data/files/README.md."""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("models", DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse(argv)
    if args.json:
        found = {"built_in": built_in(), "autoencoders": autoencoders(), "released": released()}
        print(json.dumps({name: list(rows) for name, rows in found.items()}, indent=2))
        return 0
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    table = Table(title="built in", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "family", "parameters", "FID", "licence"):
        table.add_column(column, justify="right" if column in ("parameters", "FID") else "left", no_wrap=True)
    for row in built_in():
        table.add_row(row["name"], row["title"], f"{row['parameters']:,}", _figure(row["fid"]), row["licence"])
    console.print(table)
    print("  flowgression sample --model NAME --out samples.png\n")
    table = Table(title="built-in autoencoders", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "parameters", "PSNR", "licence", "a latent of 3 x 128 x 128"):
        table.add_column(column, justify="right" if column in ("parameters", "PSNR") else "left", no_wrap=True)
    for row in autoencoders():
        side = 128 // row["downsampling"]
        latent, size = f"{row['latent_channels']} x {side} x {side}", f"{row['parameters']:,}"
        table.add_row(row["name"], size, f"{row['psnr']:.1f} dB", row["licence"], latent)
    console.print(table)
    print("  flowgression train --data.path DIR --autoencoder NAME --minutes 30\n")
    table = Table(title="released by the authors", title_justify="left", box=None, pad_edge=False)
    for column in ("name", "parameters", "FID", "licence", "on the hub"):
        table.add_column(column, justify="right" if column in ("parameters", "FID") else "left", no_wrap=True)
    for row in released():
        licence = row["licence"] or "see the hub"
        size = f"{row['parameters'] / 1e6:,.0f} M"
        table.add_row(row["name"], size, f"{row['fid']:.2f}", licence, row["hub"])
    console.print(table)
    families = "|".join(dict.fromkeys(row["family"] for row in released()))
    print(f"  hf download OWNER/NAME --local-dir weights\n"
          f"  flowgression convert weights/FILE --family {families} --out DIR\n\n{NOTES}")  # fmt: skip
    return 0


def built_in() -> Iterator[dict[str, Any]]:
    """The models inside the package: what is recorded of each, and a command."""
    for row in _recorded()["built_in"]:
        family = find_family(row["family"])
        command = f"flowgression sample --model {row['name']} --out samples.png"
        yield {**row, "title": family.title, "paper": family.paper, "command": command}


def autoencoders() -> Iterator[dict[str, Any]]:
    """The autoencoders inside the package: what is recorded of each, and a command."""
    for row in _recorded()["autoencoders"]:
        yield {**row, "command": f"flowgression train --data.path DIR --autoencoder {row['name']} --minutes 30"}


def released() -> Iterator[dict[str, Any]]:
    """The models whose authors publish weights: what is recorded of each, where that is stated, and two commands."""
    for row in _recorded()["released"]:
        family = find_family(row["family"])
        download = f"hf download {row['hub']} --local-dir weights"
        convert = f"flowgression convert weights/FILE --family {row['family']} --out DIR"
        yield {**row, "title": family.title, "paper": family.paper, "download": download, "command": convert}


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _recorded() -> dict[str, list[dict[str, Any]]]:
    file = resources.files("flowgression") / "builtin" / "models.json"
    return json.loads(file.read_text(encoding="utf-8"))
