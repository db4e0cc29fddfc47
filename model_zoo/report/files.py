"""A report's files: the page, the whole as JSON, and every table as CSV."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from model_zoo.report.html import write_whole
from model_zoo.report.page import render
from model_zoo.report.run import Report

PAGE: Final = "index.html"
DOCUMENT: Final = "report.json"


def write_report(folder: Path, report: Report) -> list[str]:
    """Write all files of a report; returns their names."""
    document = report.document
    write_whole(folder / DOCUMENT, json.dumps(document, indent=1))
    names = [PAGE, DOCUMENT]
    for name, rows in (*_tables(document), ("frames.csv", report.frames)):
        if rows:
            write_whole(folder / name, _csv(rows))
            names.append(name)
    write_whole(folder / PAGE, render(report, files=names[1:]))
    return names


def _tables(document: dict[str, Any]) -> Iterator[tuple[str, Sequence[dict[str, Any]]]]:
    classes = document["classes"]
    yield (
        "confusion.csv",
        [
            {"truth": name, **dict(zip(classes, row, strict=True))}
            for name, row in zip(classes, document["confusion"], strict=True)
        ],
    )
    for key in ("per_class", "per_source", "per_site", "reasons", "rivals"):
        yield f"{key}.csv", document[key]
    yield "outcomes.csv", [{"outcome": name, **row} for name, row in document["outcomes"].items()]
    yield (
        "areas.csv",
        [
            {key: value for key, value in row.items() if key not in ("roc", "precision_recall")}
            for row in document["curves"]
        ],
    )
    for key in ("roc", "precision_recall"):
        yield (
            f"{key}.csv",
            [{"class": row["class"], "x": x, "y": y} for row in document["curves"] for x, y in row[key]],
        )
    yield "reliability.csv", document["reliability"]["bins"]
    yield (
        "risk_coverage.csv",
        [{"coverage": x, "risk": y} for x, y in document["risk_coverage"]["curve"]],
    )
    yield "prediction_set_sizes.csv", document["prediction_sets"]["sizes"]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested rows as one line: `referred.value`, `referred.wilson.low`."""
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(v, float) for v in value):  # noqa: PLR2004
            yield f"{name}.low", value[0]
            yield f"{name}.high", value[1]
        elif isinstance(value, list):
            yield name, " ".join(str(part) for part in value)
        else:
            yield name, value
