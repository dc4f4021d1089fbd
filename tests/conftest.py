"""Checkpoints and bundles every test may use: tiny, random, made once per session, offline.

Nothing is mocked: a bundle here went through the whole converter, parity included.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from uservlm.converters.export import POCKET, ROOT

if TYPE_CHECKING:
    from fuzzing import Attacked

    from uservlm.runtime import UserVLM

PIECES = 640
CASES = 4

MakeCheckpoint = Callable[..., Path]
"""(shape="square", seed=0, dtype="bfloat16") -> folder of a random checkpoint."""
MakeBundle = Callable[..., Path]
"""(shape="square", quant="f16", vision="fp32") -> folder of its bundle."""


LONGEST = (
    "test_export_page",
    "test_onboard_hour",
    "test_pocket",
    "test_onboard_trouble",
    "test_verify",
    "test_onboard_brain_trouble",
    "test_serve_fuzz",
    "test_onboard_hearing",
    "test_bench_flops",
    "test_bench_run",
    "test_export",
    "test_tablet_page",
    "test_packaging",
    "test_onboard_privacy",
    "test_telemetry",
    "test_onboard_visits",
    "test_deploy",
    "test_toolchain_deploy",
)
"""Files that take longest, the longest first. Processes take whole files: with one of these as the
last, the others would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the others stay in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Notes of what was verified do not go to the cache of whoever runs the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """On a busy machine two threads spend their time waiting for each other."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Gemma-like tokenizer, trained as the pocket's is."""
    from uservlm.models.dialogues import corpus
    from uservlm.models.people import random_scene
    from uservlm.models.prompt import TEMPLATE
    from uservlm.models.vocabulary import train_vocabulary

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_vocabulary(corpus(0, [random_scene(rng) for _ in range(40)], TEMPLATE), folder, PIECES)
    return folder


@pytest.fixture(scope="session")
def make_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path
) -> MakeCheckpoint:
    """Write random checkpoints, each once; tests that change one work on a copy."""
    from uservlm.models.random_checkpoint import SHAPES, write_random_checkpoint

    @cache
    def make(shape: str = "square", seed: int = 0, dtype: str = "bfloat16") -> Path:
        folder = tmp_path_factory.mktemp("checkpoint") / shape
        return write_random_checkpoint(folder, tokenizer_folder, SHAPES[shape], seed, dtype)

    return make


@pytest.fixture(scope="session")
def make_bundle(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: MakeCheckpoint
) -> MakeBundle:
    """Export random checkpoints, each combination once."""
    from uservlm.converters.pipeline import ExportOptions, export

    @cache
    def make(shape: str = "square", quant: str = "f16", vision: str = "fp32") -> Path:
        out = tmp_path_factory.mktemp("bundle") / f"{shape}-{quant}-{vision}"
        return export(ExportOptions(make_checkpoint(shape), out, quant, vision, cases=CASES))

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """A random checkpoint: 112 px, 64 image tokens, width 256, 4 layers."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: MakeBundle) -> Path:
    """Its bundle in f16 with fp32 vision: what differs from the checkpoint is rounding alone."""
    return make_bundle()


@pytest.fixture(scope="module")
def vlm(tiny_bundle: Path) -> Iterator[UserVLM]:
    """The tiny bundle, opened."""
    from uservlm.runtime import UserVLM

    with UserVLM.load(tiny_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle's folder, to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def pocket_bundle() -> Path:
    """The shipped model as `python converters/export.py` makes it, kept between runs."""
    if not (POCKET / "config.json").is_file():
        pytest.skip("models/pocket is not there: make it with `python -m uservlm.models.train`")
    return _exported("pocket", "q4_k_m", "int8")


def _exported(name: str, quant: str, vision: str) -> Path:
    """Export the pocket, unless another process of the tests has, or is about to."""
    from uservlm.converters.pipeline import ExportOptions, export
    from uservlm.runtime.durable import locked

    folder = ROOT / ".cache" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, patience=600):
        return export(ExportOptions(POCKET, folder / name, quant, vision))


@pytest.fixture(scope="session", params=["random", "pocket"])
def proven(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A checkpoint and its f16 bundle with fp32 vision: what differs is rounding alone."""
    if request.param == "random":
        return request.getfixturevalue("tiny_checkpoint"), request.getfixturevalue("tiny_bundle")
    return POCKET, _exported("pocket-f16", "f16", "fp32")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's drawn people, grace.png and sam.png."""
    from uservlm.models.demo import save_pictures

    folder = tmp_path_factory.mktemp("pictures")
    save_pictures(folder)
    return folder


@pytest.fixture(scope="session")
def python27() -> list[str]:
    """The command of Python 2.7 with libqi, as in the robot's head."""
    from uservlm.toolchain.python27 import UnavailableError, python27

    try:
        return python27()
    except UnavailableError as error:
        pytest.skip(f"NOTHING WAS RUN IN THE ROBOT'S OWN PYTHON, WHICH CANNOT BE HAD: {error}")


@pytest.fixture(scope="module")
def attacked(
    pocket_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """A server that is sent what nobody should send."""
    from fuzzing import attack

    folder = tmp_path_factory.mktemp("brain")
    with attack(pocket_bundle, pictures / "grace.png", folder) as attacked:
        yield attacked


@pytest.fixture
def lives(attacked: Attacked, pictures: Path) -> Iterator[None]:
    """Grace is kept there; afterwards the server answers a real question."""
    attacked.brain.encode(pictures / "grace.png", user="grace")
    yield
    attacked.lives()
