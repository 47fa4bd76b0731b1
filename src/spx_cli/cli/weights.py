"""spx weights: what is bundled, whether it is intact, and checkpoints of other projects made ours."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spx_cli.cli import _options
from spx_cli.cli._output import note, print_json, table

app = typer.Typer(help="List and verify trained weights, or convert a checkpoint of the authors.")


@app.command("list")
def list_weights(as_json: _options.Json = False) -> None:
    """List the bundled weights: what they were trained on, how, and what they reach."""
    from spx_cli.weights import WEIGHTS

    rows = [_summary(name) for name in WEIGHTS]
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ["name", "method", "steps", "data", "score", "licence", "sha256"]
    table(columns, [[*(str(row[c]) for c in columns[:-1]), row["sha256"][:12]] for row in rows])


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="[default: all]")] = None,
    as_json: _options.Json = False,
) -> int:
    """Check that bundled files are what their records say; exit code 1 if one is not."""
    from spx_cli import weights
    from spx_cli.cli._output import complain
    from spx_cli.errors import WeightsError

    failed = 0
    for name in names or weights.WEIGHTS:
        error = ""
        try:
            weights.verify(name)
        except WeightsError as damaged:
            failed, error = 1, str(damaged)
        if as_json:
            print_json({"name": name, "status": "damaged" if error else "ok", "error": error or None})
        elif error:
            complain(error)
        else:
            print(f"{name}\tok")
    return failed


@app.command()
def convert(
    method: Annotated[str, typer.Argument(metavar="METHOD", autocompletion=_options.complete_method)],
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .tar, .npz or .safetensors file.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The .safetensors file to write.")],
    param: _options.Params = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
) -> None:
    """Turn a checkpoint in the layout of a method's authors into weights for --weights."""
    from spx_cli import weights
    from spx_cli.errors import ParameterError
    from spx_cli.methods._torch import TorchMethod

    if out.suffix != weights.SUFFIX:
        raise ParameterError(f"-o must end in {weights.SUFFIX}, not {out.name!r}")
    if out.exists() and not overwrite:
        raise ParameterError(f"{out} exists; --overwrite replaces it")
    chosen = _options.make_method(method, param)
    if not isinstance(chosen, TorchMethod):
        raise ParameterError(f"{method} has no weights; learned methods do, see 'spx methods list'")
    digest = weights.save(
        out,
        chosen.fit(weights.read_checkpoint(source), str(source)).state_dict(),
        {"method": method, "data": f"converted from {source.name}, sha256 {weights.sha256(source)}"},
    )
    note(f"{out}: sha256 {digest}")


def _summary(name: str) -> dict[str, Any]:
    from spx_cli import weights

    record = weights.WEIGHTS[name]
    about = weights.provenance(weights.path(name))
    return {
        "name": name,
        "method": record.method,
        "sha256": record.sha256,
        "licence": record.licence,
        "score": record.score,
        "data": about.get("data"),
        "recipe": about.get("recipe"),
        "steps": int(about["steps"]) if "steps" in about else None,
        "spx": about.get("spx"),
    }
