"""How a restored line is shown: of several ways, one in which a recogniser reads what the line was told.

The more of the network's line is shown, the sharper it is; the less, and the more strongly what was read is painted,
the more readily other recognisers read it; and where glyphs were painted beside their places, both spoil a line that
its input lets one read. No single way serves all lines, and which one serves a line can be found out: a recogniser is
shown the line as the bundle would show it, then in each of `OTHERS`, until it reads without a doubt what the line was
told. Where it never does, the way is taken in which it reads it most surely: the input itself, where that is read
better than all of them. Where it reads it in none, the line is shown without paint: what cannot be confirmed is not
painted.

That recogniser is PP-OCRv6 with its own weights. The one that told the text was trained on degraded lines
(`train.reader`), so it reads more than others do and tells one way from another less well. The text is not proven
here: a wrong one can be painted so that it is read. That is the guard's to find out. Measured in train/LOG.md, V26.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.finish import Restored, Shown, Tools, told_text
from runtime.guard.evidence import distance, weakest
from runtime.lines import read_any
from runtime.options import Options, Way
from textsr.reading import LineReading

OTHERS = (Way(0.4, 2.0), Way(0.0, 2.0), Way(0.0, 0.75))
"""Tried in this order where the bundle's own way is not read without a doubt."""
SURE = 0.999
"""Confidence of its least sure character from which on a reading leaves no doubt."""
AS_IS = Way(0.0, 0.0)
"""The input itself."""
BETTER = 0.1
"""How much more surely than restored the input has to be read to stay as it is."""


def proofread(restored: Sequence[Restored], tools: Tools, options: Options) -> list[Shown]:
    """How to show each of ``restored``; as ``options`` say where nothing was told, or they allow no other way. How
    surely it is read then is told all the same.

    :raises EngineError: the recogniser failed.
    """
    assert tools.proofreader is not None
    told = [told_text(done, tools, options) for done in restored]
    unsure = [place for place, done in enumerate(restored) if told[place] and done.finite]
    layers = {place: restored[place].layers(options) for place in unsure}
    found: dict[int, dict[Way, float]] = {place: {} for place in unsure}
    for way in (options.way, *OTHERS, AS_IS) if options.proofread else (options.way,):
        readings = read_any(tools.proofreader, [layers[place].shown(way) for place in unsure], tools.preset)
        for place, reading in zip(unsure, readings, strict=True):
            found[place][way] = as_told(reading, told[place])
        unsure = [place for place in unsure if found[place][way] < SURE]
    shown = [Shown(options)] * len(restored)
    for place, ways in found.items():
        way, sure = _best(ways)
        if options.proofread and not sure:
            way = Way(options.way.strength, 0.0)
        shown[place] = Shown(options.shown(way), layers[place].shown(way), sure)
    return shown


def _best(found: dict[Way, float]) -> tuple[Way, float]:
    """The way that is read most surely, the first of several, and how surely."""
    way = max(found, key=lambda way: found[way] - (BETTER if way == AS_IS else 0.0))
    return way, found[way]


def as_told(reading: LineReading, told: str) -> float:
    """How surely a reading says what was told: the confidence (0..1) of its least sure character; 0 where its text is
    another (width, case and spaces do not count)."""
    return 0.0 if distance(reading.text, told) else weakest(reading)
