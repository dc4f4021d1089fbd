"""The vision encoder opens for a picture, gives its memory back, and refuses damage before that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision_figures import VISION_FILES
from uservlm.runtime.vision_graph import FLOAT, read_graph
from uservlm.runtime.vision_onnx import INPUT, OUTPUT, OnnxVision, set_int8_products

Pixels = np.ndarray
VISION_FILE = VISION_FILES["onnx"]


@pytest.fixture(params=["fp32", "int8"], scope="module")
def bundle(request: pytest.FixtureRequest, make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(vision=request.param)


def shape(bundle: Path) -> Architecture:
    return open_bundle(bundle).manifest.architecture


def pixels(bundle: Path, seed: int = 0) -> Pixels:
    side = shape(bundle).image_size
    drawn = np.random.default_rng(seed).uniform(-1, 1, (1, 3, side, side))
    return drawn.astype(np.float32)


def memory() -> int:
    """The process's own resident memory, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("keep", [False, True])
def test_features_are_those_of_the_file_opened_whole(bundle: Path, keep: bool) -> None:
    """Weights that stay in the file change nothing."""
    silence_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    set_int8_products(options)
    whole = onnxruntime.InferenceSession(
        bundle / VISION_FILE, options, providers=["CPUExecutionProvider"]
    ).run([OUTPUT], {INPUT: pixels(bundle)})[0][0]
    found = OnnxVision(bundle / VISION_FILE, shape(bundle), 1, keep=keep).encode(pixels(bundle))
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


def test_the_graph_given_to_onnxruntime_holds_no_weights(bundle: Path) -> None:
    file = bundle / VISION_FILE
    graph = read_graph(file)
    side, width = shape(bundle).image_size, shape(bundle).width
    assert len(graph.model) < file.stat().st_size / 4
    assert [(port.name, port.element) for port in graph.inputs] == [(INPUT, FLOAT)]
    assert graph.inputs[0].shape == (None, 3, side, side)
    assert graph.outputs[0].shape[-1] in (None, width)


PRECISION = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni amx_int8\n", "0"),
        ("flags\t\t: fpu avx2 avx_vnni\n\nflags\t\t: fpu avx2 avx_vnni\n", "0"),
        ("flags\t\t: fpu avx2 avx_vnni\n\nflags\t\t: fpu avx2\n", "1"),
        ("flags\t\t: fpu avx2 avx512f avx_vnni_int8\n", "1"),
        ("model name\t: avx_vnni\nFeatures\t: asimd i8mm\n", "1"),
        (None, "1"),
    ],
)
def test_weights_are_turned_unsigned_unless_the_processor_sums_in_32_bits(
    tmp_path: Path, listed: str | None, asked: str
) -> None:
    silence_telemetry()
    import onnxruntime

    processor, options = tmp_path / "cpuinfo", onnxruntime.SessionOptions()
    if listed is not None:
        processor.write_text(listed)
    set_int8_products(options, processor)
    assert options.get_session_config_entry(PRECISION) == asked


def test_products_that_would_saturate_are_exact_here(tmp_path: Path) -> None:
    """255 · 127, all of one sign: two of them leave 16 bits. Bites on x86 without VNNI."""
    silence_telemetry()
    import onnxruntime

    onnx = pytest.importorskip("onnx")
    weights, depth = np.full((64, 32), 127, np.int8), 64
    tensors = [onnx.numpy_helper.from_array(weights, "weights")]
    node = onnx.helper.make_node("MatMulInteger", ["input", "weights"], ["output"])
    ports = [
        [onnx.helper.make_tensor_value_info(name, kind, [4, width])]
        for name, kind, width in (
            ("input", onnx.TensorProto.UINT8, depth),
            ("output", onnx.TensorProto.INT32, 32),
        )
    ]
    graph = onnx.helper.make_graph([node], "one", *ports, tensors)
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    set_int8_products(options)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"input": np.full((4, depth), 255, np.uint8)})[0]
    assert (found == 255 * 127 * depth).all()


def test_older_bundles_with_unsigned_weights_give_the_same_features(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    bundle = make_bundle(vision="int8")
    model, turned = onnx.load(bundle / VISION_FILE), 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            values = onnx.numpy_helper.to_array(tensor).view(np.uint8) ^ 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            turned += 1
    assert turned
    onnx.save(model, tmp_path / VISION_FILE)
    signed, unsigned = (
        OnnxVision(folder / VISION_FILE, shape(bundle), 1).encode(pixels(bundle))
        for folder in (bundle, tmp_path)
    )
    np.testing.assert_allclose(unsigned, signed, rtol=1e-4, atol=1e-5)


def test_a_session_is_there_only_while_it_is_wanted(bundle: Path) -> None:
    encoder = OnnxVision(bundle / VISION_FILE, shape(bundle), 1)
    kept = OnnxVision(bundle / VISION_FILE, shape(bundle), 1, keep=True)
    assert not kept.open
    first = encoder.encode(pixels(bundle))
    kept.encode(pixels(bundle))
    assert (encoder.open, kept.open) == (False, True)
    kept.release()
    kept.release()
    assert not kept.open
    np.testing.assert_array_equal(kept.encode(pixels(bundle)), kept.encode(pixels(bundle)))
    np.testing.assert_array_equal(encoder.encode(pixels(bundle)), first)


def test_a_failed_picture_closes_the_session_too(bundle: Path) -> None:
    encoder = OnnxVision(bundle / VISION_FILE, shape(bundle), 1)
    with pytest.raises(EngineError):
        encoder.encode(np.zeros((1, 3, 7, 7), np.float32))
    assert not encoder.open


def test_threads_get_the_features_of_their_own_picture(bundle: Path) -> None:
    encoder = OnnxVision(bundle / VISION_FILE, shape(bundle), 1)
    pictures = [pixels(bundle, seed) for seed in range(6)]
    alone = [encoder.encode(picture) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(encoder.encode, pictures))
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_opening_again_and_again_does_not_grow(bundle: Path) -> None:
    encoder = OnnxVision(bundle / VISION_FILE, shape(bundle), 1)
    picture = pixels(bundle)
    for _ in range(10):
        encoder.encode(picture)
    before = memory()
    for _ in range(30):
        encoder.encode(picture)
    assert memory() - before < 2048


def test_a_file_cut_inside_a_weight_is_refused_at_once(bundle: Path, tmp_path: Path) -> None:
    """Without a session: nothing of onnxruntime is asked."""
    data, file = (bundle / VISION_FILE).read_bytes(), tmp_path / VISION_FILE
    for cut in np.linspace(0, len(data) - 1, 40).astype(int):
        file.write_bytes(data[:cut])
        try:
            encoder = OnnxVision(file, shape(bundle), 1)
        except BundleError as error:
            assert VISION_FILE in str(error)
            continue
        with pytest.raises(BundleError, match=VISION_FILE):  # cut between two weights
            encoder.encode(pixels(bundle))


@pytest.mark.parametrize("field", ["image_size", "image_tokens", "patch_size", "width"])
def test_another_graph_is_refused_at_once(bundle: Path, field: str) -> None:
    true = shape(bundle)
    other = replace(true, **{field: getattr(true, field) + 1})
    with pytest.raises(BundleError, match="export the bundle again"):
        OnnxVision(bundle / VISION_FILE, other, 1)


def test_garbage_is_refused_at_once(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / VISION_FILE
    rng = np.random.default_rng(0)
    for length in (0, 1, 4, 50, 4000):
        file.write_bytes(rng.bytes(length))
        with pytest.raises(BundleError, match=VISION_FILE):
            OnnxVision(file, shape(bundle), 1)
