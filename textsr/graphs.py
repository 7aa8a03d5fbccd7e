"""The whole model and its graphs: small stateless modules with named array inputs and outputs.

Shapes: B lines, N = 24 characters, K = 6736 symbols, C latent channels, H x W = 128 x 512, h x w = 32 x 128.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.config import Preset
from textsr.networks.categorical import categorical_step
from textsr.networks.glyph_canvas import GlyphCanvas
from textsr.networks.mom import MoM
from textsr.networks.tdm import TDM
from textsr.networks.transocr import TransOCR
from textsr.networks.unet import UNet
from textsr.networks.vqgan import VQGAN
from textsr.program import DRAWING, TEXT_BRANCH, drawing
from textsr.reading import PAINT, PLACES
from textsr.schedule import all_text_times


def new_mom(preset: Preset) -> MoM:
    """MoM of a preset's sizes."""
    return MoM(preset.mom, preset.symbols, preset.latent_shape[0], preset.max_chars)


def new_tdm(preset: Preset) -> TDM:
    """TDM of a preset's sizes; its context is MoM's image condition."""
    channels, height, width = preset.latent_shape
    return TDM(preset.tdm, preset.symbols, preset.max_chars, channels * height * width // preset.tdm.context_tokens)


class Model(nn.Module):
    """All networks of a preset; its state dict is the checkpoint."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.vqgan = VQGAN(preset.vqgan)
        self.unet = UNet(preset.unet)
        self.mom = new_mom(preset)
        self.tdm = new_tdm(preset)
        if preset.transocr is not None:
            self.transocr = TransOCR(preset.transocr)
        if preset.glyph is not None:
            self.glyph_canvas = GlyphCanvas(preset)


class Graph(nn.Module):
    """A function of named arrays; ``inputs`` and ``outputs`` are the names, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class VQGANEncoder(Graph):
    """image (B,3,H,W), noise (B,C,h,w), constants (1,) -> z_y and the prior z_T = z_y + constants * noise."""

    inputs = ("image", "noise", "constants")
    outputs = ("z_y", "z_T")

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.vqgan = model.vqgan

    def forward(self, image: Tensor, noise: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        z_y = self.vqgan.encode(image)
        return z_y, z_y + constants * noise


class VQGANDecoder(Graph):
    """z_0 (B,C,h,w) -> image (B,3,H,W) clamped to [-1,1], codes (B,groups,h,w) int64."""

    inputs = ("z_0",)
    outputs = ("image", "codes")

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.vqgan = model.vqgan

    def forward(self, z_0: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        quantised, codes = self.vqgan.quantize(z_0)
        return self.vqgan.decode_codes(quantised).clamp(-1, 1), codes


class TextCondition(Graph):
    """tokens (B,N) int64, weights (B,N) -> c_cond (B,N,D)."""

    inputs = ("tokens", "weights")
    outputs = ("c_cond",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mom = model.mom

    def forward(self, tokens: Tensor, weights: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.mom.text_condition(tokens, weights),)


class GlyphCanvasGraph(Graph):
    """tokens, weights, centres, widths, middles, heights (B,N) -> glyphs (B,1,H,W) in [0,1]."""

    inputs = ("tokens", "weights", *PLACES)
    outputs = ("glyphs",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.glyph_canvas = model.glyph_canvas

    def forward(
        self, tokens: Tensor, weights: Tensor, centres: Tensor, widths: Tensor, middles: Tensor, heights: Tensor
    ) -> tuple[Tensor]:
        """See the class."""
        return (self.glyph_canvas(tokens, weights, centres, widths, middles, heights),)


class PaintedEncoder(Graph):
    """image (B,3,H,W), tokens and places (B,N), contrasts (B,N,3), softness (B,1) -> z_painted (B,C,h,w): the latent of
    the enlarged line with what was read painted onto it (`GlyphCanvas.painted`)."""

    inputs = ("image", "tokens", *PLACES, *PAINT)
    outputs = ("z_painted",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.glyph_canvas, self.vqgan = model.glyph_canvas, model.vqgan

    def forward(self, *arrays: Tensor) -> tuple[Tensor]:
        """See the class; ``arrays`` in the order of ``inputs``."""
        return (self.vqgan.encode(self.glyph_canvas.painted(*arrays)),)


def corrected(z_t: Tensor, z_y: Tensor, gain: Tensor, deviation: Tensor, output: Tensor) -> Tensor:
    """z0_hat from the network's output where it corrects a linear estimate (`ResidualShiftSchedule.estimates`)."""
    return z_y + gain * (z_t - z_y) + deviation * output


class TimeCondition(Graph):
    """t (T,), the preset's steps 0..T-1 -> modulations (T,S): what each does to the UNet's residual blocks."""

    inputs = ("t",)
    outputs = ("modulations",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.unet = model.unet

    def forward(self, t: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.unet.modulations(t).float(),)


class UNetStep(Graph):
    """The UNet's z0_hat, then the posterior z_prev = coef_zt z_t + coef_z0 z0_hat + std noise (paper, Eq. 2).

    constants (4,) = [input_scale, coef_zt, coef_z0, std] (`textsr.schedule.Step`), or (6,) with gain and deviation of
    the linear estimate that the network corrects; t (1,) is the trained step, a row of modulations (T,S).
    """

    outputs = ("z_prev", "z0_hat")

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.unet = model.unet
        text = ("c_cond",) if model.preset.unet.context_dim is not None else ()
        canvas = ("glyphs",) if model.preset.glyph is not None else ()
        prior = ("z_y",) if model.preset.unet.prior_channels else ()
        self.corrects = model.preset.schedule.residual_std is not None
        painted = ("z_painted",) if model.preset.unet.painted_channels else ()
        self.inputs = ("z_t", "lq", *prior, *painted, *text, *canvas, "modulations", "t", "constants", "noise")

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; ``arrays`` in the order of ``inputs``."""
        given = dict(zip(self.inputs, arrays, strict=True))
        z_t, constants = given["z_t"], given["constants"]
        conditions = (given.get("c_cond"), given.get("glyphs"), given.get("z_y"), given["modulations"])
        z0_hat = self.unet(constants[0] * z_t, given["t"], given["lq"], *conditions, given.get("z_painted"))
        if self.corrects:
            z0_hat = corrected(z_t, given["z_y"], constants[4], constants[5], z0_hat)
        return constants[1] * z_t + constants[2] * z0_hat + constants[3] * given["noise"], z0_hat


class TextTimeCondition(Graph):
    """time (T,), those of the steps 0..T-1 -> mom_modulations (T,S), tdm_modulations (T,S'): what each does to the
    image UNet of MoM and to TDM."""

    inputs = ("time",)
    outputs = ("mom_modulations", "tdm_modulations")

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mom, self.tdm = model.mom, model.tdm

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.mom.Unet.modulations(time).float(), self.tdm.transformer.modulations(time).float()


class MoMImage(Graph):
    """tokens, weights (B,N), z_y, z_t (B,C,h,w), mom_modulations (T,S), t (1,), the trained step -> i_cond (B,16,D)."""

    inputs = ("tokens", "weights", "z_y", "z_t", "mom_modulations", "t")
    outputs = ("i_cond",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.mom = model.mom

    def forward(
        self, tokens: Tensor, weights: Tensor, z_y: Tensor, z_t: Tensor, mom_modulations: Tensor, t: Tensor
    ) -> tuple[Tensor]:
        """See the class."""
        return (self.mom.image_condition(tokens, weights, z_y, z_t, t, mom_modulations),)


class TextStep(Graph):
    """tokens (B,N), i_cond (B,16,D), tdm_modulations (T,S), t (1,), the trained step, constants (4,), uniforms (B,N)
    -> tokens_prev, log p (B,N,K)."""

    inputs = ("tokens", "i_cond", "tdm_modulations", "t", "constants", "uniforms")
    outputs = ("tokens_prev", "log_probabilities")

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.tdm = model.tdm

    def forward(
        self, tokens: Tensor, i_cond: Tensor, tdm_modulations: Tensor, t: Tensor, constants: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        return categorical_step(tokens, self.tdm(tokens, t, i_cond, tdm_modulations), constants, uniforms)


class RecognizerEncoder(Graph):
    """image (B,3,32,256) -> features."""

    inputs = ("image",)
    outputs = ("features",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.transocr = model.transocr

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.transocr.encode(image),)


class RecognizerStep(Graph):
    """features, prefix (B,L) int64 -> probabilities (B,classes) of the next symbol."""

    inputs = ("features", "prefix")
    outputs = ("probabilities",)

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.transocr = model.transocr

    def forward(self, features: Tensor, prefix: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.transocr.step(features, prefix).softmax(dim=-1),)


GRAPHS: dict[str, type[Graph]] = {
    "vqgan_encoder": VQGANEncoder,
    "painted_encoder": PaintedEncoder,
    "time_condition": TimeCondition,
    "text_condition": TextCondition,
    "glyph_canvas": GlyphCanvasGraph,
    "unet_step": UNetStep,
    "text_time_condition": TextTimeCondition,
    "mom_image": MoMImage,
    "text_step": TextStep,
    "vqgan_decoder": VQGANDecoder,
    "recognizer_encoder": RecognizerEncoder,
    "recognizer_step": RecognizerStep,
}


def graphs(model: Model) -> dict[str, Graph]:
    """The graphs that the model's preset has, in the order of the loop."""
    absent = DRAWING - drawing(model.preset)
    if model.preset.transocr is None:
        absent |= {"recognizer_encoder", "recognizer_step"}
    if not model.preset.text:
        absent |= TEXT_BRANCH
    make: Any = GRAPHS
    return {name: make[name](model).eval() for name in GRAPHS if name not in absent}


def example_inputs(model: Model, graph: str, batch: int = 2, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs of a graph with plausible ranges, float32 and int64; for tracing and for parity."""
    preset, rng = model.preset, np.random.default_rng(seed)
    channels, h, w = preset.latent_shape
    n, image = preset.max_chars, (batch, 3, preset.height, preset.width)
    context = channels * h * w // preset.tdm.context_tokens
    normal: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("noise", "z_t", "z_y", "z_painted", "z_0"), (batch, channels, h, w)),
        "c_cond": (batch, n, preset.mom.context_dim),
        "i_cond": (batch, preset.tdm.context_tokens, context),
    }
    arrays: dict[str, NDArray[Any]] = {name: rng.standard_normal(shape, np.float32) for name, shape in normal.items()}
    shares = {"weights": (batch, n), "uniforms": (batch, n), "glyphs": (batch, 1, *image[2:])}
    arrays |= {name: rng.random(shape, np.float32) for name, shape in shares.items()}
    arrays["lq"] = rng.uniform(-1, 1, (batch, 3, h, w)).astype(np.float32)
    arrays["centres"] = np.tile(((np.arange(n) + 0.5) / n).astype(np.float32), (batch, 1))
    arrays["widths"] = np.full((batch, n), 0.9 / n, np.float32)
    arrays["middles"] = rng.uniform(0.4, 0.6, (batch, n)).astype(np.float32)
    arrays["heights"] = rng.uniform(0.6, 1.1, (batch, n)).astype(np.float32)
    arrays["contrasts"] = rng.uniform(-0.8, 0.8, (batch, n, 3)).astype(np.float32)
    arrays["softness"] = rng.uniform(6, 28, (batch, 1)).astype(np.float32)
    trained = preset.schedule.steps
    arrays["t"] = np.array([min(7, trained - 1)], np.float32)
    if graph == "time_condition":
        arrays["t"] = np.arange(trained, dtype=np.float32)
    arrays["time"] = all_text_times(preset.schedule)
    arrays["modulations"] = rng.standard_normal((trained, model.unet.modulation_size), np.float32)
    for name, network in (("mom_modulations", model.mom.Unet), ("tdm_modulations", model.tdm.transformer)):
        arrays[name] = rng.standard_normal((trained, network.modulation_size), np.float32)
    arrays["tokens"] = rng.integers(0, preset.symbols, (batch, n))
    steps = {"vqgan_encoder": [1.98], "unet_step": [0.6, 0.7, 0.3, 0.2], "text_step": [-0.01, -13.4, -0.1, -11.1]}
    if preset.schedule.residual_std is not None:
        steps["unet_step"] += [0.3, 0.4]
    arrays["constants"] = np.array(steps.get(graph, [0.0]), np.float32)
    arrays["image"] = rng.uniform(-1, 1, image).astype(np.float32)
    if preset.transocr is not None:
        ocr = preset.transocr
        if graph == "recognizer_encoder":
            arrays["image"] = rng.random((batch, 3, ocr.height, ocr.width), np.float32)
        if graph == "recognizer_step":
            arrays["prefix"] = np.concatenate(
                [np.zeros((batch, 1), np.int64), rng.integers(1, ocr.classes - 1, (batch, 4))], 1
            )
            with torch.inference_mode():
                image_in = torch.from_numpy(rng.random((batch, 3, ocr.height, ocr.width), np.float32))
                arrays["features"] = model.transocr.encode(image_in).numpy()
    return {name: arrays[name] for name in graphs(model)[graph].inputs}
