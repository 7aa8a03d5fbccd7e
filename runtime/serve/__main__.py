"""``python -m runtime.serve``: the service from the command line."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from runtime.bundle import shipped
from runtime.executors import EXECUTORS
from runtime.guard import Guard, GuardOptions
from runtime.pages import Pages, RapidOCRDetector
from runtime.restorer import Restorer
from textsr.errors import InputError, TextSRError

try:
    import uvicorn

    from runtime.serve.app import create_app
    from runtime.serve.service import Service
except ModuleNotFoundError as error:  # pragma: no cover
    sys.exit(f"textsr: {error.name} is missing: install the extra [serve]")

from runtime.serve.settings import TOKEN_VARIABLE, Limits, Settings, find_token

logger = logging.getLogger("runtime.serve")
FAILED, MISUSED = 1, 2


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    limits, settings, names = Limits(), Settings(), ", ".join(shipped()) or "none"
    made = argparse.ArgumentParser(
        prog="python -m runtime.serve",
        description="Restores pictures of text lines and pages over HTTP, with a web page at /. SIGTERM or Ctrl-C "
        "finishes what was accepted and refuses the rest; a second one ends at once.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = made.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 or :: for all")
    add("--port", type=int, default=8000, help="port; 0 takes a free one, which the log names")
    add("--bundle", default="compact", help=f"shipped bundle's name ({names}) or a bundle's folder")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--executor", default="auto", choices=("auto", *EXECUTORS), help="what runs the graphs")
    add("--precision", default="auto", help="auto, fp32, fp16 or, with openvino and torch, bf16")
    add("--threads", type=int, help="CPU threads of the executor")
    add("--guard", action=argparse.BooleanOptionalAction, default=True,
        help="judge what is restored, and only enlarge what cannot be trusted")  # fmt: skip
    add("--never-change-text", action="store_true", help="only enlarge where the restored line reads otherwise")
    add("--max-batch", type=int, default=settings.max_batch, help="pictures restored at once, of all requests")
    add("--max-wait-ms", type=float, default=settings.max_wait * 1000, help="how long the first waits for others")
    add("--workers", type=int, default=settings.workers, help="batches under way at once")
    add("--page-workers", type=int, default=settings.page_workers, help="pages under way beside them")
    add("--max-body", type=int, default=limits.body, help="bytes of a request")
    add("--max-file", type=int, default=limits.item, help="bytes of one picture")
    add("--max-pixels", type=int, default=limits.pixels, help="pixels of one picture")
    add("--max-items", type=int, default=limits.items, help="pictures in one request")
    add("--max-queue", type=int, default=limits.queue, help="pictures that may wait, of all requests")
    add("--max-page-file", type=int, default=limits.page, help="bytes of a page's picture")
    add("--max-page-pixels", type=int, default=limits.page_pixels, help="pixels of a page")
    add("--max-page-answer", type=int, default=limits.page_answer,
        help="pixels of a restored page; larger pages are enlarged less than four times")  # fmt: skip
    add("--max-page-queue", type=int, default=limits.pages, help="pages that may wait, of all requests")
    add("--max-connections", type=int, default=256, help="connections at once; more are answered 503")
    add("--upload-seconds", type=float, default=settings.upload_seconds, help="how long a request may take to arrive")
    add("--token-file", type=Path, help=f"file with the bearer token callers must send (or variable {TOKEN_VARIABLE})")
    add("--access-log", action="store_true", help="log each request: address, method, path, status")
    return made


class Server(uvicorn.Server):
    """Uvicorn that, told to end, first lets the service finish what it accepted while new requests are answered 503."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        service.on_failure = self._give_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first ends in order, the second at once."""
        if self._loop is None or self._service.stopping:
            logger.warning("stopping at once")
            self.should_exit = self.force_exit = True
            return
        self._service.stopping = True
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ending = asyncio.ensure_future(self._finish())

    async def _finish(self) -> None:
        logger.info("stopping: what was accepted is finished")
        await self._service.stop()
        self.should_exit = True

    def _give_up(self) -> None:
        self.should_exit = True


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the service; exit status: 0 stopped in order, 1 failed, 2 wrong usage."""
    given = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="textsr: %(levelname)s %(message)s", stream=sys.stderr)
    try:
        settings = _settings(given)
        if given.never_change_text and not given.guard:
            raise InputError("--never-change-text is the guard's work: leave out --no-guard")
    except TextSRError as error:
        sys.stderr.write(f"textsr: {error}\n")
        return MISUSED
    if settings.token is None and not _is_loopback(given.host):
        logger.warning("anyone who reaches %s may use the service: consider --token-file", given.host)

    guard = Guard(GuardOptions(never_change_text=given.never_change_text)) if given.guard else None

    def open_restorer() -> Restorer:
        return Restorer.open(
            given.bundle, given.device, executor=given.executor, precision=given.precision, threads=given.threads,
            guard=guard,
        )  # fmt: skip

    def open_pages(restorer: Restorer) -> Pages:
        return Pages(restorer, RapidOCRDetector(threads=given.threads))

    app = create_app(open_restorer, settings, open_pages)
    config = uvicorn.Config(
        app, host=given.host, port=given.port, access_log=given.access_log, server_header=False, ws="none",
        log_config=None, limit_concurrency=given.max_connections, timeout_keep_alive=15,
    )  # fmt: skip
    service: Service = app.state.service
    Server(config, service).run()
    return FAILED if service.failure is not None else 0


def _settings(given: argparse.Namespace) -> Settings:
    limits = Limits(
        given.max_body, given.max_file, given.max_pixels, given.max_items, given.max_queue, page=given.max_page_file,
        page_pixels=given.max_page_pixels, page_answer=given.max_page_answer, pages=given.max_page_queue,
    )  # fmt: skip
    token = find_token(given.token_file)
    wait = given.max_wait_ms / 1000
    return Settings(
        given.max_batch, wait, given.workers, given.page_workers, token, upload_seconds=given.upload_seconds,
        limits=limits,
    )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
