"""Every label format there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from encoders import RNG
from spx_cli.errors import FormatError, LabelError
from spx_cli.io import (
    FORMATS,
    IMAGE_SUFFIXES,
    polygons,
    read_image,
    read_labels,
    write_labels,
)
from strategies import label_maps


def any_maps(max_id):
    """Maps of any tool: scattered ids up to max_id, with gaps."""
    size = st.tuples(st.integers(1, 9), st.integers(1, 9))
    few = st.sets(st.integers(0, max_id), min_size=1, max_size=4)
    return few.flatmap(lambda ids: hnp.arrays(np.int32, size, elements=st.sampled_from(sorted(ids))))


@pytest.mark.parametrize("name", FORMATS)
class TestEveryFormat:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(labels=st.one_of(label_maps(), any_maps(65535)))
    def test_round_trip(self, tmp_path, name, labels):
        for suffix in FORMATS[name].suffixes:
            path = tmp_path / f"map{suffix}"
            write_labels(path, labels, metadata={"k": 3})
            back = read_labels(path, size=labels.shape)
            assert back.dtype == np.int32
            assert back.flags.c_contiguous
            np.testing.assert_array_equal(back, labels)

    def test_large_ids(self, tmp_path, name):
        labels = np.array([[0, 2**31 - 1], [65536, 2**24 + 1]], np.int32)
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        if name == "png":
            with pytest.raises(FormatError, match=r"a\.png: .* 65535, found 2147483647; use tiff or npz"):
                write_labels(path, labels)
            assert not path.exists()
        else:
            write_labels(path, labels)
            np.testing.assert_array_equal(read_labels(path), labels)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.uint64, np.bool_])
    def test_any_integers(self, tmp_path, name, dtype):
        labels = np.asfortranarray(np.array([[0, 1, 1], [1, 0, 1]], dtype))
        write_labels(tmp_path / "out", labels, format=name)
        (tmp_path / "out").rename(path := tmp_path / f"a{FORMATS[name].suffixes[0].upper()}")
        np.testing.assert_array_equal(read_labels(path), labels)

    def test_same_bytes_twice(self, tmp_path, name):
        labels = np.array([[0, 1], [2, 2]], np.int32)
        for file in ("a", "b"):
            write_labels(tmp_path / file, labels, format=name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_other_size(self, tmp_path, name):
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        write_labels(path, np.zeros((2, 3), np.int32))
        with pytest.raises(LabelError, match=r"a\..*: the map is 2 x 3, expected 3 x 2"):
            read_labels(path, size=(3, 2))

    @pytest.mark.parametrize(
        "content", [b"", b"hello, world\nnot a map", b"\x89PNG\r\n\x1a\nrubbish", b"{}", b"PK\3\4.."]
    )
    def test_wrong_content(self, tmp_path, name, content):
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        path.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            read_labels(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_truncated(self, tmp_path, name):
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        write_labels(path, RNG.integers(0, 60000, (20, 30)))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        if name == "csv":  # rows cut off leave a shorter map; only its image's size can tell
            path.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
            with pytest.raises(LabelError, match="expected 20 x 30"):
                read_labels(path, size=(20, 30))
        else:
            with pytest.raises(FormatError):
                read_labels(path)


def inside(rings, y, x):
    """Even-odd rule for one point, by the book."""
    odd = False
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                odd = not odd
    return odd


def area(ring):
    x, y = np.asarray(ring, float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


class TestPolygons:
    def test_ring_around_a_hole(self):
        labels = np.zeros((3, 3), np.int32)
        labels[1, 1] = 7
        outer, hole = polygons.trace(labels)[0].polygons[0]
        assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
        assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
        assert (area(outer), area(hole)) == (9, -1)

    def test_holes_that_touch_are_two(self):
        labels = np.zeros((4, 4), np.int32)
        labels[1, 1] = labels[2, 2] = 1
        regions = polygons.trace(labels)
        assert [len(polygon) for polygon in regions[0].polygons] == [3]
        assert len(regions[1].polygons) == 2

    @settings(max_examples=150, deadline=None)
    @given(labels=label_maps(max_side=9, max_id=3))
    def test_rings_are_simple_and_fill_the_map(self, labels):
        for region in polygons.trace(labels):
            assert sum(area(ring) for polygon in region.polygons for ring in polygon) == (labels == region.label).sum()
            for outer, *holes in region.polygons:
                assert area(outer) > 0
                assert all(area(hole) < 0 for hole in holes)
                for ring in (outer, *holes):
                    assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)
                    steps = np.diff(np.concatenate([ring, ring[:1]]), axis=0)
                    assert ((steps != 0).sum(1) == 1).all()
                    assert (steps[::2, 1] == 0).all()
            rings = [ring.tolist() for polygon in region.polygons for ring in polygon]
            for (y, x), label in np.ndenumerate(labels):
                assert inside(rings, y + 0.5, x + 0.5) == (label == region.label)

    def test_slanted_polygons_of_other_tools(self):
        """Pixels belong to the polygon that holds their centre."""
        document = {
            "type": "FeatureCollection",
            "features": [
                {
                    "properties": {"id": 0},
                    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [8, 0], [8, 6], [0, 6], [0, 0]]]},
                },
                {
                    "properties": {"id": "3"},
                    "geometry": {"type": "Polygon", "coordinates": [[[0.2, 0.3, 9], [7.6, 2.2, 9], [3.1, 5.9, 9]]]},
                },
            ],
        }
        labels = polygons.from_geojson(document, None)
        ring = [[[0.2, 0.3], [7.6, 2.2], [3.1, 5.9]]]
        expected = [[3 if inside(ring, y + 0.5, x + 0.5) else 0 for x in range(8)] for y in range(6)]
        np.testing.assert_array_equal(labels, expected)

    def test_bad_documents(self, tmp_path):
        def feature(label=0, corners=((0, 0), (2, 0), (2, 1), (0, 1)), kind="Polygon", name="id"):
            shape = {"type": kind, "coordinates": [corners]}
            return {"type": "FeatureCollection", "features": [{"properties": {name: label}, "geometry": shape}]}

        for document, error, message in [
            (feature(label=-1), LabelError, "not -1"),
            (feature(label=1.5), LabelError, r"not 1\.5"),
            (feature(label="tree"), LabelError, "not 'tree'"),
            (feature(label=2**31), LabelError, "not 2147483648"),
            (feature(corners=((0, 0), (1, 0), (1, 1), (0, 1))), LabelError, "1 of 2 pixels lie in no polygon"),
            (feature(corners=((0, 0), (9, 0), (9, 1))), LabelError, "leave the map"),
            (feature(kind="LineString"), FormatError, "not LineString"),
            (feature(name="class"), FormatError, "needs a property 'id', found class"),
        ]:
            (tmp_path / "a.geojson").write_text(json.dumps(document))
            with pytest.raises(error, match=message):
                read_labels(tmp_path / "a.geojson", size=(1, 2))

    def test_svg_of_other_tools(self, tmp_path):
        head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1">'
        path = tmp_path / "a.svg"
        path.write_text(
            f'{head}<path data-id="4" d="M0,0 L2,0 2,1 0,1 Z m0 0l1 0 0 1-1 0z"/>'
            '<path data-id="9" d="M0 0H1V1H0z"/></svg>'
        )
        np.testing.assert_array_equal(read_labels(path), [[9, 4]])
        path.write_text(f'{head}<path data-id="4" d="M0 0C1 1 2 2 3 3z"/></svg>')
        with pytest.raises(FormatError, match="straight lines only, not 'C'"):
            read_labels(path)
        path.write_text(f'{head}<path d="M0 0h2v1h-2z"/></svg>')
        with pytest.raises(FormatError, match="no paths with a data-id"):
            read_labels(path)


def test_real_data(shared):
    """Files as the field's data sets ship them, among them LZW TIFF and palette PNG."""
    root = Path(shared) / "data"
    for path in sorted(p for p in root.rglob("*") if p.suffix in IMAGE_SUFFIXES)[::40]:
        image = read_image(path)
        assert image.ndim == 3
        assert image.size
    drive = next((root / "DRIVE").rglob("*_training.tif"))
    assert read_image(drive).shape == (584, 565, 3)
    voc = next((root / "VOC2012" / "SegmentationClass").glob("*.png"))
    assert set(np.unique(read_labels(voc))) <= {*range(21), 255}
