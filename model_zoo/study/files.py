"""The tables of a study as CSV."""

import csv
from pathlib import Path
from typing import Any, Final

TABLE_FILE: Final = "table.csv"
CONFUSION_FILE: Final = "confusion.csv"
CURVES_FILE: Final = "curves.csv"


def write_tables(folder: Path, report: dict[str, Any]) -> None:
    """Write the study's table, the confusion matrices and the loss curves; each row says its protocol."""
    known = report["published"] if not report["null_labels"] else None
    _write(folder / TABLE_FILE, [row for name in report["protocols"] for row in _table(name, report, known)])
    _write(
        folder / CONFUSION_FILE,
        [
            {"protocol": name, "truth": label, **dict(zip(one["figures"]["labels"], counts, strict=True))}
            for name, one in report["protocols"].items()
            for label, counts in zip(one["figures"]["labels"], one["figures"]["confusion"], strict=True)
        ],
    )
    _write(
        folder / CURVES_FILE,
        [{"protocol": name, **row} for name, one in report["protocols"].items() for row in one["curve"]],
    )


def _table(name: str, report: dict[str, Any], known: dict[str, Any] | None) -> list[dict[str, Any]]:
    figures = report["protocols"][name]["figures"]
    rows = []
    for one in figures["by_class"]:
        row = {
            "protocol": name,
            "caveat": report["caveat"],
            "class": one["class"],
            "images": one["images"],
            "groups": one["groups"],
            "published_accuracy": known["by_class"][one["class"]] / 100 if known else "",
        }
        for key in ("accuracy", "precision", "recall", "f1"):
            low, high = one[key]["bootstrap"]
            row |= {key: one[key]["value"], f"{key}_low": low, f"{key}_high": high}
        rows.append(row)
    low, high = figures["accuracy"]["bootstrap"]
    overall = dict.fromkeys(rows[0], "") | {
        "protocol": name,
        "caveat": report["caveat"],
        "class": "all",
        "images": figures["images"],
        "groups": figures["groups"],
        "published_accuracy": known["accuracy"] / 100 if known else "",
        "accuracy": figures["accuracy"]["value"],
        "accuracy_low": low,
        "accuracy_high": high,
    }
    return [*rows, overall]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["protocol"])
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
