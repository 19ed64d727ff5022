"""Training from start to end; this file is its table of contents."""

from pathlib import Path

from flowgression.training.checkpoint import latest_checkpoint
from flowgression.training.config import TrainConfig
from flowgression.training.resume import restore
from flowgression.training.run import Run, TrainResult
from flowgression.training.run_folder import RunFolder, training_bytes
from flowgression.training.signals import StopSignals
from flowgression.training.trainer import Trainer


def train(config: TrainConfig, *, resume: bool = False, allow_changes: bool = False) -> TrainResult:
    """Train a model as `config` says, into the folder `config.out`.

    Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.

    Args:
        resume: Go on from the newest checkpoint in `config.out`; from the start if there is none. A run that was
            killed and resumed gives the same losses and weights as one that was not, on CPU bit for bit.
        allow_changes: Resume although the configuration changed in fields that decide the numbers.

    Raises:
        InputError: something in the configuration, the data or the folder cannot work; found before the first step.
        NonFiniteError: the loss or a gradient was not finite; the state before that step is saved.
        RunError: a file could not be written, for want of space for example; older checkpoints are whole.
        LostProcessError, LostReaderError: another process of the run, or one that reads images for it, has died.
        BatchError: an image of a batch cannot be used.
    """
    folder = RunFolder(Path(config.out))
    folder.check_unused(resume)
    folder.check_writable()
    with Trainer(config, latest_checkpoint(folder.checkpoints) if resume else None) as trainer:
        trainer.on_main(lambda: folder.check_space(training_bytes(trainer.parameter_bytes(), config.keep_checkpoints)))
        state, notes = restore(trainer, folder.checkpoints, resume=resume, allow_changes=allow_changes)
        with StopSignals() as signals, Run(trainer, folder, state) as run:
            run.display.say(*notes)
            with run.rescued():
                run.steps_until_end(signals)
                return run.finish(signals.received)
