"""`flowgression lowrank`: a trained FlowAR with its attention replaced by one of low rank, ready for fine-tuning."""

from pathlib import Path
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.text import say

SUMMARY = "turn a trained FlowAR into a FastFlowAR"

DESCRIPTION = """Replace the attention of a trained FlowAR model by polynomial attention of low rank. The weights are
kept; the factor tau of each head and the centre of its keys are measured on images. The result differs from the trained
model, the more so where tau is cut at its bound: fine-tune it before use.

  flowgression lowrank --model flowar-mnist --out runs/converted
  flowgression train --config fastflowar-mnist-finetune --model.pretrained runs/converted"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("lowrank", DESCRIPTION)
    parser.add_argument("--model", required=True, help="a FlowAR: built-in name, folder, or owner/name on the hub")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--degree", type=int, default=2, help="of the polynomial, even (default: %(default)s)")
    parser.add_argument("--max-tau", type=float, default=2.0, help="bound on the logits (default: %(default)g)")
    parser.add_argument("--data", help="mnist, images, latents or hf:NAME, or random (default: mnist where it fits)")
    parser.add_argument("--split", default="train", help="part of the data (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=128, help="images read (default: %(default)s)")
    parser.add_seed("of images, times and noise")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_num_threads()
    args = parser.parse(argv)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}; expected one or more")
    from flowgression.layers.lowrank_attention import LowRank

    LowRank(args.degree, args.max_tau)  # refuses what is out of range, before anything is loaded
    from flowgression.cli._outputs import check_folder
    from flowgression.cli._scales import default_data, image_batches, load_model
    from flowgression.models import to_lowrank
    from flowgression.sampling.loading import make_pipeline as make_any

    make_pipeline: Any = make_any  # FlowAR is a ModelMixin, whose types diffusers keeps to itself
    check_folder(args.out)
    model, pipeline = load_model(args.model, args.device)
    data = args.data or default_data(model)
    batches = image_batches(pipeline, data, args.split, args.num_images, args.seed)
    fast, measured = to_lowrank(model, batches, degree=args.degree, max_tau=args.max_tau, seed=args.seed)
    id2label, space = pipeline.config.get("id2label"), pipeline.config.get("latent_space")
    make_pipeline(fast, vae=pipeline.vae, id2label=id2label, latent_space=space).save_pretrained(args.out)
    _show(measured, f"{args.model}, measured on {data}")
    say(f"written: {args.out}; it needs fine-tuning, see flowgression lowrank --help")
    return 0


def _show(measured: dict[str, Any], title: str) -> None:
    from rich.table import Table

    from flowgression.terminal import Terminal

    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    table.add_column("tau of the heads, smallest to largest", justify="right")
    table.add_column("cut at the bound", justify="right")
    for name, each in measured.items():
        cut = int((each.tau > 1.001 * each.used).sum())
        table.add_row(name, f"{each.tau.min():.3g} to {each.tau.max():.3g}", f"{cut} of {len(each.tau)} heads")
    Terminal().print(table)
