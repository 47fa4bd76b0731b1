"""Fitting the expected loss of a merge (`regions.costs`) to a data set: images and label maps in, a few weights out.

    1. cases: each image's map to be merged, as a graph, with the overlaps of its regions and the annotations, is made
       once;
    2. rounds: the present cost merges every case down to the `stops`; at each, neighbours drawn at random are compared
       with what merging them would truly lose, and a network is fitted to the shares. The first round merges by Ward's
       cost, later ones by the round before. Rounds start afresh, only the cost is handed on;
    3. folds: the images are dealt into folds, each scored by a fit to the others; the weights come from a fit to all.

A run's folder holds run.json, cases/, rounds/, log.jsonl and at the end best.safetensors. What is there is not made
again, and every round draws from random numbers of its own, so a run that was stopped goes on to the same weights.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from math import ceil, isfinite, isnan, nan, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spx_cli import params
from spx_cli._version import __version__
from spx_cli.color import POSITION
from spx_cli.contours.guide import Guide, NetworkGuide
from spx_cli.datasets import READ_OPTIONS, Dataset, Entry
from spx_cli.errors import DataError, ParameterError, TrainingError, UnknownName
from spx_cli.io.files import DAMAGE, alone_in, atomic, files_digest, make_folder, reason, sweep
from spx_cli.methods._merging import INPUTS, Seen, load_judge, save_judge
from spx_cli.methods.base import Method
from spx_cli.options import ReadOptions
from spx_cli.regions.costs import Judge
from spx_cli.regions.graph import RegionGraph
from spx_cli.training.merge_fit import Case, MergeRecipe, asa, draw, fit, make_case
from spx_cli.training.samples import open_named
from spx_cli.types import Assignment, Image
from spx_cli.weights import provenance

_log = logging.getLogger(__name__)

BEST, LOG, ABOUT = "best.safetensors", "log.jsonl", "run.json"

Assign = Callable[[Entry, Image, int, float], Assignment]
Labelled = tuple[Dataset, Entry]  # an image that has label maps


class Progress(NamedTuple):
    """A line of the log: `fold` is None for the fit to all; `asa` is that of the fold's own images, NaN without."""

    fold: int | None
    round: int
    pairs: int
    loss: float
    asa: float

    def __str__(self) -> str:
        fold = "all images" if self.fold is None else f"fold {self.fold}"
        asa = "" if isnan(self.asa) else f"  ASA of the others {self.asa:.5f}"
        return f"{fold}, round {self.round}: {self.pairs} pairs  loss {self.loss:.4f}{asa}"


def open_splits(
    layout: str, root: Path, splits: str | None = None, reading: ReadOptions = READ_OPTIONS
) -> list[Dataset]:
    """Return splits as `open_named` does; without names train and val, or all where there is neither."""
    found: list[Dataset] = []
    for split in ("train", "val") if splits is None else ():
        with suppress(DataError, UnknownName):
            found += open_named(layout, root, split, reading)
    return found or open_named(layout, root, splits, reading)


def labelled(data: Sequence[Dataset], folds: int) -> list[Labelled]:
    """Return the images that have label maps; the log tells how many have none. DataError where there are too few."""
    places = [(dataset, entry) for dataset in data for entry in dataset.entries]
    found = [(dataset, entry) for dataset, entry in places if dataset.annotations(entry)]
    if not found:
        raise DataError("no image of the data set has a label map to learn from")
    if len(found) < folds:
        raise DataError(f"{len(found)} images with label maps are too few for {folds} folds")
    if len(found) < len(places):
        _log.warning("left out: %d images that have no label map", len(places) - len(found))
    return found


def assigners(methods: Iterable[Method], guide: Guide | None = None) -> dict[str, Assign]:
    """Return by name what assigns images to superpixels of these methods.

    guide : along which contours to merge; None for what a method does itself.
    """

    def assign(method: Method, entry: Entry, image: Image, count: int, factor: float) -> Assignment:
        along = None if guide is None else guide.along(image, entry)
        asked = method.asked(image, count, along, native=False)
        assignment = method.assign(image, min(ceil(factor * count), image[..., 0].size) if factor else asked)
        return method.along(assignment, image, along)

    return {method.name: partial(assign, method) for method in methods}


def maps(methods: Iterable[Method], images: Iterable[Labelled], guide: Guide | None = None) -> dict[str, Any]:
    """Return what decides on the maps of methods along a guide: parameters; weights and contour maps by content."""
    makers = {method.name: method for method in methods}
    if isinstance(guide, NetworkGuide):
        makers[f"contours of {guide.method.name}"] = guide.method
    told: dict[str, Any] = {"params": {}, "weights": {}}
    for name, method in makers.items():
        fields = params.fields(type(method)).keys() - {"weights"}  # wherever they lie
        told["params"][name] = {field: getattr(method.placed(), field) for field in sorted(fields)}
        if identity := method.weights_identity():
            told["weights"][name] = sha256(identity.encode()).hexdigest()[:16]
    if guide is not None and (files := [file for _, entry in images if (file := guide.file(entry))]):
        told["contour maps"] = files_digest(files)
    return told


def fit_merge(
    images: Sequence[Labelled],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    out: Path,
    *,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Progress]:
    """Fit the expected loss to the maps of some methods; yield a line for each round, and leave RUN/best.safetensors.

    images : as `labelled` gives them. methods : by name, what assigns an entry and its image for a count, at so many
        times as many regions, with the contours along which to merge.
    out : folder of the run. resume : go on with the run there.
    about : what else to say of the weights, and to find again when resuming. progress : is told how many images of how
        many have been made cases.

    Raises ParameterError for an `out` that holds a run, or another one than that to resume, for a damaged case, and for
    methods that merge along different contours; DataError where no region has a neighbour; OutputError where another
    process is at it; TrainingError for a fit that diverges.
    """
    made_of = {"recipe": asdict(recipe), "methods": ", ".join(sorted(methods)), "inputs": INPUTS}
    # one file may hold the annotations of many images
    files = dict.fromkeys(file for _, entry in images for file in (entry.image, *entry.truths))
    about = {**made_of, "files": f"{len(images)} images {files_digest(files)}", **(about or {})}
    make_folder(out)
    with alone_in(out):
        yield from _fit_merge(images, methods, recipe, out, about, progress, resume=resume)


def _fit_merge(
    images: Sequence[Labelled],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    out: Path,
    about: Mapping[str, Any],
    progress: Callable[[int, int], None],
    *,
    resume: bool,
) -> Iterator[Progress]:
    begun = (out / ABOUT).exists()
    _open_run(out, about, resume=resume)
    try:
        cases = _make_cases(images, methods, recipe, out / "cases", progress)
    except (ParameterError, DataError):
        if not begun:  # what can never be fitted does not occupy the folder; what a full disk ended can go on
            for left in (out / "cases", out / "rounds"):
                shutil.rmtree(left)
            (out / ABOUT).unlink()
        raise
    counted, total = 0, 0.0
    for fold in [*(range(recipe.folds) if recipe.folds > 1 else ()), None]:
        held = [files for i, files in enumerate(cases) if fold is not None and i % recipe.folds == fold]
        rest = [files for files in cases if files not in held]
        for number in range(recipe.rounds):
            line = _round(out, rest, held, recipe, fold, number)
            _write_log(out / LOG, line)
            yield line
        if held:
            counted, total = counted + len(held), total + len(held) * line.asa
    judge, made_for = load_judge(str(_file(out, None, recipe.rounds - 1)))
    score = {"asa": f"{total / counted:.6f}"} if counted else {}
    told = {**about, "images": str(len(images)), "spx": __version__, **score}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    save_judge(out / BEST, judge, made_for, texts)


def _open_run(out: Path, about: Mapping[str, Any], *, resume: bool) -> None:
    """Make the folder of a run, or check that it holds the run to resume."""
    path, text = out / ABOUT, json.dumps(dict(about))
    if path.exists():
        if not resume:
            raise ParameterError(f"{out} already holds a run; --resume continues it, another --out starts a new one")
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            begun = None
        if not isinstance(begun, dict) or not isinstance(begun.get("recipe"), dict):
            raise ParameterError(f"cannot resume {out}: {path.name} is damaged, or of an earlier spx")
        if changed := _changed(begun, json.loads(text)):
            raise ParameterError(f"cannot resume {out}: {'; '.join(changed)}")
    elif any((out / folder).is_dir() and any((out / folder).iterdir()) for folder in ("cases", "rounds")):
        raise ParameterError(f"{out} holds what is left of another run, without its {path.name}; name another --out")
    for folder in ("cases", "rounds"):
        make_folder(out / folder)
        sweep(out / folder)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], of: str = "") -> list[str]:
    """Return in words what differs, each field of the recipe and each parameter of a method by itself."""
    changed: list[str] = []
    for name in {**then, **now}:
        if name not in then or name not in now:
            changed.append(f"{of}{name} is {'new' if name in now else 'gone'}")
        elif isinstance(then[name], dict) and isinstance(now[name], dict):
            changed += _changed(then[name], now[name], f"{of}{name} ")
        elif then[name] != now[name]:
            changed.append(f"{of}{name} was {then[name]}, is {now[name]}")
    return changed


def _make_cases(
    images: Sequence[Labelled],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[list[Path]]:
    """Return the files of the cases of each image; those that are missing are made."""
    cases = []
    for i, (dataset, entry) in enumerate(images):
        counts = [int(n) for n in recipe.numbers("counts")]
        files = {(m, n): folder / f"{i:05d}-{m}-{n}.npz" for m in methods for n in counts}
        missing = {key: file for key, file in files.items() if not file.exists()}
        if missing:
            sample = dataset.load(entry)
            for (name, count), file in missing.items():
                assignment = methods[name](entry, sample.image, count, recipe.factor)
                _save_case(file, make_case(assignment, sample.truths, count, sample.ignore_label))
        cases.append(list(files.values()))
        if i == 0:
            _check_alike({name: file for (name, _), file in files.items()})
        progress(i + 1, len(images))
    return cases


def _check_alike(files: Mapping[str, Path]) -> None:
    """Raise ParameterError unless the cases of all methods have the same inputs."""
    kinds: dict[Seen, list[str]] = {}
    for name, file in files.items():
        kinds.setdefault(_load_case(file).seen, []).append(name)
    if len(kinds) > 1:
        apart = " and ".join(", ".join(names) for names in kinds.values())
        raise ParameterError(
            f"{apart} merge along different contours: fit them apart, or give all the same (--contours)"
        )


def _save_case(file: Path, case: Case) -> None:
    arrays: dict[str, Any] = {f"table{i}": table for i, table in enumerate(case.tables)}
    with atomic(file) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(
            opened, n_regions=case.n_regions, edges_of_colour=case.edges_of_colour, **case.graph._asdict(), **arrays
        )


def _load_case(file: Path) -> Case:
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            tables = tuple(arrays[f"table{i}"] for i in range(sum(name.startswith("table") for name in arrays.files)))
            graph = RegionGraph(*(arrays[name] for name in RegionGraph._fields))
            return Case(graph, tables, int(arrays["n_regions"]), bool(arrays["edges_of_colour"]))
    except DAMAGE as error:
        raise ParameterError(f"{file} is damaged ({reason(error)}); without it, --resume makes it anew") from None


def _file(out: Path, fold: int | None, number: int) -> Path:
    return out / "rounds" / f"{'all' if fold is None else f'fold{fold}'}-{number}.safetensors"


def _round(
    out: Path,
    images: Sequence[Sequence[Path]],
    held: Sequence[Sequence[Path]],
    recipe: MergeRecipe,
    fold: int | None,
    number: int,
) -> Progress:
    """Return what a round came to: read from its file, or fitted to pairs drawn with the cost of the round before."""
    file = _file(out, fold, number)
    if file.exists():
        told = provenance(file)
        return Progress(fold, number, int(told["pairs"]), float(told["loss"]), float(told["asa"]))
    before = load_judge(str(_file(out, fold, number - 1)))[0] if number else None
    rng = np.random.default_rng([recipe.seed, recipe.folds if fold is None else fold, number])
    drawn = []
    for path in (path for files in images for path in files):
        case = _load_case(path)
        made_for = case.seen
        judge = before or Judge.ward(POSITION / sqrt(case.area))
        drawn.append(draw(case, judge, recipe.numbers("stops"), recipe.pairs, rng))
    inputs, shares, weight = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    if len(inputs) < 2:
        raise DataError("the images have no neighbouring regions to learn from")
    judge, loss = fit(inputs, shares, weight, recipe, recipe.seed)
    if not isfinite(loss):
        raise TrainingError(f"the fit diverged (loss {loss}): a smaller lr or weight_decay may do")
    score = [asa(_load_case(path), judge) for files in held for path in files]
    line = Progress(fold, number, len(inputs), loss, float(np.mean(score)) if score else nan)
    told = {"pairs": str(line.pairs), "loss": repr(loss), "asa": repr(line.asa)}
    save_judge(file, judge, made_for, told)
    return line


def _write_log(path: Path, line: Progress) -> None:
    values = {k: None if isinstance(v, float) and isnan(v) else v for k, v in line._asdict().items()}
    text = json.dumps(values) + "\n"
    if not path.exists() or text not in path.read_text(encoding="utf-8"):
        with path.open("a", encoding="utf-8") as log:
            log.write(text)
