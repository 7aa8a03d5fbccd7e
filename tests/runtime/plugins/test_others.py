"""docTR, EasyOCR and PaddleOCR as they are installed, with untrained weights: the crops pass through us."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.plugins import detach
from tests.runtime.plugins.stand_ins import page, spied
from textsr.errors import InputError

BOXES = [[30, 290, 30, 66], [30, 290, 100, 136]]
"""Of the page's lines: left, right, top, bottom."""
QUADS = np.array([[[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, x1, y0, y1 in BOXES], dtype=np.float32)


@pytest.fixture(scope="module")
def doctr() -> Any:
    pytest.importorskip("torch", reason="docTR needs torch")
    import train.compat  # noqa: F401  torchvision imports beside a CPU torch after this

    pytest.importorskip("doctr", reason="docTR is not installed (python-doctr)")
    from doctr.models import ocr_predictor

    return ocr_predictor(
        "db_mobilenet_v3_large", "crnn_mobilenet_v3_small", pretrained=False, pretrained_backbone=False
    )


def test_doctr_reads_crops_that_went_through_us(doctr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.plugins.doctr import attach

    relative = np.array([[x0 / 340, y0 / 180, x1 / 340, y1 / 180, 0.9] for x0, x1, y0, y1 in BOXES], dtype=np.float32)
    monkeypatch.setattr(doctr.det_predictor, "forward", lambda pages, **_: [{"words": relative}])
    shown: list[Any] = []
    before = doctr.reco_predictor.forward

    def forward(crops: Any) -> Any:
        shown.extend(crops)
        return before(crops)

    monkeypatch.setattr(doctr.reco_predictor, "forward", forward)
    spy, lines = spied()
    attach(doctr, lines)
    try:
        document = doctr([page()])
    finally:
        detach(doctr)
    assert [seen.shape[2] for seen in spy.seen] == [3, 3]
    assert lines.counts.restored == 2
    assert sorted(len(crop) for crop in shown) == sorted(4 * len(seen) for seen in spy.seen)
    words = [word for block in document.pages[0].blocks for line in block.lines for word in line.words]
    assert type(document).__name__ == "Document"
    assert len(words) <= 2  # untrained, it may read nothing
    with pytest.raises(InputError, match="not attached"):
        detach(doctr)


def test_doctr_recognition_alone(doctr: Any) -> None:
    from runtime.plugins.doctr import attach

    spy, lines = spied(keep="better")
    alone = attach(doctr.reco_predictor, lines)
    try:
        read = alone([page()[30:66, 30:290]])
    finally:
        detach(alone)
    assert isinstance(read[0][0], str)
    assert (len(read), len(spy.seen), lines.counts.readings) == (1, 1, 2)


@pytest.fixture(scope="module")
def easyocr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch = pytest.importorskip("torch", reason="EasyOCR needs torch")
    import train.compat  # noqa: F401

    pytest.importorskip("easyocr", reason="EasyOCR is not installed (easyocr)")
    from easyocr import Reader
    from easyocr.model.vgg_model import Model
    from easyocr.utils import CTCLabelConverter

    folder = str(tmp_path_factory.mktemp("easyocr"))
    reader = Reader(
        ["en"], gpu=False, model_storage_directory=folder, user_network_directory=folder, detector=False,
        recognizer=False, download_enabled=False, verbose=False,
    )  # fmt: skip
    torch.manual_seed(0)
    reader.recognizer = Model(1, 256, 256, num_class=len(reader.character) + 1).eval()
    reader.converter = CTCLabelConverter(reader.character)
    return reader


def recognise_easyocr(reader: Any, **options: Any) -> Any:
    """The page's lines, one of them as a free quad, without a detector, whose weights are not here."""
    if options.get("output_format") == "free_merge":  # EasyOCR's own fails where the last line is a free one
        return reader.recognize(page(), BOXES, [], **options)
    return reader.recognize(page(), BOXES[:1], [QUADS[1].astype(int).tolist()], **options)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"detail": 0}, {"output_format": "dict"}, {"output_format": "json"}, {"paragraph": True},
        {"output_format": "free_merge"}, {"rotation_info": [90]},
    ],
)  # fmt: skip
def test_easyocr_returns_its_own_forms(easyocr: Any, options: dict[str, Any]) -> None:
    from runtime.plugins.easyocr import attach

    plain = recognise_easyocr(easyocr, **options)
    spy, lines = spied()
    spy.fails = True  # the crops go on as they came: all must be as it was
    attach(easyocr, lines)
    try:
        found = recognise_easyocr(easyocr, **options)
    finally:
        detach(easyocr)
    assert len(spy.seen) == lines.counts.failed == 2
    assert same(found, plain)


def same(one: Any, other: Any) -> bool:
    return json.dumps(one, default=lambda value: np.asarray(value).tolist()) == json.dumps(
        other, default=lambda value: np.asarray(value).tolist()
    )


def test_easyocr_reads_restored_crops(easyocr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import easyocr.easyocr as module

    from runtime.plugins.easyocr import attach

    heights: list[int] = []
    before = module.get_image_list

    def cut(flat: Any, free: Any, image: Any, **how: Any) -> Any:
        heights.append(len(image))
        return before(flat, free, image, **how)

    monkeypatch.setattr(module, "get_image_list", cut)
    spy, lines = spied()
    attach(easyocr, lines)
    try:
        found = recognise_easyocr(easyocr)
    finally:
        detach(easyocr)
    assert [seen.shape for seen in spy.seen] == [(36, 260, 3), (36, 260, 3)]
    assert heights == [144, 144]
    assert np.array_equal(np.asarray(found[0][0]), QUADS[0])
    assert lines.counts.restored == 2


class Recogniser:
    """In the place of PaddleOCR's recognition model, whose weights are not in its package."""

    def __init__(self) -> None:
        self.heights: list[int] = []

    def __call__(self, crops: Sequence[NDArray[np.uint8]], return_word_box: bool = False) -> Iterator[dict[str, Any]]:
        for crop in crops:
            self.heights.append(len(crop))
            yield {"rec_text": f"{crop.shape[1]} wide", "rec_score": 0.9, "vis_font": None}


def paddle_pipeline(recogniser: Recogniser) -> Any:
    """The real pipeline of PaddleOCR 3, cropping and all, between stand-ins for its two networks."""
    pytest.importorskip("paddlex", reason="PaddleOCR is not installed (paddleocr)")
    from paddlex.inference.common.batch_sampler import ImageBatchSampler
    from paddlex.inference.common.reader import ReadImage
    from paddlex.inference.pipelines.components import CropByPolys, SortQuadBoxes
    from paddlex.inference.pipelines.ocr.pipeline import _OCRPipeline

    kind = getattr(_OCRPipeline, "__wrapped__", _OCRPipeline)
    made = object.__new__(kind)
    vars(made).update(
        use_doc_preprocessor=False, use_textline_orientation=False, text_type="general", text_rec_score_thresh=0.0,
        return_word_box=False, text_det_limit_side_len=960, text_det_limit_type="max", text_det_max_side_limit=4000,
        text_det_thresh=0.3, text_det_box_thresh=0.6, text_det_unclip_ratio=1.5, input_shape=None,
        batch_sampler=ImageBatchSampler(batch_size=1), img_reader=ReadImage(format="BGR"),
        _sort_boxes=SortQuadBoxes(), _crop_by_polys=CropByPolys(det_box_type="quad"),
        text_det_model=lambda images, **_: [{"dt_polys": QUADS.copy()} for _ in images], text_rec_model=recogniser,
    )  # fmt: skip
    return made


def test_paddleocr_reads_crops_that_went_through_us() -> None:
    recogniser = Recogniser()
    pipeline = paddle_pipeline(recogniser)
    from runtime.plugins.paddleocr import attach

    picture = np.ascontiguousarray(page()[:, :, ::-1])
    plain = next(iter(pipeline.predict(picture)))
    spy, lines = spied()
    ocr = SimpleNamespace(paddlex_pipeline=SimpleNamespace(_pipeline=pipeline))  # as PaddleOCR holds it
    attach(ocr, lines)
    found = next(iter(pipeline.predict(picture)))
    assert pipeline.text_rec_model.heights is recogniser.heights
    detach(ocr)
    assert type(found) is type(plain)
    assert [seen.shape for seen in spy.seen] == [(36, 260, 3), (36, 260, 3)]
    assert recogniser.heights == [36, 36, 144, 144]
    assert found["rec_texts"] == ["1040 wide", "1040 wide"]
    assert plain["rec_texts"] == ["260 wide", "260 wide"]
    assert np.array_equal(found["rec_boxes"], plain["rec_boxes"])
    assert pipeline.text_rec_model is recogniser


def test_paddleocr_on_several_devices_is_refused() -> None:
    from runtime.plugins.paddleocr import attach

    with pytest.raises(InputError, match="several devices"):
        attach(SimpleNamespace(multi_device_inference=True), spied()[1])
