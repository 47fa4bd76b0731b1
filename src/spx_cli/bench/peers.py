"""Other people's implementations, timed and scored beside ours where they are installed.

To add one: write a function (image, n_segments) -> labels, add its line. Parameters are the library's defaults.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from spx_cli.errors import LabelError, MissingExtra, ParameterError, SpxError
from spx_cli.io.files import reason
from spx_cli.methods.base import Along, Method, check_count
from spx_cli.params import param
from spx_cli.registry import lookup
from spx_cli.types import Assignment, Image, Labels, check_image

PEERS = {
    "skimage-slic": "spx_cli.bench.peers:skimage_slic",
    "skimage-felzenszwalb": "spx_cli.bench.peers:skimage_felzenszwalb",
    "skimage-watershed": "spx_cli.bench.peers:skimage_watershed",
    "opencv-slic": "spx_cli.bench.peers:opencv_slic",
    "opencv-slico": "spx_cli.bench.peers:opencv_slico",
    "opencv-lsc": "spx_cli.bench.peers:opencv_lsc",
    "opencv-seeds": "spx_cli.bench.peers:opencv_seeds",
    "opencv-scansegment": "spx_cli.bench.peers:opencv_scansegment",
    "fast-slic": "spx_cli.bench.peers:fast_slic",
}
SMALLEST = 8  # pixels of the shorter side that OpenCV's methods stand
# By the first word of a peer's name: the module it needs, and the packages that may bring it.
_BROUGHT = {
    "skimage": ("skimage", ("scikit-image",)),
    "opencv": ("cv2.ximgproc", ("opencv-contrib-python-headless", "opencv-contrib-python")),
    "fast": ("fast_slic", ("fast-slic",)),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Peer(Method):
    """An implementation by others: its map is left as it is, neither connected nor brought to a count."""

    name: ClassVar[str] = "peer"
    kind: ClassVar[str] = "peer"
    paper: ClassVar[str] = ""

    peer: str = param("skimage-slic", "a name from PEERS")

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup(PEERS, "peer", self.peer)

    def __repr__(self) -> str:
        return f"{self.peer}, {_package(self.peer)}"

    def assign(self, image: Image, n_segments: int) -> Assignment:
        """Return the peer's labels; there are no features to finish them in."""
        raise NotImplementedError

    def segment(
        self,
        image: Image,
        n_segments: int = 200,
        *,
        native_count: bool = False,
        raw: bool = False,
        contours: Along = None,
    ) -> Labels:
        """Return the peer's own map, int32 (H, W), whatever the options ask for."""
        check_image(image)
        check_count(n_segments, image)
        function = lookup(PEERS, "peer", self.peer)
        try:
            labels = np.asarray(function(image, int(n_segments)))
        except Exception as error:  # whatever a library that is not ours may raise
            if isinstance(error, SpxError):
                raise
            raise SpxError(f"{self.peer} failed at {n_segments}: {reason(error)}") from error
        if labels.shape != image.shape[:2] or labels.dtype.kind not in "ui" or labels.min() < 0:
            raise LabelError(f"{self.peer} gave no label map of the image: {labels.dtype} {labels.shape}")
        return np.asarray(labels, np.int32)


def open_peers(names: tuple[str, ...]) -> list[Peer]:
    """Return the peers called so; 'all' stands for those that are installed.

    Raises UnknownName, or MissingExtra for one that is not installed.
    """
    wanted = dict.fromkeys(name for one in names for name in (installed() if one == "all" else [one]))
    peers = [Peer(peer=name) for name in wanted]
    for name in wanted:
        if not _is_there(name):
            _, packages = _BROUGHT[name.partition("-")[0]]
            raise MissingExtra(f"{name} is not installed here: pip install {packages[0]}; 'all' takes what there is")
    return peers


def installed() -> list[str]:
    """Return the names of the peers that can be run here."""
    return [name for name in PEERS if _is_there(name)]


@lru_cache
def _is_there(name: str) -> bool:
    module, _ = _BROUGHT[name.partition("-")[0]]
    try:  # a package may be there without the part that is needed: OpenCV without its contributed modules
        return find_spec(module) is not None
    except ImportError:
        return False


def _package(name: str) -> str:
    """Return the package and version that brings a peer."""
    for package in _BROUGHT[name.partition("-")[0]][1]:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "of unknown version"


def skimage_slic(image: Image, n_segments: int) -> Any:
    """SLIC of scikit-image."""
    from skimage.segmentation import slic

    return slic(image, n_segments, start_label=0)


def skimage_felzenszwalb(image: Image, n_segments: int) -> Any:
    """Felzenszwalb and Huttenlocher of scikit-image, which knows no count: the least size alone decides on it."""
    from skimage.segmentation import felzenszwalb

    return felzenszwalb(
        image, scale=1, sigma=0.8, min_size=max(1, round(image.shape[0] * image.shape[1] / n_segments / 2))
    )


def skimage_watershed(image: Image, n_segments: int) -> Any:
    """Compact watershed of scikit-image on the gradient of grey values."""
    from skimage.color import rgb2gray
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    return watershed(sobel(rgb2gray(image)), markers=n_segments, compactness=0.001) - 1


def _opencv(image: Image, n_segments: int) -> Any:
    """Return OpenCV, ready for this image; ParameterError for one on which it would crash or never end."""
    if min(image.shape[:2]) < SMALLEST or _side(image, n_segments) < 2:
        raise ParameterError(
            f"OpenCV takes images of {SMALLEST} pixels a side and regions of 2 x 2 pixels at least, not {n_segments} "
            f"in {image.shape[1]} x {image.shape[0]}"
        )
    import cv2

    cv2.setNumThreads(int(os.environ.get("OMP_NUM_THREADS", "0")) or -1)
    return cv2


def _side(image: Image, n_segments: int) -> int:
    """Return the side in pixels of squares that number n_segments."""
    return round(sqrt(image.shape[0] * image.shape[1] / n_segments))


def _opencv_kmeans(image: Image, n_segments: int, algorithm: str) -> Any:
    cv2 = _opencv(image, n_segments)
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_RGB2Lab)  # as OpenCV's documentation advises
    side = _side(image, n_segments)
    if algorithm == "LSC":
        one = cv2.ximgproc.createSuperpixelLSC(lab, side)
    else:
        one = cv2.ximgproc.createSuperpixelSLIC(lab, getattr(cv2.ximgproc, algorithm), side)
    one.iterate()
    one.enforceLabelConnectivity()
    return one.getLabels()


def opencv_slic(image: Image, n_segments: int) -> Any:
    """SLIC of OpenCV's ximgproc."""
    return _opencv_kmeans(image, n_segments, "SLIC")


def opencv_slico(image: Image, n_segments: int) -> Any:
    """SLICO of OpenCV's ximgproc."""
    return _opencv_kmeans(image, n_segments, "SLICO")


def opencv_lsc(image: Image, n_segments: int) -> Any:
    """LSC of OpenCV's ximgproc."""
    return _opencv_kmeans(image, n_segments, "LSC")


def opencv_seeds(image: Image, n_segments: int) -> Any:
    """SEEDS of OpenCV's ximgproc, 4 levels."""
    cv2 = _opencv(image, n_segments)
    height, width, _ = image.shape
    one = cv2.ximgproc.createSuperpixelSEEDS(width, height, 3, n_segments, 4)
    one.iterate(cv2.cvtColor(image, cv2.COLOR_RGB2Lab))
    return one.getLabels()


def opencv_scansegment(image: Image, n_segments: int) -> Any:
    """ScanSegment (F-DBSCAN) of OpenCV's ximgproc; the few pixels that it leaves without a label count as one more."""
    cv2 = _opencv(image, n_segments)
    height, width, _ = image.shape
    one = cv2.ximgproc.createScanSegment(width, height, n_segments)
    one.iterate(cv2.cvtColor(image, cv2.COLOR_RGB2Lab))
    labels = one.getLabels()
    return labels - min(0, labels.min())


def fast_slic(image: Image, n_segments: int) -> Any:
    """SLIC of fast-slic, by AVX2 where the package has it."""
    try:
        from fast_slic.avx2 import SlicAvx2 as Slic
    except ImportError:
        from fast_slic import Slic
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return Slic(num_components=n_segments, compactness=10, num_threads=threads or -1).iterate(
        np.ascontiguousarray(image)
    )
