"""What a proof does in the target's own Python: `python proof_inside.py REQUEST`; one JSON line.

Owns: how the questions are put, and what this process saw of its surroundings. Runs alone, with the
standard library and `uservlm.runtime`, on the host too: what the two print is compared elsewhere.

REQUEST is a JSON file: `bundle`, `threads`, `vision` (as `UserVLM.load` takes it), `pictures` (name
and path) and `cases` (picture or user, question, attention); `given`, for who must follow another's
answers: the tokens of each case; `users`, a folder of people, and `keep`, names of pictures. The
caller has seen that those are drawn: a face is kept of nobody else.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from uservlm.runtime import Consent, UserVLM

MAPS: Final = Path("/proc/self/maps")
STATUS: Final = Path("/proc/self/status")


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Put every question; gives answers, image features and surroundings.

    `logits` are float32 [positions, vocabulary] in base64, the first position before any token of
    the answer, and `tokens` the likeliest of each; `features` are float32 [N, d] by picture.
    """
    given: Sequence[Sequence[int] | None] = request.get("given") or [None] * len(request["cases"])
    with UserVLM.load(
        request["bundle"],
        threads=request["threads"],
        vision=request["vision"],
        users=request.get("users"),
    ) as vlm:
        seen = {name: vlm.encode(path) for name, path in request["pictures"].items()}
        for name in request.get("keep", ()):
            agreed = datetime.now(timezone.utc)
            consent = Consent(agreed, "a drawn person, for a proof", "embedding", days=1)
            vlm.users.keep(name, seen[name], consent)
        answers = []
        for case, tokens in zip(request["cases"], given, strict=True):
            who = {"image": seen[case["picture"]]} if "picture" in case else {"user": case["user"]}
            asked = {**who, "attention": case["attention"]}
            follow = None if tokens is None else tokens[:-1]
            with vlm.trace(case["question"], answer=follow, **asked) as trace:
                logits = np.stack(list(trace))
            likeliest = [int(token) for token in logits.argmax(axis=1)]
            said = vlm.ask(case["question"], **asked).text
            answers.append({"text": said, "tokens": likeliest, "logits": _packed(logits)})
        features = {name: _packed(one.features) for name, one in seen.items()}
        did = {"vision": vlm.vision, "vision_runs": vlm.counters.vision_runs}
    return {"answers": answers, "features": features, **did, "saw": surroundings()}


def surroundings() -> dict[str, Any]:
    """Say who this process is, and everything that was loaded into it."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "bits": 8 * ctypes.sizeof(ctypes.c_void_p),
        "uid": os.getuid(),
        "root": sorted(os.listdir("/")),
        "libraries": _libraries(),
        "mapped": _mapped(),
        "peak_kb": _peak("VmHWM"),
        "address_space_kb": _peak("VmPeak"),
    }


def _libraries() -> list[str]:
    """Give the paths of all shared objects, as this program's own linker knows them.

    Under an emulator /proc/self/maps may be another's; the linker's list is always ours.
    """

    class Info(ctypes.Structure):
        """The beginning of struct dl_phdr_info (link.h)."""

        _fields_ = [("address", ctypes.c_size_t), ("name", ctypes.c_char_p)]

    found: list[str] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)

    def note(info: Any, _size: int, _data: Any) -> int:
        name = info.contents.name
        if name:
            found.append(os.fsdecode(name))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(kind(note), None)
    return sorted(os.path.realpath(name) for name in found if "/" in name)


def _mapped() -> list[str]:
    """Give the files that are mapped into this process, as the kernel or the emulator says."""
    if not MAPS.is_file():
        return []
    columns = (line.split(None, 5) for line in MAPS.read_text().splitlines())
    return sorted({line[5] for line in columns if len(line) == 6 and line[5].startswith("/")})


def _peak(name: str) -> int:
    """Give a peak of this process's memory in kB; 0 where it is not known."""
    if not STATUS.is_file():
        return 0
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((int(line[1]) for line in lines if line and line[0] == f"{name}:"), 0)


def _packed(array: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    values = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(values.shape), "data": base64.b64encode(values.tobytes()).decode()}


def main(arguments: Sequence[str]) -> int:
    """Answer a request."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    print(json.dumps(answer(request)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
