"""spx segment: images in, label maps out."""

from dataclasses import replace
from typing import Annotated

from spx_cli.cli import _batch, _options
from spx_cli.cli._output import log_to_stderr
from spx_cli.errors import ParameterError
from spx_cli.options import SegmentOptions


@_options.taking(SegmentOptions)
def segment(
    *,
    inputs: _options.Inputs = None,
    from_file: _options.FromFile = None,
    null: _options.Null = False,
    method: _options.MethodName = "slic",
    param: _options.Params = None,
    weights: _options.Weights = None,
    seed: _options.Seed = None,
    device: _options.Device = None,
    out: Annotated[str | None, _batch.out("labels")] = None,
    options: SegmentOptions,
    fail_fast: _batch.FailFast = False,
    as_json: _options.Json = False,
    quiet: _options.Quiet = False,
    verbose: _options.Verbose = False,
) -> int:
    """Split images into superpixels and write one label map for each.

    The map has exactly K regions, each 4-connected, numbered in raster order. In a pipe the paths of the maps are
    printed, one a line.
    """
    from spx_cli.batch.engine import segment_files

    log_to_stderr(verbose=verbose, quiet=quiet)
    chosen = _options.make_method(method, param, device=device, seed=seed, weights=weights)
    sources = _batch.sources(inputs, from_file, null=null)
    options = replace(_batch.stopping(options, fail_fast=fail_fast), guide_device=device)
    if out == "-":
        if as_json or options.overlay or options.resume or options.dry_run:
            raise ParameterError(
                "-o - sends the label map itself to stdout; it goes with no --json, --overlay, --resume"
            )
        return _batch.to_stdout(lambda file: segment_files(chosen, sources, file, options), options.format or "png")
    batch = segment_files(chosen, sources, out, options)
    return _batch.show(batch, as_json=as_json, quiet=quiet, verbose=verbose)
