"""``python -m tests.fuzz.bundle BUNDLE [libFuzzer's options]``: atheris on the bundle reader.

BUNDLE is a whole bundle, such as runtime/bundles/compact. The first byte of an input chooses: bytes as bundle.json, a
sealed bundle.json with odd values, or bytes as one of the other files. Any exception but BundleError, and any bundle
that is not the right one, ends it; libFuzzer's -timeout and -rss_limit_mb bound time and memory.
"""

from __future__ import annotations

import atexit
import json.decoder
import json.scanner
import sys
from pathlib import Path

import atheris

import runtime.bundle
import runtime.manifest
import textsr.alphabet
from tests.fuzz.harness import fuzz, instrument
from tests.fuzz.targets import BundleTarget, own_folder

AS_MANIFEST, EDITED, AS_FILE = range(3)


def main() -> None:
    """Runs until libFuzzer is done."""
    instrument(runtime.bundle, runtime.manifest, textsr.alphabet, json.decoder, json.scanner)
    target = BundleTarget(Path(sys.argv.pop(1)), own_folder())
    atexit.register(target.close)
    names = sorted(target.files)

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data[1:])
        kind = data[0] % 3 if data else AS_MANIFEST
        if kind == AS_MANIFEST:
            target.try_manifest(data[1:])
        elif kind == EDITED:
            target.try_edited(lambda below: provider.ConsumeIntInRange(0, below - 1))
        else:
            target.restore()
            name = names[provider.ConsumeIntInRange(0, len(names) - 1)]
            target.try_file(name, provider.ConsumeBytes(provider.remaining_bytes()))

    manifests = target.text, target.text[: len(target.text) // 2], b"{}", b"[" * 3000
    seeds = {f"manifest {number}": bytes([AS_MANIFEST]) + text for number, text in enumerate(manifests)}
    seeds |= {f"edited {number}": bytes([EDITED, *range(number, 64 + number)]) for number in range(8)}
    seeds |= {name: bytes([AS_FILE]) + data for name, data in target.files.items()}
    fuzz(one, seeds, 2 * len(target.text))


if __name__ == "__main__":
    main()
