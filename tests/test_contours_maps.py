"""Soft contours from superpixels."""

import numpy as np
import pytest

from pictures import quadrants
from spx_cli.contours.maps import COUNTS, Averaged
from spx_cli.errors import ImageError, ParameterError
from spx_cli.methods import create


def test_counts_are_those_of_the_paper():
    assert (len(COUNTS), COUNTS[0], COUNTS[-1]) == (13, 50, 700)


@pytest.mark.parametrize("name", ["sh", "snic"])
def test_what_every_count_parts_is_certain(name):
    soft = Averaged(create(name), (4, 20, 60)).contours(quadrants()[0])
    assert (soft.shape, soft.dtype) == ((40, 60), np.float32)
    assert ((soft >= 0) & (soft <= 1)).all()
    assert (soft[:, 32:34] > 0.6).all()
    assert soft[2:8, 2:8].mean() < 0.5


def test_usual_counts_above_the_pixels_are_passed_over():
    assert Averaged(create("sh")).contours(np.zeros((1, 1, 3), np.uint8)) == 0
    with pytest.raises(ParameterError, match="the number of pixels, 2, not 4"):
        Averaged(create("sh"), (1, 4)).contours(np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(ImageError):
        Averaged(create("sh")).contours(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("name", ["sh", "snic"])
def test_maps_of_several_counts_are_those_of_each(name):
    image, method = quadrants()[0], create(name)
    counts = (1, 30, 7)
    for labels, count in zip(method.segment_counts(image, counts), counts, strict=True):
        np.testing.assert_array_equal(labels, method.segment(image, count))
    with pytest.raises(ParameterError, match="n_segments"):
        method.segment_counts(image, (5, 0))
