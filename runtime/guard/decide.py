"""From evidence to a decision, without pictures: so that thresholds can be tried on evidence that was kept."""

from __future__ import annotations

from runtime.guard.evidence import Evidence, distance
from runtime.guard.options import GuardOptions

NO_READER = "no recogniser (extra [ocr]): the guard cannot tell whether the restored line says something else"
PICTURE_ONLY = "judged by the picture alone: no recogniser"


def objection(evidence: Evidence, options: GuardOptions) -> tuple[str, str] | None:
    """The first objection to applying a restored line: its rule's name and a sentence; None where there is none.

    What was not gathered (no blind restoration, no second recogniser) is not held against the line here: `decide`
    sees to it that what must be there is.
    """
    for rule in (_picture, _told, _reader, _text, _proof, _blind, _confidence, _second):
        found = rule(evidence, options)
        if found:
            return rule.__name__.lstrip("_"), found
    return None


def decide(evidence: Evidence, options: GuardOptions) -> tuple[str, str]:
    """The rule that a restored line fails by its ``evidence`` under ``options``, empty where it is applied, and a
    sentence.

    Where ``options`` want a restoration from the picture alone, no line that was read again is applied without one.
    """
    found = objection(evidence, options)
    if found is not None:
        return found
    if evidence.after is None:
        return "", PICTURE_ONLY
    if options.blind and (evidence.blind is None or evidence.likeness is None):
        return "blind", "no restoration from the picture alone to compare it with"
    return "", ""


def _told(evidence: Evidence, options: GuardOptions) -> str:
    if not evidence.weakest_told >= options.min_told:
        if not evidence.told:
            return "nothing was read in the input"
        return (
            f"a character was read in the input with confidence {evidence.weakest_told:.3f} "
            f"(below {options.min_told:g})"
        )
    return ""


def _reader(evidence: Evidence, options: GuardOptions) -> str:
    if evidence.after is None and (options.never_change_text or options.without_reader == "refuse"):
        return NO_READER
    return ""


def _picture(evidence: Evidence, options: GuardOptions) -> str:
    # "not at least" rather than "below": not a number is an objection
    if not evidence.similarity >= options.min_similarity:
        return (
            f"the restored line, shrunk again, is not the input: similarity {evidence.similarity:.2f}, "
            f"at least {options.min_similarity:g} is needed"
        )
    if not evidence.column >= options.min_column:
        return (
            f"a character of the restored line, shrunk again, is not that of the input: similarity "
            f"{evidence.column:.2f}, at least {options.min_column:g} is needed"
        )
    return ""


def _text(evidence: Evidence, options: GuardOptions) -> str:
    if evidence.after is None:
        return ""
    if options.never_change_text and evidence.after != evidence.before:
        return f"restoring changed the text: {evidence.before!r} before, {evidence.after!r} after"
    if evidence.change > options.max_change:
        return f"the restored line reads {evidence.after!r} instead of {evidence.expected!r}"
    return ""


def _proof(evidence: Evidence, options: GuardOptions) -> str:
    if evidence.proof is None or evidence.proof >= options.min_proof:
        return ""
    if not evidence.proof:
        return f"the proofreader does not read {evidence.told!r} in the restored line"
    return (
        f"the proofreader reads a character of the restored line with confidence {evidence.proof:.3f} "
        f"(below {options.min_proof:g})"
    )


def _blind(evidence: Evidence, options: GuardOptions) -> str:
    if not options.blind or evidence.after is None or evidence.blind is None:
        return ""
    if evidence.doubt > options.max_doubt:
        return f"the picture alone, restored without text, reads {evidence.blind!r}, not {evidence.after!r}"
    if evidence.likeness is not None and not evidence.likeness >= options.min_likeness:
        return (
            f"a character of the restored line is not what the picture alone, restored without text, shows: "
            f"similarity {evidence.likeness:.3f}, at least {options.min_likeness:g} is needed"
        )
    return ""


def _confidence(evidence: Evidence, options: GuardOptions) -> str:
    if evidence.after is None:
        return ""
    if not evidence.weakest_after >= options.min_confidence:
        return (
            f"a character of the restored line is read with confidence {evidence.weakest_after:.3f} "
            f"(below {options.min_confidence:g})"
        )
    drop = evidence.sure_before - evidence.sure_after
    if not drop <= options.max_drop:
        return (
            f"the restored line is read less surely: {evidence.sure_before:.2f} before, {evidence.sure_after:.2f} after"
        )
    return ""


def _second(evidence: Evidence, options: GuardOptions) -> str:
    if evidence.second_after is None:
        return ""
    if options.never_change_text and evidence.second_after != evidence.second_before:
        return (
            f"restoring changed what the second recogniser reads: {evidence.second_before!r} before, "
            f"{evidence.second_after!r} after"
        )
    if distance(evidence.after or evidence.expected, evidence.second_after) > options.max_change:
        return f"the second recogniser reads {evidence.second_after!r} in the restored line"
    return ""
