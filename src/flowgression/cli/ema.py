"""`flowgression ema`: an average of a run's weights of any length, made after training."""

from pathlib import Path

from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError
from flowgression.text import say

SUMMARY = "average a run's weights over another length of training (post-hoc EMA)"

DESCRIPTION = """Write the model of a run, with weights averaged over another length of its training than those it was
sampled with. The run kept snapshots: train with --ema.snapshot_every N. The length is the standard deviation of the
average in time over all of it (arXiv 2312.02696): the longer, the smoother and the older the weights; 0.288 is the
plain mean of all steps. Try a few and compare them with `flowgression evaluate`.

  flowgression ema --run runs/digits --length 0.07 --out digits-07"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("ema", DESCRIPTION)
    parser.add_argument("--run", required=True, type=Path, metavar="DIR", help="the folder of the run")
    parser.add_argument("--length", required=True, type=float, metavar="S", help="above 0, at most 0.288")
    parser.add_argument("--step", type=int, metavar="N", help="average over the first N steps, of a snapshot (all)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the model to write")
    args = parser.parse(argv)
    check_folder(args.out.absolute().parent)
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise InputError(f"{args.out} is there already; give a new folder.")
    from flowgression.sampling.loading import load_pipeline
    from flowgression.training.post_hoc_ema import reconstruct
    from flowgression.training.run_folder import RunFolder

    weights = reconstruct(RunFolder(args.run).snapshots, args.length, args.step)
    pipe = load_pipeline(str(args.run))
    own = dict(pipe.transformer.named_parameters())
    wrong = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise InputError(f"the snapshots of {args.run} are of another model than its weights: {wrong[0]}.")
    pipe.transformer.load_state_dict(pipe.transformer.state_dict() | weights)
    pipe.save_pretrained(args.out)
    say(f"written: {args.out}, averaged over a length of {args.length:g}")
    return 0
