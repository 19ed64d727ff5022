"""A study from start to end; this file is its table of contents."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from flowgression.devices import take_gpu
from flowgression.documents import read_json
from flowgression.errors import InputError
from flowgression.evaluation.images import open_image_set
from flowgression.evaluation.run import open_reference
from flowgression.evaluation.statistics import Statistics
from flowgression.registry import build_model, find_family
from flowgression.sampling.folders import find_folder
from flowgression.sampling.options import make_options
from flowgression.sampling.request import pick_solver
from flowgression.study.claims import claim
from flowgression.study.config import StudyConfig, median
from flowgression.study.report import write_report
from flowgression.study.validated import check_validation, validate_unit, validated
from flowgression.study.work import (
    Say,
    Unit,
    do_unit,
    evaluate,
    finished,
    image_size,
    reference_statistics,
    units,
    write_json,
)
from flowgression.text import one_line, say
from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict, config_to_dict
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

PROBE_STEPS = 20
WAIT_SECONDS = 1.0  # between two looks at what other processes have finished
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which training would take the processes of a study for one run."""


def run_study(config: StudyConfig, say: Say = print, only: Sequence[str] = ()) -> Path:
    """Do what is left of a study and write its report.

    Any number of processes may call this for one study at the same time; they share the work.

    Args:
        only: names of the models that are worked on; all by default. The report is about all.

    Returns:
        The report, `<out>/report.md`.

    Raises:
        InputError: settings that cannot work; models that are not equal as asked.
        Stopped: a signal ended a training run; the same call resumes.
    """
    check_images(config)
    check_points(config)
    check_taken(config, only)
    check_validation(config)
    torch.set_num_threads(config.num_threads)
    for model in {config.seen_by(model).reference: model for model in config.models}.values():
        reference_statistics(config.seen_by(model))
    judge_real(config)
    steps = equal_time_steps(config, say) if "time" in config.equal else {}
    check_parameters(config)
    todo = [unit for unit in units(config, steps) if not only or unit.model in only]
    if config.jobs == 1:
        work_through(config, todo, say)
    else:
        in_processes(config, todo)
    with claim(Path(config.out) / "report.md"):
        return write_report(config, steps)


def work_through(config: StudyConfig, todo: list[Unit], say: Say = print) -> None:
    """Do what no other process is at, until nothing is left of `todo`, here or elsewhere."""
    while left := [unit for unit in todo if not is_done(config, unit)]:
        worked = False
        for unit in left:
            worked |= do_unit(config, unit, say)
            worked |= validate_unit(config, unit, say)
        if not worked:
            time.sleep(WAIT_SECONDS)


def is_done(config: StudyConfig, unit: Unit) -> bool:
    """Whether every point of a unit is finished, and its losses are measured if the study asks for them."""
    if config.validation is not None and validated(config, unit) is None:
        return False
    return all(finished(config, unit, point) is not None for point in config.points(unit.model))


def in_processes(config: StudyConfig, todo: list[Unit]) -> None:
    """Do the units in `config.jobs` processes."""
    os.environ["OMP_NUM_THREADS"] = str(config.num_threads)  # read when a new process loads torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.jobs, mp_context=context) as pool:
        try:
            for done in as_completed([pool.submit(one_of_several, config, todo, job) for job in range(config.jobs)]):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def one_of_several(config: StudyConfig, todo: list[Unit], number: int) -> None:
    """Work on a study beside other processes of this machine; on one with several GPUs each takes its own."""
    take_gpu(number)
    work_through(config, todo, lambda text: say(text, flush=True))


def launched_alone() -> None:
    """Make of a process of torchrun one that trains alone, on the GPU of its local rank; does nothing without."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
        for name in LAUNCHER:
            os.environ.pop(name, None)


def check_images(config: StudyConfig) -> None:
    """InputError unless the trained models see equally many images, if that is asked for."""
    if "images" not in config.equal:
        return
    seen = {}
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        if settings is not None:
            seen[model] = settings.batch_size * settings.max_steps
    if len(set(seen.values())) > 1:
        listed = ", ".join(f"{model} {count}" for model, count in seen.items())
        raise InputError(f"equal: images, but batch_size times max_steps differs: {listed}")


def check_points(config: StudyConfig) -> None:
    """InputError for a way of sampling that the family of a trained model does not have; pipelines refuse their own."""
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        if settings is not None:
            options = find_family(settings.model.family).pipeline_class.options_class
            for point in config.points(model):
                try:
                    make_options(options, point.call())
                    pick_solver(point["solver"], derivatives=2)
                except InputError as error:
                    raise InputError(f"{model}, {point.describe()}: {error}") from error


def check_taken(config: StudyConfig, only: Sequence[str]) -> None:
    """InputError if a model that is taken as it is cannot be found."""
    for model in only or config.models:
        pipeline = config.taken(model)
        if pipeline is not None:
            try:
                find_folder(pipeline)
            except InputError as error:
                raise InputError(f"{model}: {error} --only works on the models that are there") from error


def check_parameters(config: StudyConfig) -> None:
    """InputError unless the trained models are of equal size, if that is asked for."""
    if "parameters" not in config.equal:
        return
    counts = count_parameters(config)
    if not counts:
        return
    middle = median(list(counts.values()))
    far = {model: count for model, count in counts.items() if abs(count / middle - 1) > config.parameter_tolerance}
    if far:
        listed = ", ".join(f"{model} {count:,}" for model, count in counts.items())
        raise InputError(
            f"equal: parameters, but {', '.join(far)} differ by more than {config.parameter_tolerance:.0%} from the "
            f"median {middle:,.0f}: {listed}. Change their sizes or parameter_tolerance"
        )


def count_parameters(config: StudyConfig) -> dict[str, int]:
    """Parameters of each trained model, without training it."""
    counts = {}
    trained = {model: config.train_config(model, config.seeds[0]) for model in config.models}
    for model, settings in trained.items():
        if settings is not None:
            args = {**reference_facts(config.seen_by(model)), **settings.model.args}
            with torch.device("meta"):  # shapes only: the largest sizes need no memory
                network = build_model(settings.model.family, settings.model.preset, **args)
            counts[model] = sum(parameter.numel() for parameter in network.parameters())
    return counts


def reference_facts(config: StudyConfig) -> dict[str, int]:
    """Arguments of models that follow from the images they are compared with."""
    images = open_reference(config.reference, image_size(config))
    if isinstance(images, Statistics) and not {"height", "channels"} <= images.facts.keys():
        return {}  # the models' own arguments say it
    classes = images.names if isinstance(images, Statistics) else images.classes
    facts = {"sample_size": images.facts["height"], "in_channels": images.facts["channels"]}
    return {**facts, "num_classes": len(classes)} if classes else facts


def equal_time_steps(config: StudyConfig, say: Say) -> dict[str, int]:
    """Steps of each trained model that take `time_seconds` of CPU time, measured once and then kept."""
    path = Path(config.out) / "steps.json"
    with claim(path):
        known = read_json(path) if path.is_file() else {}
        for model in config.models:
            settings = config.train_config(model, config.seeds[0])
            if settings is None or was_measured(known.get(model), settings, config.time_seconds):
                continue
            steps = max(1, round((config.time_seconds or 0) / step_seconds(settings)))
            known[model] = {"asked": [config_to_dict(settings), config.time_seconds], "steps": steps}
            write_json(known, path)
            say(f"{model}: {steps} steps in {config.time_seconds:g} CPU seconds")
    return {model: known[model]["steps"] for model in config.models if model in known}


def was_measured(record: dict[str, Any] | None, settings: TrainConfig, seconds: float | None) -> bool:
    """Whether the steps of this training were measured; fields that the record lacks count as their defaults."""
    if record is None:
        return False
    try:
        return config_from_dict(TrainConfig, record["asked"][0]) == settings and record["asked"][1] == seconds
    except InputError:  # a field of another version
        return False


def step_seconds(settings: Any) -> float:
    """CPU time of one step of training; of an accelerator, wall-clock time."""
    trainer = Trainer(settings)
    clock = time.process_time if trainer.device.type == "cpu" else time.perf_counter
    start = clock()
    for step, batch in enumerate(trainer.batches(0)):
        if step == PROBE_STEPS // 4:  # after some steps to warm up
            start = clock()
        if step == PROBE_STEPS + PROBE_STEPS // 4:
            break
        training_step(trainer, step, batch)
    return (clock() - start) / PROBE_STEPS


def judge_real(config: StudyConfig) -> None:
    """Judge real images like samples, if the study names some: the best that can be reached."""
    path = Path(config.out) / "real.json"
    if config.real is None:
        return
    with claim(path):
        if not path.is_file():
            write_json(evaluate(config, open_image_set(config.real, image_size(config))), path)


def describe_plan(config: StudyConfig) -> list[str]:
    """What a study consists of, in lines."""
    check_images(config)
    check_points(config)
    check_validation(config)
    lines = [f"{len(config.models)} models, seeds {config.seeds}, {config.num_images} images a point"]
    counts = count_parameters(config)
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        points = config.points(model)
        steps = sum(point["num_inference_steps"] for point in points)
        what = f"taken from {config.taken(model)}"
        if settings is not None:
            what = f"{counts[model]:,} parameters, {settings.batch_size * settings.max_steps:,} training images"
        lines.append(f"  {one_line(model)}: {what}; {len(points)} points of {steps} steps together")
    check_parameters(config)
    return lines
