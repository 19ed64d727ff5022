"""A run under way: its steps, and what happens between them."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from flowgression.sampling.images import save_png
from flowgression.sampling.loading import make_pipeline
from flowgression.training.checkpoint import TrainerState, latest_checkpoint, remove_leftovers, save_checkpoint
from flowgression.training.errors import NonFiniteError, RunError
from flowgression.training.previews import plot_loss, sample_grid
from flowgression.training.progress import ProgressDisplay
from flowgression.training.run_folder import RunFolder
from flowgression.training.signals import StopSignals
from flowgression.training.trainer import Trainer


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


class Run:
    """Context manager around the steps of a run. All processes step; the main one alone writes files."""

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
            remove_leftovers(self.folder.checkpoints)
            self.folder.write_config(self.state.config)
            self.folder.keep_metrics_until(self.state.step)
        self.trainer.start_tracker(self.state.step)
        self.display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.stop()
        self.trainer.accelerator.end_training()

    def steps_until_end(self, signals: StopSignals) -> None:
        """Do the steps that are left, or those until a signal comes.

        Raises:
            NonFiniteError: after a checkpoint of the last good state.
        """
        if self.state.step >= self.config.max_steps:
            return
        for batch in self.trainer.batches(self.state.step):
            try:
                metrics, stop = self.trainer.step(self.state.step, batch, stop=signals.received is not None)
            except NonFiniteError as error:
                path = self.save_checkpoint()
                raise NonFiniteError(
                    f"{error}. This step was not taken; the state before it is in {path}. A lower optimizer.lr, a "
                    "longer warm-up or a smaller optimizer.clip_norm may help: resume with --allow-changes"
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
        """Write the means of the metrics since the last logged step, and restart their sums."""
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
        """Write the checkpoint of the present step and return its folder.

        Raises:
            RunError: it cannot be written; earlier checkpoints are as they were.
        """
        trainer = self.trainer
        path = self.folder.checkpoints / f"step-{self.state.step:07d}"
        if self.is_main:
            try:
                save_checkpoint(
                    path,
                    self.state,
                    trainer.model,
                    trainer.ema.model,
                    trainer.optimizer,
                    keep=self.config.keep_checkpoints,
                )
            except (OSError, SafetensorError) as error:
                newest = latest_checkpoint(self.folder.checkpoints) or "none"
                raise RunError(
                    f"cannot write {path} ({error}). Newest whole checkpoint: {newest}; mend the cause and add --resume"
                ) from error
        trainer.accelerator.wait_for_everyone()
        return path

    def draw_preview(self) -> None:
        """Write a sample grid and the curve of the loss."""
        if self.is_main:
            path = self.folder.samples / f"step-{self.state.step:07d}.png"
            try:
                classes = self.trainer.dataset.num_classes
                save_png(sample_grid(self.pipeline(), classes, self.config.preview, self.config.seed), path)
            except FloatingPointError as error:
                self.display.say(f"No preview at step {self.state.step}: {error}")
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
        names = dict(enumerate(self.trainer.dataset.class_names))
        vae = None if self.trainer.vae is None else self.trainer.vae.to(self.trainer.device)
        return make_pipeline(self.trainer.ema.model, vae=vae, id2label=names)
