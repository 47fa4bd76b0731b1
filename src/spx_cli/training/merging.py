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
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from math import ceil, inf, isfinite, isnan, nan, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from spx_cli import params
from spx_cli._version import __version__
from spx_cli.color import POSITION
from spx_cli.contours.guide import Guide
from spx_cli.datasets import READ_OPTIONS, Dataset, Entry, open_dataset
from spx_cli.errors import DataError, ParameterError, TrainingError, UnknownName
from spx_cli.io.files import DAMAGE, alone_in, atomic, make_folder, reason, sweep
from spx_cli.methods._merging import INPUTS, Seen, load_judge, save_judge
from spx_cli.methods._recipe import TomlRecipe
from spx_cli.methods.base import Method
from spx_cli.options import ReadOptions
from spx_cli.params import param
from spx_cli.regions.costs import Judge, pair_inputs
from spx_cli.regions.finish import loss_graph
from spx_cli.regions.graph import FEATURES, SIZE, RegionGraph, contract
from spx_cli.regions.maps import compact
from spx_cli.regions.merging import merge
from spx_cli.regions.runs import find_runs, paint
from spx_cli.types import Assignment, Image
from spx_cli.weights import provenance

BEST, LOG, ABOUT = "best.safetensors", "log.jsonl", "run.json"

Assign = Callable[[Entry, Image, int, float], Assignment]


@dataclass(frozen=True, kw_only=True)
class MergeRecipe(TomlRecipe):
    """Everything that decides the weights, apart from the data and the methods whose maps are merged."""

    counts: str = param("200,600", "numbers of superpixels to merge to, with commas between")
    factor: float = param(0.0, "times the count: regions that a method is asked for; 0 = as when it segments", ge=0)
    stops: str = param("2,1.4,1,0.6", "times the count: where pairs are drawn")
    pairs: int = param(500, "pairs drawn at each stop", ge=1)
    rounds: int = param(3, "fits, each to pairs from merges by the fit before", ge=1)
    hidden: int = param(16, "hidden units", ge=1, le=256)
    steps: int = param(2500, "optimiser steps of a fit", ge=1)
    batch_size: int = param(4096, "pairs per step", ge=1)
    lr: float = param(0.01, "peak of the one-cycle learning rate", gt=0)
    weight_decay: float = param(0.3, "weight decay (AdamW)", ge=0)
    folds: int = param(2, "parts of the images that are scored by a fit to the others; 1 = none", ge=1)
    seed: int = param(0, "of the pairs drawn, and of the fits", ge=0)

    def __post_init__(self) -> None:
        params.check(self)
        _ = self.numbers("stops")
        if not all(1 <= number <= 10**9 and number == int(number) for number in self.numbers("counts")):
            raise ParameterError(f"counts must be whole numbers from 1 to 1000000000, not {self.counts!r}")

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the numbers in a field of texts; ParameterError for anything else in it."""
        try:
            values = tuple(float(part) for part in getattr(self, name).split(","))
        except ValueError:
            values = ()
        if not values or not all(0 < value < inf for value in values):
            raise ParameterError(f"{name} must be positive numbers with commas between, not {getattr(self, name)!r}")
        return values


class Case(NamedTuple):
    """A map to merge down to `n_regions` regions, and what the annotations say of its regions.

    tables : for each annotation (region, segment, pixels), int32 (3, P), of those that overlap.
    edges_of_colour : whether the contours of the graph are no more than that.
    """

    graph: RegionGraph
    tables: tuple[NDArray[np.int32], ...]
    n_regions: int
    edges_of_colour: bool = False

    @property
    def area(self) -> float:
        """Pixels of the image per region asked for."""
        return float(self.graph.sums[:, SIZE].sum()) / self.n_regions

    @property
    def seen(self) -> Seen:
        """What weights that are fitted to it look at."""
        return Seen(self.graph.contour.shape[1], self.graph.sums.shape[1] > FEATURES + 3, self.edges_of_colour)


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
    """Return splits of a data set, '+' between their names; without names train and val, or all where it has neither.

    Raises as `open_dataset` does.
    """
    if splits is not None:
        return [open_dataset(layout, root, split, reading) for split in splits.split("+")]
    found = []
    for split in ("train", "val"):
        with suppress(DataError, UnknownName):
            found.append(open_dataset(layout, root, split, reading))
    return found or [open_dataset(layout, root, None, reading)]


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


def maps(methods: Iterable[Method], data: Sequence[Dataset], guide: Guide | None = None) -> str:
    """Return a digest of all that decides on the maps of methods along a guide: parameters, weights, contour maps."""
    texts = [*(method.identity() for method in methods), "" if guide is None else guide.identity]
    entries = (entry for dataset in data for entry in dataset.entries)
    files = () if guide is None else (file for entry in entries if (file := guide.file(entry)))
    return _digest(texts, files)


def _digest(texts: Iterable[str], files: Iterable[Path] = ()) -> str:
    digest = sha256("\n".join(texts).encode())
    for file in dict.fromkeys(files):  # one may hold the annotations of many images
        digest.update(sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def make_case(assignment: Assignment, truths: Sequence[NDArray[Any]], count: int, ignore: Any = None) -> Case:
    """Return the case of one assignment; truths : label maps (H, W); ignore : ids in them that count nowhere."""
    runs = find_runs(assignment.labels)
    graph, into = loss_graph(assignment, runs, count)
    regions = paint(runs, into).ravel().astype(np.int64)
    tables = []
    for truth in truths:
        segments = compact(truth, ignore_label=ignore, what="annotation").ravel()
        of = int(segments.max()) + 1
        pairs, pixels = np.unique((regions * of + segments)[segments >= 0], return_counts=True)
        tables.append(np.stack([pairs // of, pairs % of, pixels]).astype(np.int32))
    return Case(graph, tuple(tables), count, assignment.edges)


def asa(case: Case, judge: Judge) -> float:
    """Return the achievable segmentation accuracy after merging to the count, mean over annotations."""
    into = merge(case.graph, case.n_regions, judge, case.area)
    return float(np.mean([_table(t, into).max(1).sum() / t[2].sum() for t in case.tables]))


def draw(
    case: Case, judge: Judge, stops: Sequence[float], n_pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return pairs of neighbours met on the way down: inputs (P, I), share lost (P,), and weight (P,).

    The share is of the pixels of the smaller region, mean over annotations; the weight is its size, whose unit is the
    mean size aimed at.
    """
    graph, into = case.graph, np.arange(len(case.graph.sums), dtype=np.int32)
    inputs, shares, weights = [], [], []
    for stop in sorted(stops, reverse=True):
        step = merge(graph, max(2, round(stop * case.n_regions)), judge, case.area)
        graph, into = contract(graph, step), step[into]
        chosen = rng.choice(len(graph.edges), min(n_pairs, len(graph.edges)), replace=False)
        a, b = graph.edges[chosen].T
        smaller = np.minimum(graph.sums[a, SIZE], graph.sums[b, SIZE])
        lost = np.zeros(len(chosen))
        for overlaps in case.tables:
            table = _table(overlaps, into)
            best = table.max(1)
            lost += best[a] + best[b] - (table[a] + table[b]).max(1)
        inputs.append(pair_inputs(graph, case.area)[chosen])
        shares.append(lost / len(case.tables) / smaller)
        weights.append(smaller / case.area)
    share, weight = (np.concatenate(parts).astype(np.float32) for parts in (shares, weights))
    return np.concatenate(inputs), share, weight


def _table(overlaps: NDArray[np.int32], into: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the pixels that merged regions share with segments, (R', G); overlaps (3, P) as in Case, into (R,)."""
    shape = int(into.max()) + 1, int(overlaps[1].max()) + 1
    pairs = into[overlaps[0]].astype(np.int64) * shape[1] + overlaps[1]
    return np.bincount(pairs, overlaps[2], shape[0] * shape[1]).astype(np.int64).reshape(shape)


def fit(
    inputs: NDArray[np.float32],
    shares: NDArray[np.float32],
    weights: NDArray[np.float32],
    recipe: MergeRecipe,
    seed: int,
) -> tuple[Judge, float]:
    """Return the network fitted to pairs as `draw` gives them, and its weighted cross entropy on them."""
    x, y, w = (torch.from_numpy(array) for array in (inputs, shares, weights / weights.mean()))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / deviation
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(x.shape[1], recipe.hidden), nn.Linear(recipe.hidden, 1)
        parameters = [*first.parameters(), *last.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.1)

        def loss(of: Any) -> torch.Tensor:
            logits = last(first(x[of]).relu())[:, 0]
            return (functional.binary_cross_entropy_with_logits(logits, y[of], reduction="none") * w[of]).mean()

        for _ in range(recipe.steps):
            value = loss(torch.randint(len(x), (recipe.batch_size,)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        # The scale of the inputs goes into the weights, so that what merges knows nothing of it.
        hidden = first.weight / deviation
        bias, reached = first.bias - hidden @ mean, float(loss(slice(None)))
        arrays = [np.ascontiguousarray(array.numpy()) for array in (hidden.T, bias, last.weight[0])]
    return Judge(arrays[0], arrays[1], arrays[2], float(last.bias.detach()[0]), 0.0, 0.0), reached


def fit_merge(
    data: Sequence[Dataset],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    out: Path,
    *,
    resume: bool = False,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Progress]:
    """Fit the expected loss to the maps of some methods; yield a line for each round, and leave RUN/best.safetensors.

    data : images with label maps. methods : by name, what assigns an entry and its image for a count, at so many times
        as many regions, with the contours along which to merge.
    out : folder of the run. resume : go on with the run there.
    about : what else to say of the weights, and to find again when resuming. progress : is told how many images of how
        many have been made cases.

    Raises ParameterError for an `out` that holds a run, or another one than that to resume, for a damaged case, and for
    methods that merge along different contours; DataError where no image has an annotation, or too few have;
    OutputError where another process is at it; TrainingError for a fit that diverges.
    """
    made_of = {"recipe": json.dumps(asdict(recipe)), "methods": ", ".join(sorted(methods)), "inputs": INPUTS}
    entries = [entry for dataset in data for entry in dataset.entries]
    files = (file for entry in entries for file in (entry.image, *entry.truths))
    about = {**made_of, "files": f"{len(entries)} images {_digest((e.id for e in entries), files)}", **(about or {})}
    make_folder(out)
    with alone_in(out):
        yield from _fit_merge(data, methods, recipe, out, about, progress, resume=resume)


def _fit_merge(
    data: Sequence[Dataset],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    out: Path,
    about: Mapping[str, str],
    progress: Callable[[int, int], None],
    *,
    resume: bool,
) -> Iterator[Progress]:
    begun = (out / ABOUT).exists()
    _open_run(out, about, resume=resume)
    try:
        images = _make_cases(data, methods, recipe, out / "cases", progress)
    except (ParameterError, DataError):
        if not begun:  # what can never be fitted does not occupy the folder; what a full disk ended can go on
            for left in (out / "cases", out / "rounds"):
                shutil.rmtree(left)
            (out / ABOUT).unlink()
        raise
    counted, total = 0, 0.0
    for fold in [*(range(recipe.folds) if recipe.folds > 1 else ()), None]:
        held = [name for i, name in enumerate(images) if fold is not None and i % recipe.folds == fold]
        rest = [name for name in images if name not in held]
        if not rest or (fold is not None and not held):
            raise DataError(f"{len(images)} images with label maps are too few for {recipe.folds} folds")
        for number in range(recipe.rounds):
            line = _round(out, rest, held, recipe, fold, number)
            _log(out / LOG, line)
            yield line
        if held:
            counted, total = counted + len(held), total + len(held) * line.asa
    judge, made_for = load_judge(str(_file(out, None, recipe.rounds - 1)))
    score = {"asa": f"{total / counted:.6f}"} if counted else {}
    told = {**about, "images": str(len(images)), "spx": __version__, **score}
    save_judge(out / BEST, judge, made_for, told)


def _open_run(out: Path, about: Mapping[str, str], *, resume: bool) -> None:
    """Make the folder of a run, or check that it holds the run to resume."""
    path = out / ABOUT
    if path.exists():
        if not resume:
            raise ParameterError(f"{out} already holds a run; --resume continues it, another --out starts a new one")
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
            changed = [f"{k} was {then.get(k)}, is {about[k]}" for k in about if then.get(k) != about[k]]
        except (ValueError, AttributeError):
            raise ParameterError(f"cannot resume {out}: {path.name} is damaged") from None
        if changed:
            raise ParameterError(f"cannot resume {out}: {'; '.join(changed)}")
    elif any((out / folder).is_dir() and any((out / folder).iterdir()) for folder in ("cases", "rounds")):
        raise ParameterError(f"{out} holds what is left of another run, without its {path.name}; name another --out")
    for folder in ("cases", "rounds"):
        make_folder(out / folder)
        sweep(out / folder)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(dict(about)), encoding="utf-8")


def _make_cases(
    data: Sequence[Dataset],
    methods: Mapping[str, Assign],
    recipe: MergeRecipe,
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[list[Path]]:
    """Return the files of the cases of each image that has label maps; those that are missing are made."""
    entries = [(dataset, entry) for dataset in data for entry in dataset.entries]
    images = []
    for i, (dataset, entry) in enumerate(entries):
        counts = [int(n) for n in recipe.numbers("counts")]
        files = {(m, n): folder / f"{i:05d}-{m}-{n}.npz" for m in methods for n in counts}
        missing = {key: file for key, file in files.items() if not file.exists()}
        if missing:
            sample = dataset.load(entry)
            for (name, count), file in missing.items():
                if sample.truths:
                    case = make_case(
                        methods[name](entry, sample.image, count, recipe.factor),
                        sample.truths,
                        count,
                        sample.ignore_label,
                    )
                    _save_case(file, case)
        images.append([file for file in files.values() if file.exists()])
        if len(images) == 1:
            _check_alike({name: file for (name, _), file in files.items() if file.exists()})
        progress(i + 1, len(entries))
    images = [files for files in images if files]
    if not images:
        raise DataError("no image of the data set has a label map to learn from")
    return images


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


def _log(path: Path, line: Progress) -> None:
    values = {k: None if isinstance(v, float) and isnan(v) else v for k, v in line._asdict().items()}
    text = json.dumps(values) + "\n"
    if not path.exists() or text not in path.read_text(encoding="utf-8"):
        with path.open("a", encoding="utf-8") as log:
            log.write(text)
