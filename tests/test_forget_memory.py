"""After `forget`, no writable memory of the process and no file holds a byte of the person.

A child process keeps a user and forgets them; this one reads the child's memory from outside. What
is searched for crosses the pipe with all bits turned, so that asking leaves no copy of its own.
Not searched for: the picture's plain bytes, of which Pillow frees a copy without overwriting it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CHILD = """
import datetime, gc, json, sys
import numpy as np
from uservlm.runtime import UserVLM
from uservlm.runtime.image import to_pixels
from uservlm.runtime.profiles import Consent

def turned(array):
    return (~np.ascontiguousarray(array).view(np.uint8)).tobytes().hex()

bundle, users, vision = sys.argv[1:]
vlm = UserVLM.load(
    bundle, users=users, attention="resident", threads=1, vision=vision, verify=False
)
picture = np.random.default_rng(3).integers(0, 255, (90, 80, 3), dtype=np.uint8)
pixels = to_pixels(picture, vlm.bundle.manifest.pixels)
embedding = vlm.encode(picture)
now = datetime.datetime.now(datetime.timezone.utc)
vlm.users.keep("Ada", embedding, Consent(now, "yes", "state", 3))
vlm.users.keep("Bob", vlm.encode(picture[::-1]))
for name in ("Ada", "Bob"):
    vlm.ask("Who am I?", user=name)
vlm.ask("Who am I?", user="Ada", attention="exact")
vlm._worker.call(vlm._prefiller.save)
features, root = embedding.features, np.float32(embedding.features.shape[1] ** -0.5)
owner = next(o for o in vlm._prefiller.residents if o.digest == embedding.digest)
state = vlm._language.save(vlm._prefiller._residents.find(owner).sequence)
places = [len(state) * n // 8 for n in (2, 4, 6)]
print(json.dumps({
    "embedding": [turned(features[row, :12]) for row in (0, 17, 40)],
    "prefix": [turned(features[row, :12] * root) for row in (0, 17, 40)],
    "pixels": [turned(pixels[0, 0, row, :12]) for row in (0, 50)],
    "KV cache": [turned(state[place : place + 32]) for place in places],
}), flush=True)
state.fill(0)
pixels.fill(0)
sys.stdin.readline()
vlm.users.forget("Ada")
del embedding, features, pixels, state
gc.collect()
print("forgotten", flush=True)
sys.stdin.readline()
"""


def found(process: int, needles: dict[str, list[bytes]]) -> Counter[str]:
    """Count what is found of each kind in the writable memory of a process."""
    hits: Counter[str] = Counter()
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", 0) as memory:
        for line in maps:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if area is None or "[v" in line:
                continue
            start, end = (int(part, 16) for part in area.groups())
            memory.seek(start)
            data = memory.read(end - start)
            for kind, wanted in needles.items():
                hits[kind] += sum(data.count(needle) for needle in wanted)
    return hits


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("vision", ["onnx", "ggml"])
def test_nothing_of_a_forgotten_person_is_left(
    tiny_bundle: Path, tmp_path: Path, vision: str
) -> None:
    command = [sys.executable, "-c", CHILD, str(tiny_bundle), str(tmp_path), vision]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        told = json.loads(child.stdout.readline())
        needles = {
            kind: [bytes(255 - byte for byte in bytes.fromhex(one)) for one in turned]
            for kind, turned in told.items()
        }
        before = found(child.pid, needles)
        assert before["embedding"] and before["KV cache"], "the search finds what is there"
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "forgotten\n"
        after = found(child.pid, needles)
        left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        child.stdin.write("\n")
    assert len(written) - len(left) == 3, "profile, embedding and state of one person"
    every = [needle for wanted in needles.values() for needle in wanted]
    assert not any(needle in data for needle in every for data in (*written, *left))
    assert after == Counter(dict.fromkeys(needles, 0)), "nothing is left in memory"
