"""Why a run can end early through no fault of its configuration."""


class RunError(RuntimeError):
    """A run cannot go on; the message says why, what is saved and how to go on."""


class NonFiniteError(RunError):
    """The loss or the gradient of a step is not finite. The step was not taken; the weights are those before it."""
