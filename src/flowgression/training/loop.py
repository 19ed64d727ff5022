"""Training, in the order in which to read it: this file is the loop, step.py one step, session.py what surrounds the
steps (folder, tracker, rescue). The parts that they work with are made in trainer.py.
"""

from collections.abc import Callable
from pathlib import Path

from flowgression.training.checkpoint import latest_checkpoint
from flowgression.training.config import TrainConfig
from flowgression.training.length import RunLength, read_clock
from flowgression.training.resume import restore
from flowgression.training.run_folder import RunFolder, training_bytes
from flowgression.training.session import Session, TrainResult
from flowgression.training.signals import StopSignals
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    allow_changes: bool = False,
    make_trainer: Callable[..., Trainer] = Trainer,
    make_session: Callable[..., Session] = Session,
) -> TrainResult:
    """Train a model as `config` says, into the folder `config.out`.

    Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.

    Args:
        resume: Resume from the newest checkpoint in `config.out`; start from the beginning if there is none. A run that
            was killed and resumed gives the same losses and weights as one that was not, on CPU bit for bit.
        allow_changes: Resume although the configuration changed in fields that decide the numbers.
        make_trainer, make_session: what makes other things than images, such as an autoencoder.

    Raises:
        InputError: something in the configuration, the data or the folder cannot work; found before the first step.
        NonFiniteError: the loss or a gradient was not finite; the state before that step is saved.
        RunError: a file could not be written, for want of space for example; older checkpoints are whole.
        LostProcessError, LostReaderError: another process of the run, or one that reads images for it, has died.
        BatchError: an image of a batch cannot be used.
    """
    begun = read_clock(config)
    folder = RunFolder(Path(config.out))
    folder.check_unused(resume)
    folder.check_writable()
    checkpoint = latest_checkpoint(folder.checkpoints) if resume else None
    with folder.locked() as take, make_trainer(config, checkpoint) as trainer:
        trainer.on_main(take)
        trainer.on_main(lambda: folder.check_unused(resume))  # by a run that has ended meanwhile
        snapshots = config.max_steps // config.ema.snapshot_every if config.ema.snapshot_every else 0
        needed = training_bytes(
            trainer.parameter_bytes(), config.keep_checkpoints, snapshots, best=bool(trainer.held_out)
        )
        trainer.on_main(lambda: folder.check_space(needed))
        state, notes = restore(trainer, folder.checkpoints, resume=resume, allow_changes=allow_changes)
        length = RunLength(config, state.seconds, begun)
        with StopSignals() as signals, make_session(trainer, folder, state, length) as session:
            session.display.say(*trainer.notes, *notes)
            with session.rescued():
                run_steps(trainer, session, signals)
                return session.finish(signals.received)


def run_steps(trainer: Trainer, session: Session, signals: StopSignals) -> None:
    """The loop: the steps that are left, or those until a signal reaches any of the processes."""
    config, state, length = trainer.config, session.state, session.length
    batches, stop = trainer.batches(state.step), False
    while not (length.is_over(state.step) or stop):
        asked = signals.received is not None
        metrics, stop = training_step(trainer, state.step, next(batches), length=length, stop=asked)
        session.count(metrics)
        if state.step % config.log_every == 0 or length.is_over(state.step):
            session.log(metrics["lr"])
        if trainer.tracks is not None and (state.step % config.ema.snapshot_every == 0 or length.is_over(state.step)):
            session.save_snapshot()
        if trainer.held_out is not None and length.due("validation", state.step):
            session.timed("validation", session.validate)
        if length.due("checkpoint", state.step):
            session.save_checkpoint()
        if config.preview.fid_images and length.due("fid", state.step):
            session.timed("fid", session.measure_fid)
        if length.due("preview", state.step):
            session.timed("preview", session.draw_preview)
