"""What every method promises, checked over the whole table with generated images."""

import pickle
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from spx_cli import params
from spx_cli.color import rgb_to_lab
from spx_cli.errors import ImageError, LabelError, ParameterError, UnknownName, WeightsError
from spx_cli.io import read_image
from spx_cli.methods import METHODS, create
from spx_cli.methods.base import Method
from spx_cli.regions import maps
from spx_cli.types import Assignment
from strategies import images

# Methods that take seconds by default.
QUICK = {"rim": {"iterations": 3}}


@cache  # a network is loaded once, not for every example
def quick(name, **values):
    return create(name, **{**QUICK.get(name, {}), **values})


every_method = pytest.mark.parametrize("name", METHODS)


@every_method
@settings(max_examples=12, deadline=None)
@given(image=images(), data=st.data())
def test_exactly_k_connected_regions_at_every_size(name, image, data):
    pixels = image.shape[0] * image.shape[1]
    n = data.draw(st.integers(1, pixels), label="n_segments")
    method, before = quick(name), image.copy()
    labels = method.segment(image, n)
    maps.check(labels)
    assert labels.shape == image.shape[:2]
    assert labels.max() + 1 == n
    assert np.array_equal(method.segment(image, n), labels)
    assert np.array_equal(image, before)


@every_method
@pytest.mark.parametrize(
    ("size", "n"),
    [((1, 1), 1), ((1, 30), 7), ((30, 1), 30), ((2, 2), 3), ((512, 1), 40), ((20, 30), 1), ((20, 30), 600)],
)
@pytest.mark.parametrize("picture", ["constant", "two colours", "noise"])
def test_degenerate_images(name, size, n, picture):
    image = np.zeros((*size, 3), np.uint8)
    if picture == "two colours":
        image[size[0] // 2 :, size[1] // 2 :] = (250, 10, 10)
    elif picture == "noise":
        image[:] = np.random.default_rng(0).integers(0, 256, image.shape)
    labels = quick(name).segment(image, n)
    maps.check(labels)
    assert labels.max() + 1 == n


@every_method
def test_native_count_is_clean_and_raw_is_the_methods_own(name):
    image = np.random.default_rng(1).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    method = quick(name)
    maps.check(method.segment(image, 12, native_count=True))
    raw = method.segment(image, 12, raw=True)
    assert raw.shape == (24, 36)
    assert raw.dtype == np.int32


@every_method
def test_memory_layout_does_not_matter(name):
    image = np.random.default_rng(2).integers(0, 256, (18, 25, 3), dtype=np.uint8)
    image.setflags(write=False)
    method = quick(name)
    expected = method.segment(image, 9)
    assert np.array_equal(method.segment(np.asfortranarray(image), 9), expected)
    assert np.array_equal(method.segment(np.repeat(image, 2, axis=1)[:, ::2], 9), expected)


@every_method
def test_batch_equals_single_images(name):
    pictures = list(np.random.default_rng(3).integers(0, 256, (3, 20, 26, 3), dtype=np.uint8))
    method = quick(name)
    if type(method).segment_batch is Method.segment_batch:
        pytest.skip("takes one image after the other")
    for together, image in zip(method.segment_batch(pictures, 10), pictures, strict=True):
        assert np.array_equal(together, method.segment(image, 10))


@every_method
def test_contours_from_outside_go_to_their_own_image(name):
    rng = np.random.default_rng(4)
    pictures = list(rng.integers(100, 104, (2, 24, 30, 3), dtype=np.uint8))
    guides = np.zeros((2, 24, 30), np.float32)
    guides[0, :, 9:11] = guides[1, 11:13] = 1
    method = quick(name)
    for labels, image, guide in zip(method.segment_batch(pictures, 6, contours=guides), pictures, guides, strict=True):
        maps.check(labels)
        assert labels.max() == 5
        assert np.array_equal(labels, method.segment(image, 6, contours=guide))


def test_contours_from_outside_decide_where_regions_merge():
    rng = np.random.default_rng(5)
    even = rng.integers(100, 104, (24, 30, 3), dtype=np.uint8)
    for cut in (10, 20):
        guide = np.zeros((24, 30), np.float32)
        guide[:, cut - 1 : cut + 1] = 1
        columns = np.broadcast_to(np.arange(30) // 5, (24, 30))
        found = create("slic").finish(Assignment(columns, rgb_to_lab(even), contours=guide), 2)
        assert np.array_equal(found, np.broadcast_to(np.arange(30) >= cut, (24, 30)))


@pytest.mark.parametrize(
    ("image", "advice"), [("cat.jpg", "a str; spx_cli.read_image"), (Pillow.new("RGB", (4, 4)), "asarray")]
)
def test_what_is_no_array_is_told_what_to_do(image, advice):
    with pytest.raises(ImageError, match=advice):
        create("slic").segment(image, 2)


@pytest.mark.parametrize("contours", [np.zeros((8, 9)), np.full((8, 8), 1.5), np.full((8, 8), np.nan), -np.eye(8)])
def test_contours_of_another_size_or_range_are_refused(contours):
    with pytest.raises(ImageError, match="contours must be"):
        create("slic").segment(np.zeros((8, 8, 3), np.uint8), 4, contours=contours)


@every_method
def test_the_number_of_threads_moves_hardly_a_pixel(name):
    method = create(name)
    if method.kind != "learned":
        pytest.skip("works in one thread")
    import torch

    y, x = np.mgrid[:121, :163]
    image = np.stack([x + y, 2 * x, 255 - y], 2).astype(np.uint8) ^ np.uint8(7)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 1, 3):
            torch.set_num_threads(threads)
            found.append(method.assign(image, 60).labels)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert (found[0] != found[2]).mean() < 1e-3


@pytest.mark.parametrize("name", ["fcn", "sin", "slic", "ssn"])
def test_no_tails_run_along_the_frame(name):
    """Along a line, superpixels do not change two pixels from the frame more often than across the image."""
    image = read_image(Path(__file__).parents[1] / "examples/chelsea.jpg")[40:240, 60:360]
    labels = create(name).segment(image, 60)
    changes = [one[:-2] != one[2:] for one in (labels, labels.T)]
    frame = np.mean([(one[0].mean() + one[-1].mean()) / 2 for one in changes])
    assert frame <= np.mean([one[20:-20].mean() for one in changes])


@every_method
def test_methods_are_values(name):
    method = quick(name)
    assert pickle.loads(pickle.dumps(method)) == method
    assert create(method) == method
    assert hash(method) == hash(create(method)) == hash(create(name, **QUICK.get(name, {})))
    assert method.name == name
    assert method.paper
    assert type(method).__doc__
    assert all(field.metadata["help"] for field in params.fields(type(method)).values())


@every_method
@pytest.mark.parametrize("n", [0, -1, 10**6, 2.0, True])
def test_impossible_counts_are_refused(name, n):
    with pytest.raises(ParameterError, match="n_segments"):
        quick(name).segment(np.zeros((8, 8, 3), np.uint8), n)


def ends(cls):
    """Every number that a class declares, at both of its bounds."""
    hints = get_type_hints(cls)
    for name, field in params.fields(cls).items():
        if hints[name] in (int, float):
            low, high = (field.metadata[key] for key in ("ge", "le"))
            assert low is not None, f"{name} has no least value"
            assert high is not None, f"{name} has no greatest value"
            judged = {"merge": "loss"} if name == "border_price" else {}  # Ward's cost knows none
            yield from ({name: value, **judged} for value in (low, high))


@every_method
def test_every_number_is_bounded_and_works_at_both_ends(name):
    image = np.random.default_rng(4).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for change in ends(type(quick(name))):
        if change.keys() <= QUICK.get(name, {}).keys():
            continue
        try:
            labels = quick(name, **change).segment(image, 11)
        except WeightsError:  # another network than the weights are of
            continue
        maps.check(labels)
        assert labels.max() + 1 == 11


@pytest.mark.parametrize("parameter", ["iterations", "compactness"])
def test_numbers_beyond_all_bounds_are_refused(parameter):
    for value in (10**400, -(10**400), 1e308, np.int64(2**62), np.float64("nan"), np.float32("inf")):
        with pytest.raises(ParameterError, match=parameter):
            create("slic", **{parameter: value})


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
        None,
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ImageError, match="must"):
        create("slic").segment(image, 4)


@pytest.mark.parametrize("image", [np.zeros((4, 8, 3), np.uint16), np.zeros((4, 8, 2), np.uint8), None])
def test_lab_is_made_of_images_alone(image):
    with pytest.raises(ImageError, match="an image must be uint8"):
        rgb_to_lab(image)


@dataclass(frozen=True, kw_only=True)
class Wrong(Method):
    """Returns what it is told to."""

    name = "wrong"
    paper = "none"
    change: int = params.param(0, "which part of the assignment is wrong")

    def assign(self, image, n_segments):
        whole = Assignment(np.zeros(image.shape[:2], np.int32), rgb_to_lab(image))
        wrong = (
            whole,
            whole._replace(labels=np.zeros((2, 3), np.int32)),
            whole._replace(labels=whole.labels.T),
            whole._replace(labels=whole.labels * 0.5),
            whole._replace(labels=None),
            whole._replace(features=whole.features[::2]),
            whole._replace(features=whole.features[..., 0]),
            whole._replace(lab=whole.features[:, ::2]),
            whole._replace(contours=np.zeros((2, 3), np.float32)),
            tuple(whole),
        )
        return wrong[self.change]


@pytest.mark.parametrize("change", range(1, 10))
def test_a_method_whose_map_does_not_fit_the_image_is_told(change):
    image = np.zeros((4, 8, 3), np.uint8)
    assert Wrong().segment(image, 2).shape == (4, 8)
    with pytest.raises(LabelError, match="a method's "):
        Wrong(change=change).segment(image, 2)


@pytest.mark.parametrize(
    "contours", [[[0.0]], Path("a.png"), np.ma.zeros((4, 8)), np.zeros((4, 8), object), np.full((4, 8), np.nan)]
)
def test_contours_are_plain_numbers(contours):
    with pytest.raises(ImageError, match="contours must"):
        create("snic").segment(np.zeros((4, 8, 3), np.uint8), 2, contours=contours)


def test_contours_may_be_of_any_precision():
    image, contours = np.zeros((8, 12, 3), np.uint8), np.zeros((8, 12))
    contours[:, 5] = 0.5
    expected = create("snic").segment(image, 3, contours=contours.astype(np.float32))
    for kind in (np.float16, np.float64):
        assert np.array_equal(create("snic").segment(image, 3, contours=contours.astype(kind)), expected)


def test_each_image_has_its_contours():
    with pytest.raises(ParameterError, match="2 contours for 1 images"):
        create("snic").segment_batch([np.zeros((4, 8, 3), np.uint8)], 2, contours=[None, None])


@pytest.mark.parametrize("name", ["snic", "sh"])
def test_counts_may_come_one_by_one(name):
    maps_ = create(name).segment_counts(np.zeros((4, 8, 3), np.uint8), iter([2, 5]))
    assert [labels.max() + 1 for labels in maps_] == [2, 5]


@pytest.mark.parametrize("method", [None, 5, ["slic"], Method])
def test_what_is_no_method_is_refused(method):
    with pytest.raises(ParameterError, match="a method is a name or what create returned, not"):
        create(method)


def test_unknown_names_come_with_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'slic'"):
        create("slik")
    with pytest.raises(UnknownName, match="did you mean 'compactness'"):
        create("slic", compactnes=3)
    with pytest.raises(ParameterError, match=r"compactness must be >= 0\.01 and <= "):
        create("slic", compactness=0)
    assert issubclass(UnknownName, ValueError)


def test_a_method_object_can_be_copied_with_other_parameters():
    assert create(create("slic", iterations=3), compactness=5.0) == create("slic", iterations=3, compactness=5.0)
    assert isinstance(create("slic"), Method)


@pytest.mark.parametrize(
    "array",
    [
        np.linspace(0, 1, 48).reshape(4, 4, 3),
        np.linspace(0, 1, 16).reshape(4, 4).astype(np.float32),
        np.arange(16, dtype=np.uint8).reshape(4, 4),
        np.arange(48, dtype=np.uint16).reshape(4, 4, 3),
        np.arange(64, dtype=np.uint8).reshape(4, 4, 4),
        np.arange(16, dtype=np.uint16).reshape(4, 4, 1),
        np.arange(108, dtype=np.uint8).reshape(3, 6, 6),
        np.arange(16).reshape(4, 4) > 7,
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_other_kinds_get_advice_that_works(array):
    with pytest.raises(ImageError, match=r"an image must be uint8 \(H, W, 3\), not ") as caught:
        create("snic").segment(array, 2)
    image = array
    for step in str(caught.value).partition("; ")[2].replace("WHITE", "100").split("; then "):
        ways = re.search(r"[(]?(?:image|numpy)[.\[ ].*?(?= leaves|$)", step.split(": ")[-1])
        image = eval(ways[0], {"image": image, "numpy": np})
    maps.check(create("snic").segment(image, 2))


def test_masks_are_not_passed_over():
    image = np.ma.masked_array(np.zeros((4, 4, 3), np.uint8), mask=False)
    with pytest.raises(ImageError, match=r"must not be masked: every pixel gets a region; image\.filled"):
        create("snic").segment(image, 2)
    labels = np.ma.masked_array(np.zeros((4, 4), np.int32), mask=np.eye(4, dtype=bool))
    with pytest.raises(LabelError, match="must not be masked"):
        maps.overlap(labels, np.zeros((4, 4), np.int32))
    with pytest.raises(LabelError, match="must not be masked"):
        maps.overlap(np.zeros((4, 4), np.int32), labels)
