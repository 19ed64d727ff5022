"""`python -m tests.fuzz`: see the package."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.base import make_base
from tests.fuzz.harness import run_case
from tests.fuzz.kinds import KINDS, cases_of, make_case
from tests.fuzz.run import FULL_TRAINING, fuzz, no_network, no_patch, nothing_long


def main() -> int:
    """Run the command. Returns 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", type=int, default=10_000, help="cases of all kinds together (10000)")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only these; may be repeated")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only this case of --kind, with what it prints")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        base = make_base(folder / "base")
        if args.only is not None:
            place = folder / "case"
            place.mkdir()
            case = make_case(args.kind[0], args.only, base, place)
            with no_network(), nothing_long() if args.kind[0] not in FULL_TRAINING else no_patch():
                outcome = run_case(case, place)
            print(case.run, outcome.output, outcome.status, *outcome.faults, sep="\n")
            return int(bool(outcome.faults))
        cases = [case for case in cases_of(args.total) if args.kind is None or case[0] in args.kind]
        counts = fuzz(cases, base, folder, lambda text: print(text, file=sys.stderr, flush=True))
    print(counts.table())
    return int(bool(counts.faults))


if __name__ == "__main__":
    sys.exit(main())
