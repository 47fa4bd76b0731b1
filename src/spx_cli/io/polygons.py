"""Label maps as polygons along the cracks between pixels, and back: GeoJSON and SVG.

A pixel (y, x) covers the square from (x, y) to (x + 1, y + 1), y pointing down. Each 4-connected region is one polygon:
an outer ring, then its holes. Rings are simple, they touch at most at corners, so any viewer fills them alike.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numba import njit
from numpy.typing import NDArray

from spx_cli.errors import FormatError, LabelError
from spx_cli.io.codec import CheckSize
from spx_cli.types import Labels

_MOST_CROSSINGS = 16  # of edges and rows, for each pixel; those of a map that nothing overlaps are about two

Ring = NDArray[np.int32]  # (N, 2) corners as (x, y), not closed


class Region(NamedTuple):
    """All polygons of one id: for each 4-connected part its outer ring and its holes."""

    label: int
    polygons: list[list[Ring]]


def trace(labels: Labels) -> list[Region]:
    """Return the polygons of every id, by id; outer rings run clockwise on the screen, holes the other way.

    Time is linear in pixels. The first edge of each ring points right, and edges alternate between x and y.

    >>> trace(np.array([[5, 5]], np.int32))[0].polygons[0][0].tolist()
    [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    parts, first = _parts(np.require(labels, np.int32, ("C", "W")))  # one layout, compiled once
    counts = np.zeros(2, np.int64)
    _trace(parts, np.empty((0, 2), np.int32), np.empty((0, 2), np.int64), counts)
    corners, rings = np.empty((counts[0], 2), np.int32), np.empty((counts[1], 2), np.int64)
    _trace(parts, corners, rings, counts)
    polygons: list[list[Ring]] = [[] for _ in first]
    start = 0
    for part, end in rings.tolist():
        polygons[part].append(corners[start:end])
        start = end
    ids = labels.ravel()[first]
    regions: list[Region] = []
    for part in np.argsort(ids, kind="stable").tolist():
        if not regions or regions[-1].label != ids[part]:
            regions.append(Region(int(ids[part]), []))
        regions[-1].polygons.append(polygons[part])
    return regions


def fill(shapes: list[tuple[int, list[NDArray[np.float64]]]], size: tuple[int, int]) -> Labels:
    """Return the map in which the pixels whose centre lies inside a shape (even-odd) carry its id.

    shapes : (id, rings); a ring is (N, 2) corners as (x, y), closed or not. Where shapes overlap the later one wins.
    Raises LabelError when a pixel is in no shape.
    """
    every = [ring for _, rings in shapes for ring in rings]
    corners = np.concatenate([np.empty((0, 2)), *every])
    ends = np.cumsum([len(ring) for ring in every], dtype=np.int64)
    owner = np.repeat(np.arange(len(shapes)), [len(rings) for _, rings in shapes])
    if not (size[0] > 0 and size[1] > 0 and (corners >= 0).all() and (corners <= size[::-1]).all()):
        raise LabelError(f"polygons leave the map, which is {size[0]} x {size[1]} pixels")
    heights = np.abs(np.diff(np.ceil(corners[:, 1] - 0.5)))
    heights[ends[:-1] - 1] = 0  # from one ring to the next
    if heights.sum() > _MOST_CROSSINGS * (size[0] + 1) * (size[1] + 1):
        raise FormatError("polygons overlap too often for a label map")
    keys = np.empty(_crossings(corners, ends, owner, *size, np.empty(0, np.int64)), np.int64)
    _crossings(corners, ends, owner, *size, keys)
    keys.sort()
    labels = np.full(size, -1, np.int32)
    _fill(labels, keys, np.array([label for label, _ in shapes], np.int32))
    if (empty := np.count_nonzero(labels < 0)) > 0:
        y, x = np.argwhere(labels < 0)[0]
        raise LabelError(f"{empty:,} of {labels.size:,} pixels lie in no polygon, the first at row {y}, column {x}")
    return labels


def to_geojson(labels: Labels) -> dict[str, Any]:
    """Return a FeatureCollection: one MultiPolygon per id, in pixels, property `id`; its `bbox` is the map's."""
    return {
        "type": "FeatureCollection",
        "bbox": [0, 0, labels.shape[1], labels.shape[0]],
        "features": [
            {
                "type": "Feature",
                "properties": {"id": region.label},
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [[_closed(ring) for ring in polygon] for polygon in region.polygons],
                },
            }
            for region in trace(labels)
        ],
    }


def from_geojson(
    document: Any, size: tuple[int, int] | None, check_size: CheckSize = lambda height, width: None
) -> Labels:
    """Return the map that Polygon and MultiPolygon features with a property `id` fill, in pixels, y down.

    size : (height, width) where the document has no `bbox`; without both the polygons' extent is the size.
    check_size : called with height and width before the map is filled.
    """
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
        raise FormatError("not a GeoJSON FeatureCollection")
    shapes = []
    for feature in document["features"]:
        geometry = feature["geometry"]
        if geometry["type"] not in ("Polygon", "MultiPolygon"):
            raise FormatError(f"a label map has Polygon or MultiPolygon features, not {geometry['type']}")
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        if "id" not in feature["properties"]:
            raise FormatError(
                f"every feature needs a property 'id', found {', '.join(feature['properties']) or 'none'}"
            )
        rings = [np.array(ring, np.float64)[:, :2] for polygon in polygons for ring in polygon]
        shapes.append((_id(feature["properties"]["id"]), rings))
    if "bbox" in document:
        size = (int(document["bbox"][3]), int(document["bbox"][2]))
    elif size is None:
        x, y = np.max([ring.max(0) for _, rings in shapes for ring in rings], axis=0)
        size = (int(np.ceil(y)), int(np.ceil(x)))
    check_size(*size)
    return fill(shapes, size)


def to_svg(labels: Labels) -> str:
    """Return an SVG picture: a path per id, in arbitrary colours, its `data-id` the id; hovering lightens a region."""
    height, width = labels.shape
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            "<style>path{vector-effect:non-scaling-stroke}path:hover{fill-opacity:.5}</style>",
            '<g fill-rule="evenodd" stroke="#000" stroke-opacity=".5" stroke-linejoin="round">',
            *(_path(region) for region in trace(labels)),
            "</g>",
            "</svg>\n",
        ]
    )


def from_svg(text: bytes, size: tuple[int, int] | None, check_size: CheckSize = lambda height, width: None) -> Labels:
    """Return the map that the paths with a `data-id` fill; `viewBox`, else `size`, gives height and width.

    check_size : called with height and width before the map is filled.
    """
    if b"<!ENTITY" in text:
        raise FormatError("the SVG defines entities, which may stand for more than memory holds")
    root = ElementTree.fromstring(text)
    shapes = [
        (_id(path.attrib["data-id"]), list(_rings(path.attrib["d"])))
        for path in root.iter("{http://www.w3.org/2000/svg}path")
        if "data-id" in path.attrib
    ]
    if not shapes:
        raise FormatError("the SVG has no paths with a data-id, as spx writes them")
    if "viewBox" in root.attrib:
        _, _, width, height = map(float, root.attrib["viewBox"].replace(",", " ").split())
        size = (int(height), int(width))
    if size is None:
        raise FormatError("the SVG has no viewBox, so its size is unknown")
    check_size(*size)
    return fill(shapes, size)


def _closed(ring: Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]


def _id(value: Any) -> int:
    """Return an id that a file states as a number or as text."""
    try:
        label = int(value)
    except (TypeError, ValueError):
        label = -1
    if not 0 <= label <= np.iinfo(np.int32).max or float(value) != label:
        raise LabelError(f"ids must be whole numbers from 0 to {np.iinfo(np.int32).max}, not {value!r}")
    return label


def _path(region: Region) -> str:
    hue = region.label * 2654435761 % 2**32 * 360 >> 32  # spread by multiplicative hashing
    d = []
    for polygon in region.polygons:
        for ring in polygon:
            (x, y), steps = ring[0].tolist(), np.diff(ring, axis=0).tolist()
            d.append(f"M{x} {y}" + "".join([f"h{dx}" if dx else f"v{dy}" for dx, dy in steps]) + "z")
    return f'<path data-id="{region.label}" fill="hsl({hue},60%,60%)" d="{"".join(d)}"/>'


def _rings(d: str) -> Iterator[NDArray[np.float64]]:
    """Yield the corners of the rings of an SVG path of straight lines."""
    x = y = 0.0
    ring: list[tuple[float, float]] = []
    for command, text in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        numbers = [float(number) for number in text.replace(",", " ").replace("-", " -").split()]
        x0, y0 = (x, y) if command.islower() else (0.0, 0.0)
        match command.upper():
            case "Z":
                x, y = ring[0]
            case "H":
                ring += [(x := number + (x if command == "h" else 0.0), y) for number in numbers]
            case "V":
                ring += [(x, y := number + (y if command == "v" else 0.0)) for number in numbers]
            case "M" | "L":
                if command.upper() == "M" and ring:
                    yield np.array(ring)
                    ring = []
                for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
                    x, y = x0 + dx, y0 + dy
                    ring.append((x, y))
                    x0, y0 = (x, y) if command.islower() else (0.0, 0.0)
            case _:
                raise FormatError(f"an SVG path of a label map has straight lines only, not {command!r}")
    if ring:
        yield np.array(ring)


@njit(cache=True, nogil=True)
def _parts(labels):
    """labels (H, W). Returns 4-connected parts (H + 2, W + 2) int32 with a margin of -1, and each one's first pixel."""
    height, width = labels.shape
    parts = np.full((height + 2, width + 2), -1, np.int32)
    parent = np.empty(height * width, np.int32)
    found = 0
    for y in range(height):
        for x in range(width):
            left = parts[y + 1, x] if x > 0 and labels[y, x - 1] == labels[y, x] else -1
            up = parts[y, x + 1] if y > 0 and labels[y - 1, x] == labels[y, x] else -1
            if left < 0 and up < 0:
                parent[found] = found
                parts[y + 1, x + 1] = found
                found += 1
                continue
            parts[y + 1, x + 1] = left if left >= 0 else up
            if left >= 0 and up >= 0 and left != up:
                while parent[left] != left:
                    parent[left] = parent[parent[left]]
                    left = parent[left]
                while parent[up] != up:
                    parent[up] = parent[parent[up]]
                    up = parent[up]
                parent[max(left, up)] = min(left, up)
    kept = 0
    for provisional in range(found):  # a parent never comes after its child, so its final number is known
        if parent[provisional] == provisional:
            parent[provisional] = kept
            kept += 1
        else:
            parent[provisional] = parent[parent[provisional]]
    first = np.full(kept, -1, np.int64)
    for y in range(height):
        for x in range(width):
            part = parent[parts[y + 1, x + 1]]
            parts[y + 1, x + 1] = part
            if first[part] < 0:
                first[part] = y * width + x
    return parts, first


@njit(cache=True, nogil=True)
def _trace(parts, corners, rings, counts):
    """parts (H + 2, W + 2); fills corners (N, 2) and rings (R, 2) = (part, end in corners) if N > 0; counts = N, R."""
    store = corners.shape[0] > 0
    seen = np.zeros(parts.shape, np.bool_)  # pixels whose upper edge belongs to a ring already walked
    corner = ring = 0
    for row in range(1, parts.shape[0] - 1):
        for column in range(1, parts.shape[1] - 1):
            part = parts[row, column]
            if parts[row - 1, column] == part or seen[row, column]:
                continue
            if store:
                corners[corner, 0] = column - 1
                corners[corner, 1] = row - 1
            corner += 1
            # walk with the part on the right hand; (y, x) is the pixel there, (dy, dx) the direction
            y, x, dy, dx = row, column, 0, 1
            while True:
                if dx == 1:
                    seen[y, x] = True
                left = parts[y + dy - dx, x + dx + dy] == part
                if parts[y + dy, x + dx] == part and not left:
                    y, x = y + dy, x + dx
                    continue
                corner_x, corner_y = x - 1 + (dx + dy + 1) // 2, y - 1 + (dy - dx + 1) // 2
                # Where the part meets itself at a corner, the turn to the left splits off a hole: rings stay simple.
                if left:
                    y, x = y + dy - dx, x + dx + dy
                    dy, dx = -dx, dy
                else:
                    dy, dx = dx, -dy
                if y == row and x == column and dx == 1:
                    break
                if store:
                    corners[corner, 0] = corner_x
                    corners[corner, 1] = corner_y
                corner += 1
            if store:
                rings[ring, 0] = part
                rings[ring, 1] = corner
            ring += 1
    counts[0] = corner
    counts[1] = ring


@njit(cache=True, nogil=True)
def _crossings(corners, ends, owner, height, width, keys):
    """corners (N, 2) x, y; ends, owner (R,) of rings. Fills keys (shape, row, column) if it is long enough; returns K.

    A crossing is where an edge meets the line through the pixel centres of a row; column is the first pixel beyond it.
    """
    found = start = 0
    for ring in range(ends.shape[0]):
        for i in range(start, ends[ring]):
            j = i + 1 if i + 1 < ends[ring] else start
            x0, y0, x1, y1 = corners[i, 0], corners[i, 1], corners[j, 0], corners[j, 1]
            for row in range(int(np.ceil(min(y0, y1) - 0.5)), int(np.ceil(max(y0, y1) - 0.5))):
                if keys.shape[0] > 0:
                    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                    keys[found] = (owner[ring] * height + row) * (width + 1) + int(np.ceil(x - 0.5))
                found += 1
        start = ends[ring]
    return found


@njit(cache=True, nogil=True)
def _fill(labels, keys, ids):
    """labels (H, W); keys as from `_crossings`, sorted; ids (S,). Writes the id between every pair of crossings."""
    height, width = labels.shape
    for i in range(0, keys.shape[0], 2):
        line, left = divmod(keys[i], width + 1)
        shape, row = divmod(line, height)
        for column in range(left, keys[i + 1] % (width + 1)):
            labels[row, column] = ids[shape]
