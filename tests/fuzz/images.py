"""``python -m tests.fuzz.images [libFuzzer's options]``: atheris on the reader of picture files.

Begins with the odd pictures of `tests.odd_pictures` and whole ones of every format. Any exception but InputError, and
any result that is no RGB picture of the size told before, ends it.
"""

from __future__ import annotations

import logging

from PIL import BmpImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

import textsr.images
import textsr.pixels
from tests.fuzz.harness import fuzz, instrument
from tests.fuzz.targets import try_image, whole_pictures
from tests.odd_pictures import every

PLUGINS = BmpImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
LONGEST = 1 << 16


def main() -> None:
    """Runs until libFuzzer is done."""
    logging.disable(logging.WARNING)
    instrument(textsr.images, textsr.pixels, *PLUGINS)
    odd = {name: data for name, data in every().items() if len(data) <= LONGEST}
    fuzz(try_image, {**whole_pictures(), **odd}, LONGEST)


if __name__ == "__main__":
    main()
