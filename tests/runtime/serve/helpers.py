"""Stand-ins for the service's tests: an application over the stub restorer, and pictures as files."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from runtime import InputError, Restorer
from runtime.pages import Detector, Pages
from runtime.serve import Settings
from runtime.serve.app import create_app
from runtime.serve.service import Service
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle, stub_restorer

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


PLACES = ((20, 12), (150, 60), (30, 100))
"""Left and top of the lines of `draw_page`, in reading order."""


def draw_page() -> NDArray[np.uint8]:
    """A page (150, 300, 3) of three lines, each 24 x 120."""
    page = np.full((150, 300, 3), (236, 232, 220), np.uint8)
    for number, (left, top) in enumerate(PLACES):
        page[top : top + 24, left : left + 120] = draw_line(f"line {number}")
    return page


class Knowing:
    """A detector that knows where the lines of `draw_page` are, and tells it in another order."""

    def __init__(self) -> None:
        self.pages = 0

    def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See `Detector`."""
        self.pages += 1
        return [
            np.array([(left, top), (left + 120, top), (left + 120, top + 24), (left, top + 24)], np.float32)
            for left, top in reversed(PLACES)
        ]


def no_pages(_: Restorer) -> Pages:
    """What opens pages where nothing finds their lines."""
    raise InputError("no detector is installed")


@contextmanager
def listening(restorer: Restorer, settings: Settings, detector: Detector) -> Iterator[str]:
    """The address of a service that listens on a free port of this machine, in a thread."""
    app = create_app(lambda: restorer, settings, lambda opened: Pages(opened, detector))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not app.state.service.ready or not server.started:
            assert time.monotonic() < end
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(
    restorer: Restorer | None = None, settings: Settings | None = None, detector: Detector | None = None
) -> Iterator[TestClient]:
    """A client of a service that is ready; it takes pages where there is a detector."""
    opened = restorer or stub_restorer(KnowingReader())
    open_pages = no_pages if detector is None else lambda restorer: Pages(restorer, detector)
    app = create_app(lambda: opened, settings or Settings(max_wait=0.0), open_pages)
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


class Slow(StubExecutor):
    """Restores only when let; says when it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.armed, self.begun, self.let = threading.Event(), threading.Event(), threading.Event()

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self.armed.is_set():
            self.begun.set()
            assert self.let.wait(30)
        return super().run(graph, inputs)


def slow() -> tuple[Slow, Restorer]:
    """A restorer that waits, with its executor."""
    executor = Slow()
    return executor, Restorer(stub_bundle(), executor, KnowingReader("a"))


def post(client: TestClient, place: int = 0) -> Any:
    """The answer on one line, restored in one step."""
    return client.post("/v1/restore", files={"file": line(place)}, data={"steps": "1"})
