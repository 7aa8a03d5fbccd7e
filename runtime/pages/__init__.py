"""Whole pages and photos: their lines found, restored, and put back where they were. See `runtime.pages.pages`."""

from __future__ import annotations

from runtime.pages.detector import Detector, RapidOCRDetector
from runtime.pages.options import PageOptions
from runtime.pages.pages import Pages
from runtime.pages.result import PageLine, PageResult

__all__ = ["Detector", "PageLine", "PageOptions", "PageResult", "Pages", "RapidOCRDetector"]
