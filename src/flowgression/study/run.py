"""A study from start to end; this file is its table of contents."""

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from flowgression.errors import InputError
from flowgression.evaluation.images import open_image_set
from flowgression.models.registry import build_model
from flowgression.study.config import StudyConfig, median
from flowgression.study.report import write_report
from flowgression.study.work import Say, Unit, do_unit, evaluate, image_size, reference_statistics, units, write_json
from flowgression.training.config import config_to_dict
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

PROBE_STEPS = 20


def run_study(config: StudyConfig, say: Say = print) -> Path:
    """Do what is left of a study and write its report.

    Returns:
        The report, `<out>/report.md`.

    Raises:
        InputError: settings that cannot work; models that are not equal as asked.
        Stopped: a signal ended a training run; the same call resumes.
    """
    check_images(config)
    torch.set_num_threads(config.num_threads)
    reference_statistics(config)
    judge_real(config)
    steps = equal_time_steps(config, say) if "time" in config.equal else {}
    check_parameters(config)
    todo = units(config, steps)
    if config.jobs == 1:
        for number, unit in enumerate(todo):
            say(f"[{number + 1}/{len(todo)}] {unit.model}, seed {unit.seed}")
            do_unit(config, unit, say)
    else:
        in_processes(config, todo, say)
    return write_report(config, steps)


def in_processes(config: StudyConfig, todo: list[Unit], say: Say) -> None:
    """Do the units in `config.jobs` processes."""
    os.environ["OMP_NUM_THREADS"] = str(config.num_threads)  # read when a new process loads torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.jobs, mp_context=context) as pool:
        waiting = {pool.submit(do_unit, config, unit): unit for unit in todo}
        try:
            for number, done in enumerate(as_completed(waiting)):
                done.result()
                unit = waiting[done]
                say(f"[{number + 1}/{len(todo)}] {unit.model}, seed {unit.seed}: done")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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
    images = open_image_set(config.reference, image_size(config))
    facts = {"sample_size": images.facts["height"], "in_channels": images.facts["channels"]}
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        if settings is not None:
            args = {**facts, "num_classes": len(images.class_names), **settings.model.args}
            with torch.device("meta"):  # shapes only: the largest sizes need no memory
                network = build_model(settings.model.family, settings.model.preset, **args)
            counts[model] = sum(parameter.numel() for parameter in network.parameters())
    return counts


def equal_time_steps(config: StudyConfig, say: Say) -> dict[str, int]:
    """Steps of each trained model that take `time_seconds` of CPU time, measured once and then kept."""
    path = Path(config.out) / "steps.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        if settings is None:
            continue
        asked = json.loads(json.dumps([config_to_dict(settings), config.time_seconds]))
        if known.get(model, {}).get("asked") != asked:
            known[model] = {"asked": asked, "steps": max(1, round((config.time_seconds or 0) / step_seconds(settings)))}
            write_json(known, path)
            say(f"{model}: {known[model]['steps']} steps in {config.time_seconds:g} CPU seconds")
    return {model: known[model]["steps"] for model in config.models if model in known}


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
    if config.real is None or path.is_file():
        return
    write_json(evaluate(config, open_image_set(config.real, image_size(config))), path)


def describe_plan(config: StudyConfig) -> list[str]:
    """What a study consists of, in lines."""
    check_images(config)
    lines = [f"{len(config.models)} models, seeds {config.seeds}, {config.num_images} images a cell"]
    counts = count_parameters(config)
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        cells = config.cells(model)
        steps = sum(cell.num_inference_steps for cell in cells)
        what = f"taken from {config.taken(model)}"
        if settings is not None:
            what = f"{counts[model]:,} parameters, {settings.batch_size * settings.max_steps:,} training images"
        lines.append(f"  {model}: {what}; {len(cells)} cells of {steps} steps together")
    check_parameters(config)
    return lines
