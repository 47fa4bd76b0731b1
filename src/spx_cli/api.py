"""The Python API: what `import spx_cli` offers."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spx_cli.errors import ParameterError
from spx_cli.methods import METHODS, create
from spx_cli.methods.base import Method
from spx_cli.options import BenchOptions, BoundaryOptions, EvaluateOptions
from spx_cli.params import change
from spx_cli.registry import unknown
from spx_cli.types import Contours, Image, Labels, check_image

if TYPE_CHECKING:
    from spx_cli.bench.run import BenchDocument
    from spx_cli.evaluation.boundaries import BoundaryDocument, ContourSource
    from spx_cli.evaluation.document import Document
    from spx_cli.evaluation.gates import Conditions

PRESETS = ("papers",)

__all__ = ["benchmark", "create", "evaluate", "evaluate_contours", "segment"]


def segment(
    image: Image,
    method: str | Method = "slic",
    n_segments: int = 200,
    *,
    native_count: bool = False,
    raw: bool = False,
    contours: "Contours | str | Path | Method | None" = None,
    **params: Any,
) -> Labels:
    """Return a label map of exactly `n_segments` 4-connected regions; int32 (H, W), ids in raster order.

    image : uint8 (H, W, 3) RGB, as `read_image` gives it.
    method : a name from `spx methods list`, or what `create` returned.
    native_count : keep the count that the method itself yields; the map is still clean and connected.
    raw : return the method's own map without the finishing stage.
    contours : along what regions merge, in place of what the method does by itself: float32 (H, W), 0 to 1, how likely
        each pixel lies on the border of an object; the name of a network that sees contours, such as "fcn", or a method
        made of one; the path of a contour map; "edges" of colour; or "none".
    params : the method's parameters, see `spx methods show NAME`.

    Raises ParameterError (a ValueError) for an unknown method or parameter, a value out of bounds, or a count that is
    not between 1 and the number of pixels; ImageError for anything but a uint8 (H, W, 3) array, and for contours of
    another size or range.

    >>> import numpy as np
    >>> image = np.zeros((4, 8, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> segment(image, "slic", 2)[0]
    array([0, 0, 0, 0, 1, 1, 1, 1], dtype=int32)
    """
    if isinstance(contours, bool):  # whether a network looks for contours is a parameter of its own
        params, contours = {**params, "contours": contours}, None
    chosen = method if isinstance(method, Method) and not params else create(method, **params)
    if isinstance(contours, str | Path | Method):
        from spx_cli.contours.guide import open_guide

        check_image(image)
        contours = open_guide(contours, device=getattr(chosen, "device", None)).along(image)
    return chosen.segment(image, n_segments, native_count=native_count, raw=raw, contours=contours)


def evaluate(
    data: str | Path,
    methods: str | Method | Sequence[str | Method] = (),
    n_segments: int | Sequence[int] = 200,
    options: EvaluateOptions | None = None,
    *,
    labels: str | Path | Sequence[str | Path] = (),
    conditions: "Conditions | None" = None,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> "Document":
    """Return the scores of methods, or of label maps made by any tool, on a data set: its `summary` and `rows()`.

    data : a folder.
    methods, n_segments : one or several of each; every method runs at every count.
    options, changes : how to read the folder and how to score; the fields of EvaluateOptions, also by keyword.
    labels : one or several folders of label maps named as the images; the folder's name stands for the method.
    conditions : what the result will be judged by; where it could not be, that is said before the work.
    progress : called with the number of images done and that of all.

    Raises DataError for a folder that is not laid out so, ParameterError for options that make no sense. Images that
    cannot be scored are in the result's `failures`.
    """
    from spx_cli.evaluation.scoring import Scoring, open_data
    from spx_cli.evaluation.sources import make_sources

    chosen = change(EvaluateOptions, options, "evaluate", changes)
    given = [methods] if isinstance(methods, str | Method) else methods
    counts = list(n_segments) if isinstance(n_segments, Iterable) else [n_segments]
    folders = [labels] if isinstance(labels, str | Path) else labels
    along, where = chosen.contours, chosen.guide_device
    sources = make_sources(given, counts, folders, native_count=chosen.native_count, contours=along, device=where)
    scoring = Scoring.of(open_data(chosen.layout, data, chosen.split, chosen), sources, chosen)
    if conditions is not None:
        conditions.check(scoring.settings())
    return scoring.run(progress or (lambda done, total: None))


def evaluate_contours(
    data: str | Path,
    contours: "str | Path | ContourSource | Sequence[str | Path | ContourSource]",
    options: BoundaryOptions | None = None,
    *,
    conditions: "Conditions | None" = None,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> "BoundaryDocument":
    """Return the scores of soft contour maps on a data set by the BSDS boundary benchmark: ODS, OIS, AP, the curve.

    data : a folder.
    contours : folders of contour maps named as the images, made by any tool, or `Maker`s that make them on the fly.
    options, changes : how to read the folder and how to score; the fields of BoundaryOptions, also by keyword.
    conditions : as for `evaluate`.
    progress : called with the number of images done and that of all.

    Raises DataError for a folder that is not laid out so, ParameterError for options that make no sense. Images that
    cannot be scored are in the result's `failures`.
    """
    from spx_cli.contours.folder import ContourFolder
    from spx_cli.contours.maps import Maker
    from spx_cli.evaluation.boundaries import BoundaryScoring
    from spx_cli.evaluation.scoring import open_data

    chosen = change(BoundaryOptions, options, "evaluate_contours", changes)
    given = [contours] if isinstance(contours, str | Path | Maker) or not isinstance(contours, Iterable) else contours
    sources = [ContourFolder(one) if isinstance(one, str | Path) else one for one in given]
    if other := [one for one in sources if not isinstance(one, ContourFolder | Maker)]:
        raise ParameterError(
            f"contours are folders, or what contours.maps.make_maker makes of a method, not {other[0]!r}"
        )
    scoring = BoundaryScoring.of(open_data(chosen.layout, data, chosen.split, chosen), sources, chosen)
    if conditions is not None:
        conditions.check(scoring.settings())
    return scoring.run(progress or (lambda done, total: None))


def benchmark(
    data: str | Path,
    methods: str | Method | Sequence[str | Method] = (),
    n_segments: int | Sequence[int] = 200,
    options: BenchOptions | None = None,
    *,
    peers: Sequence[str] = (),
    preset: str | None = None,
    flows: Sequence[str | Path] = (),
    conditions: "Conditions | None" = None,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> "BenchDocument":
    """Return scores and times of methods, and of other people's implementations, side by side.

    data : a folder, of a data set or of images alone; these are scored by what needs no annotation.
    methods, n_segments : one or several of each; every method runs at every count.
    options, changes : how to read, score and time; the fields of BenchOptions, also by keyword.
    peers : names from `spx_cli.bench.peers`, or 'all' for those that are installed. They are asked for the same
        counts, and their maps are left as they are.
    preset : 'papers' adds the tables of five papers, on BSDS500 unless options name another layout, at counts of its
        own; by default for all methods and 20 images. flows : folders of Middlebury or Sintel flow, for one table.
    conditions, progress : as for `evaluate`; a gate may be about `ratio`, the time over that of `options.against`.

    Each contender is called in a process of its own, so a script must guard what it does by
    `if __name__ == "__main__":`. Raises as `evaluate` does; MissingExtra for a peer that is not installed.
    """
    from spx_cli.bench import papers
    from spx_cli.bench.peers import open_peers
    from spx_cli.bench.run import run, settings, with_papers
    from spx_cli.evaluation.scoring import Scoring, open_data
    from spx_cli.evaluation.sources import Segmenter, make_sources

    chosen = change(BenchOptions, options, "benchmark", changes)
    given = [methods] if isinstance(methods, str | Method) else methods
    counts = list(n_segments) if isinstance(n_segments, Iterable) else [n_segments]
    if preset is not None:
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        chosen = change(BenchOptions, chosen, "benchmark", {"limit": chosen.limit or papers.LIMIT})
        if chosen.layout == "folder":
            chosen = change(BenchOptions, chosen, "benchmark", {"layout": "bsds500"})
        given, counts = given or list(METHODS), list(papers.COUNTS)
        for flow in flows:
            papers.open_flow(Path(flow))  # before the work
    elif flows:
        raise ParameterError("folders of flow are for the preset papers")
    along, where = chosen.contours, chosen.guide_device
    sources = make_sources(given, counts, native_count=chosen.native_count, contours=along, device=where)
    others = open_peers(tuple(peers))
    for peer in others:
        sources.append(Segmenter(peer.peer, peer, tuple(dict.fromkeys(counts)), True, peer.identity()))
    dataset = open_data(chosen.layout, data, chosen.split, chosen)
    if dataset.annotation is None and chosen.metrics is None:
        chosen = change(BenchOptions, chosen, "benchmark", {"metrics": ("ev", "co", "components")})
    scoring = Scoring.of(dataset, sources, chosen)
    if preset and dataset.annotation != "truth":
        raise ParameterError(f"the papers score against annotations, and {data} has none")
    if conditions is not None:
        conditions.check(settings(scoring, chosen, [peer.peer for peer in others]))
    tell = progress or (lambda done, total: None)
    document = run(scoring, chosen, [peer.peer for peer in others], tell)
    return with_papers(document, scoring, chosen, list(map(Path, flows)), tell) if preset else document
