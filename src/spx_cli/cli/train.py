"""spx train: a data set in, trained weights out."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import collect_garbage, log_to_stderr, note, print_json
from spx_cli.options import ReadOptions

if TYPE_CHECKING:
    from spx_cli.training.log import LogLine

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the data set.")]
Layout = Annotated[
    str, typer.Option("--layout", metavar="NAME", help="How the folder is laid out: folder, bsds500, voc, ...")
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Such as train, or train+val. [default: train, else everything]"),
]
ValSplit = Annotated[
    str | None,
    typer.Option(
        "--val-split",
        metavar="NAME",
        help="Images to validate on, or none. [default: val, else every tenth image, which is then not trained on]",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help="A recipe of the method. [default: the paper's]")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file of recipe fields.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A field of the recipe, see --show-recipe; repeatable."),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Samples per step and process.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate.")]
Crop = Annotated[int | None, typer.Option("--crop", min=0, help="Side of the random crop, pixels; 0: whole images.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Of first weights, order of samples, and crops.")]
Amp = Annotated[str | None, typer.Option("--amp", help="none, tf32 or bf16.")]
Start = Annotated[str | None, typer.Option("--weights", metavar="PATH", help="Weights to start from.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in RUN where its last checkpoint stands.")]
Half = Annotated[bool, typer.Option("--half", help="Export the weights as float16, half the size.")]
Board = Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard, into RUN.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("-m", "--method", metavar="NAME", help="For merge: whose maps are merged; repeatable."),
]
Along = Annotated[
    str | None,
    typer.Option(
        "--contours",
        metavar="NAME|DIR",
        help="For merge and lnsnet: a method that sees contours, or a folder of maps. [default: what they know]",
    ),
]
Show = Annotated[bool, typer.Option("--show-recipe", help="Print the recipe, as a TOML file for --config, and exit.")]


@_options.taking(ReadOptions)
def train(
    *,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A learned method, or merge.", show_default=False)],
    data: Data = None,
    out: Out = None,
    layout: Layout = "folder",
    split: Split = None,
    val_split: ValSplit = None,
    recipe: RecipeName = "",
    config: Config = None,
    set_: Set = None,
    param: _options.Params = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    crop: Crop = None,
    seed: Seed = None,
    amp: Amp = None,
    options: ReadOptions,
    device: _options.Device = None,
    weights: Start = None,
    methods: Methods = None,
    contours: Along = None,
    resume: Resume = False,
    half: Half = False,
    tensorboard: Board = False,
    show_recipe: Show = False,
    as_json: _options.Json = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> None:
    """Train a method's network; the best weights by validation end up in RUN/best.safetensors.

    With merge for METHOD: fit the expected loss by which the finishing stage merges regions.
    """
    from spx_cli.errors import ParameterError
    from spx_cli.methods._merging import OWNER

    collect_garbage()
    fields: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
    if method == OWNER:
        alien = {"--val-split": val_split, "--crop": crop, "--amp": amp, "--weights": weights}
        alien |= {"--half": half or None, "--tensorboard": tensorboard or None}
        if given := [name for name, value in alien.items() if value is not None]:
            raise ParameterError(f"{', '.join(given)}: not for merge")
        _fit(
            data, out, layout, options, split, methods or [], contours, param, device,
            recipe, config, set_ or [], fields,
            resume=resume, show_recipe=show_recipe, as_json=as_json, quiet=quiet, verbose=verbose,
        )  # fmt: skip
        return
    if methods:
        raise ParameterError("--method is for merge alone")
    from spx_cli.methods._recipe import choose
    from spx_cli.methods._torch import TorchMethod

    learner = _options.make_method(method, param, device=device)
    if not isinstance(learner, TorchMethod):
        raise ParameterError(f"{method} is not trained; 'spx methods list' says which methods are learned")
    fields |= {"crop": crop, "amp": amp}
    chosen = choose(learner.recipes, recipe, config=config, overrides=set_ or [], fields=fields)
    if show_recipe:
        print(chosen.to_toml(), end="")
        return
    if data is None or out is None:
        raise ParameterError("spx train needs --data DIR and --out RUN")
    if val_split not in (None, "none") and not chosen.validate_every:
        raise ParameterError("nothing is validated by this recipe (validate_every = 0); leave out --val-split")

    from spx_cli.training import loop, state
    from spx_cli.training.samples import open_samples
    from spx_cli.weights import sha256

    log_to_stderr(verbose=verbose, quiet=quiet)
    start = None if weights is None else replace(learner, weights=weights).load().state_dict()
    samples = open_samples(layout, data, split, val_split, options)
    records = loop.train(
        learner,
        samples.train,
        samples.val,
        chosen,
        out,
        resume=resume,
        start=start,
        data=samples.about,
        half=half,
        tensorboard=tensorboard,
        contours=contours,
    )
    with closing(records), _display(as_json=as_json, quiet=quiet) as show:  # closed, an interrupted run keeps its steps
        for record in records:
            show(record)
    if os.environ.get("RANK", "0") == "0" and not as_json:
        for path in (out / state.BEST, out / state.LAST):
            if path.exists():
                print(f"{path}\tsha256 {sha256(path)}")


def _fit(
    data: Path | None,
    out: Path | None,
    layout: str,
    options: ReadOptions,
    splits: str | None,
    names: list[str],
    contours: str | None,
    param: list[str] | None,
    device: str | None,
    recipe: str,
    config: Path | None,
    overrides: list[str],
    fields: Mapping[str, Any],
    *,
    resume: bool,
    show_recipe: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    from spx_cli.contours.guide import open_guide
    from spx_cli.errors import ParameterError
    from spx_cli.methods._recipe import choose
    from spx_cli.training import merge_fit, merging
    from spx_cli.weights import sha256

    chosen = choose({"default": merge_fit.MergeRecipe()}, recipe, config=config, overrides=overrides, fields=fields)
    if show_recipe:
        print(chosen.to_toml(), end="")
        return
    if data is None or out is None or not names:
        raise ParameterError("spx train merge needs --data DIR, --out RUN and --method NAME")
    log_to_stderr(verbose=verbose, quiet=quiet)
    made = [_options.make_method(name, param, device=device) for name in names]
    values = f", values {options.value_range}" if options.value_range else ""
    with _counting(wanted=not (quiet or as_json)) as progress:
        images = merging.labelled(merging.open_splits(layout, data, splits, options), chosen.folds)
        guide = None if contours is None else open_guide(contours, device=device).among([entry for _, entry in images])
        lines = merging.fit_merge(
            images,
            merging.assigners(made, guide),
            chosen,
            out,
            resume=resume,
            about={
                "data": f"{layout} {splits or 'train and val'}{values}",
                "contours": contours or "own",
                **merging.maps(made, images, guide),
            },
            progress=progress,
        )
        for line in lines:
            if as_json:
                print_json({k: None if v != v else v for k, v in line._asdict().items()})
            elif not quiet:
                note(str(line))
    if not as_json:
        best = out / merging.BEST
        print(f"{best}\tsha256 {sha256(best)}")


@contextmanager
def _counting(*, wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how many images of how many are ready: a bar on a terminal, else nothing."""
    if not wanted or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _display(*, as_json: bool, quiet: bool) -> Iterator[Callable[["LogLine"], None]]:
    """Give a function that shows a record: as JSON on stdout, in a bar on a terminal, else as a line on stderr."""
    if as_json:
        yield lambda record: print_json({k: v if isfinite(v) else None for k, v in record._asdict().items()})
    elif quiet:
        yield lambda record: None
    elif not sys.stderr.isatty():
        yield lambda record: note(_line(record))
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda record: bar.update(task, total=record.steps, completed=record.step, description=_text(record))


def _line(record: "LogLine") -> str:
    left = (record.steps - record.step) * record.seconds_per_step
    return f"step {record.step}/{record.steps}  {_text(record)}  {int(left // 3600)}:{int(left % 3600 // 60):02d} left"


def _text(record: "LogLine") -> str:
    asa = f"ASA {record.asa:.4f}  " if isfinite(record.asa) else ""
    return f"loss {record.loss:.4f}  {asa}{record.images_per_second:.1f} images/s"
