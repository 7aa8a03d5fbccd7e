"""The judge: PP-OCRv4's recogniser as ``rapidocr-onnxruntime`` 1.4.4 runs it, never used in training or restoring.

The paper judges with TransOCR instead, which its model also reads with: `TransOCRJudge`, where a bundle brings it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.recognizer import LineReader
from textsr.errors import InputError

PACKAGE = "rapidocr-onnxruntime"
DEFAULT, TRANSOCR = "pp-ocrv4", "transocr:"


Reader = Callable[[NDArray[np.uint8]], str]
"""What tells how readable a line is: the text of an RGB line (h, w, 3) uint8."""


class Judge:
    """PP-OCRv4, one line at a time: in the package's own batches a line's padding depends on its neighbours."""

    def __init__(self, threads: int = 1) -> None:
        """Raises InputError where the package is not installed."""
        spec = find_spec("rapidocr_onnxruntime")
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"the judge needs {PACKAGE}: install the extra [train]")
        from rapidocr_onnxruntime.ch_ppocr_rec import TextRecognizer

        folder = Path(spec.submodule_search_locations[0])
        self.name = f"PP-OCRv4 ({PACKAGE} {version(PACKAGE)})"
        self._recognizer = TextRecognizer(
            {
                "intra_op_num_threads": threads,
                "inter_op_num_threads": 1,
                "use_cuda": False,
                "use_dml": False,
                "model_path": str(folder / "models" / "ch_PP-OCRv4_rec_infer.onnx"),
                "rec_img_shape": [3, 48, 320],
                "rec_batch_num": 1,
            }
        )

    def __call__(self, image: NDArray[np.uint8]) -> str:
        """The text of an RGB line (h, w, 3) uint8; empty where nothing is read."""
        return self.rated(image)[0]

    def rated(self, image: NDArray[np.uint8]) -> tuple[str, float]:
        """The text, and the mean confidence (0..1) of its characters; 0 where nothing is read."""
        readings, _ = self._recognizer([np.ascontiguousarray(image[:, :, ::-1])])
        text, confidence = readings[0]
        return str(text), float(np.nan_to_num(confidence))


class TransOCRJudge:
    """The paper's judge, TransOCR, from a bundle that holds it."""

    def __init__(self, bundle: str, threads: int = 1) -> None:
        """Raises BundleError where the bundle is missing or lacks TransOCR."""
        from runtime.bundle import Bundle
        from runtime.executors import open_executor
        from runtime.transocr import open_transocr

        opened = Bundle.open(bundle)
        self._reader: LineReader = open_transocr(opened, open_executor(opened, "cpu", threads=threads))
        self.name = f"TransOCR of {opened.path.name} (the paper's judge, which its model also reads and trains with)"

    def __call__(self, image: NDArray[np.uint8]) -> str:
        """The text of an RGB line (h, w, 3) uint8; empty where nothing is read."""
        return self._reader.read([image])[0].text


def open_judge(name: str, threads: int = 1) -> Judge | TransOCRJudge:
    """``pp-ocrv4``, or ``transocr:BUNDLE``. Raises InputError for another name, or where its weights are missing."""
    if name == DEFAULT:
        return Judge(threads)
    if name.startswith(TRANSOCR):
        return TransOCRJudge(name.removeprefix(TRANSOCR), threads)
    raise InputError(f"unknown judge {name!r}: give {DEFAULT}, or {TRANSOCR}BUNDLE with a bundle that holds TransOCR")
