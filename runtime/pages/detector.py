"""Where the lines of a page are: any detector, by default RapidOCR's with its weights in the wheel (extra [ocr])."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.errors import EngineError, InputError

MAX_SIDE = 2000
"""Pixels: RapidOCR looks at larger pages shrunk to this, as it does when used alone."""


class Detector(Protocol):
    """Finds lines."""

    def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """The lines of ``image``, an RGB page (h, w, 3) uint8: for each the corners (4, 2) in pixels, clockwise from
        the top left of the line, or of the box where a column of text stands upright. Any order; may reach beyond the
        page."""


class RapidOCRDetector:
    """PP-OCRv6's text detector (Apache-2.0) as RapidOCR uses it. Safe from any thread; one page at a time."""

    def __init__(self, *, box_threshold: float = 0.5, unclip: float = 1.6, threads: int | None = None) -> None:
        """``box_threshold``: how sure (0..1) it has to be of a line; ``unclip``: how far boxes are grown from the core
        that the network marks, 1.6 as RapidOCR has it; ``threads``: CPU threads, None leaves it to ONNX Runtime.

        :raises InputError: rapidocr is not installed or cannot be imported, or a value is out of range.
        """
        if not 0 <= box_threshold <= 1 or not 1 <= unclip <= 4:
            raise InputError(f"box threshold must be from 0 to 1, unclip from 1 to 4, not {box_threshold} and {unclip}")
        if find_spec("rapidocr") is None:
            raise InputError("lines of a page are found by RapidOCR: install the extra [ocr] (rapidocr 3.10)")
        try:
            from rapidocr import RapidOCR
        except ImportError as error:  # OpenCV without the system's libraries
            raise InputError(f"lines of a page are found by RapidOCR, which cannot be imported: {error}") from error
        self._box_threshold, self._unclip = box_threshold, unclip
        self._lock = threading.Lock()
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "critical",  # that a page is empty is no matter for a log
                "Global.max_side_len": MAX_SIDE,
                "EngineConfig.onnxruntime.intra_op_num_threads": -1 if threads is None else threads,
            }
        )

    def detect(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The lines of ``image``, see `Detector`. Raises EngineError where RapidOCR fails."""
        try:
            with self._lock:
                found: Any = self._ocr(
                    np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=False, use_rec=False,
                    box_thresh=self._box_threshold, unclip_ratio=self._unclip,
                )  # fmt: skip
        except Exception as error:  # ONNX Runtime's and OpenCV's errors share no base class
            raise EngineError(f"the detector failed on a page of {image.shape}: {error}") from error
        boxes = found.boxes if found.boxes is not None else ()
        return [np.asarray(box, dtype=np.float32).reshape(4, 2) for box in boxes]
