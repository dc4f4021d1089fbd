"""The export: graph and weights equal the checkpoint's, a bundle appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llama_cpp")

from uservlm.converters import making  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import (  # noqa: E402
    CheckpointError,
    ConversionError,
    OutputError,
    ParityError,
    TokenizerError,
)
from uservlm.converters.options import ExportOptions  # noqa: E402
from uservlm.converters.parity import check, rouge1, thresholds  # noqa: E402
from uservlm.converters.pipeline import export  # noqa: E402
from uservlm.converters.progress import Steps  # noqa: E402
from uservlm.converters.vision_onnx import (  # noqa: E402
    export_vision,
    open_vision,
    run_vision,
    vision_module,
)
from uservlm.runtime.agreement import kl_divergence  # noqa: E402
from uservlm.runtime.bundle import LANGUAGE_FILE, open_bundle  # noqa: E402
from uservlm.runtime.manifest import Parity, Precision, Prompt  # noqa: E402

MakeCheckpoint = Callable[..., Path]
MakeBundle = Callable[..., Path]
SHAPES = ("square", "small", "narrow_heads", "scaled_queries", "uncapped")
ROOT = Path(__file__).parent.parent


def options(model: Path, out: Path, **more: Any) -> ExportOptions:
    return ExportOptions(model, out, **{"quant": "f16", "vision": "fp32", "cases": 2, **more})


def pixels(size: int, count: int = 2) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


# Vision


@pytest.mark.parametrize("shape", ["square", "small"])
def test_the_graph_computes_what_torch_does(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: str
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    assert export_vision(checkpoint, tmp_path / "vision.onnx") == [tmp_path / "vision.onnx"]
    session = open_vision(tmp_path / "vision.onnx")
    size, tokens = checkpoint.shape.image_size, checkpoint.shape.image_tokens
    assert session.get_inputs()[0].shape == ["batch", 3, size, size]
    assert session.get_outputs()[0].shape == ["batch", tokens, checkpoint.shape.width]
    with torch.no_grad():
        wanted = vision_module(checkpoint)(torch.from_numpy(pixels(size))).numpy()
    found = run_vision(session, pixels(size))
    assert np.abs(found - wanted).max() < 1e-4 < wanted.std()


# The whole


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bundle_answers_as_its_checkpoint(make_bundle: MakeBundle, shape: str) -> None:
    """Weights rounded to f16 and a f16 KV cache are all that may differ."""
    bundle = open_bundle(make_bundle(shape))
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.vision_cosine > 0.99999
    assert parity.answer_kl < 1e-4
    assert parity.answer_positions > parity.cases
    assert parity.answer_top1 >= 0.95
    assert bundle.manifest.resident is not None


def test_the_manifest_describes_the_checkpoint(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    text = config["text_config"]
    assert manifest.architecture.width == text["hidden_size"]
    assert manifest.architecture.vocabulary == text["vocab_size"]
    assert manifest.architecture.image_tokens == 64
    assert manifest.source.model == tiny_checkpoint.name
    assert set(manifest.files) == {p.name for p in tiny_bundle.iterdir()} - {"manifest.json"}
    assert str(tiny_checkpoint) not in manifest.to_json()


def test_an_export_is_not_repeated_until_something_changes(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    wanted = options(make_checkpoint("small"), tmp_path / "b")
    made = (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns
    assert (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns == made
    with (tmp_path / "b" / LANGUAGE_FILE).open("ab") as stream:
        stream.write(b"damage")
    mended = (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns
    assert mended != made
    other = options(make_checkpoint("small"), tmp_path / "b", template="{question}\n")
    assert open_bundle(export(other)).manifest.prompt == Prompt("{question}\n")


def test_a_failed_export_leaves_the_old_bundle(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(options(make_checkpoint("small"), tmp_path / "b"))
    before = (out / "manifest.json").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise ConversionError("in the middle")

    monkeypatch.setattr(making, "write_language", fail)
    with pytest.raises(ConversionError, match="in the middle"):
        export(options(make_checkpoint("small"), out, force=True))
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


KILLED = """
import sys, time
from pathlib import Path
from uservlm.converters import making, proving
from uservlm.converters.options import ExportOptions
from uservlm.converters.pipeline import export

def hang(*_, **__):
    print("there", flush=True)
    time.sleep(600)

for module in (making, proving):
    if hasattr(module, sys.argv[3]):
        setattr(module, sys.argv[3], hang)
export(ExportOptions(sys.argv[1], Path(sys.argv[2]), "f16", "fp32", cases=2))
"""


@pytest.mark.parametrize(
    ("where", "again"),
    [
        ("embed", {"vision", "language", "answers", "features", "original"}),
        ("write_language", {"language", "answers", "original"}),
        ("ask_models", {"answers", "original"}),
        ("logits", {"original"}),
    ],
)
def test_a_killed_export_goes_on_where_it_was(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, where: str, again: set[str]
) -> None:
    model, out = make_checkpoint("small"), tmp_path / "b"
    command = [sys.executable, "-c", KILLED, str(model), str(out), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    run: list[str] = []

    class Noted(Steps):
        def step(self, words: str, total: int | None = None) -> Any:
            run.append(words)
            return super().step(words, total)

    export(options(model, out), Noted(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    made = {
        name
        for name, word in {
            "features": "looking",
            "vision": "vision",
            "language": "language",
            "answers": "bundle",
            "original": "original",
        }.items()
        if any(word in words for words in run)
    }
    assert made == again
    fresh = export(options(model, tmp_path / "fresh"))
    assert (fresh / "manifest.json").read_text() == (out / "manifest.json").read_text()


def test_a_folder_that_is_no_bundle_is_not_replaced(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds no bundle"):
        export(options(make_checkpoint("small"), tmp_path))
    assert (tmp_path / "thesis.tex").is_file()


# Parity


def test_a_wrong_weight_stops_the_export(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One matrix of one layer with its sign turned is noticed, and no bundle is left."""
    from uservlm.converters import language_gguf

    right = language_gguf.convert

    def wrong(entry: language_gguf.Entry, values: Any, factor: float) -> Any:
        changed = right(entry, values, factor)
        return -changed if entry.target == "blk.1.attn_output.weight" else changed

    monkeypatch.setattr(language_gguf, "convert", wrong)
    with pytest.raises(ParityError, match="answer_kl is .* needed at most 0.001"):
        export(options(make_checkpoint("small"), tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("figure", ["vision_cosine", "answer_kl", "answer_top1"])
@pytest.mark.parametrize("worse", [0.4, float("nan")])
def test_each_figure_can_stop_a_bundle(figure: str, worse: float) -> None:
    good = {"vision_cosine": 1.0, "answer_kl": 0.0, "answer_top1": 1.0}
    rest = {"first_token_kl": 9.0, "first_token_top1": 0.0, "greedy_agreement": 0.0}
    limits = thresholds(Precision("q4_k_m", "int8"))
    counts = {"cases": 1, "answer_positions": 4}
    check(Parity(**counts, **rest, **good, threshold=limits))
    with pytest.raises(ParityError, match=figure):
        check(Parity(**counts, **rest, **{**good, figure: worse}, threshold=limits))


def test_kl_is_zero_for_the_same_and_positive_for_others() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50)).astype(np.float32)
    assert kl_divergence(first, first + 3) == pytest.approx(0, abs=1e-9)
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum() for x in (first, second))
    assert kl_divergence(first, second) == pytest.approx(float((p * np.log(p / q)).sum()))


def test_rouge1_counts_shared_words() -> None:
    assert rouge1("a red coat", "a red coat") == 1
    assert rouge1("red red red", "a red coat") == pytest.approx(1 / 3)
    assert rouge1("", "") == 1
    assert rouge1("", "coat") == 0


# The command


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "converters" / "export.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, **more)


def test_the_script_exports_and_says_when_there_is_nothing_to_do(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    arguments = ("--model", str(make_checkpoint("small")), "--out", str(tmp_path / "b"))
    first = run(*arguments, "--quant", "f16", "--vision", "fp32", "--cases", "2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    start = time.perf_counter()
    again = run(*arguments, "--quant", "f16", "--vision", "fp32", "--cases", "2", cwd=tmp_path)
    assert again.returncode == 0
    assert "up to date" in again.stderr.replace("\n", " ")
    assert time.perf_counter() - start < 30


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    found = run("--model", str(tmp_path / "nowhere"))
    assert found.returncode == 2
    assert found.stderr.startswith("export stopped: no folder")
    assert len(found.stderr.splitlines()) == 1


def test_without_an_install_the_script_names_the_way_out(tmp_path: Path) -> None:
    """-S leaves out site-packages, so nothing but the standard library is there."""
    script = str(ROOT / "converters" / "export.py")
    found = subprocess.run([sys.executable, "-S", script], capture_output=True, text=True)
    assert found.returncode == 2
    assert "pip install -e .[convert]" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kept", "says"),
    [(("a=x", "a=y"), "'a' is given twice: x and y"), (("a=",), "'a='"), (("x",), "'x'")],
)
def test_adapters_to_keep_have_a_name_each_and_a_place(
    tmp_path: Path, kept: tuple[str, ...], says: str
) -> None:
    given = [word for one in kept for word in ("--keep-adapter", one)]
    found = run(*given, "--out", str(tmp_path / "b"))
    assert found.returncode == 2 and says in found.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "bad", [{"quant": "q3"}, {"vision": "fp8"}, {"cases": 0}, {"template": "x"}]
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match=next(iter(bad))):
        options(tmp_path, tmp_path / "out", **bad)


# Adapters


def test_a_merged_and_a_kept_adapter_are_proven_too(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """The merged one is in the weights, the kept one answers like the original merged with it."""
    pytest.importorskip("peft")
    from lora import write_lora

    model = make_checkpoint("scaled_queries")
    merged = write_lora(model, tmp_path / "polite", seed=1)
    kept = write_lora(model, tmp_path / "fair", seed=2)
    bundle = export(
        options(model, tmp_path / "b", adapters=(merged,), kept={"fair": kept, "same": kept})
    )
    manifest = open_bundle(bundle).manifest
    assert manifest.name == "polite" and manifest.source.merged == ("polite",)
    assert set(manifest.adapters) == {"fair", "same"}
    fair, same = manifest.adapters["fair"], manifest.adapters["same"]
    assert (fair.file, fair.source, fair.rank) == ("adapters/fair.gguf", "fair", 4)
    assert fair.parity == same.parity and fair.resident is not None
    assert manifest.parity is not None and fair.parity is not None
    assert max(manifest.parity.answer_kl, fair.parity.answer_kl) < 1e-4
    assert {"adapters/fair.gguf", "adapters/same.gguf"} <= set(manifest.files)
    plain = open_bundle(export(options(model, tmp_path / "plain"))).manifest
    assert plain.files[LANGUAGE_FILE] != manifest.files[LANGUAGE_FILE]


def test_an_adapter_that_is_off_by_a_sign_stops_the_export(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    from lora import write_lora

    from uservlm.converters.adapters import LoraAdapter

    model = make_checkpoint("small")
    kept = write_lora(model, tmp_path / "lora")
    right = LoraAdapter.apply
    monkeypatch.setattr(
        LoraAdapter, "apply", lambda self, name, values, start=0: 2 * values
        - right(self, name, values, start)
    )  # fmt: skip
    with pytest.raises(ParityError, match="with adapter fair does not answer"):
        export(options(model, tmp_path / "b", kept={"fair": kept}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora"]


def test_the_importance_matrix_changes_the_weights_and_is_recorded(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    model = make_checkpoint("square")
    plain = open_bundle(export(options(model, tmp_path / "a", quant="q4_0"))).manifest
    chosen = options(model, tmp_path / "b", quant="q4_0", importance=3)
    measured = open_bundle(export(chosen)).manifest
    assert plain.language is not None and measured.language is not None
    assert (plain.language.importance, measured.language.importance) == (0, 3)
    assert plain.files[LANGUAGE_FILE] != measured.files[LANGUAGE_FILE]
    assert plain.parity is not None and measured.parity is not None
    assert measured.parity.answer_kl < plain.parity.answer_kl


def test_an_adapter_that_cannot_be_kept_is_refused_before_any_work(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    from lora import write_lora

    model = make_checkpoint("small")
    wide = write_lora(model, tmp_path / "wide", target_modules=["q_proj", "v_proj"])
    said: list[str] = []

    class Noted(Steps):
        def step(self, words: str, total: int | None = None) -> Any:
            said.append(words)
            return super().step(words, total)

    with pytest.raises(ConversionError, match="vision_tower"):
        export(options(model, tmp_path / "b", kept={"wide": wide}), Noted(quiet=True))
    assert said == ["reading the checkpoint"]


def test_a_checkpoint_without_a_tokenizer_is_refused_at_once(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    model = shutil.copytree(make_checkpoint("small"), tmp_path / "mute")
    for file in ("tokenizer.model", "tokenizer.json"):
        (model / file).unlink(missing_ok=True)
    with pytest.raises(TokenizerError, match="mute holds neither .*save the processor"):
        open_checkpoint(model)


def test_a_bundle_is_no_checkpoint(tiny_bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="is a bundle already"):
        open_checkpoint(tiny_bundle)
