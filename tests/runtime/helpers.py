"""Stand-ins for the runtime's tests: an executor of a few array operations, a reader that knows, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runtime.bundle import Bundle
from runtime.recognizer import LineReader
from runtime.restorer import Restorer
from textsr.alphabet import Alphabet
from textsr.config import TINY
from textsr.program import TEXT_BRANCH
from textsr.reading import LineReading, spread

Array = NDArray[Any]


class StubExecutor:
    """Plausible shapes from every graph, each line's values depending on that line alone. Counts the runs."""

    name = "stub"

    def __init__(self) -> None:
        self.runs: list[tuple[str, dict[str, Array]]] = []

    def put(self, array: Array) -> Array:
        return array

    def get(self, handle: Array) -> Array:
        return handle

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.runs.append((graph, dict(inputs)))
        outputs: dict[str, Array] = getattr(self, graph)(**inputs)
        return outputs

    def vqgan_encoder(self, image: Array, noise: Array, constants: Array) -> dict[str, Array]:
        z_y = np.repeat(image[:, :1, ::4, ::4], noise.shape[1], axis=1)
        return {"z_y": z_y, "z_T": z_y + constants * noise}

    def painted_encoder(self, image: Array, **_: Array) -> dict[str, Array]:
        return {"z_painted": np.repeat(image[:, :1, ::4, ::4], TINY.unet.latent_channels, axis=1)}

    def time_condition(self, t: Array) -> dict[str, Array]:
        return {"modulations": np.repeat(t[:, None], 2, axis=1)}

    def text_condition(self, tokens: Array, weights: Array) -> dict[str, Array]:
        return {"c_cond": (tokens * weights)[:, :, None].astype(np.float32)}

    def glyph_canvas(self, tokens: Array, weights: Array, **places: Array) -> dict[str, Array]:
        return {"glyphs": np.zeros((len(tokens), 1, TINY.height, TINY.width), np.float32)}

    def unet_step(
        self,
        z_t: Array,
        lq: Array,
        z_y: Array,
        z_painted: Array,
        c_cond: Array,
        glyphs: Array,
        modulations: Array,
        t: Array,
        constants: Array,
        noise: Array,
    ) -> dict[str, Array]:
        z_0 = lq.mean(axis=1, keepdims=True) + 1e-5 * c_cond.mean(axis=(1, 2))[:, None, None, None] + 0 * z_t
        return {"z_prev": constants[1] * z_t + constants[2] * z_0 + constants[3] * noise, "z0_hat": z_0}

    def text_time_condition(self, time: Array) -> dict[str, Array]:
        return dict.fromkeys(("mom_modulations", "tdm_modulations"), time[:, None])

    def mom_image(
        self, tokens: Array, weights: Array, z_y: Array, z_t: Array, mom_modulations: Array, t: Array
    ) -> dict[str, Array]:
        return {"i_cond": z_t.reshape(len(z_t), 16, -1)}

    def text_step(
        self, tokens: Array, i_cond: Array, tdm_modulations: Array, t: Array, constants: Array, uniforms: Array
    ) -> dict[str, Array]:
        return {"tokens_prev": (uniforms * 90).astype(np.int64), "log_probabilities": uniforms}

    def vqgan_decoder(self, z_0: Array) -> dict[str, Array]:
        image = np.clip(z_0[:, :3].repeat(4, axis=2).repeat(4, axis=3), -1, 1)
        return {"image": image, "codes": np.zeros((len(z_0), 2, *z_0.shape[2:]), np.int64)}


class KnowingReader:
    """Reads the same text everywhere."""

    name = "knowing"

    def __init__(self, text: str = "Hello 42") -> None:
        self.text = text
        self.images = 0

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        self.images += len(images)
        return [LineReading(self.text, (0.9,) * len(self.text), spread(self.text)) for _ in images]


def stub_bundle() -> Bundle:
    """A bundle of the tiny preset that has no files, for `StubExecutor`."""
    graphs: dict[str, Any] = dict.fromkeys(TEXT_BRANCH)
    return Bundle(Path("stub"), TINY, Alphabet.load(), graphs, None, "fp32", {}, {}, {})


def stub_restorer(reader: LineReader | None = None) -> Restorer:
    """A restorer that needs neither torch nor files."""
    return Restorer(stub_bundle(), StubExecutor(), reader)


def draw_line(text: str = "Hello 42", height: int = 24, width: int = 120) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of a text line in Pillow's own font, dark on light."""
    picture = Image.new("RGB", (width, height), (236, 232, 220))
    font = ImageFont.load_default(max(6, height * 0.7))
    ImageDraw.Draw(picture).text((4, height * 0.1), text, font=font, fill=(30, 30, 80))
    return np.asarray(picture).copy()
