"""`flowgression study`: several models trained, sampled over a grid, evaluated and compared in a report."""

from functools import partial
from pathlib import Path

from flowgression.cli._features import check_extra
from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, did_you_mean
from flowgression.text import say

SUMMARY = "train, sample and evaluate several models alike, and write a report"

DESCRIPTION = """Do a study: train (or take) several models, sample each over a grid of steps, solvers and guidance,
evaluate, and write report.md, results.csv, plots and sample grids. FILE is a YAML file or the name of a shipped study
({names}).

The same command resumes a study that was stopped or killed; what is finished is not repeated. Started several times at
once, or by torchrun, the processes share the work; on a machine with several GPUs each takes its own."""

PREFIX = "study-"


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status: 0, or 130 when a signal stopped it with a checkpoint."""
    parser = CommandParser("study", DESCRIPTION.format(names=", ".join(shipped_studies())))
    add = parser.add_argument
    add("file", metavar="FILE", help="YAML file, or the name of a shipped study")
    add("--out", metavar="DIR", help="folder of the study (that of the file)")
    add("--jobs", type=int, metavar="N", help="processes that train and sample at the same time (that of the file)")
    parser.add_num_threads()
    add("--device", metavar="NAME", help="auto, cpu, cuda or mps (that of the file)")
    add("--only", nargs="+", metavar="MODEL", default=[], help="work on these models of the study only (all)")
    add("--plan", action="store_true", help="only say what would be done")
    add(
        "--import-features",
        action="store_true",
        help="import and call what FILE names as features, package.module:attribute (no: built-in features only)",
    )
    add("--report-only", action="store_true", help="only write the report of what is finished")
    args = parser.parse(argv)
    check_extra()
    path = find_study(args.file)
    from flowgression.study.config import read_study

    changes = {name: getattr(args, name) for name in ("out", "jobs", "num_threads", "device")}
    config = read_study(path, import_features=args.import_features, **changes)
    for name in args.only:
        if name not in config.models:
            raise InputError(f"--only: no model {name!r} in this study; {did_you_mean(name, config.models)}")
    check_folder(Path(config.out))
    from diffusers.utils import logging

    from flowgression.study.report import write_report
    from flowgression.study.run import describe_plan, launched_alone, run_study
    from flowgression.study.work import Stopped

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if args.plan:
        say("\n".join(describe_plan(config)))
        return 0
    launched_alone()

    flushed = partial(say, flush=True)
    try:
        report = write_report(config) if args.report_only else run_study(config, flushed, args.only)
    except Stopped as stop:
        say(f"Stopped: {stop}. The same command resumes.")
        return 130
    say(f"wrote {report}")
    return 0


def shipped_studies() -> dict[str, Path]:
    """The studies inside the package: their names and files."""
    from importlib import resources

    folder = Path(str(resources.files("flowgression"))) / "configs"
    return {file.stem: file for file in sorted(folder.glob(f"{PREFIX}*.yaml"))}


def find_study(name: str) -> Path:
    """The file of a study; InputError if there is none."""
    shipped = shipped_studies()
    if Path(name).is_file():
        return Path(name)
    if name not in shipped:
        raise InputError(f"{name!r} is neither a file nor a shipped study; {did_you_mean(name, shipped)}")
    return shipped[name]
