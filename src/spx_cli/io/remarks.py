"""What is odd about pictures that were read all the same: told once for many of them, so that none goes by unseen."""

import logging
from typing import Any, NamedTuple

from spx_cli.io.scale import Narrow, number

_log = logging.getLogger(__name__)

_TURNED = {
    **{2: "mirrored", 3: "turned by 180 degrees", 4: "mirrored", 5: "turned by 90 degrees and mirrored"},
    **{6: "turned by 90 degrees", 7: "turned by 90 degrees and mirrored", 8: "turned by 90 degrees"},
}


class Traits(NamedTuple):
    """What a picture does not show of its file.

    orientation : EXIF tag 0x0112; the picture has been turned by it.
    narrow : its values, where they use little of their range and no range was given.
    left_out : bands that are neither colour nor alpha.
    """

    orientation: int = 1
    narrow: Narrow | None = None
    left_out: int = 0

    @classmethod
    def of(cls, stored: Any) -> "Traits":
        """Return the traits of which JSON made lists."""
        orientation, narrow, left_out = stored
        return cls(orientation, narrow and Narrow(*narrow), left_out)


class Remarks:
    """Logs the first picture of each oddity as it comes, and with `close` how many there were."""

    def __init__(self) -> None:
        self._narrow: list[Narrow] = []
        self._left_out = 0
        self._turned = 0

    def add(self, name: str, traits: Traits) -> None:
        """Take note of a picture; `name` is what the log calls it."""
        if traits.narrow:
            if not self._narrow:
                _log.warning("%s: %s", name, _about(traits.narrow))
            self._narrow.append(traits.narrow)
        if traits.left_out:
            if not self._left_out:
                _log.warning("%s: its last band is left out: the file does not say that it is alpha", name)
            self._left_out += 1
        if traits.orientation in _TURNED:
            if not self._turned:
                how = _TURNED[traits.orientation]
                _log.warning("%s: is %s by its EXIF tag; its annotations must be of the picture upright", name, how)
            self._turned += 1

    def close(self) -> None:
        """Say how many pictures there were of each oddity that was met more than once."""
        if len(self._narrow) > 1:
            low, high = min(n.low for n in self._narrow), max(n.high for n in self._narrow)
            fits = f"--range {number(low)} {number(high)}"
            _log.warning("%d pictures use little of their range; %s fits all of them", len(self._narrow), fits)
        if self._left_out > 1:
            _log.warning("the last band of %d pictures is left out", self._left_out)
        if self._turned > 1:
            _log.warning("%d pictures are turned by their EXIF tag", self._turned)


def _about(narrow: Narrow) -> str:
    low, high, white = map(number, narrow)
    return (
        f"its values, {low} to {high}, use little of the range from 0 to {white}, so that few shades are left; "
        f"unless that is meant, say --range {low} {high} or --range auto"
    )
