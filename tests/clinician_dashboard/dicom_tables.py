"""Tables of the DICOM standard for dicom-validator, which else downloads them.

If the environment names a folder of dicom-validator's own (``HEMOLINK_DICOM_STANDARD``, made by ``validate_iods`` where the standard's site
can be reached), that edition is used, conditions included. Otherwise the tables that highdicom carries are taken: every module and
attribute with its type, and no conditions, so that what is required only under a condition counts as allowed. The content tree of a
structured report is all conditions (what an item holds hangs on its value type): of it only the outermost level is looked at then.
"""

import json
import os
import pkgutil
from pathlib import Path

from dicom_validator.spec_reader.edition_reader import EditionReader
from dicom_validator.validator.dicom_info import DicomInfo
from pydicom.datadict import DicomDictionary, tag_for_keyword

ALLOWED = {"type": "U"}
ALL_CONDITIONS = "sr-document-content"


def load(*sop_classes):
    """Return the tables of some SOP classes, and where they are from."""
    folder = os.environ.get("HEMOLINK_DICOM_STANDARD")
    if folder:
        reader = EditionReader(Path(folder))
        edition, path = reader.get_edition_and_path("local")
        assert path is not None, f"{folder} holds no edition of the standard"
        return reader.load_dicom_info(edition), f"dicom-validator's edition {edition}"
    return _from_highdicom(sop_classes), "the tables of highdicom, without conditions"


def _read(name):
    return json.loads(pkgutil.get_data("highdicom", f"_standard/{name}.json"))


def _from_highdicom(sop_classes):
    names, modules, attributes = (
        _read(name) for name in ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
    )
    iods, described = {}, {}
    for sop_class in sop_classes:
        used = {}
        for module in modules[names[sop_class]]:
            key = module["key"]
            used[key] = {"ref": key, "use": module["usage"]}
            if module["usage"] != "M":
                used[key]["cond"] = ALLOWED
            rows = attributes[key]
            if key == ALL_CONDITIONS:
                rows = [{**row, "type": "3"} for row in rows if not row["path"]]
            described[key] = _tree(rows)
        iods[sop_class] = {"title": names[sop_class], "modules": used, "group_macros": {}}
    dictionary = {
        _shown(tag): {"name": entry[2], "vr": entry[0], "vm": entry[1], "prop": entry[3]}
        for tag, entry in DicomDictionary.items()
    }
    return DicomInfo(dictionary, iods, described)


def _tree(rows):
    root = {}
    for row in rows:
        place = root
        if any(tag_for_keyword(keyword) is None for keyword in (*row["path"], row["keyword"])):
            continue  # newer than this pydicom's dictionary
        for keyword in row["path"]:
            place = place[_shown(tag_for_keyword(keyword))].setdefault("items", {})
        place[_shown(tag_for_keyword(row["keyword"]))] = {
            "name": row["keyword"],
            "type": row["type"],
            **({"cond": ALLOWED} if "C" in row["type"] else {}),
        }
    return root


def _shown(tag):
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
