"""The wheels of llama-cpp-python that were built for other machines, where there are any.

They are in `.cache/toolchain`. A build takes minutes, so nothing is built here: `make proofs` does
that. A wheel that was made from another source, or with other flags, counts as missing.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.sample_model import write_sample
from uservlm.toolchain import bootstrap
from uservlm.toolchain.compile import CACHE, plan_for
from uservlm.toolchain.targets import TARGETS
from uservlm.toolchain.wheels import oldest_platform

MACHINE = platform.machine()
FLOORS = {
    "x86_64": "manylinux_2_35_x86_64",
    "aarch64": "manylinux_2_27_aarch64",
    "pepper-i686": "manylinux_2_17_i686",
}
"""What docs/decisions/0017 promises."""
PROCESSORS = {"x86_64": 14, "aarch64": 8, "pepper-i686": 1}
"""Libraries with ggml's code for one kind of processor."""


def built(name: str) -> Path:
    """Find the wheel that `make proofs` made; skip where there is none for this source."""
    try:
        folder = CACHE / f"{plan_for(TARGETS[name]).key()}.wheel"
    except bootstrap.Refusal as refusal:
        pytest.skip(f"{refusal}")
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"`.cache/toolchain` has no wheel for {name}: make proofs")
    return wheels[0]


@pytest.mark.parametrize("name", FLOORS)
def test_a_built_wheel_keeps_what_is_promised(name: str) -> None:
    """No path of this machine, no library missing, the oldest glibc as documented."""
    wheel = built(name)
    assert oldest_platform(wheel) == FLOORS[name] and FLOORS[name] in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        libraries = [file for file in archive.namelist() if "/lib/" in file]
        names = {Path(file).name for file in libraries}
        assert {"libllama.so", "libggml.so", "libggml-base.so"} <= names
        processors = [file for file in names if file.startswith("libggml-cpu")]
        assert len(processors) == PROCESSORS[name]
        for file in libraries:
            data = archive.read(file)
            assert bootstrap.ROOT.encode() not in data and b".making-" not in data, file


ANSWER = """
import sys
from pathlib import Path
import llama_cpp, numpy as np
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.room import Room
from uservlm.runtime.settings import Settings
from uservlm.runtime.weights import Weights
model, out, repack = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "repacked"
language = LanguageModel(
    model, Room(256, 64, 1), 2, tensors=Weights(model).tensors, settings=Settings(repack=repack)
)
rng = np.random.default_rng(1)
language.decode_rows(rng.normal(0, 1, (48, language.width)).astype("f4"), 0, causal=False)
logits = [language.logits()]
for token in (5, 9, 2):
    language.decode_tokens([token], 0, causal=True)
    logits.append(language.logits())
np.save(out, np.stack(logits))
print(Path(llama_cpp.__file__).parent.parent, language.build)
"""


@pytest.mark.parametrize("order", ["repacked", "mapped"])
def test_the_wheel_for_every_pc_computes_as_the_native_build_does(
    make_bundle: Callable[..., Path], tmp_path: Path, order: str
) -> None:
    """The runtime loads ggml's code for this processor out of the fourteen, and AMX's is whole."""
    if MACHINE != "x86_64":
        pytest.skip(f"this is {MACHINE}")
    wheel, site = built("x86_64"), tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    architecture = open_bundle(make_bundle(), verify=False).manifest.architecture
    model, said, logits = write_sample(tmp_path, architecture, "q4_0").path, [], []
    for path in ("", str(site)):
        out = tmp_path / f"{len(said)}.npy"
        done = subprocess.run(
            [sys.executable, "-c", ANSWER, str(model), str(out), order],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        said.append(done.stdout.split(maxsplit=1))
        logits.append(np.load(out))
    assert said[1][0] == str(site) != said[0][0]
    assert "SSE3 = 1" in said[1][1]
    assert (logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).all()
    assert np.abs(logits[0] - logits[1]).max() < 0.02 * logits[0].std()


def test_a_wheel_without_code_for_this_processor_says_so(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """llama.cpp itself would say that no backends are loaded, and give no model."""
    if MACHINE != "x86_64":
        pytest.skip(f"this is {MACHINE}")
    with zipfile.ZipFile(built("x86_64")) as archive:
        archive.extractall(tmp_path)
    for library in (tmp_path / "llama_cpp/lib").glob("libggml-cpu-*"):
        library.unlink()
    architecture = open_bundle(make_bundle(), verify=False).manifest.architecture
    model = write_sample(tmp_path, architecture, "q4_0").path
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, str(model), str(tmp_path / "x.npy"), "mapped"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "has no code for this processor" in done.stderr
