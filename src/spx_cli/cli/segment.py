"""spx segment: images in, label maps out."""

from spx_cli.cli import _options


def segment(inputs: _options.Inputs = None) -> None:
    """Split images into superpixels and write one label map for each."""
