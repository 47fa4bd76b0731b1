import numpy as np
from skimage.color import rgb2lab

from spx_cli.color import FIXED_POINT, lab_planes, rgb_to_lab


def test_lab_agrees_with_scikit_image_over_the_whole_cube():
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
    np.testing.assert_allclose(rgb_to_lab(cube), rgb2lab(cube), atol=1e-3)


def test_planes_are_the_same_lab_in_fixed_point():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    planes = lab_planes(image, pad=4)
    np.testing.assert_allclose(planes[:, :, 4:-4].transpose(1, 2, 0) / FIXED_POINT, rgb_to_lab(image), atol=0.01)
    assert not planes[:, :, :4].any()
    assert not planes[:, :, -4:].any()
