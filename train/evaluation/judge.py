"""The judge: PP-OCRv4's recogniser as ``rapidocr-onnxruntime`` 1.4.4 runs it, never used in training or restoring."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

PACKAGE = "rapidocr-onnxruntime"


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
        readings, _ = self._recognizer([np.ascontiguousarray(image[:, :, ::-1])])
        return str(readings[0][0])
