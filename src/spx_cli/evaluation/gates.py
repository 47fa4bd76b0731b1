"""Gates: conditions on the summary of an evaluation that decide whether a CI job passes. Unrounded values decide."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from spx_cli.errors import FormatError, NothingToDo, ParameterError
from spx_cli.evaluation.document import SCHEMA, Outcome, Row
from spx_cli.metrics import CONTOUR_METRICS, METRICS, SPEED_METRICS
from spx_cli.registry import unknown

D = TypeVar("D", bound=Outcome)
KNOWN = METRICS | CONTOUR_METRICS | SPEED_METRICS


class Verdict(NamedTuple):
    """One condition, and whether it holds. `value` is NaN where there was nothing to judge."""

    method: str
    k_requested: float | None
    condition: str
    value: float
    passed: bool

    def __str__(self) -> str:
        where = self.method if self.k_requested is None else f"{self.method} at {self.k_requested:g}"
        found = "is missing or undefined" if math.isnan(self.value) else f"is {self.value:.8g}"
        return f"{where}: {self.condition}, {found}"


class Report(NamedTuple, Generic[D]):
    """What is told of a run: the scores, what the gates say of them, and whether the run passes.

    forgiven : whether what could not be scored is no more than was allowed.
    """

    document: D
    verdicts: tuple[Verdict, ...]
    passed: bool
    forgiven: bool


@dataclass(frozen=True)
class Conditions:
    """What must hold for a run to pass.

    under, over : the least and the greatest mean that passes, by metric, or by method and metric: 'slic:asa'.
    baseline : what an earlier `spx eval --json` wrote, None for no comparison.
    slack : which metrics are compared with the baseline, and how much worse each may be; without any, all are, and none
        may be worse.

    Peers of a benchmark are judged where they are named, and `ratio` of all but the reference, whose own is 1.
    """

    under: Mapping[str, float]
    over: Mapping[str, float]
    baseline: Mapping[str, Any] | None
    slack: Mapping[str, float]

    @classmethod
    def parse(
        cls, under: Iterable[str], over: Iterable[str], baseline: Path | None, slack: Iterable[str]
    ) -> "Conditions":
        """Return the conditions that the texts of options state.

        Raises ParameterError for anything but [METHOD:]METRIC=VALUE, UnknownName for a metric, FormatError for a file
        that `spx eval --json` did not write.
        """
        made = cls(
            _parse(under, "--fail-under", but=-1),
            _parse(over, "--fail-over", but=1),
            None if baseline is None else _read_baseline(baseline),
            _parse(slack, "--tolerance", but=0),
        )
        if made.slack and baseline is None:
            raise ParameterError("--tolerance METRIC=VALUE is about a baseline; add --baseline FILE")
        return made

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the conditions are about."""
        keys = [*self.under, *self.over, *self.slack]
        return tuple(dict.fromkeys(key.rpartition(":")[2] for key in keys))

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ParameterError where the baseline was made under other settings than `settings`, a document's header.

        UnknownName where a condition is about a method that does not run, ParameterError where it is about none. To be
        asked before the work, for afterwards it was in vain.
        """
        methods, against = settings["methods"], settings.get("against")
        ours = [name for name in methods if name not in settings.get("peers", ())]
        for key in (*self.under, *self.over, *self.slack):
            method, _, metric = key.rpartition(":")
            if method and method not in methods:
                raise unknown("method of this run", method, methods)
            if not [name for name in ([method] if method else ours) if (name, metric) != (against, "ratio")]:
                reference = f"{against} is the reference, its ratio is 1"
                why = reference if against in (method, *ours) else "name the peer, PEER:METRIC=VALUE"
                raise ParameterError(f"no method of this run could fail by {key}: {why}")
        if self.baseline is None:
            return
        if not ours and not self.slack:
            raise ParameterError("no method of ours runs to be compared with the baseline")
        of_time = ("against", "threads") if "ratio" in self.metrics else ()
        for key in ("protocol", "annotations", "tolerance", "ignore_label", "thresholds", *of_time):
            if (was := self.baseline.get(key)) != (is_now := settings.get(key)):
                raise ParameterError(
                    f"the baseline was made with {key} {was!r}, this run with {is_now!r}; "
                    "scores under different settings cannot be compared"
                )
        was, now = (_reading(header) for header in (self.baseline, settings))
        for key in [*was, *now]:
            if was.get(key) != now.get(key):
                raise ParameterError(f"the baseline is of data with {key} {was.get(key)!r}, this run {now.get(key)!r}")

    def judge(self, document: D, max_failures: int = 0) -> Report[D]:
        """Return the verdicts on the summary, or on `at` where counts were asked for, and whether the run passes.

        A run without a scored pair or with more than `max_failures` failures does not pass. Raises ParameterError for
        a baseline made under other settings, NothingToDo where there was nothing to score and nothing is required.
        """
        self.check(document.header)
        if self.baseline is not None:
            before, images = (header.get("data", {}).get("images") for header in (self.baseline, document.header))
            if before is not None and before != images:
                raise ParameterError(f"the baseline is of {before} images, this run of {images}: means of other images")
        verdicts = [verdict for row in document.judged[1] for verdict in self._limits(row, document)]
        if self.baseline is not None:
            verdicts += self._comparisons(document, self.baseline)
        gated = bool(self.metrics) or self.baseline is not None
        if not document.pairs and not document.failures and not gated:
            raise NothingToDo(f"nothing to score in {document.header['data']['root']}")
        forgiven = len(document.failures) <= max_failures
        passed = bool(document.pairs) and forgiven and all(verdict.passed for verdict in verdicts)
        return Report(document, tuple(verdicts), passed, forgiven)

    def _limits(self, row: Row, document: Outcome) -> Iterator[Verdict]:
        # A comparison with NaN is false, so what is undefined never passes.
        for name, least in _about(row, self.under, document):
            yield _verdict(row, f"{name} >= {least:g}", row[name], row[name] >= least)
        for name, most in _about(row, self.over, document):
            yield _verdict(row, f"{name} <= {most:g}", row[name], row[name] <= most)

    def _comparisons(self, document: Outcome, baseline: Mapping[str, Any]) -> Iterator[Verdict]:
        """Yield what comparing the rows of the run with the baseline's gives; those that one of them lacks fail."""
        part, rows = document.judged
        before = {_key(row): row for row in baseline[part]}
        scored, then = (Counter(map(_key, some)) for some in (document.rows(), baseline.get("rows", ())))
        for row in rows:
            old = before.pop(_key(row), None)
            names = self._compared(row, document, baseline)
            if old is None and names:
                yield _verdict(row, "scored in the baseline as here", math.nan, passed=False)
            elif old is not None:
                for name, slack in names.items():
                    yield _regression(row, old, name, slack)
            n, m = scored[_key(row)], then[_key(row)]
            if names and n < m:
                yield _verdict(row, f"scored on as many pairs as the baseline, {m}", n, passed=False)
        peers = {*document.header.get("peers", ()), *baseline.get("peers", ())}
        for row in before.values():
            if self._compared(row, document, baseline) and row["method"] not in peers:
                yield _verdict(row, "scored here as in the baseline", math.nan, passed=False)

    def _compared(self, row: Row, document: Outcome, baseline: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics in which a row is compared with the baseline, and how much worse each may be."""
        if self.slack:
            return dict(_about(row, self.slack, document))
        if row["method"] in document.header.get("peers", ()):
            return {}
        both = dict.fromkeys((*document.metrics, *baseline.get("metrics", ())))
        return {name: 0.0 for name in both if name in KNOWN and KNOWN[name].sign}


def _regression(row: Row, old: Row, name: str, slack: float) -> Verdict:
    was, sign = old.get(name), KNOWN[name].sign
    if was is None or name not in row:
        where = "the baseline" if was is None else "this run"
        return _verdict(row, f"{name} in {where}", math.nan, passed=False)
    bound = was - sign * slack
    condition = f"{name} {'>=' if sign > 0 else '<='} {bound:.6g} (baseline {was:.6g})"
    return _verdict(row, condition, row[name], sign * (row[name] - bound) >= 0)


def _about(row: Row, limits: Mapping[str, float], document: Outcome) -> Iterator[tuple[str, float]]:
    """Yield (metric, value) of the limits on a row: those of its method, and those of all of ours."""
    for key, value in limits.items():
        method, _, name = key.rpartition(":")
        everybody = not method and row["method"] not in document.header.get("peers", ())
        reference = name == "ratio" and row["method"] == document.header.get("against")
        if method == row["method"] or (everybody and not reference):
            yield name, value


def _reading(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document says of its data, but for where it lies and how much of it there is."""
    said = {key: value for key, value in header.get("data", {}).items() if key not in ("root", "images")}
    return dict(json.loads(json.dumps(said)))  # tuples as a document's file has them


def _parse(texts: Iterable[str], option: str, *, but: int) -> dict[str, float]:
    """Return the values of 'metric=value' texts; `but` is the direction of metrics that the option cannot take."""
    limits: dict[str, float] = {}
    for text in texts:
        key, equals, number = text.partition("=")
        name = key.rpartition(":")[2]
        if not equals:
            raise ParameterError(f"{option} takes METRIC=VALUE, not {text!r}")
        if name not in KNOWN:
            raise unknown("metric", name, KNOWN)
        if KNOWN[name].sign == but:
            hint = {-1: "; less is better, use --fail-over", 1: "; more is better, use --fail-under", 0: ""}[but]
            raise ParameterError(f"{option} makes no sense for {name}{hint or ', which has no better or worse'}")
        if key in limits:
            raise ParameterError(f"{option} {key}= is given twice")
        try:
            limits[key] = float(number)
        except ValueError:
            raise ParameterError(f"{option} {name}= takes a number, not {number!r}") from None
        if not math.isfinite(limits[key]) or (option == "--tolerance" and limits[key] < 0):
            raise ParameterError(f"{option} {name}= takes a finite number, not {number!r}")
    return limits


def _read_baseline(path: Path) -> dict[str, Any]:
    """Return what `spx eval --json` wrote; FormatError for anything else, ParameterError where there is nothing."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ParameterError(f"cannot read the baseline {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise FormatError(f"the baseline {path} is no JSON; 'spx eval --json FILE' writes one") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or "summary" not in document:
        raise FormatError(f"the baseline {path} is no result of 'spx eval --json', schema {SCHEMA}")
    for part in ("summary", "at", "rows"):
        rows = document.setdefault(part, [])
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise FormatError(f"the baseline {path} is damaged: '{part}' does not hold rows of scores")
    for part in ("metrics", "peers"):
        names = document.get(part, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise FormatError(f"the baseline {path} is damaged: '{part}' does not hold names")
    if not isinstance(document.get("data", {}), dict):
        raise FormatError(f"the baseline {path} is damaged: 'data' does not say what was scored")
    return document


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("method"), str):
        return False
    values = [row[name] for name in ("k_requested", *KNOWN) if row.get(name) is not None]
    return all(type(value) in (int, float) and abs(value) < sys.float_info.max for value in values)


def _key(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["method"], row.get("k_requested", row.get("k"))


def _verdict(row: Row, condition: str, value: float, passed: bool) -> Verdict:
    return Verdict(row["method"], _key(row)[1], condition, value, bool(passed))
