"""Runs a hypernetwork study: every arm with every seed, into a run folder that is readable at any moment.

What can be wrong is found before the first update: data, networks and numerics are built and every arm's update is
priced first. A study that was stopped, also by `kill -9`, goes on where it was when it is run again, with the results
that it would have had; so it can be run in pieces of bounded time, and some of its arms at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import hw_models
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.graph_builder import build_graph
from lowbit_sim.ghn.space import held_out
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import missing_kernel
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.environment import hardware_name
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import GhnStudy
from lowbit_sim.study.ghn.fine_tuning import check_fine_tuning
from lowbit_sim.study.ghn.folder import GhnFolder, create_folder, folder_to_continue
from lowbit_sim.study.ghn.one_run import PieceEnded, Place, arm_run, ended_run, random_starts_run
from lowbit_sim.study.ghn.pricing import inference_prices, update_prices
from lowbit_sim.study.ghn.results import GhnArm, GhnResult, GhnRun
from lowbit_sim.training.device import CPU


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is told while a study runs.

    Attributes:
        done, total: Epochs, tests and fine-tunings that have ended here, and of all runs.
        text: What is being done.
    """

    done: int
    total: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A study's result and the folder that holds it.

    Attributes:
        result: The result; its status tells whether the study ran to the end.
        folder: The run folder.
        out_of_time: Whether it was ended by its time limit, and goes on when it is run again.
    """

    result: GhnResult
    folder: GhnFolder
    out_of_time: bool = False


def run_ghn_study(
    study: GhnStudy,
    *,
    out: Path,
    data_root: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    resume: Path | None = None,
    tell: Callable[[str], None] | None = None,
    arms: Sequence[str] | None = None,
    device: torch.device = CPU,
    time_limit_s: float | None = None,
) -> Outcome:
    """Run every arm with every seed, or go on where an unfinished run of the same study in `out` is.

    A keyboard interrupt ends the study early: the status is "interrupted", and the study goes on when it is run
    again. So it does after any other exception, which is recorded as status "failed" and raised again.

    Args:
        study: The study.
        out: Folder of the run folders.
        data_root: Folder of the data sets; by default the environment's LOWBIT_DATA.
        on_progress: Told of each epoch, each network that was tested and each fine-tuning.
        fresh: Start anew in any case.
        resume: The run folder to go on in, in place of one found in `out`.
        tell: Told in a sentence what is continued, or why it can't be.
        arms: Names of the arms to run; all, if left out. Runs of others that are there stay in the result, whose
            status is "partial" while some are missing.
        device: What to compute on.
        time_limit_s: Stop after the first epoch, network or fine-tuning after so many seconds.

    Raises:
        StudyError: Data, networks, numerics or profiles are not what the study says; an arm that it does not have; a
            device without the kernels; or the study is running already, or can't go on in the folder `resume`.
    """
    tell, started = tell or (lambda text: None), time.monotonic()
    chosen = _chosen(study, arms)
    if (missing := missing_kernel(device)) is not None:
        raise StudyError(f"the networks are tested quantised, and {missing}")
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    graphs = _held_out_graphs(study, data)
    if (tuned := study.fine_tuning) is not None:
        check_fine_tuning(tuned, graphs[tuned.split][0], len(data.train), study.evaluation.mac())
    found = None if fresh else folder_to_continue(out, study, data.description, device, tell, resume)
    result = _unrun(study, data, graphs, device)
    folder = found or create_folder(out, study, device)
    clock = _Clock(study, chosen, on_progress, None if time_limit_s is None else started + time_limit_s)
    place = Place(
        study=study,
        data=data,
        folder=folder,
        device=device,
        graphs=graphs,
        tick=clock.tick,
        skip=clock.skip,
        tell=tell,
    )
    with folder.base.locked():
        if found is not None:
            folder.base.note_continuation()
            tell(f"continuing {folder.path}")
        return _to_the_end(place, result, chosen)


def _chosen(study: GhnStudy, names: Sequence[str] | None) -> tuple[int, ...]:
    known = [arm.name for arm in study.arms]
    for name in names or ():
        if name not in known:
            raise StudyError(unknown("arm", name, known))
    return tuple(index for index, name in enumerate(known) if names is None or name in names)


def _held_out_graphs(study: GhnStudy, data: Dataset) -> dict[str, list[NetworkGraph]]:
    """The held-out networks of each split.

    Raises:
        StudyError: A space with too few networks.
    """
    training = study.space.training()
    try:
        return {
            name: [
                build_graph(each, data.in_channels, data.classes)
                for each in held_out(split.on(study.space), name, split.networks, training)
            ]
            for name, split in study.evaluation.splits.items()
        }
    except ValueError as error:
        raise StudyError(str(error)) from error


def _unrun(
    study: GhnStudy, data: Dataset, graphs: dict[str, list[NetworkGraph]], device: torch.device
) -> GhnResult:
    """The result before the first run."""
    profiles = [hw_models.load(name) for name in study.profiles]
    image = (data.in_channels, data.image_size, data.image_size)
    first = next(iter(graphs.values()))
    return GhnResult(
        title=study.title,
        question=study.question,
        data=data.description,
        classes=data.classes,
        test_examples=len(data.test),
        seeds=study.seeds,
        status="running",
        precisions=study.evaluation.precisions,
        splits={name: len(each) for name, each in graphs.items()},
        arms=tuple(
            GhnArm(
                name=arm.name,
                strategy=str(arm.build()),
                steps=study.training.build(0).steps,
                prices=update_prices(study, arm, data, profiles),
            )
            for arm in study.arms
        ),
        inference=inference_prices(study.evaluation, first, image, profiles),
        hardware=hardware_name(device),
    )


def _to_the_end(place: Place, result: GhnResult, chosen: Sequence[int]) -> Outcome:
    """Every run that is not there yet."""
    folder = place.folder
    folder.write_result(result)
    out_of_time = False
    try:
        for seed in place.study.seeds:
            for index in range(len(place.study.arms)):
                run = (arm_run if index in chosen else ended_run)(place, index, seed)
                result = result if run is None else _with_run(result, index, run)
                folder.write_result(result)
            if place.study.fine_tuning is not None:
                starts = random_starts_run(place, place.study.fine_tuning, seed)
                result = replace(result, random_starts=(*result.random_starts, starts))
                folder.write_result(result)
    except PieceEnded:
        out_of_time = True
        result = replace(result, status="interrupted", reason="out of time, to be continued")
    except KeyboardInterrupt:
        result = replace(result, status="interrupted", reason="interrupted from the keyboard")
    except BaseException as error:
        folder.write_result(replace(result, status="failed", reason=f"{type(error).__name__}: {error}"))
        raise
    else:
        result = _ended(result)
    folder.write_result(result)
    if result.status == "completed":
        folder.base.remove_checkpoints()
    return Outcome(result=result, folder=folder, out_of_time=out_of_time)


def _ended(result: GhnResult) -> GhnResult:
    """The result of a piece in which every arm that was asked for came to its end."""
    left_out = tuple(arm.name for arm in result.arms if len(arm.runs) < len(result.seeds))
    return replace(result, status="partial" if left_out else "completed", left_out=left_out)


def _with_run(result: GhnResult, index: int, run: GhnRun) -> GhnResult:
    arms = list(result.arms)
    arms[index] = replace(arms[index], runs=(*arms[index].runs, run))
    return replace(result, arms=tuple(arms))


class _Clock:
    """Counts what has been done here, and ends a piece when its time is over."""

    def __init__(
        self,
        study: GhnStudy,
        chosen: Sequence[int],
        notify: Callable[[Progress], None] | None,
        stops_at: float | None,
    ) -> None:
        self._notify, self._stops_at = notify or (lambda progress: None), stops_at
        tests = sum(split.networks for split in study.evaluation.splits.values())
        tuned = study.fine_tuning
        tunings = 0 if tuned is None else tuned.networks * len(tuned.learning_rates)
        starts = sum(study.arms[index].fine_tune for index in chosen) + 1
        each_seed = len(chosen) * (study.training.epochs + tests) + tunings * starts
        self._done, self._total = 0, each_seed * len(study.seeds)

    def skip(self, count: int) -> None:
        """So much was there already."""
        self._done += count

    def tick(self, text: str) -> None:
        """Something ended.

        Raises:
            PieceEnded: The time is over.
        """
        self._done += 1
        self._notify(Progress(done=self._done, total=self._total, text=text))
        if self._stops_at is not None and time.monotonic() >= self._stops_at:
            raise PieceEnded
