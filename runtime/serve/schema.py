"""The service's JSON: requests as pydantic checks them, and answers as OpenAPI tells of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.options import LONGEST_MS

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Names that are not known are refused: a misspelt option would be lost in silence."""

    model_config = ConfigDict(extra="forbid")


class Picture(Strict):
    """One line of text to restore."""

    image: str = Field(
        description="The picture's file (PNG, JPEG, WebP, BMP or TIFF; of several pages the first) in base64."
    )
    name: str | None = Field(None, max_length=300, description="Comes back with the result.")
    text: str | None = Field(
        None, description="What the line says, where you know; empty: restore from the picture alone."
    )
    confidences: list[Share] | None = Field(None, description="One for each character of the text.")


class Common(Strict):
    """Options of a request, whatever it is for."""

    seed: int = Field(0, ge=0, lt=2**32, description="Same seed, same picture, same result.")
    steps: int | None = Field(None, ge=1, description="Diffusion steps; fewer are faster. Default: the bundle's.")
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the restored line, the rest is the input. Default: as each line is read best.",
    )
    paint: float | None = Field(
        None, ge=0, le=2, description="How strongly what was read is painted on. Default: as each line is read best."
    )
    text_sampler: Literal["fixed", "categorical"] = Field("fixed", description="categorical may correct the text.")
    deadline_ms: float | None = Field(
        None,
        gt=0,
        le=LONGEST_MS,
        description="What is not done this long after the request was accepted is only enlarged.",
    )
    guarded: bool = Field(True, description="false does without the guard, where the service has one.")
    show_input: bool = Field(False, description="Also give the input back as it was decoded, as PNG.")


class Choices(Common):
    """Options of a request for lines; they hold for all its pictures."""

    scale: float = Field(4.0, gt=0, le=4, description="Size of the result relative to the input.")
    reread: bool = Field(False, description="Also read the result: `after` then says what it shows now.")


class PageChoices(Common):
    """Options of a request for a page."""

    scale: float | None = Field(
        None, gt=0, le=4, description="Size of the result relative to the page. Default: 4, or what the limit allows."
    )


class RestoreRequest(Choices):
    """A request in JSON."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"images": [{"image": PIXEL, "text": "Hello 42"}], "seed": 0}}
    )
    images: list[Picture] = Field(min_length=1)

    def pictures(self) -> list[Picture]:
        """What is to be restored."""
        return self.images


class PageRequest(PageChoices):
    """A request for a page in JSON."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"image": PIXEL, "scale": 2}})
    image: str = Field(description="The page's file (PNG, JPEG, WebP, BMP or TIFF) in base64.")
    name: str | None = Field(None, max_length=300, description="Comes back with the result.")

    def pictures(self) -> list[Picture]:
        """What is to be restored: one page."""
        return [Picture(image=self.image, name=self.name, text=None, confidences=None)]


class ProblemBody(BaseModel):
    """Why something was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class After(BaseModel):
    """What the recogniser reads on the result."""

    text: str
    confidence: float = Field(description="Mean of its characters.")
    confidences: list[float] = Field(description="One a character; empty where only the mean is known.")


class Line(BaseModel):
    """What became of a line."""

    applied: bool = Field(False, description="Whether it was restored.")
    cause: str = Field(
        "",
        description="In a word: blank, too_low, sharp, read_well, deadline, not_finite, proof, guard or input.",
    )
    reason: str = Field("", description="The same in a sentence, or what the restoration lacked.")
    text: str = Field("", description="What the restoration was told the line says.")
    confidence: float = 0.0
    confidences: list[float] = []
    centres: list[float] = Field([], description="Places of the characters, as shares of the line's length.")
    after: After | None = None
    pieces: list[dict[str, Any]] = []
    turned: int = 0
    stacked: bool = False
    timings: dict[str, float] = Field({}, description="Seconds.")
    executor: str = ""
    reader: str = ""
    seed: int = 0
    steps: int = 0
    strength: float = Field(0.0, description="Share of the restored line in the picture; 0 where it was not restored.")
    paint: float = Field(0.0, description="How strongly what was read is painted on; 0 where it was not restored.")
    evidence: dict[str, Any] = Field({}, description="What the guard found.")


class Shown(BaseModel):
    """The picture of an answer."""

    name: str | None = None
    image: str | None = Field(None, description="The result as PNG in base64: restored, or only enlarged.")
    width: int = 0
    height: int = 0
    input: str | None = Field(None, description="What came, as PNG in base64, where `show_input` asks for it.")


class Restored(Shown, Line):
    """What became of one picture. With `error` all else is empty."""

    error: ProblemBody | None = None


class RestoreAnswer(BaseModel):
    """One result a picture, in order."""

    results: list[Restored]
    seconds: float


class PageLineAnswer(Line):
    """A line of a page; `applied` says whether it was restored, `placed` whether the page's picture shows it so."""

    box: list[tuple[float, float]] = Field(
        description="Its corners, x and y in the input's pixels, clockwise from the top left in reading direction."
    )
    placed: bool


class PageAnswer(Shown):
    """What became of a page."""

    scale: float = Field(description="Size of the picture relative to the input.")
    applied: bool = Field(description="Whether any line was placed.")
    cause: str = Field(description="Why no line was: no_text, the cause that all lines share, or mixed.")
    reason: str
    text: str = Field(description="What the page says, a line for each line that says something.")
    lines: list[PageLineAnswer] = Field(description="All that were found, in reading order.")
    timings: dict[str, float] = Field(description="Seconds.")
    seconds: float
