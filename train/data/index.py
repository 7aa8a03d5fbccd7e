"""A scan's result kept in a file: a large set is looked through once, by the first of several processes that asks."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from textsr.errors import InputError
from textsr.images import atomic
from train.data.records import Drop, Reason, Report
from train.data.selection import Selection, Source

log = logging.getLogger(__name__)

INDEX_VERSION = 1


def _facts(selection: Selection, source: Source) -> dict[str, Any]:
    """What an index is valid for."""
    filters = None if selection.filters is None else asdict(selection.filters)
    judged = {"filters": filters, "full_scan": selection.full_scan}
    return {"version": INDEX_VERSION, "source": source.label, "stamp": source.stamp(), **judged}


def read_index(selection: Selection, source: Source, report: Report) -> list[int] | None:
    """The kept numbers of an earlier scan; None where there is none or the files have changed since."""
    path = selection.index
    if path is None or not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["facts"] != json.loads(json.dumps(_facts(selection, source))):
            log.warning("%s is of other files or filters: the records are scanned again", path)
            return None
        drops = [Drop(row["name"], Reason(row["reason"]), row["detail"]) for row in data["drops"]]
        kept = [int(place) for place in data["kept"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no index of a data set ({error}): delete it, or name another file") from error
    report.found, report.drops = len(kept) + len(drops), drops
    return kept


def write_index(selection: Selection, source: Source, report: Report, kept: list[int]) -> None:
    if selection.index is None or selection.limit is not None:
        return  # a scan that a limit cut off tells too little
    data = {"facts": _facts(selection, source), "kept": kept, "drops": [asdict(drop) for drop in report.drops]}
    with atomic(selection.index) as stream:
        stream.write(json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace"))
