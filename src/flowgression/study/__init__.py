"""Studies: several models trained, sampled and evaluated alike, and a report of it."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "StudyConfig": "flowgression.study.config",
        "read_study": "flowgression.study.config",
        "run_study": "flowgression.study.run",
        "write_report": "flowgression.study.report",
    },
)
