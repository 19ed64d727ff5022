"""`make lock`: exact versions and hashes of what the extra `all` installs on Linux, in three files. Needs uv.

requirements-cpu.lock    everything but torch and what only its usual build asks for
requirements-torch.lock  torch, with the hashes of its usual build and of its build for CPUs
requirements-cuda.lock   what the usual build asks for: CUDA and Triton

The build for CPUs comes from an index of its own, as the Dockerfile says.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"
CPU_BUILD = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
"""SHA-256 of torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl."""
CUDA = re.compile(r"^(triton|(nvidia|cuda)[\w-]*)(\[[\w,]+\])?==")
HEADER = f"# By `make lock`: {{}}, for torch {TORCH}, Linux x86-64, Python 3.11.\n"


def blocks(text: str) -> list[str]:
    """A requirement with its hashes and comments, each."""
    return re.split(r"(?m)^(?=[\w.-]+(?:\[[\w,]+\])?==)", text)[1:]


def locks() -> dict[str, str]:
    """The texts of the files, by name."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-emit-index-url", "--no-annotate"]
    command += ["--generate-hashes", "--extra", "all", "--python-version", "3.11", "--constraint", "-"]
    command += ["--python-platform", "x86_64-unknown-linux-gnu", "pyproject.toml"]
    done = subprocess.run(command, input=f"torch=={TORCH}\n", capture_output=True, text=True, cwd=ROOT, check=True)
    parts: dict[str, list[str]] = {"cpu": [], "torch": [], "cuda": []}
    for block in blocks(done.stdout):
        parts["torch" if block.startswith("torch==") else "cuda" if CUDA.match(block) else "cpu"].append(block)
    parts["torch"][0] = parts["torch"][0].rstrip("\n") + f" \\\n    --hash=sha256:{CPU_BUILD}\n"
    titles = {
        "cpu": "what the extra `all` installs beside torch",
        "torch": "torch, its usual build and that for CPUs",
        "cuda": "what the usual build of torch asks for",
    }
    return {f"requirements-{name}.lock": HEADER.format(titles[name]) + "".join(parts[name]) for name in parts}


if __name__ == "__main__":
    for name, text in locks().items():
        (ROOT / name).write_text(text)
