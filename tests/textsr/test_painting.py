"""What was read, painted onto the line: on lines drawn from the atlas, whose ink and blur are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tests.textsr.test_loop import lines
from textsr.alphabet import Alphabet
from textsr.config import TINY, ablated
from textsr.fit import Place
from textsr.graphs import Model, graphs
from textsr.loop import restore
from textsr.networks.glyph_canvas import GlyphCanvas
from textsr.painting import SOFTNESS, fit_batch, fit_paint
from textsr.reading import PAINT, PLACES, LineReading, TextArrays, conditions, spread, stacked
from textsr.resize import bicubic_x4
from textsr.torch_executor import TorchExecutor

ALPHABET = Alphabet.load()
CANVAS = GlyphCanvas(TINY)
TEXTS = ("清晰文字识别", "北京市海淀区", "Restore 2048")
PAPER, INK = np.array([0.7, 0.8, 0.5], np.float32), np.array([-0.8, -0.5, 0.3], np.float32)


def read(text: str, weight: float = 1.0) -> TextArrays:
    return conditions(LineReading(text, (weight,) * len(text), spread(text)), ALPHABET, Place(128, 512))


def written(text: TextArrays, softness: int) -> tuple[Tensor, NDArray[np.float32]]:
    """The line in full resolution (3,128,512), and as a camera with so wide a window sees it (3,32,128)."""
    names = ("tokens", "weights", *PLACES)
    canvas = CANVAS(*(torch.from_numpy(getattr(text, name))[None] for name in names))[0]
    sharp = torch.from_numpy(PAPER)[:, None, None] + canvas * torch.from_numpy(INK - PAPER)[:, None, None]
    side = softness // 2
    blurred = F.avg_pool2d(F.pad(sharp[None], (side,) * 4, mode="replicate"), 2 * side + 1, stride=1)
    return sharp, np.asarray(F.avg_pool2d(blurred, 4)[0].numpy())


def painted(text: TextArrays, image: NDArray[np.float32]) -> Tensor:
    """(3,128,512)."""
    given = (torch.from_numpy(getattr(text, name))[None] for name in ("tokens", *PLACES, *PAINT))
    return CANVAS.painted(torch.from_numpy(image)[None], *given)[0]


def enlarged(low: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(bicubic_x4(low.transpose(1, 2, 0)).transpose(2, 0, 1).clip(-1, 1))


@pytest.mark.parametrize("softness", [10, 14, 20])
@pytest.mark.parametrize("text", TEXTS)
def test_the_true_text_in_its_place_gives_ink_blur_and_a_sharper_line(text: str, softness: int) -> None:
    arrays = read(text)
    sharp, low = written(arrays, softness)
    found = fit_paint(arrays, low)
    assert found.softness[0] in SOFTNESS
    assert 0.6 < found.softness[0] / softness < 1.7
    colour, difference = np.median(found.contrasts[[symbol != " " for symbol in text.ljust(24)]], 0), INK - PAPER
    assert colour @ difference > 0.99 * np.linalg.norm(colour) * np.linalg.norm(difference)
    assert 0.6 < np.linalg.norm(colour) / np.linalg.norm(difference) < 1.2  # neighbours reach into the window
    image = enlarged(low)
    before, after = ((torch.as_tensor(shown) - sharp).square().mean() for shown in (image, painted(found, image)))
    assert after < 0.5 * before


def test_only_the_true_text_makes_the_line_sharper() -> None:
    sharp, low = written(read(TEXTS[0]), 14)
    image = enlarged(low)
    errors = []
    for text in (TEXTS[0], "", TEXTS[1]):
        errors.append(float((painted(fit_paint(read(text), low), image) - sharp).square().mean()))
    assert errors == sorted(errors)
    assert errors[1] > 2 * errors[0]


def test_the_weight_is_part_of_the_contrast() -> None:
    _, low = written(read(TEXTS[0]), 14)
    sure, unsure = (fit_paint(read(TEXTS[0], weight), low) for weight in (1.0, 0.25))
    np.testing.assert_allclose(unsure.contrasts, 0.5 * sure.contrasts, rtol=1e-5)
    np.testing.assert_array_equal(unsure.softness, sure.softness)
    shown = fit_batch(stacked([read(TEXTS[0], 0.25)]), low[None], [1.0], ablated(TINY, ["confidence"]))
    as_sure = fit_batch(stacked([read(TEXTS[0])]), low[None], [1.0], TINY)
    for name in ("weights", *PLACES, *PAINT):
        np.testing.assert_array_equal(getattr(shown, name), getattr(as_sure, name))


def test_nothing_is_painted_where_nothing_was_read() -> None:
    _, low = written(read(TEXTS[0]), 14)
    for text in (read(""), read("☃☃"), read(TEXTS[0], 0.0)):
        found = fit_paint(text, low)
        assert not found.contrasts.any()
        assert not found.softness.any()
        image = enlarged(low)
        np.testing.assert_array_equal(painted(found, image).numpy(), image)


def test_lines_of_a_batch_do_not_see_each_other() -> None:
    texts = [read(text) for text in TEXTS]
    lows = [written(text, 10 + 4 * place)[1] for place, text in enumerate(texts)]
    together = fit_batch(stacked(texts), np.stack(lows), [1.0] * 3, TINY)
    for row, (text, low) in enumerate(zip(texts, lows, strict=True)):
        alone = fit_batch(stacked([text]), low[None], [1.0], TINY)
        for name in (*PLACES, *PAINT):
            np.testing.assert_array_equal(getattr(together, name)[row], getattr(alone, name)[0])


@settings(max_examples=40, deadline=None)
@given(
    picture=arrays(np.float32, (3, 8, 16), elements=st.floats(-1, 1, width=32)),
    symbols=st.lists(st.sampled_from(ALPHABET.symbols), max_size=30),
    data=st.data(),
)
def test_any_picture_and_any_text_can_be_painted(
    picture: NDArray[np.float32], symbols: list[str], data: st.DataObject
) -> None:
    count = len(symbols)
    numbers = st.lists(st.floats(0, 1), min_size=count, max_size=count).map(tuple)
    reading = LineReading("".join(symbols), data.draw(numbers), data.draw(numbers))
    low = picture.repeat(4, 1).repeat(8, 2)
    found = fit_batch(stacked([conditions(reading, ALPHABET, Place(128, 512))]), low[None], [1.0], TINY).take(0)
    assert np.isfinite(found.contrasts).all()
    assert found.contrasts.dtype == found.softness.dtype == np.float32
    shown = painted(found, enlarged(low))
    assert torch.isfinite(shown).all()
    assert shown.abs().max() <= 1


def test_the_loop_shows_the_network_the_latent_of_the_painted_line() -> None:
    torch.manual_seed(0)
    model = Model(TINY).eval()
    executor, given = TorchExecutor(graphs(model)), lines(TINY, 1)
    seen = []
    restore(executor, TINY, given, steps=2, observer=lambda _, graph, inputs, __: seen.append((graph, inputs)))
    shown = [inputs["z_painted"] for graph, inputs in seen if graph == "unet_step"]
    text = TextArrays(*(getattr(given, name)[0] for name in ("tokens", "weights", *PLACES, *PAINT)))
    with torch.inference_mode():
        expected = model.vqgan.encode(painted(text, given.image[0])[None])
        plain = model.vqgan.encode(torch.from_numpy(given.image))
    assert len(shown) == 2
    for latent in shown:
        torch.testing.assert_close(latent, expected)
        assert not torch.allclose(latent, plain, atol=1e-2)
