"""Tables of the DICOM standard for dicom-validator, which else downloads them.

If the environment names a folder of dicom-validator's own (``HEMOLINK_DICOM_STANDARD``, made by ``validate_iods`` where the standard's site
can be reached), that edition is used. Otherwise modules and attributes with their types are those that highdicom carries, and conditions
and enumerated values those that `Words` finds for them. A type "required if" without such a rule counts as allowed.

highdicom lists the content tree of a structured report as one flat table, without what tells one value type from another. It is
built from the macros instead (PS3.3, C.17.3): each item includes the macro of its value type and no other.
"""

import json
import os
import pkgutil
from pathlib import Path

from dicom_validator.spec_reader.condition import ConditionOperator, ConditionType
from dicom_validator.spec_reader.edition_reader import EditionReader
from dicom_validator.validator.dicom_info import DicomInfo
from pydicom.datadict import DicomDictionary, tag_for_keyword

from tests.clinician_dashboard.dicom_words import Words

ALLOWED = {"type": ConditionType.UserDefined}
CERTAIN = {"specimen": "M"}
"""Modules that are required under a condition which no program can judge, and which is met: the imaging subject is a specimen."""

SR_CONTENT, ITEM, RELATIONSHIP = "sr-document-content", "document-content", "document-relationship"
VALUE_TYPE, NAME, BY_REFERENCE, CONTENT = "(0040,A040)", "(0040,A043)", "(0040,DB73)", "(0040,A730)"
NAMED = ("TEXT", "NUM", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME")
"""Value types whose items need a name (table C.17-5, in words that the parser does not follow), as the root does too."""
VALUE_MACROS = {  # PS3.3, table C.17-5: "include ... if and only if Value Type is ..."
    "NUM": "numeric-measurement",
    "CODE": "code",
    "COMPOSITE": "composite-object-reference",
    "IMAGE": "image-reference",
    "WAVEFORM": "waveform-reference",
    "SCOORD": "spatial-coordinates",
    "SCOORD3D": "3d-spatial-coordinates",
    "TCOORD": "temporal-coordinates",
    "CONTAINER": "container",
}


def load(*sop_classes):
    """Return the tables of some SOP classes, and where they are from."""
    folder = os.environ.get("HEMOLINK_DICOM_STANDARD")
    if folder:
        reader = EditionReader(Path(folder))
        edition, path = reader.get_edition_and_path("local")
        assert path is not None, f"{folder} holds no edition of the standard"
        return reader.load_dicom_info(edition), f"dicom-validator's edition {edition}"
    return _from_packages(sop_classes), "highdicom's tables and the conditions of 2020"


def _from_packages(sop_classes):
    names, modules, attributes = (
        json.loads(pkgutil.get_data("highdicom", f"_standard/{name}.json"))
        for name in ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
    )
    dictionary = {
        _shown(tag): {"name": entry[2], "vr": entry[0], "vm": entry[1], "prop": entry[3]}
        for tag, entry in DicomDictionary.items()
    }
    words = Words(dictionary)
    iods, described = {}, _sr_content(words)
    for sop_class in sop_classes:
        used = {}
        for module in modules[names[sop_class]]:
            key = module["key"]
            used[key] = {"ref": key, "use": CERTAIN.get(key, module["usage"])}
            if used[key]["use"] != "M":
                used[key]["cond"] = ALLOWED
            if key not in described:
                described[key] = _tree(_current(attributes[key], words.module(key)))
        iods[sop_class] = {"title": names[sop_class], "modules": used, "group_macros": {}}
    return DicomInfo(dictionary, iods, described)


def _current(rows, worded):
    """Yield highdicom's rows, the rules of the same attributes beside them."""
    rules = {path: rule for path, _kind, rule in worded}
    for row in rows:
        tags = [tag_for_keyword(keyword) for keyword in (*row["path"], row["keyword"])]
        if None not in tags:  # else newer than this pydicom's dictionary
            path = tuple(_shown(tag) for tag in tags)
            yield path, row["type"], rules.get(path, {})


def _sr_content(words):
    values = {name: words.macro(name) for name in VALUE_MACROS.values()}
    of_values = {path[0] for rows in values.values() for path, *_rest in rows}
    item = _tree(row for row in words.macro(ITEM) if row[0][0] not in of_values)
    item[NAME]["cond"] = {
        **_only(ConditionOperator.EqualsValue, VALUE_TYPE, *NAMED),
        "type": ConditionType.MandatoryOrUserDefined,
    }
    item["include"] = [
        {"ref": macro, "cond": _only(ConditionOperator.EqualsValue, VALUE_TYPE, value_type)}
        for value_type, macro in VALUE_MACROS.items()
    ]
    of_items = {path[0] for name in (ITEM, RELATIONSHIP) for path, *_rest in words.macro(name)}
    related = _tree(row for row in words.macro(RELATIONSHIP) if len(row[0]) == 1 or row[0][1] not in of_items)
    by_value = _only(ConditionOperator.Absent, BY_REFERENCE)
    related[CONTENT]["items"]["include"] = [{"ref": one, "cond": by_value} for one in (RELATIONSHIP, ITEM)]
    return {
        SR_CONTENT: {"include": [{"ref": ITEM}, {"ref": RELATIONSHIP}], NAME: {**item[NAME], "type": "1"}},
        ITEM: item,
        RELATIONSHIP: related,
        **{name: _tree(rows) for name, rows in values.items()},
    }


def _only(operator, tag, *values):
    """Return the condition "if and only if"."""
    return {
        "type": ConditionType.MandatoryOrNotAllowed,
        "op": operator,
        "tag": tag,
        "index": 0,
        "values": list(values),
    }


def _tree(rows):
    root = {}
    for path, kind, rules in rows:
        place = root
        for tag in path[:-1]:
            place = place[tag].setdefault("items", {})
        place[path[-1]] = {
            "name": path[-1],
            "type": kind,
            **({"cond": ALLOWED} if "C" in kind else {}),
            **rules,
        }
    return root


def _shown(tag):
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
