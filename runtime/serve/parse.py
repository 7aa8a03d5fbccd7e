"""From a request to pictures with options: JSON or multipart, within the limits, nothing decoded."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from runtime.serve.problems import Problem
from runtime.serve.schema import Choices, Common, PageChoices, PageRequest, Picture, RestoreRequest
from runtime.serve.settings import Limits
from textsr.errors import InputError
from textsr.images import image_size
from textsr.linetext import LineText

FILES = ("file", "files", "image", "images")
"""Names under which a form may have its files."""
Model = TypeVar("Model", bound=BaseModel)
Chosen = TypeVar("Chosen", bound=Common)


@dataclass(frozen=True)
class Asking(Generic[Chosen]):
    """What a route takes: how its JSON looks, its options, and whether the pictures of a form come with texts."""

    request: type[RestoreRequest] | type[PageRequest]
    choices: type[Chosen]
    texts: bool


LINES = Asking(RestoreRequest, Choices, texts=True)
PAGE = Asking(PageRequest, PageChoices, texts=False)


@dataclass(frozen=True)
class Item:
    """One picture of a request; ``problem`` says why it is not taken on."""

    name: str | None
    data: bytes = b""
    text: LineText | None = None
    problem: Problem | None = None


async def parse(request: Request, asking: Asking[Chosen], limits: Limits) -> tuple[list[Item], Chosen]:
    """The request's pictures, at least one, and options.

    :raises Problem: the request as a whole cannot be served.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    limited = _limited(request, limits.body)
    if kind == "application/json":
        return _from_json(await limited.body(), asking, limits)
    if kind == "multipart/form-data":
        _require_utf8(request)
        return await _from_form(limited, asking, limits)
    raise Problem(415, "media-type", f"Send multipart/form-data or application/json, not {kind[:80] or 'nothing'}.")


def _require_utf8(request: Request) -> None:
    """A form is decoded as its header says, by any codec that Python has: none is taken but UTF-8."""
    _, options = parse_options_header(request.headers.get("content-type"))
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in ("utf-8", "utf8"):
        raise Problem(415, "media-type", f"Send a form in UTF-8, not {charset[:80]}.")


def _limited(request: Request, most: int) -> Request:
    """The request with a body that ends in a Problem when it is larger than ``most`` bytes."""
    too_large = Problem(413, "body-too-large", f"The request has more than {most} bytes: send fewer or smaller files.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    count = 0

    async def receive() -> Message:
        nonlocal count
        message = await request.receive()
        count += len(message.get("body", b""))
        if count > most:
            raise too_large
        return message

    return Request(request.scope, receive)


def _from_json(body: bytes, asking: Asking[Chosen], limits: Limits) -> tuple[list[Item], Chosen]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "malformed", "The body is no JSON.") from error
    asked: RestoreRequest | PageRequest = _checked(asking.request, said)
    pictures = asked.pictures()
    _count(len(pictures), limits)
    items = [_from_picture(picture, limits) for picture in pictures]
    return items, asking.choices(**asked.model_dump(include=set(asking.choices.model_fields)))


def _from_picture(picture: Picture, limits: Limits) -> Item:
    try:
        data = base64.b64decode(picture.image, validate=True)
    except (binascii.Error, ValueError):
        return Item(picture.name, problem=Problem(422, "not-base64", "The field image is no base64."))
    return _item(picture.name, data, picture.text, picture.confidences, limits)


async def _from_form(request: Request, asking: Asking[Chosen], limits: Limits) -> tuple[list[Item], Chosen]:
    most = {"max_files": limits.items, "max_fields": 4 * limits.items + 32, "max_part_size": 1 << 16}
    try:
        async with aclosing(request.stream()) as stream:
            parser = MultiPartParser(request.headers, stream, **most)
            parser.spool_max_size = limits.body  # which no file exceeds: none is written to the disk
            form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            _count(limits.items + 1, limits)
        raise Problem(400, "malformed", f"The form cannot be read: {error.message[:200]}") from error
    try:
        return await _from_fields(form, asking, limits)
    finally:
        await form.close()


async def _from_fields(form: FormData, asking: Asking[Chosen], limits: Limits) -> tuple[list[Item], Chosen]:
    pairs = form.multi_items()
    files = [value for name, value in pairs if isinstance(value, UploadFile) and name in FILES]
    unknown = [name for name, value in pairs if isinstance(value, UploadFile) and name not in FILES]
    if unknown:
        raise Problem(422, "unknown-field", f"Files belong in the field file, not in {unknown[0][:80]!r}.")
    if not files:
        raise Problem(422, "no-picture", "The form has no picture: put one or more in the field file.")
    texts = [str(value) for name, value in pairs if name == "text" and asking.texts]
    if texts and len(texts) != len(files):
        raise Problem(422, "texts", f"{len(texts)} texts for {len(files)} pictures: give one for each, or none.")
    rest = {
        name: value
        for name, value in pairs
        if not isinstance(value, UploadFile) and value != "" and not (name == "text" and asking.texts)
    }
    choices = _checked(asking.choices, rest)
    items = []
    for place, file in enumerate(files):
        text = texts[place] if texts else None
        items.append(_item(file.filename, await file.read(), text, None, limits))
    return items, choices


def _checked(model: type[Model], said: Any) -> Model:
    """What was said as the model has it. Raises Problem that names the field, without the value."""
    try:
        return model.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        raise Problem(422, "invalid", f"{where}: {first['msg']}" if where else str(first["msg"])) from error


def _count(items: int, limits: Limits) -> None:
    if items > limits.items:
        most = f"{limits.items} pictures" if limits.items > 1 else "one picture"
        raise Problem(413, "too-many-items", f"A request may have {most}: send them in several.")


def _item(name: str | None, data: bytes, text: str | None, confidences: list[float] | None, limits: Limits) -> Item:
    """The picture where it is within the limits; its pixels are counted, not decoded."""
    problem = _wrong(data, text, confidences, limits)
    if problem is not None:
        return Item(name, problem=problem)
    given = None if text is None else LineText(text, tuple(confidences) if confidences is not None else None)
    return Item(name, data, given)


def _wrong(data: bytes, text: str | None, confidences: list[float] | None, limits: Limits) -> Problem | None:
    if not data:
        return Problem(422, "empty", "The file is empty.")
    if len(data) > limits.item:
        return Problem(413, "file-too-large", f"The file has {len(data)} bytes, the limit is {limits.item}.")
    if text is not None and len(text) > limits.text:
        return Problem(422, "text", f"The text has {len(text)} characters, the limit is {limits.text}.")
    if confidences is not None and (text is None or len(confidences) != len(text)):
        return Problem(422, "text", "confidences needs one number for each character of text.")
    try:
        height, width = image_size(data)
    except InputError as error:
        unknown = "no picture in a known format" in str(error)
        kind = "not-a-picture" if unknown else "damaged"
        return Problem(415 if unknown else 422, kind, f"The file {error}.")
    if height * width > limits.pixels:
        detail = f"The picture has {width} x {height} pixels, the limit is {limits.pixels}: cut out what matters."
        return Problem(413, "too-many-pixels", detail)
    return None
