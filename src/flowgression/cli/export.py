"""`flowgression export`: a model as ONNX graphs with a manifest, for other programs and for the page."""

from pathlib import Path

from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.text import say

SUMMARY = "write a model as ONNX or torch.export, with its state as inputs and outputs"

DESCRIPTION = """Write DIR/manifest.json and the graphs of a model beside it, each compared with PyTorch: ONNX, or
programs of torch.export. The state of ARFlow is an input and an output; FlowAR is a transformer over all scales and a
flow head for the tokens of one. A DIR of ONNX graphs can be dropped on the page of `make site`.

  flowgression export --model arflow-mnist --out exported"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("export", DESCRIPTION)
    parser.add_argument("--model", required=True, help="built-in name, folder, or owner/name on the hub")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the directory to write")
    parser.add_argument("--format", default="onnx", help="onnx or torch, for torch.export (onnx)")
    parser.add_num_threads()
    args = parser.parse(argv)
    check_folder(args.out.absolute().parent)  # where it is made, under another name until it is whole
    from flowgression.export import export_model

    manifest = export_model(args.model, args.out, file_format=args.format)
    size = sum((args.out / graph["file"]).stat().st_size for graph in manifest["graphs"].values())
    difference = manifest["check"]["max_difference"]
    names = ", ".join(manifest["graphs"])
    say(f"wrote {args.out}: {names}, {size / 2**20:.1f} MiB; PyTorch differs by {difference:.1g}")
    return 0
