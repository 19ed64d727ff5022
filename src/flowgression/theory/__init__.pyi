# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.theory.approximation import approximate as approximate
from flowgression.theory.complexity import measure_complexity as measure_complexity
from flowgression.theory.criterion import CriterionReport as CriterionReport
from flowgression.theory.criterion import measure_criterion as measure_criterion
