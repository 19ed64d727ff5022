"""Packages of npm that the site and its tests use, each pinned by version and SHA-512.

python tools/npm.py axe-core     # fetches it into docs/_build/npm, checks it and prints the folder
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "docs" / "_build" / "npm"


class Pinned(NamedTuple):
    """A version, and the SHA-512 of its archive as `npm pack` gives it."""

    version: str
    sha512: str


PINNED = {
    "onnxruntime-web": Pinned(
        "1.30.0",
        "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
        "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61",
    ),
    "opentype.js": Pinned(
        "2.0.0",
        "902ca3bfac5d0d8d56fe32d667f2f742185394a52a0d9310e7e25d970d766f77"
        "5790a369601aaa94c323d180d03d2856153330819235846d7890ddd75034a0fc",
    ),
    "axe-core": Pinned(
        "4.14.1",
        "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
        "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5",
    ),
}


def fetch(name: str, folder: Path = FOLDER) -> Path:
    """The unpacked package; fetched unless it is there.

    Raises:
        SystemExit: npm is missing or fails, or the archive is not the pinned one.
    """
    pinned = PINNED[name]
    target = folder / f"{name}-{pinned.version}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        try:
            subprocess.run(
                ["npm", "pack", "--silent", f"{name}@{pinned.version}"], cwd=temporary, check=True, stdout=sys.stderr
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"npm could not fetch {name}@{pinned.version}: {error}") from error
        (archive,) = Path(temporary).glob("*.tgz")
        found = hashlib.sha512(archive.read_bytes()).hexdigest()
        if found != pinned.sha512:
            raise SystemExit(f"{name}@{pinned.version} has SHA-512 {found}, expected {pinned.sha512}.")
        with tarfile.open(archive) as file:
            file.extractall(temporary, filter="data")
        (Path(temporary) / "package").rename(target)
    return target


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(fetch(each))
