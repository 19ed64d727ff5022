"""Training from start to end; this file is its table of contents."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgression.errors import InputError
from flowgression.training.checkpoint import (
    TrainerState,
    latest_checkpoint,
    load_checkpoint,
    read_state,
    remove_leftovers,
    save_checkpoint,
)
from flowgression.training.config import TrainConfig, config_from_dict, config_to_dict, flat_config
from flowgression.training.families import make_pipeline
from flowgression.training.previews import plot_loss, sample_grid, save_picture
from flowgression.training.progress import ProgressDisplay
from flowgression.training.resume import check_unchanged
from flowgression.training.run_folder import RunFolder, training_bytes
from flowgression.training.signals import StopSignals
from flowgression.training.trainer import NonFiniteError, Trainer


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Optimisation steps done in all.
        checkpoint: The newest checkpoint.
        pipeline: Folder of the trained model, loadable by from_pretrained; None if the run was stopped before its end.
        stopped_by: The signal that stopped it, or None.
    """

    step: int
    checkpoint: Path
    pipeline: Path | None
    stopped_by: signal.Signals | None


def train(config: TrainConfig, *, resume: bool = False, allow_changes: bool = False) -> TrainResult:
    """Train a model as `config` says, into the folder `config.out`.

    Args:
        resume: Go on from the newest checkpoint in `config.out`; from the start if there is none. A run that was
            killed and resumed gives the same losses and weights as one that was not, on CPU bit for bit.
        allow_changes: Resume although the configuration changed in fields that decide the numbers.

    Raises:
        InputError: something in the configuration, the data or the folder cannot work; found before the first step.
        NonFiniteError: the loss or a gradient was not finite; the state before that step is saved.
    """
    folder = RunFolder(Path(config.out))
    refuse_used_folder(folder, resume)
    folder.check_writable()
    with StopSignals() as signals:
        trainer = Trainer(config)
        folder.check_space(training_bytes(parameter_bytes(trainer.model), config.keep_checkpoints))
        state, notes = restore(trainer, folder, resume=resume, allow_changes=allow_changes)
        with Run(trainer, folder, state) as run:
            for note in notes:
                run.display.say(note)
            run.steps_until_end(signals)
            return run.finish(signals.received)


def refuse_used_folder(folder: RunFolder, resume: bool) -> None:
    """Raise InputError if a new run would mix with one that is already in `folder`."""
    if not resume and (latest_checkpoint(folder.checkpoints) or folder.pipeline.exists()):
        raise InputError(
            f"out={str(folder.root)!r} already holds a run; add --resume to go on with it, or choose another --out"
        )


def restore(
    trainer: Trainer, folder: RunFolder, *, resume: bool, allow_changes: bool
) -> tuple[TrainerState, list[str]]:
    """The state to start from, with the tensors of the newest checkpoint put in place, and notes to show."""
    state, notes = TrainerState(), []
    path = latest_checkpoint(folder.checkpoints) if resume else None
    if path is not None:
        state = read_state(path)
        saved = flat_config(config_from_dict(TrainConfig, state.config))
        notes = check_unchanged(state, saved, flat_config(trainer.config), trainer.data_summary(), allow=allow_changes)
        load_checkpoint(path, trainer.model, trainer.ema.model, trainer.optimizer)
        notes.append(f"Resumed from {path}.")
        if state.environment != trainer.environment():
            notes.append("Versions, device or threads differ from the checkpoint's: the last bits may differ.")
    elif resume:
        notes.append(f"No checkpoint in {folder.root} yet: starting from the beginning.")
    state.config = config_to_dict(trainer.config)
    state.data = trainer.data_summary()
    state.environment = trainer.environment()
    return state, notes


def parameter_bytes(model: Any) -> int:
    """Bytes of the weights of `model`."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


class Run:
    """A run under way: steps, and what happens between them. The main process alone writes files."""

    def __init__(self, trainer: Trainer, folder: RunFolder, state: TrainerState) -> None:
        self.trainer = trainer
        self.config = trainer.config
        self.folder = folder
        self.state = state
        self.is_main = trainer.accelerator.is_main_process
        self.display = ProgressDisplay(state.step, self.config.max_steps, shown=self.is_main)
        self._logged_at = (time.perf_counter(), state.step)

    def __enter__(self) -> "Run":
        if self.is_main:
            if self.folder.checkpoints.exists():
                remove_leftovers(self.folder.checkpoints)
            self.folder.write_config(self.state.config)
            self.folder.keep_metrics_until(self.state.step)
        self.trainer.start_tracker(self.state.step)
        self.display.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.__exit__()
        self.trainer.accelerator.end_training()

    def steps_until_end(self, signals: StopSignals) -> None:
        """Do the steps that are left, or those until a signal comes."""
        if self.state.step >= self.config.max_steps:
            return
        for batch in self.trainer.batches(self.state.step):
            try:
                metrics, stop = self.trainer.step(self.state.step, batch, stop=signals.received is not None)
            except NonFiniteError as error:
                path = self.save_checkpoint()
                raise NonFiniteError(
                    f"{error}. The step was not taken; the state before it is in {path}. A lower optimizer.lr, a "
                    "longer warm-up or tighter clipping may help (resume with --allow-changes)"
                ) from None
            self.after_step(metrics)
            if stop or self.state.step >= self.config.max_steps:
                return

    def after_step(self, metrics: dict[str, float]) -> None:
        """Count the step; log, save and draw where it is time."""
        state, config = self.state, self.config
        state.step += 1
        self.display.advance(state.step)
        for name, value in metrics.items():
            state.window[name] = state.window.get(name, 0.0) + value
        state.window_steps += 1
        if state.step % config.log_every == 0 or state.step == config.max_steps:
            self.log(metrics["lr"])
        if state.step % config.checkpoint_every == 0:
            self.save_checkpoint()
        if config.preview.every and state.step % config.preview.every == 0:
            self.draw_preview()

    def log(self, lr: float) -> None:
        """Write the means of the metrics since the last logged step; restart their sums."""
        state = self.state
        values = {name: total / state.window_steps for name, total in state.window.items()} | {"lr": lr}
        state.window, state.window_steps = {}, 0
        if self.is_main:
            self.folder.append_metrics({"step": state.step, **values})
        now, (before, step_before) = time.perf_counter(), self._logged_at
        self._logged_at = (now, state.step)
        speed = (state.step - step_before) / max(now - before, 1e-9)
        values |= {"steps_per_second": speed, "images_per_second": speed * self.config.batch_size}
        self.trainer.accelerator.log(values, step=state.step)
        self.display.report(state.step, values)

    def save_checkpoint(self) -> Path:
        """Write the checkpoint of the present step, on the main process."""
        path = self.folder.checkpoints / f"step-{self.state.step:07d}"
        if self.is_main:
            save_checkpoint(
                self.folder.checkpoints,
                self.state,
                self.trainer.model,
                self.trainer.ema.model,
                self.trainer.optimizer,
                keep=self.config.keep_checkpoints,
            )
        self.trainer.accelerator.wait_for_everyone()
        return path

    def draw_preview(self) -> None:
        """Write a sample grid and the curve of the loss, on the main process."""
        if self.is_main:
            grid = sample_grid(self.pipeline(), self.trainer.dataset.num_classes, self.config.preview, self.config.seed)
            save_picture(grid, self.folder.samples / f"step-{self.state.step:07d}.png")
            plot_loss(self.folder.read_metrics(), self.folder.loss_plot)
        self.trainer.accelerator.wait_for_everyone()

    def finish(self, stopped_by: signal.Signals | None) -> TrainResult:
        """Save the last state and, if training is through, the pipeline."""
        checkpoint = self.save_checkpoint()
        done = self.state.step >= self.config.max_steps
        if self.is_main:
            plot_loss(self.folder.read_metrics(), self.folder.loss_plot)
            if done:
                self.pipeline().save_pretrained(self.folder.pipeline)
        self.trainer.accelerator.wait_for_everyone()
        return TrainResult(self.state.step, checkpoint, self.folder.pipeline if done else None, stopped_by)

    def pipeline(self) -> Any:
        """The pipeline around the averaged weights."""
        return make_pipeline(self.config.model.family, self.trainer.ema.model, self.trainer.dataset.class_names)
