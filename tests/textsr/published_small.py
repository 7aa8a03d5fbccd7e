"""Golden vectors of the published architectures at small sizes, for machines without those of the published networks.

Every option is that of `paper`: one codebook, attention in the autoencoder's middle, norms, Swin layers on all levels,
a window higher than the lowest map, MoM's unused head, TransOCR; and DiffTSR's denoiser and KL autoencoder. Widths,
codes and symbols are few.

Weights and inputs are functions of their names, as in `tests.textsr.vectors`, so the file holds outputs alone.
``python -m tests.textsr.published_small`` writes it anew: only for a change that is meant to change what the networks
return, and only after the published vectors themselves have been reproduced (test_published_vectors.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import difftsr
from benchmarks.difftsr.networks import IDMConfig, KLAutoencoder, Sizes, image_denoiser
from tests.textsr import vectors
from textsr.checkpoint import from_published
from textsr.checkpoint.published import KINDS, TEXT_BLOCKS
from textsr.config import PAPER, TransOCRConfig

FILE = Path(__file__).parents[1] / "data" / "published_small.npz"
SMALL = replace(
    PAPER,
    name="published small",
    symbols=101,
    vqgan=replace(PAPER.vqgan, ch=32, codes=64),
    unet=replace(
        PAPER.unet, model_channels=32, swin_embed_dim=32, swin_head_dim=16, context_dim=24, context_head_dim=16
    ),
    mom=replace(PAPER.mom, token_dim=32, context_dim=24, depth=2, heads=2, head_dim=12),
    tdm=replace(PAPER.tdm, dim=64, depth=2, heads=8, local_heads=4),
    transocr=TransOCRConfig(classes=97, widths=(8, 16, 32, 48, 64), blocks=(2, 1, 2, 1), embed_dim=32, ff_dim=96),
)
BASELINE = Sizes(preset=SMALL, idm=IDMConfig(channels=32, res_blocks=1))
LATENT = (3, 32, 128)
Outputs = dict[str, Tensor]


def normal(name: str, *shape: int) -> Tensor:
    """A normal input of that name."""
    return torch.from_numpy(vectors.generator(name).standard_normal(shape, np.float32))


def integers(name: str, shape: tuple[int, ...], high: int) -> Tensor:
    """An integer input of that name, int64."""
    return torch.from_numpy(vectors.generator(name).integers(0, high, shape))


def state_dict(kind: str) -> dict[str, Tensor]:
    """A state dict of the small network, text blocks included."""
    with torch.device("meta"):
        net = KINDS[kind].build(SMALL)
    return vectors.weights(net)


def network(kind: str) -> Any:
    """The small network, loaded as a published one."""
    return from_published(kind, state_dict(kind), SMALL)


def unet() -> Outputs:
    """Without text as in ResShift, square and wide, and with text."""
    state, found = state_dict("resshift-unet"), {}
    plain: Any = from_published(
        "resshift-unet", {name: value for name, value in state.items() if not name.startswith(TEXT_BLOCKS)}, SMALL
    )
    text = normal("unet.text", 1, SMALL.max_chars, 24)
    for form, size in (("square", (64, 64)), ("wide", (32, 128)), ("text", (32, 64))):
        z_t, lq = (normal(f"unet.{form}.{part}", 1, 3, *size) for part in ("x", "lq"))
        found[f"unet.{form}"] = plain(z_t, torch.tensor([9]), lq)
    # Cross-attention that was not in the state dict changes nothing.
    assert torch.equal(plain(z_t, torch.tensor([9.0]), lq, text), found["unet.text"])
    found["unet.text"] = network("resshift-unet")(z_t, torch.tensor([9]), lq, text)
    return found


def vqgan() -> Outputs:
    """Latents that are not quantised, codes, and the picture of the codes."""
    net, z = network("vqgan-f4"), 0.6 * normal("vqgan.z", 1, 3, 16, 32)
    encoded, codes = net.encode(torch.tanh(normal("vqgan.image", 1, 3, 64, 128))), net.quantize(z)[1]
    return {"vqgan.encoded": encoded, "vqgan.codes": codes, "vqgan.decoded": net.decode(z)}


def mom() -> Outputs:
    """Both conditions of two lines at two times, and of one with weights."""
    net, tokens = network("difftsr-mom"), integers("mom.tokens", (2, SMALL.max_chars), SMALL.symbols)
    given = (tokens, normal("mom.z_y", 2, *LATENT), normal("mom.z_t", 2, *LATENT), torch.tensor([7, 996]))
    i_cond, c_cond = net(*given)
    weighted = net(*given, torch.sigmoid(normal("mom.weights", 2, SMALL.max_chars)))
    return {"mom.i_cond": i_cond, "mom.c_cond": c_cond, "mom.i_weighted": weighted[0], "mom.c_weighted": weighted[1]}


def tdm() -> Outputs:
    """Logits of two lines at two times."""
    tokens = integers("tdm.tokens", (2, SMALL.max_chars), SMALL.symbols)
    return {"tdm.logits": network("difftsr-tdm")(tokens, torch.tensor([3, 197]), normal("tdm.context", 2, 16, 768))}


def transocr() -> Outputs:
    """Teacher-forced logits and the features behind them."""
    net, image = network("transocr"), torch.sigmoid(normal("transocr.image", 2, 3, 32, 256))
    prefix = integers("transocr.prefix", (2, 8), 97)
    prefix[:, 0] = 0
    return {"transocr.features": net.encode(image), "transocr.logits": net(image, prefix)}


def baseline() -> Outputs:
    """What only DiffTSR has: its image denoiser with attention on three levels, its KL autoencoder."""
    with torch.device("meta"):
        shapes = {"difftsr-idm": image_denoiser(BASELINE), "difftsr-vae": KLAutoencoder(SMALL.vqgan)}
    made = [difftsr.from_published(kind, vectors.weights(net), BASELINE) for kind, net in shapes.items()]
    idm, vae = cast(list[Any], made)
    text, noise = normal("idm.context", 1, SMALL.max_chars, 24), normal("vae.noise", 1, 3, 8, 32)
    image = torch.sigmoid(normal("vae.image", 1, 3, 32, 128))
    return {
        "idm.eps": idm(normal("idm.x", 1, 6, *LATENT[1:]), torch.tensor([496]), text),
        "vae.encoded": vae.encode(image),
        "vae.sampled": vae.encode(image, noise),
        "vae.decoded": vae.decode(normal("vae.z", 1, 3, 8, 32)),
    }


PARTS: tuple[Callable[[], Outputs], ...] = (unet, vqgan, mom, tdm, transocr, baseline)


@torch.no_grad()
def compute() -> dict[str, NDArray[Any]]:
    """What the small networks return, by ``network.output``, thinned."""
    found = {name: value for part in PARTS for name, value in part().items()}
    return {name: vectors.thinned(name, value.numpy()) for name, value in found.items()}


def main() -> int:
    """The command."""
    vectors.write(FILE, compute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
