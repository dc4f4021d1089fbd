"""What is counted in the target's own Python: `python counted_inside.py REQUEST`; one JSON line.

Owns: the work between two marks, and the marks. `count_instructions.c` sees them under an emulator;
elsewhere they do nothing. One thread, because the counter has no lock.

REQUEST is a JSON file: `bundle`, `vision` (whether a picture is encoded too), `positions` of one
block to be prefilled, and `tokens` to be decoded.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.opening import Parts, Wish, open_parts

MARK: Final = 0x5556
"""Asks for the priority of nothing: an error and no effect (count_instructions.c has it too)."""
OPENED, SAW, PREFILLED, DECODED = 1, 2, 3, 4
TOKEN: Final = 2


def mark(label: int) -> None:
    """Have the count noted under a label."""
    with suppress(OSError):
        os.getpriority(MARK, label)


def work(request: Mapping[str, Any]) -> dict[str, int]:
    """Do what is counted; gives how much of it there was."""
    bundle = open_bundle(request["bundle"], verify=False)
    parts = open_parts(bundle, "exact", Wish(threads=1))
    mark(OPENED)
    side = bundle.manifest.pixels.size
    if request["vision"]:
        parts.vision.encode(np.zeros((1, 3, side, side), np.float32))
    mark(SAW)
    parts.worker.call(lambda: _speak(parts, request["positions"], request["tokens"]))
    parts.worker.close()
    return {"positions": request["positions"], "tokens": request["tokens"], "side": side}


def _speak(parts: Parts, positions: int, tokens: int) -> None:
    """Prefill a block of noise, and decode; what it says does not matter to what it costs."""
    language = parts.language
    rows = np.random.default_rng(0).standard_normal((positions, language.width), np.float32)
    language.decode_rows(rows, 0, causal=False)
    mark(PREFILLED)
    for _ in range(tokens):
        language.decode_tokens((TOKEN,), 0, causal=True)
    mark(DECODED)
    language.close()


def main(arguments: Sequence[str]) -> int:
    """Do what a request says."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    print(json.dumps(work(request)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
