"""A side of a benchmark obeys here: commands come in on stdin, measurements go out on stdout.

Owns: the protocol, one JSON object a line each way. Only the standard library is imported, since a
peer runs in an environment of its own. `side.py` is the other end.

`{"do": "turn", "question_tokens": 50, "answer_tokens": 16}` is what every side understands: put
one question about a picture and answer with `ttft_s` (from the question to the first token),
`decode_s` (from the first to the last token), `answer_tokens` and `prompt_tokens`, and where it
can tell, `vision_s` and `prefill_s`. `{"do": "memory"}` gives `peak_bytes`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Found = dict[str, float]


def serve(measures: Mapping[str, Callable[..., Found]]) -> None:
    """Say that we are ready, then obey until stdin ends.

    What libraries print goes to stderr: stdout is the protocol's alone.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"ready": 1.0}), file=answers, flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        found = {**COMMON, **measures}[wanted.pop("do")](**wanted)
        print(json.dumps(found), file=answers, flush=True)


def peak_memory() -> Found:
    """Peak resident memory of this process so far, in bytes (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return {"peak_bytes": float(peak.split()[1]) * 1024}


COMMON: Mapping[str, Callable[..., Found]] = {"memory": peak_memory}
