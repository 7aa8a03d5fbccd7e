"""Which kind of answer a caller wants."""

from __future__ import annotations

from collections.abc import Sequence


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """The media type of ``offered`` that the header ``Accept`` likes best (RFC 9110, 12.5.1), the earlier where it
    does not care; None where it takes none of them. A type named outright goes before one that a star covers."""
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_range(part) for part in accept.split(",")]
    liked: list[tuple[float, int, int, str]] = []
    for place, kind in enumerate(offered):
        family = kind.split("/")[0]
        named = [
            (exact, weight)
            for name, weight in ranges
            for exact, pattern in ((2, kind), (1, f"{family}/*"), (0, "*/*"))
            if name == pattern
        ]
        if named:
            exact, weight = max(named)
            if weight > 0:
                liked.append((weight, exact, -place, kind))
    return max(liked)[3] if liked else None


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return name, 0.0
    return name, 1.0
