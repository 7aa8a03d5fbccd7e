"""Stand-ins for the service's tests: an application over the stub restorer, and pictures as files."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from runtime import Restorer
from runtime.serve import Settings
from runtime.serve.app import create_app
from runtime.serve.service import Service
from tests.runtime.helpers import KnowingReader, draw_line, stub_restorer

Client = TestClient


def png(image: NDArray[np.uint8] | None = None, kind: str = "PNG") -> bytes:
    """A line's picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(draw_line() if image is None else image).save(stream, format=kind)
    return stream.getvalue()


def line(place: int) -> bytes:
    """One of many different lines."""
    return png(draw_line(f"line {place}", 20 + place % 5, 70 + 13 * place))


def pixels(data: bytes) -> NDArray[np.uint8]:
    """A PNG's picture."""
    return np.asarray(Image.open(io.BytesIO(data)))


@contextmanager
def serving(restorer: Restorer | None = None, settings: Settings | None = None) -> Iterator[TestClient]:
    """A client of a service that is ready."""
    opened = restorer or stub_restorer(KnowingReader())
    app = create_app(lambda: opened, settings or Settings(max_wait=0.0))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: TestClient) -> None:
    """Returns when the restorer is open. Raises AssertionError when it does not open within a minute."""
    end = time.monotonic() + 60
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < end, answer.text
        assert answer.json()["status"] != "failed"
        time.sleep(0.01)


def service_of(client: TestClient) -> Service:
    """The service behind a client."""
    app: Any = client.app
    service: Service = app.state.service
    return service
