"""The recogniser that a bundle brings along: TransOCR's two graphs and its symbols."""

from __future__ import annotations

from runtime.bundle import MANIFEST, Bundle
from textsr.errors import BundleError, InputError
from textsr.loop import Executor
from textsr.recognition import TransOCRReader


def open_transocr(bundle: Bundle, executor: Executor) -> TransOCRReader:
    """A reader of the bundle's own recogniser; ``executor`` runs the bundle's graphs.

    :raises BundleError: the bundle lacks the recogniser's graphs, sizes or symbols.
    """
    missing = [name for name in ("recognizer_encoder", "recognizer_step") if name not in bundle.graphs]
    if missing or bundle.preset.transocr is None:
        raise BundleError(f"{bundle.path}: names transocr as recogniser, but lacks its graphs or its preset")
    try:
        return TransOCRReader(executor, bundle.preset.transocr, tuple(bundle.manifest.get("recognizer_symbols") or ()))
    except InputError as error:
        raise BundleError(f"{bundle.path / MANIFEST}: recognizer_symbols do not fit ({error})") from error
