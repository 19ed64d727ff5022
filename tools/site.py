"""`make site`: the page with the built-in models, as files for any static server.

    python tools/site.py [--out docs/_build/site]

Copies the page, exports the models and the digit classifier to ONNX, and adds ONNX Runtime's WebAssembly and
opentype.js, fetched by npm and checked against their pinned SHA-512. Models that were
exported before are kept unless --fresh is given.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from flowgression.cli.serve import BUILTIN
from flowgression.files import atomic_write

TOOLS = Path(__file__).parent
PAGE = TOOLS.parent / "src" / "flowgression" / "web" / "page"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class _Probabilities(nn.Module):
    """float32 [1,1,28,28] in [-1, 1] -> [1, 10]."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier.read(pixels)[1].softmax(-1)  # type: ignore[operator]


def export_classifier(path: Path) -> None:
    """The built-in digit classifier as ONNX: `pixels` float32 [1,1,28,28] -> `probabilities` [1,10]."""
    from flowgression.evaluation.features.registry import load_extractor
    from flowgression.export.graph import require

    require()
    program = torch.onnx.export(
        _Probabilities(load_extractor("mnist").network).eval(),
        (torch.zeros(1, 1, 28, 28),),
        dynamo=True,
        input_names=["pixels"],
        output_names=["probabilities"],
        external_data=False,
        verbose=False,
    )
    assert program is not None
    with atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())


def build(out: Path, fresh: bool = False) -> None:
    """Makes the site in `out`."""
    sys.path.insert(0, str(TOOLS))
    from npm import fetch

    shutil.copytree(PAGE, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    runtime = fetch("onnxruntime-web")
    (out / "vendor" / "ort").mkdir(parents=True, exist_ok=True)
    for name in RUNTIME:
        shutil.copyfile(runtime / "dist" / name, out / "vendor" / "ort" / name)
    (out / "vendor" / "opentype").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(
        fetch("opentype.js") / "dist" / "opentype.min.mjs", out / "vendor" / "opentype" / "opentype.min.mjs"
    )
    models = out / "models"
    models.mkdir(exist_ok=True)
    for name in BUILTIN:
        if fresh:
            shutil.rmtree(models / name, ignore_errors=True)
        if not (models / name / "manifest.json").is_file():
            command = [sys.executable, "-m", "flowgression", "export", "--model", name, "--out", str(models / name)]
            subprocess.run(command, check=True)
    if fresh or not (models / "classifier.onnx").is_file():
        export_classifier(models / "classifier.onnx")
    with atomic_write(models / "index.json") as file:
        file.write(json.dumps(BUILTIN).encode())
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 2**20:.1f} MiB; look at it with: {sys.executable} -m http.server --directory {out}")


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TOOLS.parent / "docs" / "_build" / "site")
    parser.add_argument("--fresh", action="store_true", help="export the models again")
    arguments = parser.parse_args()
    build(arguments.out, arguments.fresh)


if __name__ == "__main__":
    main()
