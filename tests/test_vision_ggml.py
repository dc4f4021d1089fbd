"""The second vision encoder, by ggml: the first one's features, no onnxruntime, nothing trusted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from gguf import GGMLQuantizationType, GGUFWriter  # noqa: E402

from uservlm.bench.vision_ways import compare  # noqa: E402
from uservlm.converters import vision_gguf  # noqa: E402
from uservlm.converters.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from uservlm.converters.describe import architecture_of  # noqa: E402
from uservlm.converters.errors import ConversionError, ParityError  # noqa: E402
from uservlm.converters.export import POCKET  # noqa: E402
from uservlm.converters.names import Shape  # noqa: E402
from uservlm.converters.options import ExportOptions  # noqa: E402
from uservlm.converters.pipeline import export  # noqa: E402
from uservlm.converters.verify import check_repeats, repeat  # noqa: E402
from uservlm.converters.vision_gguf import COSINE, measure, write_vision  # noqa: E402
from uservlm.converters.vision_onnx import reference_features  # noqa: E402
from uservlm.models.random_checkpoint import SMALL, write_random_checkpoint  # noqa: E402
from uservlm.runtime import Consent, UserVLM  # noqa: E402
from uservlm.runtime.__main__ import main  # noqa: E402
from uservlm.runtime.bundle import LANGUAGE_FILE, open_bundle, record_file  # noqa: E402
from uservlm.runtime.errors import BundleError, EngineError, RequestError  # noqa: E402
from uservlm.runtime.manifest import MANIFEST_FILE, Architecture  # noqa: E402
from uservlm.runtime.vision_choice import VisionChoice  # noqa: E402
from uservlm.runtime.vision_figures import VISION_FILES  # noqa: E402
from uservlm.runtime.vision_ggml import GgmlVision  # noqa: E402
from uservlm.runtime.vision_gguf import F32, KEYS, Q8_0, Tower, expected_tensors  # noqa: E402
from uservlm.runtime.vision_onnx import OnnxVision  # noqa: E402
from uservlm.runtime.weights import Weights  # noqa: E402

MakeBundle = Callable[..., Path]
GGUF, ONNX = VISION_FILES["ggml"], VISION_FILES["onnx"]
ODD = replace(SMALL, image_size=42, vision_width=72, vision_feed_forward=100)
"""9 tokens, heads of 18, and no row a multiple of 32."""
QUESTION = "What should I wear?"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("odd"), tokenizer_folder, ODD)


@pytest.fixture(scope="module")
def blind(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that sees with vision.gguf alone."""
    out = tmp_path_factory.mktemp("ggml") / "bundle"
    return export(ExportOptions(tiny_checkpoint, out, "f16", "none", "f32", cases=2))


@pytest.fixture(params=["square", "odd", "pocket"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    names = {"square": "tiny_checkpoint", "odd": "odd"}
    folder = request.getfixturevalue(names[request.param]) if request.param in names else POCKET
    return open_checkpoint(folder)


def noise(side: int, seed: int = 0) -> Any:
    drawn = np.random.default_rng(seed).uniform(-1, 1, (1, 3, side, side))
    return drawn.astype(np.float32)


def nothing(count: int) -> None:
    """Take progress that nobody looks at."""


def encoder(bundle: Path) -> GgmlVision:
    return GgmlVision(bundle / GGUF, open_bundle(bundle).manifest.architecture, 1)


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST_FILE).read_text())
    change(manifest)
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest))


def leave_out(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    rewrite(bundle, lambda manifest: manifest["files"].pop(name))


def without_onnxruntime(script: str) -> subprocess.CompletedProcess[str]:
    hidden = "import sys; sys.modules['onnxruntime'] = None\n"
    command = [sys.executable, "-c", hidden + script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


# The same features


@pytest.mark.parametrize(("quant", "worst"), [("f32", 0.99999), ("q8_0", 0.998)])
def test_it_computes_what_torch_does(
    checkpoint: Checkpoint, tmp_path: Path, quant: str, worst: float
) -> None:
    architecture, file = architecture_of(checkpoint), tmp_path / GGUF
    write_vision(checkpoint, file, quant, nothing)
    pictures = [noise(architecture.image_size, seed) for seed in range(2)]
    expected = reference_features(checkpoint, pictures)
    mean, token = measure(file, architecture, pictures, expected, 1, nothing)
    assert mean >= token > worst
    found = GgmlVision(file, architecture, 2).encode(pictures[0])
    error = np.abs(found - expected[0][0]).max() / expected[0].std()
    assert error < (0.01 if quant == "f32" else 0.3)


@pytest.mark.parametrize(("vision", "least"), [("fp32", 0.99999), ("int8", 0.999)])
def test_both_files_of_a_bundle_see_the_same(
    make_bundle: MakeBundle, vision: str, least: float
) -> None:
    bundle = make_bundle(vision=vision)
    architecture = open_bundle(bundle).manifest.architecture
    picture = noise(architecture.image_size)
    one = OnnxVision(bundle / ONNX, architecture, 1).encode(picture)
    two = encoder(bundle).encode(picture)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    assert ((one * two).sum(1) / lengths).min() > least


def test_rows_that_fit_no_block_are_filled_up_or_stay_as_they_are(
    odd: Path, tmp_path: Path
) -> None:
    plain = write_vision(open_checkpoint(odd), tmp_path / GGUF, "q8_0", nothing)
    tensors = Weights(tmp_path / GGUF).tensors
    assert tensors["v.blk.0.ffn_down.weight"].shape == (72, 128)
    assert tensors["v.blk.0.ffn_down.weight"].kind == Q8_0
    assert tensors["v.blk.0.ffn_up.weight"].shape == (128, 72)
    assert tensors["v.blk.0.ffn_up.weight"].kind == F32
    assert len(plain) == 2 + 5 * ODD.vision_layers + 1
    assert any(name.endswith("layers.1.mlp.fc1.weight") for name in plain)


def test_nothing_of_so400m_stays_wide() -> None:
    """Its MLPs are 4304 wide; filled up, the file has 8.5 bits a weight nearly everywhere."""
    tower = Tower(224, 14, 1152, 4320, 27, 16, 2304, 1e-6)
    large = {
        name for name, shape in expected_tensors(tower).items()
        if len(shape) == 2 and vision_gguf.kind_of(name, shape, "q8_0").name != "Q8_0"
    }  # fmt: skip
    assert large == {"v.patch_embd.weight", "v.position_embd.weight"}


def test_threads_get_the_features_of_their_own_picture(tiny_bundle: Path) -> None:
    ours, side = encoder(tiny_bundle), open_bundle(tiny_bundle).manifest.architecture.image_size
    pictures = [noise(side, seed) for seed in range(6)]
    alone = [ours.encode(picture) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(ours.encode, pictures))
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


# Memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_picture_leaves_nothing_behind(tiny_bundle: Path) -> None:
    def memory() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    ours, side = encoder(tiny_bundle), open_bundle(tiny_bundle).manifest.architecture.image_size
    for _ in range(10):
        ours.encode(noise(side))
    before = memory()
    for _ in range(30):
        ours.encode(noise(side))
    ours.release()
    assert memory() - before < 2048
    assert not ours.open and ours.compute_bytes > 0
    assert str(tiny_bundle / GGUF) not in Path("/proc/self/maps").read_text()


def test_pixels_of_another_size_are_refused(tiny_bundle: Path) -> None:
    ours = encoder(tiny_bundle)
    with pytest.raises(EngineError, match="not float32"):
        ours.encode(np.zeros((1, 3, 7, 7), np.float32))
    assert not ours.open


# Nothing is trusted: ggml would end the process

TINY = Tower(28, 14, 32, 64, 2, 4, 32, 1e-6)
FITTING = Architecture(28, 14, 4, 32, 1, 1, 1, 32, 64, 100, 512)


def made(
    path: Path,
    tower: Tower = TINY,
    header: dict[str, object] | None = None,
    tensors: dict[str, tuple[int, ...] | None] | None = None,
    kind: type[np.generic] = np.float32,
) -> Path:
    """Write a file of zeros, with some of its header and tensors changed, or taken out by None."""
    writer = GGUFWriter(path, "clip")
    sizes: dict[str, object] = {key: getattr(tower, field) for field, key in KEYS.items()}
    common = {"clip.projector_type": "paligemma", "clip.use_gelu": True}
    for key, value in {**common, **sizes, **(header or {})}.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
    for name, shape in {**expected_tensors(tower), **(tensors or {})}.items():
        if shape is not None:
            writer.add_tensor(name, np.zeros(shape, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_file_of_the_next_tests_is_a_good_one(tmp_path: Path) -> None:
    found = GgmlVision(made(tmp_path / GGUF), FITTING, 1).encode(noise(28))
    assert found.shape == (4, 32) and not found.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"header": {"clip.projector_type": "gemma3"}},
        {"header": {"clip.use_gelu": False}},
        {"header": {KEYS["heads"]: 5}},
        {"header": {KEYS["heads"]: 0}},
        {"header": {KEYS["heads"]: "four"}},
        {"header": {KEYS["layers"]: None}},
        {"header": {KEYS["layers"]: 1}},
        {"header": {KEYS["layers"]: 2**31}},
        {"header": {KEYS["width"]: 64}},
        {"header": {KEYS["feed_forward"]: 32}},
        {"header": {KEYS["patch_size"]: 7}},
        {"header": {KEYS["image_size"]: 56}},
        {"header": {KEYS["projection"]: 64}},
        {"header": {KEYS["epsilon"]: float("nan")}},
        {"header": {KEYS["epsilon"]: 0.0}},
        {"tensors": {"v.blk.1.attn_k.weight": None}},
        {"tensors": {"v.blk.2.attn_k.weight": (32, 32)}},
        {"tensors": {"v.blk.1.attn_k.weight": (32, 64)}},
        {"tensors": {"v.blk.1.attn_k.bias": (1,)}},
        {"tensors": {"mm.0.weight": (64, 32)}},
        {"tensors": {"v.position_embd.weight": (5, 32)}},
        {"kind": np.float16},
    ],
    ids=str,
)
def test_a_foreign_file_is_refused_at_once(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=GGUF):
        GgmlVision(made(tmp_path / GGUF, **changes), FITTING, 1)


def test_a_tensor_of_a_type_with_blocks_where_none_may_be_is_refused(tmp_path: Path) -> None:
    """A norm in Q8_0: ggml ends the process when it adds such a vector to float32."""
    writer = GGUFWriter(tmp_path / GGUF, "clip")
    writer.add_string("clip.projector_type", "paligemma")
    writer.add_bool("clip.use_gelu", True)
    for field, key in KEYS.items():
        add = writer.add_float32 if field == "epsilon" else writer.add_uint32
        add(key, getattr(TINY, field))
    for name, shape in expected_tensors(TINY).items():
        if name == "v.post_ln.bias":
            packed = np.zeros(34, np.uint8)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BundleError, match=r"v\.post_ln\.bias"):
        GgmlVision(tmp_path / GGUF, FITTING, 1)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.gguf").read_bytes()
    # Behind the last tensor gguf fills up to its alignment.
    for cut in np.linspace(0, len(whole) - 33, 60).astype(int):
        (tmp_path / GGUF).write_bytes(whole[:cut])
        with pytest.raises(BundleError, match=GGUF):
            GgmlVision(tmp_path / GGUF, FITTING, 1)


def test_a_file_that_vanishes_is_told_as_what_it_is(tmp_path: Path) -> None:
    encoder = GgmlVision(made(tmp_path / GGUF), FITTING, 1)
    (tmp_path / GGUF).unlink()
    side = FITTING.image_size
    with pytest.raises(BundleError, match=f"{GGUF} cannot be read"):
        encoder.encode(np.zeros((1, 3, side, side), np.float32))


def test_a_file_without_room_for_it_is_told_as_what_it_is(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys
        from pathlib import Path
        from uservlm.runtime.errors import EngineError
        from uservlm.runtime.weights import Weights
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        weights = Weights(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
        try:
            weights.mapped
        except EngineError as error:
            print(error)
    """
    file = made(tmp_path / GGUF)
    with file.open("ab") as stream:
        stream.truncate(1 << 30)
    told = subprocess.check_output([sys.executable, "-c", code, str(file)], text=True)
    assert f"{GGUF} cannot be mapped: Cannot allocate memory" in told


def test_another_model_is_refused_even_if_the_manifest_vouches_for_it(copy: Path) -> None:
    shutil.copy(copy / LANGUAGE_FILE, copy / GGUF)
    record = record_file(copy / GGUF)
    listed = {"bytes": record.bytes, "sha256": record.sha256}
    rewrite(copy, lambda manifest: manifest["files"].update({GGUF: listed}))
    with pytest.raises(BundleError, match=GGUF):
        UserVLM.load(copy, threads=1, vision="ggml")


# Which of them is used


def test_the_choice_is_the_callers_and_is_told(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {}
    choices: dict[VisionChoice, str] = {"auto": "onnx", "onnx": "onnx", "ggml": "ggml"}
    for wanted, used in choices.items():
        with UserVLM.load(tiny_bundle, threads=1, vision=wanted, verify=False) as vlm:
            assert vlm.vision == used
            answers[wanted] = vlm.first_logits(QUESTION, image=np.zeros((9, 9, 3), np.uint8))
    np.testing.assert_array_equal(answers["auto"], answers["onnx"])
    np.testing.assert_allclose(answers["ggml"], answers["onnx"], atol=0.02)
    assert (answers["ggml"] != answers["onnx"]).any()
    with pytest.raises(RequestError, match="auto, onnx, ggml"):
        UserVLM.load(tiny_bundle, vision="best")  # type: ignore[arg-type]
    assert main(["inspect", str(tiny_bundle)]) == 0
    said = capsys.readouterr().out
    assert "vision.gguf, f32" in said and "onnxruntime" in said


def test_what_is_not_there_cannot_be_chosen(copy: Path, blind: Path) -> None:
    with pytest.raises(BundleError, match=r"no vision\.onnx: export it again without"):
        UserVLM.load(blind, vision="onnx")
    leave_out(copy, GGUF)
    with pytest.raises(BundleError, match=r"no vision\.gguf: export it again with --vision-gguf"):
        UserVLM.load(copy, vision="ggml")
    leave_out(copy, ONNX)
    with pytest.raises(BundleError, match=r"does not list vision\.onnx or vision\.gguf"):
        UserVLM.load(copy)


def test_without_onnxruntime_it_answers_as_with_it(
    tiny_bundle: Path, blind: Path, pictures: Path
) -> None:
    image = str(pictures / "grace.png")
    with UserVLM.load(tiny_bundle, threads=1, attention="exact") as vlm:
        answer = vlm.ask(QUESTION, image=image).text
    for bundle in (tiny_bundle, blind):
        done = without_onnxruntime(
            "from uservlm.runtime import UserVLM\n"
            f"with UserVLM.load({str(bundle)!r}, threads=1, attention='exact') as vlm:\n"
            f"    print(vlm.ask({QUESTION!r}, image={image!r}).text, end='')\n"
            "    assert vlm.vision == 'ggml'\n"
            "assert sys.modules['onnxruntime'] is None\n"
            "assert not [name for name in sys.modules if name.startswith('onnxruntime.')]\n"
        )
        assert (done.stdout, done.stderr) == (answer, "")


def test_where_nothing_can_see_the_way_out_is_named(copy: Path) -> None:
    leave_out(copy, GGUF)
    done = without_onnxruntime(
        "from uservlm.runtime.__main__ import main\n"
        f"sys.exit(main(['ask', {str(copy)!r}, 'Who?', '--image', 'me.png']))"
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install onnxruntime" in done.stderr and "--vision-gguf q8_0" in done.stderr


def test_people_seen_by_one_are_known_to_the_other(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    """A companion with onnxruntime learns who somebody is; the head knows them, by ggml alone."""
    from uservlm.runtime.keyfile import KEY_VARIABLE

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    people = tmp_path / "people"
    with UserVLM.load(copy, users=people, threads=1, vision="onnx") as vlm:
        seen = vlm.encode(pictures / "grace.png")
        vlm.users.keep("grace", seen, Consent(datetime.now(timezone.utc), "a test", "embedding"))
        features = seen.features.copy()
    leave_out(copy, ONNX)
    with UserVLM.load(copy, users=people, threads=1) as vlm:
        assert vlm.vision == "ggml"
        np.testing.assert_array_equal(vlm.users.find("grace").features, features)
        assert vlm.ask(QUESTION, user="grace").usage.vision_runs == 0


def test_bundles_of_the_time_before_are_read(copy: Path) -> None:
    leave_out(copy, GGUF)

    def older(manifest: dict[str, Any]) -> None:
        manifest["format"] = 2
        del manifest["vision_ggml"], manifest["encoder"]

    rewrite(copy, older)
    manifest = open_bundle(copy).manifest
    assert manifest.sees_as == manifest.files[ONNX].sha256
    with UserVLM.load(copy, threads=1) as vlm:
        assert vlm.vision == "onnx"


def test_both_are_timed_side_by_side(tmp_path: Path) -> None:
    found = compare(ODD, tmp_path, 1, 1)
    assert set(found["seconds"]) == {"onnx_int8_kept_open", "onnx_int8", "ggml_q8_0"}
    assert min(found["seconds"].values()) >= 0 < max(found["seconds"].values())
    assert min(found["cosine"].values()) > 0.99
    assert set(found["bytes"]) == {ONNX, GGUF} and found["ggml_activations"] > 0


# The export


def test_the_manifest_says_how_near_it_is(tiny_bundle: Path, blind: Path) -> None:
    both, alone = (open_bundle(bundle).manifest for bundle in (tiny_bundle, blind))
    for manifest in (both, alone):
        found = manifest.vision_ggml
        assert found is not None
        assert found.kind == "f32" and not found.own_pictures and found.pictures >= 1
        assert found.cosine >= found.threshold == COSINE["f32"]
    assert (both.precision.vision, alone.precision.vision) == ("fp32", "f32")
    assert both.sees_as == both.files[ONNX].sha256
    assert alone.sees_as == alone.files[GGUF].sha256
    assert alone.parity is not None and alone.parity.vision_cosine > 0.9999


def test_a_bundle_is_proven_again_by_either(tiny_bundle: Path) -> None:
    (again,) = repeat(tiny_bundle, vision="ggml")
    check_repeats([again])
    assert again.vision_cosine > 0.9999 and again.same_answers == 1
    assert main(["verify", str(tiny_bundle), "--vision", "ggml", "--reference", "x"]) == 2


def test_one_that_is_too_coarse_is_not_handed_out(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COSINE, "q8_0", 0.999999)
    wanted = ExportOptions(tiny_checkpoint, tmp_path / "b", "f16", "none", "q8_0", cases=2)
    with pytest.raises(ParityError, match="Try --vision-gguf f32"):
        export(wanted)
    assert not (tmp_path / "b").exists()


def test_only_small_models_get_both_unasked() -> None:
    from uservlm.converters.plan import disk_need, estimate
    from uservlm.converters.plan import vision_gguf as chosen

    so400m = (224, 14, 1152, 4304, 27)
    large = Shape(*so400m, 2304, 9216, 26, 8, 4, 256, 257216)
    small = replace(large, vision_layers=1, layers=1, rows=100, width=64, feed_forward=64)

    def options(vision: str, gguf: str | None = None) -> ExportOptions:
        return ExportOptions("x", Path("y"), vision=vision, vision_gguf=gguf)

    assert [chosen(small, options(kind)) for kind in ("int8", "fp32")] == ["q8_0", "f32"]
    assert [chosen(large, options(kind)) for kind in ("int8", "fp32", "none")] == [
        "none", "none", "q8_0",
    ]  # fmt: skip
    assert chosen(large, options("int8", "f32")) == "f32"
    more = disk_need(large, options("int8", "q8_0")) - disk_need(large, options("int8"))
    assert 430e6 < more < 450e6
    assert [len(estimate(large, options("int8", kind))) for kind in ("none", "q8_0")] == [5, 6]
    with pytest.raises(ConversionError, match="keep one"):
        options("none", "none")
    with pytest.raises(ConversionError, match="vision_gguf is 'f16'"):
        options("int8", "f16")
