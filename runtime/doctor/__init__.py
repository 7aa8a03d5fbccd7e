"""What there is to run on, which executor ``auto`` takes and why, and whether each one works: ``runtime.doctor``."""

from __future__ import annotations

from runtime.doctor.diagnosis import FORMAT, Diagnosis, diagnose
from runtime.doctor.line import TEXT, draw_line
from runtime.doctor.report import as_json, as_text

__all__ = ["FORMAT", "TEXT", "Diagnosis", "as_json", "as_text", "diagnose", "draw_line"]
