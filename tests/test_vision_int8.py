"""The vision encoder's int8 weights: rounded as onnxruntime does, and let in by measurement only.

The planted checkpoint computes what the plain one does, but some channels in front of two matrices
are 256 times larger, as trained vision encoders have them: one range for all channels then leaves
the others no steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime.quantization")

import onnx  # noqa: E402
from conftest import MakeCheckpoint  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from uservlm.converters.calibration import MOST, calibration_folder  # noqa: E402
from uservlm.converters.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from uservlm.converters.errors import ConversionError  # noqa: E402
from uservlm.converters.vision_graph import draw_graph, with_int8  # noqa: E402
from uservlm.converters.vision_int8 import (  # noqa: E402
    by_damage,
    shortest,
    shrink_through_gate,
)
from uservlm.converters.vision_onnx import (  # noqa: E402
    INT8_COSINE,
    Features,
    Pixels,
    export_vision,
    mean_token_cosine,
    open_vision,
    reference_features,
    run_vision,
    token_cosines,
)
from uservlm.converters.vision_weights import WeightStream, to_int8  # noqa: E402
from uservlm.runtime.errors import ImageError  # noqa: E402
from uservlm.runtime.image import PixelSpec, to_pixels  # noqa: E402
from uservlm.runtime.manifest import VisionWeights  # noqa: E402

PLANTED = (0, 1)
LAYER = "vision_tower.vision_model.encoder.layers.{}."
MATRICES = tuple(LAYER.format(layer) + "mlp.fc1" for layer in PLANTED)
LOUD = 256
"""A power of two: bfloat16 scales by it without rounding."""


def plant(source: Path, target: Path) -> Checkpoint:
    """Copy a checkpoint, three channels of two normalised layers LOUD times larger."""
    shutil.copytree(source, target)
    [file] = target.glob("*.safetensors")
    tensors = load_file(file)
    for layer in PLANTED:
        [norm] = [name for name in tensors if name.endswith(f"layers.{layer}.layer_norm2.weight")]
        base = norm.removesuffix("layer_norm2.weight")
        for name in (norm, f"{base}layer_norm2.bias"):
            tensors[name][[1, 20, 40]] *= LOUD
        tensors[f"{base}mlp.fc1.weight"][:, [1, 20, 40]] /= LOUD
    save_file(tensors, file, metadata={"format": "pt"})
    return open_checkpoint(target)


@dataclass(frozen=True)
class Shrunk:
    checkpoint: Checkpoint
    file: Path
    pictures: list[Pixels]
    expected: list[Features]
    weights: VisionWeights
    runs: int


@pytest.fixture(scope="module")
def plain(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    return open_checkpoint(make_checkpoint("small"))


@pytest.fixture(scope="module")
def pictures(plain: Checkpoint) -> list[Pixels]:
    side = plain.shape.image_size
    drawn = np.random.default_rng(1).uniform(-1, 1, (3, 1, 3, side, side)).astype(np.float32)
    return list(drawn)


@pytest.fixture(scope="module")
def shrink(
    tmp_path_factory: pytest.TempPathFactory, pictures: list[Pixels]
) -> Callable[[Checkpoint], Shrunk]:
    def run(checkpoint: Checkpoint) -> Shrunk:
        file = tmp_path_factory.mktemp("int8") / "vision.onnx"
        expected = reference_features(checkpoint, pictures)
        runs: list[int] = []
        weights = shrink_through_gate(checkpoint, file, pictures, expected, True, runs.append)
        return Shrunk(checkpoint, file, pictures, expected, weights, sum(runs))

    return run


@pytest.fixture(scope="module")
def planted(
    plain: Checkpoint,
    shrink: Callable[[Checkpoint], Shrunk],
    tmp_path_factory: pytest.TempPathFactory,
) -> Shrunk:
    return shrink(plant(plain.folder, tmp_path_factory.mktemp("planted") / "checkpoint"))


def measure(file: Path, shrunk: Shrunk) -> float:
    session = open_vision(file)
    return min(
        mean_token_cosine(features, run_vision(session, pixels))
        for pixels, features in zip(shrunk.pictures, shrunk.expected, strict=True)
    )


def tensors_of(file: Path) -> dict[str, Any]:
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(file).graph.initializer
    }


# The graph


def test_integers_are_those_of_onnxruntime(plain: Checkpoint, tmp_path: Path) -> None:
    """Its own quantiser, given the whole float32 graph, writes the same nodes and weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    export_vision(plain, tmp_path / "whole.onnx")
    quantize_dynamic(
        tmp_path / "whole.onnx",
        tmp_path / "theirs.onnx",
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    graph = draw_graph(plain)
    WeightStream(plain, graph.matrices).write(with_int8(graph), tmp_path / "ours.onnx")
    ours, theirs = tensors_of(tmp_path / "ours.onnx"), tensors_of(tmp_path / "theirs.onnx")
    assert set(ours) == set(theirs)
    assert sum(tensor.dtype == np.int8 for tensor in ours.values()) == 2 * len(graph.matrices)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
    nodes = [
        sorted(node.SerializeToString() for node in onnx.load(tmp_path / file).graph.node)
        for file in ("ours.onnx", "theirs.onnx")
    ]
    assert nodes[0] == nodes[1]


def test_rows_of_one_sign_or_no_range_come_back_as_they_were() -> None:
    rows = [[0, 0, 0], [3, 3, 3], [2, 2.5, 3], [-2, -1, -2], [1e-39, 0, 0]]
    matrix = np.array(rows, np.float32)
    integers, scale = to_int8(matrix)
    assert integers.min() >= -127
    assert np.abs(integers * scale[:, None] - matrix).max() < 0.013


def test_every_weight_of_the_graph_is_one_of_the_checkpoints(plain: Checkpoint) -> None:
    graph = draw_graph(plain)
    linear = {
        name.removesuffix(".weight") for name in plain.places if "proj" in name or "fc" in name
    }
    linear = {name for name in linear if not name.endswith(".bias") and "vision_tower" in name}
    assert set(graph.matrices) == linear | {"multi_modal_projector.linear"}
    assert len(set(graph.matrices.values())) == len(graph.matrices)


def test_a_graph_of_other_weights_is_refused(plain: Checkpoint) -> None:
    fewer = dict(plain.places)
    fewer.pop(MATRICES[0] + ".weight")
    with pytest.raises(ConversionError, match=r"layers\.0\.mlp\.fc1\.weight"):
        draw_graph(Checkpoint(plain.origin, plain.config, plain.shape, fewer))


# The gate


def test_without_outliers_nothing_is_kept(
    plain: Checkpoint, shrink: Callable[[Checkpoint], Shrunk]
) -> None:
    shrunk = shrink(plain)
    weights = shrunk.weights
    assert weights.kept == () and weights.kept_bytes == 0
    assert weights.plain_cosine == weights.cosine == pytest.approx(measure(shrunk.file, shrunk))
    assert weights.cosine > INT8_COSINE
    assert shrunk.runs == weights.pictures == len(shrunk.pictures)


def test_planting_changes_no_float(planted: Shrunk, plain: Checkpoint, tmp_path: Path) -> None:
    for before, after in zip(
        reference_features(plain, planted.pictures), planted.expected, strict=True
    ):
        assert np.abs(before - after).max() < 1e-4 < before.std()
    export_vision(planted.checkpoint, tmp_path / "whole.onnx")
    assert measure(tmp_path / "whole.onnx", planted) > 0.999999


def test_planted_matrices_fail_the_gate_and_are_the_ones_kept(planted: Shrunk) -> None:
    assert planted.weights.plain_cosine < INT8_COSINE <= planted.weights.cosine
    assert planted.weights.kept == MATRICES


def test_the_figures_are_those_of_the_files(planted: Shrunk, tmp_path: Path) -> None:
    graph = draw_graph(planted.checkpoint)
    file = tmp_path / "plain.onnx"
    WeightStream(planted.checkpoint, graph.matrices).write(with_int8(graph), file)
    weights = planted.weights
    assert weights.plain_cosine == pytest.approx(measure(file, planted))
    assert weights.cosine == pytest.approx(measure(planted.file, planted))
    assert weights.matrices == len(graph.matrices)
    assert (weights.pictures, weights.own_pictures) == (len(planted.pictures), True)
    session = open_vision(planted.file)
    tokens = [
        token_cosines(features, run_vision(session, pixels)).min()
        for pixels, features in zip(planted.pictures, planted.expected, strict=True)
    ]
    assert weights.lowest_token_cosine == pytest.approx(float(min(tokens)))
    floats = sum(tensor.nbytes for tensor in tensors_of(planted.file).values())
    integers = sum(tensor.nbytes for tensor in tensors_of(file).values())
    # onnxruntime's fixed tensors, a few bytes, are the same in both.
    assert floats - integers == weights.kept_bytes


def test_kept_matrices_hold_the_checkpoints_floats(planted: Shrunk) -> None:
    written = tensors_of(planted.file)
    for matrix in MATRICES:
        weight = planted.checkpoint.read(f"{matrix}.weight").numpy()
        np.testing.assert_array_equal(written[f"{matrix}.weight"], weight.T)
    assert f"{LAYER.format(0)}mlp.fc2.weight" not in written


def test_damage_names_the_planted_first(planted: Shrunk) -> None:
    matrices = draw_graph(planted.checkpoint).matrices
    order = by_damage(planted.checkpoint, planted.pictures[0], matrices)
    assert set(order[:2]) == set(MATRICES)
    assert set(order) == set(matrices)


def test_a_gate_nothing_passes_keeps_everything(
    plain: Checkpoint,
    shrink: Callable[[Checkpoint], Shrunk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uservlm.converters.vision_int8.INT8_COSINE", 1.1)
    shrunk = shrink(plain)
    assert len(shrunk.weights.kept) == shrunk.weights.matrices
    assert measure(shrunk.file, shrunk) > 0.999999
    assert not any(tensor.dtype == np.int8 for tensor in tensors_of(shrunk.file).values())


@pytest.mark.parametrize("length", [1, 2, 3, 17, 163])
def test_the_shortest_beginning_is_found_in_few_trials(length: int) -> None:
    for failing in {0, length // 3}:
        for wanted in range(failing + 1, length + 1):
            tried: list[int] = []

            def passes(count: int, wanted: int = wanted, tried: list[int] = tried) -> bool:
                tried.append(count)
                return count >= wanted

            assert shortest(length, passes, failing) == wanted
            assert all(failing < count < length for count in tried)
            assert len(tried) <= 2 * max(1, (wanted - failing).bit_length()) + 1


# Pictures of one's own


def test_pictures_of_a_folder_are_read_by_name_up_to_a_bound(tmp_path: Path) -> None:
    spec = PixelSpec(28)
    for index in range(MOST + 1):
        Image.new("RGB", (9, 7), (index, 0, 255)).save(tmp_path / f"{index:02}.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    found = calibration_folder(tmp_path)
    assert [file.name for file in found.files] == [f"{index:02}.PNG" for index in range(MOST)]
    pixels = found.pixels(spec)
    assert len(pixels) == MOST
    np.testing.assert_array_equal(pixels[5], to_pixels(tmp_path / "05.PNG", spec))


def test_a_key_tells_that_pictures_changed_and_nothing_about_them(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "someone.png")
    first = calibration_folder(tmp_path).key
    Image.new("RGB", (90, 7)).save(tmp_path / "someone.png")
    second = calibration_folder(tmp_path).key
    assert first != second
    assert "someone" not in first and str(tmp_path) not in first
    assert calibration_folder(None).key not in (first, second)


def test_folders_without_a_usable_picture_are_refused(tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    with pytest.raises(ImageError, match=r"empty cannot be read .*give a folder"):
        calibration_folder(empty)
    empty.mkdir()
    with pytest.raises(ImageError, match=r"empty holds no picture: give one .*\.png"):
        calibration_folder(empty)
    broken.mkdir()
    Image.new("RGB", (9, 7)).save(broken / "a.png")
    (broken / "b.jpg").write_bytes((broken / "a.png").read_bytes()[:40])
    with pytest.raises(ImageError, match=r"picture b\.jpg cannot be used: .*mend or remove it"):
        calibration_folder(broken).pixels(PixelSpec(28))
