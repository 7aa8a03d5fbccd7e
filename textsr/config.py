"""Presets: every size of every network, as frozen dataclasses (torch-free)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from textsr.errors import InputError

SCALE = 4
"""Enlargement of a line, and downsampling of the autoencoder (f4)."""


@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """VQ-f4 autoencoder (Esser et al. 2021; sizes of latent-diffusion's vq-f4 by default)."""

    z_channels: int = 3
    codes: int = 8192  # code vectors in the codebook
    codebook_groups: int = 1  # the latent's channels are split in so many groups, each quantised on its own
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    norm_groups: int = 32  # 0: no normalisation, as in networks made for super-resolution
    mid_attention: bool = True


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """ResShift UNet (Yue et al. 2024) with text cross-attention after each Swin layer."""

    latent_channels: int = 3
    lq_channels: int = 3
    model_channels: int = 160
    channel_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 2
    swin_levels: tuple[int, ...] = (0, 1, 2, 3)  # levels whose first residual block is followed by a Swin layer
    swin_depth: int = 2
    swin_embed_dim: int = 192
    swin_head_dim: int = 32
    window: int = 8
    nominal_size: int = 64  # latent size the shifts of the Swin blocks were laid out for
    mlp_ratio: int = 4
    norm_groups: int = 32
    context_dim: int | None = 160  # None: plain ResShift, no cross-attention
    context_head_dim: int = 32
    glyph_channels: int = 0  # 16 = the glyph canvas, space-to-depth by 4
    prior_channels: int = 0  # latent_channels where the network also sees z_y, the degraded line's latent
    painted_channels: int = 0  # likewise where it sees that of the line with what was read painted onto it, less z_y


@dataclass(frozen=True, kw_only=True)
class MoMConfig:
    """Mixture of multi-modality (DiffTSR): text transformer and image UNet."""

    token_dim: int = 128
    context_dim: int = 160  # width of the text transformer and of c_cond
    depth: int = 4
    heads: int = 8
    head_dim: int = 64
    image_channels: int = 32
    image_mult: tuple[int, ...] = (1, 2)
    image_res_blocks: int = 2
    image_heads: int = 4
    norm_groups: int = 32
    latent_scale: float = 0.18215  # factor on [z_y, z_t] before the image UNet
    unused_head: bool = True  # the published checkpoint holds a projection to symbols that nothing uses


@dataclass(frozen=True, kw_only=True)
class TDMConfig:
    """Text diffusion decoder (DiffTSR)."""

    dim: int = 768
    depth: int = 12
    heads: int = 16
    local_heads: int = 8
    local_window: int = 4
    axial_shape: tuple[int, int] = (6, 4)
    time_steps: int = 1000
    time_rescale: float = 4000.0
    context_tokens: int = 16  # i_cond (B,C,h,w) is viewed as (B, context_tokens, C*h*w/context_tokens)


Preprocessing = Literal["transocr", "difftsr"]
"""How TransOCR is shown a line: bilinear in [-1, 1], as it was published, or nearest in [0, 1], as DiffTSR does."""


@dataclass(frozen=True, kw_only=True)
class TransOCRConfig:
    """TransOCR recogniser (FudanVI)."""

    classes: int = 7937
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    embed_dim: int = 512
    heads: int = 4
    ff_dim: int = 2048
    height: int = 32
    width: int = 256
    preprocessing: Preprocessing = "transocr"


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Residual-shift schedule: exponential in sqrt(eta) (reference: ResShift, section on the noise schedule)."""

    steps: int = 18
    min_noise: float = 0.04
    kappa: float = 2.0
    power: float = 0.3
    end: float = 0.99  # of sqrt(eta)
    residual_std: float | None = None  # of z_0 - z_y: the network corrects a linear estimate; None: it gives z_0 itself
    text_start: int = 199  # place of step T on the text modules' time scale 0..999


SCHEDULES = {18: ScheduleConfig(), 15: ScheduleConfig(steps=15), 4: ScheduleConfig(steps=4, min_noise=0.2)}
"""Schedules of `paper` by T: the paper's, and those of ResShift's checkpoints realsrx4_s15 and _s4 (bicsrx4_s4 too)."""


@dataclass(frozen=True, kw_only=True)
class GlyphConfig:
    """Glyph canvas: reference glyphs drawn at the places of the recognised characters."""

    size: int = 48  # side of a bitmap of the atlas
    levels: int = 16  # grey levels of the packed atlas (4 bits)
    fitted: bool = False  # places are fitted to the picture (`textsr.glyph_places`), in training and in use


@dataclass(frozen=True, kw_only=True)
class Preset:
    """All that defines a model. ``symbols`` counts the padding/unknown id, which is the last.

    Raises InputError where ``schedule.residual_std`` is set and the UNet does not see the whole of z_y, and where it
    sees a painted line without z_y or without fitted glyphs.
    """

    name: str
    height: int = 128
    width: int = 512
    symbols: int = 6736
    max_chars: int = 24
    fit: Literal["stretch", "pad"] = "pad"
    clamp_enlarged: bool = True  # the enlarged line, before it is encoded, to [-1, 1]; ResShift leaves it as it is
    text: bool = True  # False: a line is restored as if nothing had been read on it
    confidence: bool = True  # False: every symbol weighs 1, however sure the recogniser was of it
    vqgan: VQGANConfig = field(default_factory=VQGANConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    mom: MoMConfig = field(default_factory=MoMConfig)
    tdm: TDMConfig = field(default_factory=TDMConfig)
    transocr: TransOCRConfig | None = None  # None: an external recogniser is named by the bundle
    glyph: GlyphConfig | None = None
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    default_steps: int | None = None  # of a call that names none: the fewest that hold quality; None: all trained
    default_strength: float = 1.0  # of a call that names none: share of the restored line, the rest is the input
    default_paint: float = 0.0  # of a call that names none: how strongly what was read is painted on

    def __post_init__(self) -> None:
        seen, latent = self.unet.prior_channels, self.unet.latent_channels
        if self.schedule.residual_std is not None and seen != latent:
            raise InputError(
                f"preset {self.name}: residual_std needs prior_channels equal to latent_channels ({latent}), not {seen}"
            )
        painted = self.unet.painted_channels
        if painted and not (painted == seen == latent and self.glyph is not None and self.glyph.fitted):
            raise InputError(
                f"preset {self.name}: painted_channels needs prior_channels equal to it and to latent_channels "
                f"({latent}), and a glyph canvas that is fitted"
            )
        if not self.text and (self.unet.context_dim is not None or self.glyph is not None):
            raise InputError(f"preset {self.name}: without text there is no cross-attention and no glyph canvas")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H/4, W/4) of one line's latent."""
        return self.vqgan.z_channels, self.height // SCALE, self.width // SCALE

    @property
    def padding(self) -> int:
        """The id of padding and of symbols outside the alphabet."""
        return self.symbols - 1


Ablation = Literal["cross-attention", "confidence", "progressive-sampling", "text", "glyph-canvas"]
"""What a model can be trained and run without (the paper's Table 2; the last two are our own questions)."""
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


def ablated(preset: Preset, without: Iterable[str]) -> Preset:
    """``preset`` without some parts. ``progressive-sampling`` concerns training alone and changes nothing here.

    Raises InputError for a name that is none of `ABLATIONS`, and for a part that the preset has not got.
    """
    names = set(without)
    if names - set(ABLATIONS):
        raise InputError(f"without {', '.join(sorted(names - set(ABLATIONS)))}: choose of {', '.join(ABLATIONS)}")
    if "glyph-canvas" in names and preset.glyph is None:
        raise InputError(f"preset {preset.name} has no glyph canvas to leave out")
    blind = "text" in names
    if blind or "cross-attention" in names:
        preset = replace(preset, unet=replace(preset.unet, context_dim=None))
    if blind or "glyph-canvas" in names:
        preset = replace(preset, unet=replace(preset.unet, glyph_channels=0, painted_channels=0), glyph=None)
    return replace(preset, text=preset.text and not blind, confidence=preset.confidence and "confidence" not in names)


PAPER = Preset(name="paper", fit="stretch", clamp_enlarged=False, transocr=TransOCRConfig())

COMPACT = Preset(
    name="compact",
    vqgan=VQGANConfig(
        z_channels=8,
        codes=1024,
        codebook_groups=2,
        ch=32,
        ch_mult=(1, 2, 3),
        num_res_blocks=1,
        norm_groups=0,
        mid_attention=False,
    ),
    unet=UNetConfig(
        latent_channels=8,
        model_channels=48,
        channel_mult=(1, 2, 2, 3),
        num_res_blocks=1,
        swin_levels=(2, 3),
        swin_embed_dim=96,
        mlp_ratio=2,
        norm_groups=16,
        context_dim=64,
        context_head_dim=16,
        glyph_channels=16,
        prior_channels=8,
    ),
    mom=MoMConfig(
        token_dim=64,
        context_dim=64,
        depth=2,
        heads=4,
        head_dim=16,
        image_channels=16,
        image_res_blocks=1,
        image_heads=2,
        norm_groups=8,
        latent_scale=1.0,
        unused_head=False,
    ),
    tdm=TDMConfig(dim=64, depth=2, heads=4, local_heads=2),
    glyph=GlyphConfig(),
    schedule=ScheduleConfig(residual_std=0.45),
)

PAINTED = replace(
    COMPACT,
    name="painted",
    unet=replace(COMPACT.unet, painted_channels=COMPACT.unet.latent_channels),
    glyph=GlyphConfig(fitted=True),
)
"""`COMPACT` whose network also sees the line with what was read painted onto it. No weights of it are shipped yet."""

TINY = Preset(
    name="tiny",
    vqgan=VQGANConfig(
        z_channels=4,
        codes=64,
        codebook_groups=2,
        ch=8,
        ch_mult=(1, 1, 2),
        num_res_blocks=1,
        norm_groups=4,
        mid_attention=False,
    ),
    unet=UNetConfig(
        latent_channels=4,
        model_channels=8,
        channel_mult=(1, 1, 2, 2),
        num_res_blocks=1,
        swin_levels=(2, 3),
        swin_embed_dim=16,
        swin_head_dim=8,
        mlp_ratio=1,
        norm_groups=4,
        context_dim=16,
        context_head_dim=8,
        glyph_channels=16,
        prior_channels=4,
        painted_channels=4,
    ),
    mom=MoMConfig(
        token_dim=16,
        context_dim=16,
        depth=1,
        heads=2,
        head_dim=8,
        image_channels=8,
        image_res_blocks=1,
        image_heads=2,
        norm_groups=4,
        latent_scale=1.0,
        unused_head=False,
    ),
    tdm=TDMConfig(dim=48, depth=1, heads=4, local_heads=2),
    transocr=TransOCRConfig(classes=97, widths=(4, 8, 8, 16, 16), blocks=(1, 1, 1, 1), embed_dim=8, heads=2, ff_dim=16),
    glyph=GlyphConfig(fitted=True),
    schedule=ScheduleConfig(residual_std=0.45),
)

PRESETS = {preset.name: preset for preset in (PAPER, COMPACT, PAINTED, TINY)}


def preset(name: str) -> Preset:
    """The preset called ``name``. Raises InputError that lists the known ones."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: choose one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
