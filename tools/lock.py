"""`make lock`: writes requirements-cpu.lock, exact versions and hashes of what the extra `all` installs on Linux.

torch itself is not in it, nor the CUDA packages that its usual build asks for: its build for CPUs comes from an index
of its own, as the Dockerfile says. Needs uv.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"
LEFT_OUT = re.compile(r"^(torch|triton|(nvidia|cuda)[\w-]*)==")
HEADER = f"# By `make lock`: what the extra `all` installs beside torch=={TORCH}+cpu, Linux x86-64, Python 3.11.\n"


def blocks(text: str) -> list[str]:
    """A requirement with its hashes and comments, each."""
    return re.split(r"(?m)^(?=[\w.-]+(?:\[[\w,]+\])?==)", text)[1:]


def lock() -> str:
    """The text of the file."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-emit-index-url", "--no-annotate"]
    command += [
        "--generate-hashes",
        "--extra",
        "all",
        "--python-version",
        "3.11",
        "--constraint",
        "-",
        "pyproject.toml",
    ]
    command += ["--python-platform", "x86_64-unknown-linux-gnu"]
    done = subprocess.run(command, input=f"torch=={TORCH}\n", capture_output=True, text=True, cwd=ROOT, check=True)
    return HEADER + "".join(block for block in blocks(done.stdout) if not LEFT_OUT.match(block))


if __name__ == "__main__":
    (ROOT / "requirements-cpu.lock").write_text(lock())
