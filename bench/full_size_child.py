"""One side of `bench/full_size.py`, in a process of its own: the engine, the original, or memory.

Owns: taking single times when it is told to, so that the parent can take turns between the sides.
Reads one command a line on stdin, writes one JSON object a line on stdout.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np

QUESTION_TOKENS = 50
"""With the prompt's own behind it."""
BUDGET_MB = 2500
"""What the issue allows the whole process."""
USER = "known"
Measure = Callable[[], dict[str, float]]


def picture(seed: int) -> Any:
    """Draw somebody new: uint8 [h, w, 3]."""
    from uservlm.models.drawing import render
    from uservlm.models.people import random_scene

    return np.asarray(render(random_scene(np.random.default_rng(seed))))


def question(vlm: Any) -> str:
    """Ask so much that a resident user's question is QUESTION_TOKENS long, or one or two more."""
    head, words = len(vlm._requests.head), "what should I wear"
    while len(vlm.prefix_tokens(words)) - head < QUESTION_TOKENS:
        words += " today"
    return words


def frugal(bundle: str, folder: str) -> dict[str, Measure]:
    """The product held to a budget: one user, vision used once, a cold and a warm answer."""
    from uservlm.runtime import GenerationOptions, UserVLM

    with UserVLM.load(bundle, memory_mb=BUDGET_MB, attention="resident") as vlm:
        somebody = vlm.encode(picture(0))
        for _ in range(2):
            vlm.ask(question(vlm), image=somebody, options=GenerationOptions(max_new_tokens=8))
    return {"memory": memory}


def engine(bundle: str, folder: str) -> dict[str, Measure]:
    """The product, through its public face; users are kept in `folder`."""
    from uservlm.runtime import GenerationOptions, UserVLM
    from uservlm.runtime.agreement import ShadowPolicy
    from uservlm.runtime.profiles import Consent

    start = perf_counter()
    vlm = UserVLM.load(bundle, users=folder, attention="resident", shadow=ShadowPolicy(share=0))
    loaded, faces, asked = perf_counter() - start, iter(range(10_000)), question(vlm)
    options = GenerationOptions(max_new_tokens=16)

    def turn(**source: Any) -> dict[str, float]:
        usage = vlm.ask(asked, options=options, **source).usage
        steps = max(1, usage.answer_tokens - 1)
        return {
            "ttft_s": usage.ttft_s,
            "token_s": usage.decode_s / steps,
            "prefix_tokens": usage.prefix_tokens,
            "vision_s": usage.vision_s,
            "prefill_s": usage.prefill_s,
        }

    def keep() -> dict[str, float]:
        consent = Consent(datetime.now(timezone.utc), "drawn for a benchmark", "state")
        vlm.users.keep(USER, vlm.encode(picture(0)), consent)
        turn(user=USER)
        return {"loaded_s": loaded}

    def close() -> dict[str, float]:
        vlm.close()
        return {}

    return {
        "keep": keep,
        "cold": lambda: turn(image=picture(100 + next(faces))),
        "warm": lambda: turn(user=USER),
        "memory": memory,
        "close": close,
    }


def started(bundle: str, folder: str) -> dict[str, Measure]:
    """A process that begins and answers somebody it knows; it says so when the answer is there."""
    from uservlm.runtime import GenerationOptions, UserVLM

    vlm = UserVLM.load(bundle, users=folder, attention="resident")
    usage = vlm.ask(question(vlm), user=USER, options=GenerationOptions(max_new_tokens=1)).usage
    if usage.resident != "restored":
        raise SystemExit(f"the known user was {usage.resident}, not restored from disk")
    return {"memory": memory}


def original(checkpoint: str, prompt: str) -> dict[str, Measure]:
    """PyTorch in bfloat16, computing all of the question anew as User-VLM's own example does."""
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    tokens = int(prompt)
    model = PaliGemmaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.bfloat16)
    config = model.eval().config
    images = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    text = torch.randint(1000, 2000, (1, tokens))
    ids = torch.cat([torch.full((1, images), config.image_token_index), text], 1)
    size = config.vision_config.image_size
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
        "pixel_values": torch.randn(1, 3, size, size, dtype=torch.bfloat16),
    }

    def first() -> dict[str, float]:
        start = perf_counter()
        with torch.inference_mode():
            model.generate(**given, max_new_tokens=1, do_sample=False)
        return {"ttft_s": perf_counter() - start}

    return {"first": first, "memory": memory}


def reader(gigabytes: str, threads: str) -> dict[str, Measure]:
    """Read bandwidth: libc's memcmp of two halves, each thread its own part.

    Of memcmp, memchr, numpy's sum, max and or, and a loop of AVX-512 loads, memcmp read fastest
    (docs/decisions/0008), so the bound that a decoder is held against is the strictest.
    """
    size, count = int(float(gigabytes) * 2**30), int(threads)
    buffer = mmap.mmap(-1, size)
    array = np.frombuffer(buffer, dtype=np.uint8)
    array[:] = 1
    compare, half = ctypes.CDLL(None).memcmp, size // count // 2
    compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

    def part(number: int) -> None:  # holds the array, and that the memory
        first = array.ctypes.data + 2 * half * number
        compare(first, first + half, half)

    def read() -> dict[str, float]:
        workers = [Thread(target=part, args=(number,)) for number in range(count)]
        start = perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"bytes_per_s": 2 * half * count / (perf_counter() - start)}

    return {"read": read}


def memory() -> dict[str, float]:
    """Peak resident memory of this process so far, in bytes (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return {"peak_bytes": float(peak.split()[1]) * 1024}


SIDES: dict[str, Callable[[str, str], dict[str, Measure]]] = {
    "engine": engine,
    "frugal": frugal,
    "started": started,
    "original": original,
    "reader": reader,
}


def main() -> None:
    """Open one side, say so, and obey."""
    _, side, first, second = sys.argv
    measures = SIDES[side](first, second)
    print(json.dumps({"ready": True}), flush=True)
    for command in sys.stdin:
        print(json.dumps(measures[command.strip()]()), flush=True)


if __name__ == "__main__":
    main()
