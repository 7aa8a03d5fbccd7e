"""Font families of the renderer: where their files are, which split they belong to, which characters they have.

Fonts are never part of this repository. They are looked for by file name under a list of folders; the Debian packages
and npm packages (``@fontsource/...``) that hold them are named in the README.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from fontTools.ttLib import TTFont
from PIL import ImageFont

from textsr.errors import InputError

LOG = logging.getLogger(__name__)

Script = Literal["han", "latin"]
FontSplit = Literal["train", "test"]

DEFAULT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
FOLDERS_VARIABLE = "TEXTSR_FONT_FOLDERS"
"""Environment variable with further folders, separated as in PATH."""


@dataclass(frozen=True, kw_only=True)
class FontFamily:
    """A family: its style, file names with the index of the face in a collection, split and share of the draws."""

    name: str
    style: str
    files: tuple[tuple[str, int], ...]
    split: FontSplit = "train"
    script: Script = "han"
    weight: float = 1.0


@dataclass(frozen=True, order=True)
class FontFace:
    """One face of a family that was found on this machine."""

    family: str
    path: str
    index: int
    split: str
    script: str
    weight: float


def _latin(name: str, style: str, files: Sequence[str], split: FontSplit = "train") -> FontFamily:
    return FontFamily(
        name=name, style=style, files=tuple((file, 0) for file in files), split=split, script="latin", weight=1.0
    )


def _fontsource(name: str, style: str, split: FontSplit = "train", weight: float = 0.6) -> FontFamily:
    file = f"{name}-chinese-simplified-400-normal.woff2"
    return FontFamily(name=name, style=style, files=((file, 0),), split=split, weight=weight)


FAMILIES: tuple[FontFamily, ...] = (
    FontFamily(
        name="noto-sans-cjk",
        style="sans",
        weight=2.5,
        files=tuple((f"NotoSansCJK-{w}.ttc", 2) for w in ("Thin", "Light", "Regular", "Medium", "Bold", "Black")),
    ),
    FontFamily(name="wqy-zenhei", style="sans", files=(("wqy-zenhei.ttc", 0),)),
    FontFamily(name="droid-fallback", style="sans", files=(("DroidSansFallbackFull.ttf", 0),)),
    FontFamily(name="ar-pl-uming", style="song", files=(("uming.ttc", 0),)),
    FontFamily(name="ar-pl-sungtil", style="song", files=(("gbsn00lp.ttf", 0),)),
    FontFamily(name="tw-sung", style="song", files=(("TW-Sung-98_1.ttf", 0),)),
    FontFamily(name="babelstone-han", style="song", files=(("BabelStoneHan.ttf", 0),), weight=0.7),
    FontFamily(name="hanazono", style="song", files=(("HanaMinA.ttf", 0),), weight=0.7),
    FontFamily(name="ar-pl-ukai", style="kai", files=(("ukai.ttc", 0),)),
    FontFamily(name="ar-pl-kaitim", style="kai", files=(("gkai00mp.ttf", 0),)),
    FontFamily(name="tw-kai", style="kai", files=(("TW-Kai-98_1.ttf", 0),)),
    FontFamily(name="smiley-sans", style="display", files=(("SmileySans-Oblique.ttf", 0),)),
    FontFamily(name="seto", style="hand", files=(("setofont.ttf", 0),), weight=0.7),
    FontFamily(name="unifont", style="pixel", files=(("unifont.otf", 0),), weight=0.3),
    _fontsource("ma-shan-zheng", "brush"),
    _fontsource("long-cang", "hand", weight=0.4),
    _fontsource("zhi-mang-xing", "running", weight=0.3),
    _fontsource("liu-jian-mao-cao", "cursive", weight=0.2),
    _fontsource("zcool-kuaile", "display"),
    _fontsource("zcool-qingke-huangyou", "display"),
    FontFamily(name="wqy-microhei", style="sans", files=(("wqy-microhei.ttc", 0),), split="test"),
    FontFamily(
        name="lxgw-wenkai",
        style="kai",
        split="test",
        files=tuple((f"LXGWWenKai-{weight}.ttf", 0) for weight in ("Light", "Regular", "Bold")),
    ),
    FontFamily(
        name="noto-serif-cjk",
        style="song",
        split="test",
        files=tuple((f"NotoSerifCJK-{w}.ttc", 2) for w in ("Light", "Regular", "Medium", "Bold", "Black")),
    ),
    _fontsource("zcool-xiaowei", "display", split="test", weight=1.0),
    _latin("dejavu-sans", "sans", ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")),
    _latin("dejavu-sans-condensed", "sans", ("DejaVuSansCondensed.ttf", "DejaVuSansCondensed-Bold.ttf")),
    _latin("dejavu-serif", "serif", ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf")),
    _latin("dejavu-mono", "mono", ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")),
    _latin(
        "liberation-sans",
        "sans",
        ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", "LiberationSans-Italic.ttf"),
    ),
    _latin(
        "liberation-serif",
        "serif",
        ("LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf", "LiberationSerif-Italic.ttf"),
    ),
    _latin("liberation-mono", "mono", ("LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf")),
    _latin(
        "liberation-narrow",
        "sans",
        ("LiberationSansNarrow-Regular.ttf", "LiberationSansNarrow-Bold.ttf"),
        split="test",
    ),
    _latin("noto-mono", "mono", ("NotoSansMono-Regular.ttf", "NotoSansMono-Bold.ttf"), split="test"),
)


def font_folders(extra: Iterable[str | Path] = ()) -> tuple[Path, ...]:
    """The folders that are searched: ``extra``, those of the environment variable, the system's; only existing ones."""
    named = [*map(str, extra), *os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep), *DEFAULT_FOLDERS]
    return tuple(path for name in named if name and (path := Path(name).expanduser()).is_dir())


def discover(extra_folders: Iterable[str | Path] = (), split: str | None = None) -> list[FontFace]:
    """The faces of FAMILIES found on this machine, in the table's order; of one split, or of both.

    A family's weight is shared by its faces. Families that are missing are logged, not an error: see ``require``.
    """
    places: dict[str, str] = {}
    for folder in font_folders(extra_folders):
        for root, _, names in os.walk(folder):
            for name in names:
                places.setdefault(name, os.path.join(root, name))
    faces = []
    for family in FAMILIES:
        if split is not None and family.split != split:
            continue
        found = [(places[name], index) for name, index in family.files if name in places]
        if not found:
            LOG.info("font family %s is not on this machine", family.name)
        share = family.weight / max(len(found), 1)
        faces += [FontFace(family.name, path, index, family.split, family.script, share) for path, index in found]
    return faces


def require(faces: Sequence[FontFace], families: int = 1) -> None:
    """Raises InputError unless ``faces`` hold at least ``families`` Chinese families."""
    names = sorted({face.family for face in faces if face.script == "han"})
    if len(names) < families:
        raise InputError(
            f"only {len(names)} of {families} Chinese font families found ({', '.join(names) or 'none'}): install "
            f"fonts-noto-cjk, fonts-wqy-zenhei, fonts-arphic-uming and others, or name folders in {FOLDERS_VARIABLE}"
        )


@cache
def coverage(path: str, index: int) -> frozenset[str]:
    """The characters that the face maps to a glyph of its own."""
    with TTFont(path, fontNumber=index, lazy=True) as font:
        return frozenset(map(chr, font.getBestCmap()))


@lru_cache(maxsize=256)
def load(path: str, index: int, size: int) -> ImageFont.FreeTypeFont:
    """The face at ``size`` pixels an em (cached; an object a process)."""
    return ImageFont.truetype(path, size, index=index, layout_engine=ImageFont.Layout.BASIC)
