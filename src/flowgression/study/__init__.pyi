# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.study.config import StudyConfig as StudyConfig
from flowgression.study.config import read_study as read_study
from flowgression.study.report import write_report as write_report
from flowgression.study.run import run_study as run_study
