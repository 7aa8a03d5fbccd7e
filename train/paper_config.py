"""Options of the stage ``paper``; the defaults of the command are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.harness import RunConfig
from train.recognisers import Ocr

TEXT_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class PaperConfig(RunConfig):
    """Options of the stage; the defaults of the command are the paper's."""

    data: tuple[str, ...]  # what `train.data.open_data` takes
    val_data: tuple[str, ...] = ()
    phases: tuple[int, int] = (10_000, 20_000)  # steps at which real and degraded real lines come in
    stand_in: Literal["camera", "degraded"] = "camera"  # for lines without a real low resolution
    ocr: Ocr = "auto"
    text: Literal["ocr", "truth", "noised"] = "ocr"  # tokens that condition the UNet; weights are the recogniser's
    mom: Literal["text", "whole", "frozen"] = "text"
    tdm: Literal["frozen", "trained"] = "frozen"
    text_loss: float | None = None  # weight of the text diffusion's loss; None: 0.1 where it trains something
    recompute: bool = False
    validate: int = 16  # lines of the validation

    @property
    def text_weight(self) -> float:
        """Weight of the text diffusion's cross-entropy."""
        if self.text_loss is not None:
            return self.text_loss
        return TEXT_WEIGHT if self.tdm == "trained" or self.mom == "whole" else 0.0

    def told(self) -> dict[str, Any]:
        """Of the data's folders the last name only."""
        return super().told() | {"data": [short(s) for s in self.data], "val_data": [short(s) for s in self.val_data]}


def short(spec: str) -> str:
    """The spec of a data set without the folders above it."""
    body, _, query = spec.partition("?")
    kind, colon, path = body.rpartition(":")
    options = "&".join(option for option in query.split("&") if not option.startswith("index="))
    return f"{kind}{colon}{Path(path).name}" + (f"?{options}" if options else "")
