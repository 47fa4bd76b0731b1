"""The tables and figures of five papers, for our methods: what each measures, as it measures it, theirs beside ours.

LNS-Net (Zhu et al., CVPR 2021), SEN (Gaur and Manjunath, TIP 2020), SSN (Jampani et al., ECCV 2018), SIN (Yuan et al.
2021) and RIM (Suzuki, ICASSP 2020). Times of the papers are those of their machines, often of a GPU.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spx_cli.bench import published
from spx_cli.bench.stand import stand
from spx_cli.bench.sweep import show
from spx_cli.bench.timing import Heat, combine, race
from spx_cli.datasets import Dataset, Entry, open_dataset
from spx_cli.errors import DataError, SpxError
from spx_cli.evaluation.document import Document, Failure, Row
from spx_cli.evaluation.scoring import Scoring
from spx_cli.evaluation.sources import Segmenter, make_sources
from spx_cli.methods import create
from spx_cli.methods.base import Method
from spx_cli.options import BenchOptions, EvaluateOptions
from spx_cli.types import Image

COUNTS = (50, 100, 200, 400, 800)
LIMIT = 20  # images, unless another number is asked for
LAMBDAS = (0.5, 1.0, 2.0, 3.0)
MOST = 500  # superpixels at most, in RIM's Fig. 1
FLOWS = ("middlebury", "sintel")  # layouts of --flow
WIDE = (512, 1024)  # of SSN's Table 1

Cell = str | float | int | None


class PaperTable(NamedTuple):
    """A table of a paper: where it stands, how it is measured here, and its rows. None: the paper does not say."""

    title: str
    text: str
    head: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


class Reproduction(NamedTuple):
    """The tables, and what could not be measured."""

    tables: list[PaperTable]
    failures: list[Failure]


class _Work:
    """One reproduction: the methods, the data, and what the main run has found."""

    def __init__(
        self,
        methods: Sequence[Method],
        dataset: Dataset,
        options: BenchOptions,
        threads: int,
        tell: Callable[[int, int], None],
    ) -> None:
        self.methods, self.dataset, self.options, self.threads, self.tell = methods, dataset, options, threads, tell
        self.failures: list[Failure] = []

    def scores(self, dataset: Dataset, counts: Sequence[int], **changes: Any) -> Document:
        """Return the scores of all methods, under the options of `spx eval` that are changed."""
        options = EvaluateOptions(limit=self.options.limit, jobs=self.options.jobs, **changes)
        document = Scoring.of(dataset, make_sources(self.methods, counts), options).run(self.tell)
        self.failures += document.failures
        return document


def reproduce(
    methods: Sequence[Method],
    dataset: Dataset,
    speed: Sequence[Row],
    options: BenchOptions,
    threads: int,
    flows: Sequence[Path] = (),
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Reproduction:
    """Return the tables for these methods, on the first images of `dataset`, which has annotations.

    speed : the summary of a benchmark of the same methods at COUNTS. flows : folders of flow data, in FLOWS.
    """
    work = _Work(methods, dataset, options, threads, tell)
    ms = {(row["method"], row["k_requested"]): row["ms_min"] for row in speed}  # what disturbs, only adds
    tables = [
        _lnsnet(work, ms),
        _sen(work, ms),
        _ssn(work),
        _curves(speed),
        _sin(ms),
        *_rim(work),
        *(_flow(work, open_flow(root)) for root in flows),
    ]
    return Reproduction(tables, work.failures)


def open_flow(root: Path) -> Dataset:
    """Return the flow data in a folder, in whichever layout it lies."""
    reasons = []
    for layout in FLOWS:
        try:
            return open_dataset(layout, root)
        except SpxError as error:
            reasons.append(str(error))
    raise DataError("; ".join(reasons))


def _of(document: Document, metric: str) -> dict[str, float]:
    return {row["method"]: row[metric] for row in document.summary}


def _images(work: _Work, dataset: Dataset) -> int:
    return len(dataset.entries[: work.options.limit])


def _lnsnet(work: _Work, ms: Mapping[tuple[str, int], float]) -> PaperTable:
    asa = _of(work.scores(work.dataset, [100], protocol="lnsnet", metrics=("asa",)), "asa")
    image = next(_read(work))
    rows: list[tuple[Cell, ...]] = []
    for method in work.methods:
        name = method.name
        paper = published.LNSNET.get(name)
        gmac, weights = complexity(method, image)
        theirs = (paper.asa, paper.ms, paper.gmac, paper.thousand_weights) if paper else (None,) * 4
        ours = (asa[name], ms.get((name, 100)), gmac, weights)
        rows.append((name, *(cell for pair in zip(theirs, ours, strict=True) for cell in pair)))
    head = [f"{what}, {whose}" for what in ("ASA", "ms", "GMAC", "weights/1000") for whose in ("paper", "here")]
    text = (
        "K = 100, protocol lnsnet: the best annotation of each image. The paper's methods give counts of their own "
        "(LNS-Net about 180), ours 100. GMAC: thousand million products with their sums in convolutions and matrices, "
        "which the paper calls Flops; of RIM over all its steps. ms: the least of some calls; the paper's by a GPU for "
        "ssn, rim and lnsnet."
    )
    return PaperTable("LNS-Net, Table 1", text, ("method", *head), rows)


def complexity(method: Method, image: Image) -> tuple[float | None, float | None]:
    """Return what a network does for one image, in thousand million products, and its weights in thousands."""
    if method.kind == "classical":
        return None, None
    if hasattr(method, "device") and not getattr(method, "bound", False):
        method = create(method, device="cpu")  # where no recorded graph hides what is done
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    gmac: float | None = None
    with suppress(SpxError):
        with FlopCounterMode(display=False) as counter:
            method.segment(image, 100)
        gmac = counter.get_total_flops() / 2e9
    networks: Sequence[nn.Module] = getattr(method, "networks", ())
    weights = sum(p.numel() for network in networks for p in network.parameters()) / 1e3 if networks else None
    return gmac, weights


def _read(work: _Work) -> Iterator[Image]:
    for entry in work.dataset.entries[: work.options.limit]:
        with suppress(SpxError, OSError):
            yield work.dataset.load(entry).image


def _sen(work: _Work, ms: Mapping[tuple[str, int], float]) -> PaperTable:
    f1 = _of(work.scores(work.dataset, [50], protocol="sen", metrics=("f1",)), "f1")
    rows: list[tuple[Cell, ...]] = []
    for method in work.methods:
        paper = published.SEN.get(method.name)
        theirs = (paper.f1, paper.ms) if paper else (None, None)
        rows.append((method.name, theirs[0], f1[method.name], theirs[1], ms.get((method.name, 50))))
    text = (
        "K = 50, protocol sen: F1 of boundaries within a pixel, mean over annotations. ms: the least; the paper's of "
        "sen is of a GPU."
    )
    return PaperTable("SEN, Table I", text, ("method", "F1, paper", "F1, here", "ms, paper", "ms, here"), rows)


def _ssn(work: _Work) -> PaperTable:
    """Time all methods on one wide image, side by side."""
    entry = Entry("wide", Path("wide"))
    image = next(_read(work))
    more = [(0, max(0, wanted - there)) for wanted, there in zip(WIDE, image.shape[:2], strict=True)]
    image = np.ascontiguousarray(np.pad(image, (*more, (0, 0)), mode="symmetric")[: WIDE[0], : WIDE[1]])
    segmenters = [source for source in make_sources(work.methods, [1000]) if isinstance(source, Segmenter)]
    with ExitStack() as stack:
        stands = [stack.enter_context(stand(segmenter, work.threads)) for segmenter in segmenters]
        there = show(stands, image, entry, work.failures)
        trials, failures = race(there, work.methods[0].name, image, entry, 1000, Heat(3, work.options.seconds, least=1))
    work.failures += failures
    rows: list[tuple[Cell, ...]] = [
        (m.name, published.SSN.get(m.name), combine([trials[m.name]])["ms_min"] if m.name in trials else None)
        for m in work.methods
    ]
    rows += [(name, value, None) for name, value in published.SSN_OTHERS.items()]
    text = "Least milliseconds for 1000 superpixels of an image of 1024x512 pixels, here a mirrored one."
    return PaperTable("SSN, Table 1", text, ("method", "paper", "here"), rows)


def _curves(speed: Sequence[Row]) -> PaperTable:
    names = ("asa", "br", "bp", "co", "ev")
    rows: list[tuple[Cell, ...]] = [(row["method"], row["k"], *(row.get(name) for name in names)) for row in speed]
    rows += [("SSMamba, published", row["k"], *(row[name] for name in names)) for row in published.SSMAMBA]
    text = (
        "Protocol stutz, each annotation a sample. The papers draw these curves and print no numbers; below ours are "
        "those of the strongest published maps found, of all 200 images."
    )
    return PaperTable("Curves of SSN, SIN, RIM and SEN", text, ("method", "k", *map(str.upper, names)), rows)


def _sin(ms: Mapping[tuple[str, int], float]) -> PaperTable:
    names = list(dict.fromkeys(name for name, _ in ms))
    counts = list(dict.fromkeys(count for _, count in ms))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        times = [ms[name, count] for count in counts]
        ratios = [ms[name, c] / ms["sin", c] for c in counts if ("sin", c) in ms and ms["sin", c] > 0]
        span = f"{min(ratios):.2g} to {max(ratios):.2g}" if ratios and not any(map(math.isnan, ratios)) else None
        rows.append((name, *times, published.SIN.get(name), span))
    text = (
        "Least milliseconds over the count; the paper says in words how many times as long as SIN others take by a GPU."
    )
    head = ("method", *(f"K = {count}" for count in counts), "times SIN, paper", "times SIN, here")
    return PaperTable("SIN, Fig. 4", text, head, rows)


def _rim(work: _Work) -> Iterator[PaperTable]:
    """Yield how many superpixels RIM gives at each lambda, if it is among the methods."""
    if not any(method.name == "rim" for method in work.methods):
        return
    rows: list[tuple[Cell, ...]] = []
    base = next(method for method in work.methods if method.name == "rim")
    for weight in LAMBDAS:
        own = _Work([create(base, marginal=weight)], work.dataset, work.options, work.threads, work.tell)
        document = own.scores(work.dataset, [MOST], native_count=True, metrics=("k",), annotations="mean")
        work.failures += own.failures
        found = [row["k"] for row in document.rows()]
        rows.append((f"{weight:g}", *((min(found), float(np.mean(found)), max(found)) if found else (None,) * 3)))
    text = (
        f"How many connected superpixels RIM gives of at most {MOST}. The paper draws them, from 1000 steps at full "
        "size: few at a small lambda, more and more various at a large one."
    )
    yield PaperTable("RIM, Fig. 1", text, ("lambda", "fewest", "mean", "most"), rows)


def _flow(work: _Work, dataset: Dataset) -> PaperTable:
    counts = [100, 200, 400, 800]
    document = work.scores(dataset, counts, metrics=("epe",))
    found = {(row["method"], row["k_requested"]): row["epe"] for row in document.summary}
    rows: list[tuple[Cell, ...]] = [
        (method.name, *(found[method.name, count] for count in counts)) for method in work.methods
    ]
    number = _images(work, dataset)
    text = (
        f"End-point error in pixels of flow that is averaged over each superpixel, {number} frame(s). "
        "The paper draws a curve over the validation part of Sintel, which is not at hand here, and prints no numbers."
    )
    return PaperTable(f"SSN, Fig. 8b: {type(dataset).__name__}", text, ("method", *(f"K = {c}" for c in counts)), rows)
