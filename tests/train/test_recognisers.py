"""What the recognisers of Algorithm 1 read and lose, against the product's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")

from dataclasses import replace

from tests.train.small_paper import ASCII, tiny_model
from textsr.alphabet import Alphabet
from textsr.config import TINY, TransOCRConfig
from textsr.errors import InputError
from textsr.fit import Place
from textsr.reading import LineReading, conditions
from textsr.recognition import prepare
from train.recognisers import PPOCR, TransOCRGuide, choose, text_arrays


@pytest.fixture(scope="module")
def transocr() -> TransOCRGuide:
    return TransOCRGuide(tiny_model().eval(), ASCII, Alphabet.load())


def lines(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 128, 512, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("preprocessing", ["transocr", "difftsr"])
def test_transocr_is_shown_what_the_product_shows_it(
    transocr: TransOCRGuide, preprocessing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: TransOCRConfig = replace(transocr.config, preprocessing=preprocessing)  # type: ignore[arg-type]
    monkeypatch.setattr(transocr, "config", config)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 128, 512, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    shown = transocr.prepare(image, torch.tensor([1.0, 0.5]))
    for row, columns in ((0, 512), (1, 256)):
        expected = prepare(pixels[row, :, :columns], config)
        np.testing.assert_allclose(shown[row].numpy(), expected, atol=1e-5)


def test_transocr_loses_what_its_characters_cost(transocr: TransOCRGuide) -> None:
    image, filled = lines(3), torch.ones(3)
    texts = ["ab", "", "中"]
    loss = transocr.loss(image, texts, filled)
    wanted = [ASCII.index("a") + 1, ASCII.index("b") + 1, 96]
    logits = transocr.network(transocr.prepare(image[:1], filled[:1]), torch.tensor([[0, *wanted[:2]]]))
    expected = -logits[0].log_softmax(-1)[range(3), wanted].mean()
    torch.testing.assert_close(loss[0], expected)
    assert loss[1:].tolist() == [0, 0]


def test_a_restored_line_gets_the_recognisers_gradient(transocr: TransOCRGuide) -> None:
    image = lines(2).requires_grad_()
    transocr.loss(image, ["Text", "12"], torch.tensor([1.0, 0.5])).mean().backward()
    assert image.grad is not None
    assert image.grad[0].abs().sum() > 0
    assert image.grad[1, :, :, :256].abs().sum() > 0
    assert image.grad[1, :, :, 256:].abs().sum() == 0


def test_texts_in_classes(transocr: TransOCRGuide) -> None:
    assert transocr.encode("aＡ") == [ASCII.index("a") + 1, ASCII.index("A") + 1]  # full width folds to half
    assert transocr.encode("") == transocr.encode("a中") == []
    lower = TransOCRGuide(tiny_model(), ASCII.replace("Q", "中"), Alphabet.load())
    assert lower.encode("Q") == [ASCII.index("q") + 1]


def test_transocr_reads_the_filled_part(transocr: TransOCRGuide) -> None:
    lq = torch.rand(2, 3, 32, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    lq[1, :, :, 64:] = -1
    full, half = transocr.read(lq, torch.tensor([1.0, 0.5]))
    crop = lq[1, :, :, :64].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    alone = transocr.reader.read([crop])[0]
    assert half.text == alone.text
    assert half.centres == pytest.approx([centre / 2 for centre in alone.centres])
    assert len(full.confidences) == len(full.text)


def test_what_the_checkpoint_lacks_is_said() -> None:
    with pytest.raises(InputError, match="transocr-alphabet"):
        choose("transocr", tiny_model(), (), Alphabet.load())
    assert isinstance(choose("auto", tiny_model(), ASCII, Alphabet.load()), TransOCRGuide)


@pytest.mark.slow
def test_ppocr_reads_as_the_product_does() -> None:
    from PIL import Image, ImageDraw, ImageFont

    from runtime.recognizer import PPOCRReader

    picture = Image.new("RGB", (110, 32), "white")
    ImageDraw.Draw(picture).text((4, 2), "Text 125", fill="black", font=ImageFont.load_default(24))
    crop = np.asarray(picture)
    padded = np.pad(crop, ((0, 0), (0, 18), (0, 0)), mode="edge")
    lq = torch.from_numpy(padded.copy()).permute(2, 0, 1)[None].float().div(127.5).sub(1)
    reader = choose("auto", tiny_model(), (), Alphabet.load())
    assert isinstance(reader, PPOCR)
    ours, product = reader.read(lq, torch.tensor([110 / 128]))[0], PPOCRReader().read([crop])[0]
    assert ours.text == product.text == "Text 125"
    np.testing.assert_allclose(ours.confidences, product.confidences, atol=0.02)
    np.testing.assert_allclose(ours.centres, np.array(product.centres) * 110 / 128, atol=0.02)


def test_readings_as_arrays() -> None:
    alphabet, place = Alphabet.load(), Place(TINY.height, TINY.width)
    readings = [LineReading("a中", (0.5, 0.25), (0.1, 0.3)), LineReading("", (), ())]
    arrays = text_arrays(readings, alphabet, place, 24)
    for row, reading in enumerate(readings):
        alone = conditions(reading, alphabet, place)
        np.testing.assert_array_equal(arrays.tokens[row], alone.tokens)
        np.testing.assert_array_equal(arrays.weights[row], alone.weights)
        np.testing.assert_array_equal(arrays.widths[row], alone.widths)
