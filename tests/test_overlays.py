"""Overlays: what each shows, that lines are seen on any ground, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as pillow

from spx_cli.errors import ImageError, LabelError, ParameterError, UnknownName
from spx_cli.regions.overlays import OVERLAYS, render
from strategies import label_maps

HALVES = np.repeat([[0] * 20 + [1] * 20], 30, axis=0)


def grounds():
    return [
        np.full((30, 40, 3), colour, np.uint8) for colour in ((0, 0, 0), (255, 255, 255), (255, 225, 77), (9, 80, 9))
    ]


@pytest.mark.parametrize("mode", OVERLAYS)
@settings(max_examples=30, deadline=None)
@given(labels=label_maps(), data=st.data())
def test_any_map(mode, labels, data):
    image = data.draw(hnp.arrays(np.uint8, (*labels.shape, 3)))
    before = image.copy(), labels.copy()
    picture = render(image, labels, mode)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == image.shape[0]
    assert picture.shape[1] == image.shape[1] or (mode == "side-by-side" and picture.shape[1] > 2 * image.shape[1])
    np.testing.assert_array_equal(picture, render(image, labels, mode))
    if mode != "random":  # there the ids decide on the colours
        np.testing.assert_array_equal(picture, render(image, labels.astype(np.int64) * 300_000_000, mode))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("mode", OVERLAYS)
def test_read_only_and_fortran_order(mode):
    image = np.asfortranarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3))
    labels = np.asfortranarray(np.arange(12).reshape(3, 4) // 5)
    image.setflags(write=False)
    labels.setflags(write=False)
    expected = render(image.copy(order="C"), labels.copy(order="C"), mode)
    np.testing.assert_array_equal(render(image, labels, mode), expected)


class TestBoundaries:
    @pytest.mark.parametrize("color", [None, "black", "white", "#0c0", "#0000ff", "yellow"])
    @pytest.mark.parametrize("ground", grounds())
    def test_seen_on_any_ground(self, ground, color):
        picture = render(ground, HALVES, color=color).astype(int)
        assert np.abs(picture - ground).max(axis=2)[:, 18:22].max() >= 100

    def test_line_of_one_pixel_with_a_seam(self):
        picture = render(grounds()[1], HALVES, color="yellow")
        changed = (picture != 255).any((0, 2))
        assert np.flatnonzero(changed).tolist() == [18, 19, 20]
        assert (picture[:, 19] == [255, 255, 0]).all()
        assert picture[5, 18, 0] == picture[5, 20, 0] < 160

    def test_the_rest_is_the_image(self):
        image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        picture = render(image, HALVES)
        np.testing.assert_array_equal(picture[:, :18], image[:, :18])
        np.testing.assert_array_equal(picture[:, 21:], image[:, 21:])

    @pytest.mark.parametrize(("side", "width"), [(320, 1), (480, 1), (1080, 2), (3840, 3)])
    def test_thickness_follows_the_image(self, side, width):
        labels = np.zeros((2, side), np.int32)
        labels[:, side // 2 :] = 1
        picture = render(np.zeros((2, side, 3), np.uint8), labels, color="white")
        assert round(picture[0, :, 0].sum() / 255) == width

    @pytest.mark.parametrize(("cell", "most"), [(2, 0.76), (4, 0.45), (8, 0.25), (20, 0.3)])
    def test_lines_do_not_hide_small_regions(self, cell, most):
        """The digits of 28 x 28 with 49 regions were all lines."""
        y, x = np.mgrid[:56, :56] // cell
        labels = y * 28 + x  # with gaps
        image = np.full((56, 56, 3), 128, np.uint8)
        picture = render(image, labels)
        assert (picture != image).any(2).mean() <= most
        assert (picture[:, cell - 1 : -1 : cell] != image[:, cell - 1 : -1 : cell]).all()

    @pytest.mark.parametrize("thickness", [1, 2.5, 5])
    def test_thickness_as_asked_for(self, thickness):
        picture = render(np.zeros((30, 40, 3), np.uint8), HALVES, color="white", thickness=thickness)
        assert picture[0, :, 0].sum() / 255 == pytest.approx(thickness, abs=0.02)

    @pytest.mark.parametrize("thickness", [0, -1, 101, float("nan")])
    def test_thickness_that_cannot_be(self, thickness):
        with pytest.raises(ParameterError, match="thickness must be above 0"):
            render(np.zeros((30, 40, 3), np.uint8), HALVES, thickness=thickness)

    def test_one_region_has_no_lines(self):
        image = grounds()[3]
        np.testing.assert_array_equal(render(image, np.zeros((30, 40), int)), image)

    @pytest.mark.parametrize(
        ("color", "rgb"), [("#f00", (255, 0, 0)), ("#00FF0080", (0, 255, 0)), ("hsl(240,100%,50%)", (0, 0, 255))]
    )
    def test_colours(self, color, rgb):
        assert tuple(render(grounds()[0], HALVES, color=color)[0, 19]) == rgb


class TestMean:
    def test_by_hand(self):
        image = np.array([[[0, 10, 1], [1, 20, 2], [200, 0, 0]]], np.uint8)
        assert render(image, np.array([[5, 5, 2]]), "mean").tolist() == [[[1, 15, 2], [1, 15, 2], [200, 0, 0]]]

    def test_regions_may_be_scattered(self):
        image = np.array([[[0] * 3, [100] * 3, [50] * 3]], np.uint8)
        assert render(image, np.array([[1, 0, 1]]), "mean")[0, :, 0].tolist() == [25, 100, 25]

    @settings(max_examples=50, deadline=None)
    @given(labels=label_maps(), data=st.data())
    def test_keeps_every_mean(self, labels, data):
        image = data.draw(hnp.arrays(np.uint8, (*labels.shape, 3)))
        picture = render(image, labels, "mean")
        for label in np.unique(labels):
            exact = image[labels == label].mean(0)
            assert np.abs(picture[labels == label] - exact).max() <= 0.5

    def test_lines_only_on_request(self):
        image = grounds()[0]
        np.testing.assert_array_equal(render(image, HALVES, "mean"), image)
        assert (render(image, HALVES, "mean", color="red")[:, 19] == [255, 0, 0]).all()


class TestRandom:
    @settings(max_examples=100, deadline=None)
    @given(labels=label_maps(max_side=12, max_id=30))
    def test_one_colour_a_region_unlike_its_neighbours(self, labels):
        picture = render(np.zeros((*labels.shape, 3), np.uint8), labels, "random").astype(int)
        for label in np.unique(labels):
            assert len(np.unique(picture[labels == label], axis=0)) == 1
        for axis in (0, 1):
            far = np.abs(np.diff(picture, axis=axis)).sum(2)
            differ = np.diff(labels, axis=axis) != 0
            assert (far[differ] > 0).all()

    def test_clear_in_a_map_like_superpixels(self):
        for columns in (20, 21, 34, 55):  # widths at which hues spread by the golden ratio would repeat
            labels = np.arange(30 * columns).reshape(30, columns)
            picture = render(np.zeros((30, columns, 3), np.uint8), labels, "random").astype(int)
            for axis in (0, 1):
                assert np.linalg.norm(np.diff(picture, axis=axis), axis=2).min() > 60

    def test_does_not_depend_on_the_image(self):
        pictures = [render(ground, HALVES, "random") for ground in grounds()]
        assert all((picture == pictures[0]).all() for picture in pictures)


def test_side_by_side():
    image = np.random.default_rng(0).integers(0, 250, (30, 40, 3)).astype(np.uint8)
    picture = render(image, HALVES, "side-by-side", color="red")
    np.testing.assert_array_equal(picture[:, :40], image)
    np.testing.assert_array_equal(picture[:, -40:], render(image, HALVES, "boundaries", color="red"))
    assert (picture[:, 40:-40] == 255).all()


class TestRefusals:
    image = np.zeros((30, 40, 3), np.uint8)

    def test_mode(self):
        with pytest.raises(UnknownName, match="unknown overlay 'boundary'; did you mean 'boundaries'"):
            render(self.image, HALVES, "boundary")

    @pytest.mark.parametrize("color", ["redd", "#12", "", "rgb(1,2)"])
    def test_colour(self, color):
        with pytest.raises(ParameterError, match="unknown color"):
            render(self.image, HALVES, color=color)

    @pytest.mark.parametrize(
        "option", [{"color": (255, 0, 0)}, {"color": b"red"}, {"thickness": "2"}, {"mode": None}, {"mode": ["mean"]}]
    )
    def test_options_of_another_kind(self, option):
        with pytest.raises(ParameterError, match=next(iter(option))) as caught:
            render(self.image, HALVES, **option)
        assert repr(next(iter(option.values()))) in str(caught.value)

    @pytest.mark.parametrize("labels", [HALVES.T, HALVES[:-1], HALVES[None], HALVES.astype(float)])
    def test_map(self, labels):
        with pytest.raises(LabelError):
            render(self.image, labels)

    @pytest.mark.parametrize("mode", OVERLAYS)
    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (HALVES - 1, "negative, found -1"),
            (np.ma.array(HALVES, mask=HALVES == 0), "must not be masked"),
            (HALVES.tolist(), "not a list; numpy.asarray"),
            (torch.from_numpy(HALVES), "not a Tensor; numpy.asarray"),
            (None, "not a NoneType"),
        ],
    )
    def test_what_is_no_map(self, labels, told, mode):
        with pytest.raises(LabelError, match=told):
            render(self.image, labels, mode)

    @pytest.mark.parametrize(
        "image",
        [
            *(image[..., 0], image.astype(float), image[..., :2], image[:0], np.ma.array(image)),
            *(None, image.tolist(), pillow.fromarray(image), torch.from_numpy(image)),
        ],
        ids=lambda image: type(image).__name__,
    )
    def test_image(self, image):
        with pytest.raises(ImageError, match="an image must"):
            render(image, HALVES)
