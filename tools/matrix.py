"""Run the default tests under many settings: processors, threads, versions of Python, lowest and newest libraries.

    python tools/matrix.py                     everything; an hour or two
    python tools/matrix.py --list              what there is
    python tools/matrix.py --only lowest 'OMP_*'    some of it (names, or patterns as of a shell)

One line for each setting is printed as it ends and takes the place of its earlier line in docs/log/testing.md.
Logs and the environments of other versions lie in .matrix/ (5 to 8 GB each; --keep leaves them there). A setting that
fails does not end the run; the exit status is 1 then.
"""

import argparse
import datetime
import fnmatch
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".matrix"
TABLE = ROOT / "docs" / "log" / "testing.md"
HEADER = "| Setting | Passed | Failed | Skipped | Time | Versions | Hardware | Date |"
SHOWN = ("torch", "numpy", "diffusers")  # versions in a line
CONTROLLED = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
INSTALL_LIMIT, TEST_LIMIT = 3600, 7200  # seconds


@dataclass(frozen=True)
class Setting:
    """A row of the table: variables of the environment, or another version of Python or of the libraries."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    python: str | None = None  # "3.12"; None: the interpreter that runs this file, with what is installed there
    resolution: str = "highest"


def settings() -> list[Setting]:
    """All rows, in their order."""
    variables = [
        ("ATEN_CPU_CAPABILITY", ("default", "avx2")),
        ("MKL_CBWR", ("COMPATIBLE", "AVX2")),
        ("ONEDNN_MAX_CPU_ISA", ("AVX2",)),
        ("OMP_NUM_THREADS", ("1", "2", "3")),
    ]
    rows = [Setting("as installed")]
    rows += [Setting(f"{name}={value}", {name: value}) for name, values in variables for value in values]
    rows += [Setting("lowest versions", python="3.11", resolution="lowest-direct")]
    rows += [Setting(f"Python {version}, newest versions", python=version) for version in ("3.11", "3.12", "3.13")]
    return rows


def find_python(version: str) -> str | None:
    """An interpreter of this version: on the path, or among those of pyenv."""
    candidates = [shutil.which(f"python{version}"), sys.executable]
    if pyenv := shutil.which("pyenv"):
        root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip())
        candidates += [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):  # a shim of pyenv may lie on the path and fail
        found = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return candidate
    return None


def prepare(setting: Setting, log: Path) -> str:
    """The interpreter of a setting, with the library installed in an environment of its own if it needs one.

    Raises:
        LookupError: no such Python here.
        subprocess.CalledProcessError, subprocess.TimeoutExpired: the installation failed; the log says why.
    """
    if setting.python is None:
        return sys.executable
    base = find_python(setting.python)
    if base is None:
        raise LookupError(f"Python {setting.python} is not installed here")
    venv = environment_of(setting)
    with log.open("w") as file:
        for command in (
            [sys.executable, "-m", "uv", "venv", "--clear", "--python", base, str(venv)],
            [sys.executable, "-m", "uv", "pip", "install", "--python", str(venv / "bin" / "python"),
             "--resolution", setting.resolution, "-e", f"{ROOT}[dev]"],
        ):  # fmt: skip
            subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT, check=True)
    return str(venv / "bin" / "python")


def environment_of(setting: Setting) -> Path:
    """Where the libraries of a setting are installed."""
    return WORK / re.sub(r"[^\w.]+", "-", setting.name)


def run_tests(python: str, setting: Setting, log: Path, workers: int, say: Callable[[str], None]) -> str:
    """Run the default tests. Returns pytest's last line, such as "3 failed, 1961 passed in 90.12s"."""
    clean = {name: value for name, value in os.environ.items() if name not in CONTROLLED}
    # Scripts of the environment, such as torchrun, come first on the path.
    path = os.pathsep.join([str(Path(python).parent), clean.get("PATH", "")])
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", "-m", "not slow and not gpu"]
    command += ["-n", str(workers)]
    last = ""
    with (
        log.open("a") as file,
        subprocess.Popen(
            command, cwd=ROOT, env={**clean, "PATH": path, **setting.environment}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ) as process,
    ):  # fmt: skip
        begin = time.monotonic()
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            last = line.strip() or last
            if percent := re.search(r"\[ *(\d+%)\]$", line.strip()):
                say(percent[1])
            if time.monotonic() - begin > TEST_LIMIT:
                process.kill()
                return f"stopped after {TEST_LIMIT} s"
    return last.strip("= ")


def row(setting: Setting, python: str | None, summary: str, seconds: float) -> str:
    """The line of the table. `summary` is pytest's last line, or says why there were no tests."""
    count = {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|error|skipped)", summary)}
    if count:
        failed = count.get("failed", 0) + count.get("error", 0)
        results = f"{count.get('passed', 0):,} | {failed} | {count.get('skipped', 0)} | {seconds:.0f} s"
    else:
        results = f"none: {summary.replace('|', '/')} | | | "
    versions = versions_of(python) if python else ""
    return f"| {setting.name} | {results} | {versions} | {hardware()} | {datetime.datetime.now(datetime.UTC).date()} |"


def versions_of(python: str) -> str:
    """Versions of an interpreter and its libraries, such as "Python 3.11.7, torch 2.6.0"."""
    code = (
        "import sys, importlib.metadata as m; print('Python %d.%d.%d' % sys.version_info[:3], "
        f"*(f'{{name}} {{m.version(name)}}' for name in {SHOWN!r}), sep=', ')"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def hardware() -> str:
    """The processor: its name, the number of cores, and the widest vectors."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    widest = next((flag for flag in ("avx512f", "avx2") if flag in text.split()), platform.machine())
    return f"{os.cpu_count()} x {name[1] if name else platform.processor() or platform.machine()}, {widest}"


def write_row(line: str) -> None:
    """Put a line into the table, in place of the line of the same setting, else at its end."""
    lines = TABLE.read_text().splitlines()
    begin = lines.index(HEADER) + 2
    end = next((number for number in range(begin, len(lines)) if not lines[number].startswith("|")), len(lines))
    rows = {entry.split("|")[1].strip(): entry for entry in lines[begin:end]}
    rows[line.split("|")[1].strip()] = line
    order = [setting.name for setting in settings()]
    ordered = sorted(rows, key=lambda name: (order.index(name) if name in order else len(order), name))
    TABLE.write_text("\n".join([*lines[:begin], *(rows[name] for name in ordered), *lines[end:]]) + "\n")


def run_setting(setting: Setting, workers: int, say: Callable[[str], None]) -> tuple[str, bool]:
    """Install and test. Returns the line of the table, and whether all tests passed."""
    log, begin, python = Path(f"{environment_of(setting)}.log"), time.monotonic(), None
    log.write_text("")
    try:
        say("installing" if setting.python else "starting")
        python = prepare(setting, log)
        begin = time.monotonic()
        summary = run_tests(python, setting, log, workers, say)
    except LookupError as missing:
        summary = str(missing)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        summary = f"not installed, see {log.relative_to(ROOT)} ({type(failure).__name__})"
    line = row(setting, python, summary, time.monotonic() - begin)
    return line, bool(re.search(r"\d+ passed", summary)) and not re.search(r"failed|error", summary)


def chosen(patterns: list[str] | None) -> Iterator[Setting]:
    """The settings that a name or a pattern fits; all of them without any."""
    for setting in settings():
        if not patterns or any(fnmatch.fnmatch(setting.name, f"*{pattern}*") for pattern in patterns):
            yield setting


def main() -> int:
    """Run the chosen settings. Returns 0 if all of their tests passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="settings whose name holds one of these")
    parser.add_argument("--list", action="store_true", help="print the settings and stop")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="of pytest (%(default)s)")
    parser.add_argument("--no-table", action="store_true", help="print the lines, leave docs/log/testing.md as it is")
    parser.add_argument("--keep", action="store_true", help="keep the environments that were installed")
    args = parser.parse_args()
    todo = list(chosen(args.only))
    if args.list:
        print("\n".join(setting.name for setting in todo))
        return 0
    WORK.mkdir(exist_ok=True)
    green = True
    for number, setting in enumerate(todo, 1):
        title = f"[{number}/{len(todo)}] {setting.name}"

        def say(what: str, title: str = title) -> None:
            print(f"{datetime.datetime.now():%H:%M:%S} {title}: {what}", flush=True)

        line, passed = run_setting(setting, args.workers, say)
        green = green and passed
        print(line, flush=True)
        if not args.no_table:
            write_row(line)
        if not args.keep:
            shutil.rmtree(environment_of(setting), ignore_errors=True)
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
