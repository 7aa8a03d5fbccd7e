"""Restoring inside OCR products, between their detector and their recogniser.

`Lines` restores a product's crops; `runtime.plugins.rapidocr`, `.doctr`, `.easyocr` and `.paddleocr` each have an
``attach`` that puts it into that product, `wrap` puts it before any function that reads crops. No product is imported
before its module is, and none of them is needed to restore.
"""

from __future__ import annotations

from runtime.plugins.hook import detach
from runtime.plugins.lines import Counts, Lines, wrap

__all__ = ["Counts", "Lines", "detach", "wrap"]
