"""Tables as text: CSV, Markdown, and numbers as JSON."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TextIO


@dataclass(frozen=True)
class Table:
    """The cells of a table as people read them."""

    template: ClassVar = "table.html"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write some columns of rows; numbers unrounded, empty where undefined."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        values = finite(row)
        table.writerow(["" if values[name] is None else values[name] for name in columns])


def write_markdown(file: TextIO, table: Table) -> None:
    """Write a table as GitHub shows it."""
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    file.writelines("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def finite(value: Any) -> Any:
    """Return a value for JSON: NaN and infinity, which JSON has no word for, become None; whole floats stay floats."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row as JSON on one line."""
    return json.dumps(finite(row), allow_nan=False)
