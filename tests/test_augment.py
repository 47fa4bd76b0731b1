import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spx_cli.methods._recipe import Recipe
from spx_cli.training.augment import draw, generator, index, look
from strategies import images


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, y + x], 2).astype(np.uint8)


@given(images(), st.integers(0, 100))
def test_without_magnification_a_crop_is_a_slice(image, position):
    crop = min(image.shape[:2])
    view = draw(generator(0, position), image.shape[:2], Recipe(crop=crop))
    seen, _ = look(image, None, view)
    np.testing.assert_array_equal(seen, image[view.top : view.top + crop, view.left : view.left + crop])


@given(st.integers(0, 50))
def test_image_and_truth_are_mirrored_alike(position):
    image = ramp(20, 30)
    truth = (np.arange(600).reshape(20, 30)).astype(np.int16)
    view = draw(generator(1, position), (20, 30), Recipe(crop=8, flips="hv"))
    seen, ids = look(image, truth, view)
    rows = slice(view.top, view.top + 8)
    columns = slice(view.left, view.left + 8)
    expected = image[rows, columns][:: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1]
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(ids, np.arange(64).reshape(8, 8))


def test_all_four_mirrorings_occur():
    views = [draw(generator(0, p), (8, 8), Recipe(crop=4, flips="hv")) for p in range(50)]
    assert {(v.flip_y, v.flip_x) for v in views} == {(a, b) for a in (False, True) for b in (False, True)}
    assert not any(draw(generator(0, p), (8, 8), Recipe(crop=4, flips="h")).flip_y for p in range(50))


def test_a_ramp_stays_a_ramp_when_enlarged():
    image = ramp(40, 40) * 2
    seen, _ = look(image, None, draw(generator(0, 0), (40, 40), Recipe(crop=80, scale_min=2, scale_max=2)))
    inner = seen[4:-4, 4:-4].astype(int)
    np.testing.assert_array_equal(np.diff(inner[..., 0], axis=0), 1)
    np.testing.assert_array_equal(np.diff(inner[..., 1], axis=1), 1)


def test_nearest_truth_of_a_doubled_image_repeats_each_pixel():
    truth = np.arange(16, dtype=np.int16).reshape(4, 4)
    _, ids = look(np.zeros((4, 4, 3), np.uint8), truth, draw(generator(0, 0), (4, 4), Recipe(scale_min=2, scale_max=2)))
    np.testing.assert_array_equal(ids, np.kron(truth, np.ones((2, 2), int)))


def test_ignored_pixels_stay_ignored_and_ids_have_no_gaps():
    truth = np.array([[5, -1], [-1, 2]], np.int16)
    _, ids = look(np.zeros((2, 2, 3), np.uint8), truth, draw(generator(0, 0), (2, 2), Recipe()))
    np.testing.assert_array_equal(ids, [[0, -1], [-1, 1]])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(0, 9))
def test_a_view_never_leaves_the_image(height, width, crop, position):
    recipe = Recipe(crop=crop, scale_min=0.5, scale_max=3, scale_sd=0.75)
    view = draw(generator(0, position), (height, width), recipe)
    truth = np.arange(height * width, dtype=np.int32).reshape(height, width)
    seen, ids = look(np.full((height, width, 3), 7, np.uint8), truth, view)
    assert seen.shape == (crop, crop, 3)
    assert (seen == 7).all()
    assert ids.min() == 0


def test_scale_keeps_its_bounds_and_uses_them():
    recipe = Recipe(crop=8, scale_min=0.75, scale_max=3, scale_sd=0.75)
    scales = [draw(generator(0, p), (64, 64), recipe).scale[0] for p in range(300)]
    assert min(scales) == 0.75
    assert max(scales) > 2
    assert max(scales) <= 3


@pytest.mark.parametrize("count", [1, 7, 50])
def test_each_epoch_shows_each_sample_once_in_an_order_of_its_own(count):
    epochs = [[index(3, e * count + p, count) for p in range(count)] for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count < 7 or epochs[0] != epochs[1] != epochs[2]


def test_numbers_of_a_position_depend_on_seed_and_position_only():
    assert generator(1, 2).random() == generator(1, 2).random()
    assert len({generator(s, p, t).random() for s in range(3) for p in range(3) for t in range(2)}) == 18


@pytest.mark.parametrize("flips", ["none", "hv"])
def test_flow_is_magnified_and_mirrored_like_the_image(flips):
    # the flow of each pixel points at the frame's centre: what a view shows must do so too
    y, x = np.mgrid[:24, :36].astype(np.float32)
    flow = np.stack([17.5 - x, 11.5 - y], 2)
    for position in range(20):
        recipe = Recipe(flips=flips, scale_min=2, scale_max=2)
        view = draw(generator(0, position), (24, 36), recipe)
        _, seen = look(np.zeros((24, 36, 3), np.uint8), flow, view)
        assert seen.shape == (2, 48, 72)
        assert seen.dtype == np.float32
        rows, columns = np.mgrid[:48, :72]
        np.testing.assert_allclose(seen[0], 35.5 - columns, atol=1)
        np.testing.assert_allclose(seen[1], 23.5 - rows, atol=1)


def test_unknown_flow_stays_unknown():
    flow = np.zeros((4, 6, 2), np.float32)
    flow[1, 2] = np.nan
    _, seen = look(np.zeros((4, 6, 3), np.uint8), flow, draw(generator(0, 0), (4, 6), Recipe()))
    assert np.argwhere(np.isnan(seen)).tolist() == [[0, 1, 2], [1, 1, 2]]


def test_a_quarter_turn_turns_image_and_truth_alike():
    image, truth = ramp(9, 9), np.arange(81, dtype=np.int16).reshape(9, 9)
    view = draw(generator(0, 0), (9, 9), Recipe(crop=9))._replace(angle=np.pi / 2)
    seen, _ = look(image, truth, view)
    np.testing.assert_array_equal(seen, np.rot90(image))


def test_what_a_turned_view_sees_outside_the_image_is_unlabelled():
    truth = np.zeros((20, 20), np.int16)
    view = draw(generator(0, 0), (20, 20), Recipe(crop=20))._replace(angle=np.pi / 4)
    _, ids = look(np.zeros((20, 20, 3), np.uint8), truth, view)
    assert ids[0, 0] == ids[-1, -1] == -1
    assert ids[10, 10] == 0
    assert 0.1 < (ids < 0).mean() < 0.25  # a square less the octagon in common: 1 - 2 (sqrt(2) - 1)


def test_jitter_changes_colours_alike_in_all_places():
    image = ramp(40, 40)
    view = draw(generator(0, 3), (40, 40), Recipe(jitter=0.5))
    seen, _ = look(image, None, view)
    assert (seen != image).mean() > 0.5
    for c in range(3):
        table = np.full(256, -1)
        table[image[..., c]] = seen[..., c]
        np.testing.assert_array_equal(table[image[..., c]], seen[..., c])
        shown = table[table >= 0]
        assert (np.diff(shown) >= 0).all()


def test_contours_are_cropped_and_mirrored_like_the_image():
    image = ramp(20, 30)
    for position in range(8):
        view = draw(generator(2, position), (20, 30), Recipe(crop=8, flips="hv"))
        seen, contours = look(image, image[..., 2].astype(np.float32) / 255, view)
        assert contours.dtype == np.float32
        np.testing.assert_array_equal(contours * 255, seen[..., 2].astype(np.float32))
