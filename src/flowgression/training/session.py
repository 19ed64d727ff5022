"""What surrounds the steps of a run: its folder, its tracker, and saving its state when it cannot continue."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from flowgression.layers.lora import lora_tensors
from flowgression.sampling.images import save_png
from flowgression.sampling.loading import make_pipeline
from flowgression.sampling.lora import base_sha256, save_adapter
from flowgression.training.checkpoint import (
    CheckpointTensors,
    TrainerState,
    latest_checkpoint,
    read_best,
    remove_leftovers,
    save_checkpoint,
)
from flowgression.training.errors import (
    AloneError,
    LostProcessError,
    LostReaderError,
    NonFiniteError,
    RunError,
    is_lost_process,
    is_lost_reader,
)
from flowgression.training.fid import SmallFid
from flowgression.training.length import RunLength
from flowgression.training.nested import flat_config
from flowgression.training.post_hoc_ema import drop_snapshots_after, save_snapshot, snapshot_path
from flowgression.training.previews import plot_loss, sample_grid
from flowgression.training.progress import ProgressDisplay
from flowgression.training.run_folder import RunFolder
from flowgression.training.sharding import load_whole
from flowgression.training.trainer import Trainer
from flowgression.training.validation import held_out_loss


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Optimisation steps done in all.
        checkpoint: The newest checkpoint.
        pipeline: Folder of the trained model, a pipeline or an autoencoder, loadable by from_pretrained; None if the
            run was stopped before its end.
        stopped_by: The signal that stopped it, or None.
        best: "step" and "held_out_loss" of the EMA weights that are the model; None where no images are held out: those
            of the last step.
    """

    step: int
    checkpoint: Path
    pipeline: Path | None
    stopped_by: signal.Signals | None
    best: dict[str, float] | None = None


class Session:
    """Context manager around the steps of a run. Every process calls every method; the main one alone writes files.

    Attributes:
        state: step, sums of metrics, and what else a checkpoint remembers besides tensors.
        length: how far the run is.
        display: the progress bar.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, state: TrainerState, length: RunLength) -> None:
        self.trainer = trainer
        self.config = trainer.config
        self.folder = folder
        self.state = state
        self.is_main = trainer.accelerator.is_main_process
        self.length = length
        self.display = ProgressDisplay(state.step, length.total_steps(state.step), shown=self.is_main)
        self._logged_at = (time.perf_counter(), state.step)
        self._fid: SmallFid | None = None

    def __enter__(self) -> "Session":
        self.trainer.on_main(self._prepare_fid)
        self._on_main(self.folder.root, self._prepare_folder)
        self._start_tracker()
        self.display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.stop()

    def _prepare_folder(self) -> None:
        remove_leftovers(self.folder.checkpoints)
        self.folder.write_config(self.state.config)
        self.folder.keep_metrics_until(self.state.step)
        drop_snapshots_after(self.folder.snapshots, self.state.step)

    def _prepare_fid(self) -> None:
        if self.config.preview.fid_images:
            self._fid = SmallFid(self.trainer)
            self.display.say(self._fid.describe())

    def _start_tracker(self) -> None:
        if self.config.tracker == "none":
            return
        values = {name: str(value) for name, value in flat_config(self.config).items()}
        # TensorBoard's files go to <out>/tensorboard; W&B names the project and, by the folder, the run.
        project = {"tensorboard": "tensorboard", "wandb": "flowgression"}[self.config.tracker]
        # TensorBoard drops the entries of steps that will be done again.
        options = {
            "tensorboard": {"purge_step": self.state.step + 1},
            "wandb": {"name": self.config.out, "dir": self.config.out},
        }
        self.trainer.accelerator.init_trackers(project, config=values, init_kwargs=options)

    @contextmanager
    def rescued(self) -> Iterator[None]:
        """Around the steps: where they cannot continue, save the state if that can be done, and say where it is.

        Raises:
            NonFiniteError, LostProcessError, LostReaderError, BatchError: with a sentence about the newest state.
        """
        accelerator = self.trainer.accelerator
        try:
            with self._saved_before_nan():
                yield
        except AloneError as error:
            raise type(error)(f"{str(error).rstrip('.')}. {self.rescue()}") from error
        except RuntimeError as error:
            if is_lost_reader(error):
                raise LostReaderError(
                    f"a process that reads images was lost ({str(error).strip().splitlines()[0]}); "
                    f"if memory was short, lower data.num_workers. {self.rescue()}"
                ) from error
            if accelerator.num_processes == 1 or not is_lost_process(error):
                raise
            raise LostProcessError(
                f"process {accelerator.process_index} of 0 to {accelerator.num_processes - 1}: another process of this "
                f"run was lost in step {self.state.step + 1}. {self.rescue()}"
            ) from error

    @contextmanager
    def _saved_before_nan(self) -> Iterator[None]:
        try:
            yield
        except NonFiniteError as error:  # the same on every process, so all of them save
            path = self.save_checkpoint()
            raise NonFiniteError(
                f"{error}. This step was not taken; the state before it is in {path}. A lower optimizer.lr, a "
                "longer warm-up or a smaller optimizer.clip_norm may help: resume with --allow-changes"
            ) from None

    def count(self, metrics: dict[str, float]) -> None:
        """One more step is done, with these metrics."""
        state = self.state
        state.step += 1
        state.seconds = self.length.seconds
        state.window_steps += 1
        for name, value in metrics.items():
            state.window[name] = state.window.get(name, 0.0) + value
        self.trainer.step_is_counted()
        self.display.advance(state.step, self.length.total_steps(state.step))

    def log(self, lr: float) -> None:
        """Write the means of the metrics since the last logged step, and restart their sums."""
        state = self.state
        values = {name: total / state.window_steps for name, total in state.window.items()} | {"lr": lr}
        state.window, state.window_steps = {}, 0
        self._on_main(self.folder.metrics, lambda: self.folder.append_metrics({"step": state.step, **values}))
        now, (before, step_before) = time.perf_counter(), self._logged_at
        self._logged_at = (now, state.step)
        speed = (state.step - step_before) / max(now - before, 1e-9)
        values |= {"steps_per_second": speed, "images_per_second": speed * self.config.batch_size}
        self.trainer.accelerator.log(values, step=state.step)
        self.display.report(state.step, values, self.length.seconds_left(state.step, speed))

    def validate(self) -> None:
        """Measure the loss on held-out images, and keep the EMA weights if it was never lower."""
        held_out, model = self.trainer.held_out, self.trainer.ema_model()
        assert held_out is not None
        loss = self.trainer.from_main(held_out_loss(self.trainer, model, held_out) if self.is_main else None)
        line = {"step": self.state.step, "held_out_loss": loss}
        self._on_main(self.folder.metrics, lambda: self.folder.append_metrics(line))
        self.trainer.accelerator.log({"held_out_loss": loss}, step=self.state.step)
        best = self.state.best
        if math.isfinite(loss) and (best is None or loss < best["held_out_loss"]):
            self.state.best = line
            self.trainer.keep_best()
        if not self.display.console.is_terminal:
            self.display.say(f"step {self.state.step}  loss on held-out images {loss:.4f}")

    def measure_fid(self) -> None:
        """Measure the small FID of the EMA weights and write it down; one that is not finite is left out."""
        pipeline, fid = self.pipeline(), None
        if self._fid is not None:
            try:
                fid = self._fid.measure(pipeline)
            except FloatingPointError as error:
                self.display.say(f"No FID at step {self.state.step}: {error}")
        if (fid := self.trainer.from_main(fid)) is None:
            return
        line = {"step": self.state.step, "fid": fid}
        self._on_main(self.folder.metrics, lambda: self.folder.append_metrics(line))
        self.trainer.accelerator.log({"fid": fid}, step=self.state.step)
        if not self.display.console.is_terminal:
            self.display.say(f"step {self.state.step}  FID {fid:.4g}")

    def timed(self, kind: str, act: Callable[[], None]) -> None:
        """Do what comes now and then, and tell the length of the run how long it took on the main process."""
        before = self.length.now()
        act()
        if self.length.timed:
            self.length.took(kind, self.trainer.from_main(self.length.now() - before))

    def save_checkpoint(self) -> Path:
        """Write the checkpoint of the present step and return its folder.

        Raises:
            RunError: it cannot be written; earlier checkpoints are as they were.
        """
        path, tensors = self._checkpoint_path(), self.trainer.tensors()
        self._on_main(path, lambda: self._write_checkpoint(path, tensors))
        return path

    def save_snapshot(self) -> None:
        """Write the averages of post-hoc EMA down. RunError if that cannot be done."""
        tracks, folder, step = self.trainer.tracks, self.folder.snapshots, self.state.step
        assert tracks is not None
        self._on_main(snapshot_path(folder, step), lambda: save_snapshot(folder, step, tracks.tensors()))

    def rescue(self) -> str:
        """Save the present state, between two steps, if this process can do it without the others.

        Returns:
            A sentence that says where the newest state is.
        """
        if self.is_main and not self.trainer.sharded and not self.trainer.updating:
            try:
                self._write_checkpoint(self._checkpoint_path(), self.trainer.tensors())
            except (OSError, SafetensorError) as error:
                return f"The state before it cannot be written ({error}). {self._newest()}"
        return self._newest()

    def draw_preview(self) -> None:
        """Write a sample grid and the curve of the loss."""
        path = self.folder.samples / f"step-{self.state.step:07d}.png"
        save = self.preview_writer(path)

        def draw() -> None:
            save()
            plot_loss(self.folder.read_metrics(), self.folder.loss_plot)

        self._on_main(path, draw)

    def preview_writer(self, path: Path) -> Callable[[], None]:
        """What writes a grid of samples to `path`, for the main process to call; every process has to ask for it."""
        pipeline = self.pipeline()

        def save() -> None:
            try:
                classes = self.trainer.dataset.num_classes
                save_png(sample_grid(pipeline, classes, self.config.preview, self.config.seed), path)
            except FloatingPointError as error:
                self.display.say(f"No preview at step {self.state.step}: {error}")

        return save

    def model_writer(self) -> tuple[Path, Callable[[], None]]:
        """The folder of the trained model and what writes it, for the main process to call."""
        pipeline, folder = self.pipeline(), self.folder.pipeline
        return folder, lambda: pipeline.save_pretrained(folder)

    def finish(self, stopped_by: signal.Signals | None) -> TrainResult:
        """Save the last state and, if training is through, the pipeline."""
        checkpoint = self.save_checkpoint()
        self._on_main(self.folder.loss_plot, lambda: plot_loss(self.folder.read_metrics(), self.folder.loss_plot))
        if not self.length.is_over(self.state.step):
            return TrainResult(self.state.step, checkpoint, None, stopped_by, self.state.best)
        if self.state.best is not None:
            load_whole(self.trainer.ema.model, read_best(checkpoint, self.trainer.ema.model))
        folder, save = self.model_writer()
        self._on_main(folder, save)
        if self.config.lora.rank:
            self._on_main(self.folder.adapter, self._save_adapter)
        return TrainResult(self.state.step, checkpoint, folder, stopped_by, self.state.best)

    def pipeline(self) -> Any:
        """The pipeline around the EMA weights, on the main process; None on the others."""
        model = self.trainer.ema_model()
        if not self.is_main:
            return None
        names = self.trainer.dataset.classes.id2label()
        vae = None if self.trainer.vae is None else self.trainer.vae.to(self.trainer.device)
        return make_pipeline(model, vae=vae, id2label=names)

    def _save_adapter(self) -> None:
        """Write the adapters' EMA weights."""
        info = {
            "base": self.config.model.pretrained,
            "base_sha256": base_sha256(self.trainer.ema.model),
            "class": type(self.trainer.model).__name__,
            "rank": self.config.lora.rank,
            "alpha": self.config.lora.rank if self.config.lora.alpha is None else self.config.lora.alpha,
            "id2label": self.trainer.dataset.classes.id2label(),
        }
        save_adapter(self.folder.adapter, lora_tensors(self.trainer.ema.model.state_dict()), info)

    def _checkpoint_path(self) -> Path:
        return self.folder.checkpoints / f"step-{self.state.step:07d}"

    def _write_checkpoint(self, path: Path, tensors: CheckpointTensors) -> None:
        save_checkpoint(path, self.state, self.trainer.model, tensors, keep=self.config.keep_checkpoints)

    def _newest(self) -> str:
        newest = latest_checkpoint(self.folder.checkpoints) or "none"
        return f"Newest whole checkpoint: {newest}; add --resume to resume from it."

    def _on_main(self, path: Path, write: Callable[[], None]) -> None:
        """Let the main process write `path` while the others wait; if it cannot, all of them raise RunError."""
        self.trainer.on_main(
            write,
            caught=(OSError, SafetensorError),
            raised=RunError,
            words=lambda error: f"cannot write {path} ({error}). {self._newest()}",
        )
