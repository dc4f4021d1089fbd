"""`uservlm inspect`: what bundles, checkpoints and adapters are, without loading any of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import change_config, rewrite, split  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from uservlm.converters import names  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402
from uservlm.converters.inspect_checkpoint import (  # noqa: E402
    description,
    inspect_checkpoint,
)
from uservlm.models.prompt import TEMPLATE  # noqa: E402
from uservlm.runtime.__main__ import main  # noqa: E402
from uservlm.runtime.image import PixelSpec  # noqa: E402
from uservlm.runtime.inspect_bundle import description as describe_bundle  # noqa: E402
from uservlm.runtime.manifest import (  # noqa: E402
    FORMAT,
    Adapter,
    Agreement,
    Architecture,
    FileRecord,
    Higher,
    LanguageWeights,
    Manifest,
    Parity,
    Precision,
    Prompt,
    Source,
    VisionWeights,
)
from uservlm.runtime.vision_figures import GgmlVisionWeights  # noqa: E402

PARITY = Parity(4, 0.9987, 0.01, 0.75, 40, 0.02, 0.975, 0.5)
MANIFEST = Manifest(
    format=FORMAT,
    name="name",
    source=Source("owner/name", "c0ffee", "gemma", "0", ("first", "second")),
    architecture=Architecture(448, 14, 1024, 2304, 26, 8, 4, 256, 9216, 257216, 8192),
    prompt=Prompt(TEMPLATE),
    pixels=PixelSpec(448),
    precision=Precision("q4_k_m", "int8"),
    files={
        "a.json": FileRecord(24, "0"),
        "b.gguf": FileRecord(1_700_000_000, "0"),
        "vision.onnx": FileRecord(0, "0"),
    },
    versions={},
    parity=PARITY,
    resident=Agreement(4, 0.5, 0.1, 0.625, 0.95),
    language=LanguageWeights("Q4_K", 4.85, (Higher(("v", "w"), "Q6_K", "it hurts"),), 0.08, 0),
    vision=VisionWeights(
        8, False, 0.91, 0.9991, 0.99, 0.999, 162, ("a.fc1", "b.fc2", "c", "d"), 40_000
    ),
    vision_ggml=GgmlVisionWeights("q8_0", 8, True, 0.9997, 0.99, 0.99, ()),
    adapters={"kind": Adapter("adapters/kind.gguf", "me/kind", 16, PARITY, None)},
)


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


def lines(facts: object) -> list[str]:
    return [f"{heading}: {text}" for heading, text in description(facts)]  # type: ignore[arg-type]


def test_a_checkpoint_is_described_from_its_headers(folder: Path) -> None:
    facts = inspect_checkpoint(folder)
    shape = open_checkpoint(folder).shape
    assert (facts.family, facts.exportable, facts.reasons) == ("PaliGemma 2", True, ())
    assert facts.shape == shape
    assert facts.weights == {
        "vision": names.weights(shape, names.VISION),
        "projector": names.weights(shape, names.PROJECTOR),
        "language": names.weights(shape, names.LANGUAGE),
    }
    assert facts.kinds == {"BF16": names.weights(shape)}
    assert facts.files["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert facts.naming == "before 4.52, saved up to 4.57"
    tokens = json.loads((folder / "tokenizer.json").read_text())
    assert facts.vocabulary == 1 + max(token["id"] for token in tokens["added_tokens"])
    sizes = list(facts.bundles.values())
    assert sizes == sorted(sizes) and len(sizes) == 3
    text = lines(facts)
    assert "picture: 56×56, 16 tokens" in text
    assert "exportable: yes, as far as headers tell" in text


@pytest.mark.parametrize(
    ("vision", "language", "generation"),
    [
        ("model.vision_tower.vision_model.", "model.language_model.", "4.52 to 4.57, in memory"),
        ("model.vision_tower.", "model.language_model.", "5, in memory"),
        ("vision_tower.", "language_model.model.", "5, saved"),
        ("vision_tower.", "language_model.", "of no one version: language_model., vision_tower."),
    ],
)
def test_the_generation_is_told_by_the_names(
    folder: Path, vision: str, language: str, generation: str
) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for key in list(tensors):
            name = str(names.canonical(key))
            for meaning, wanted in ((names.VISION, vision), (names.LANGUAGE, language)):
                if name.startswith(meaning):
                    tensors[wanted + name.removeprefix(meaning)] = tensors.pop(key)

    rewrite(folder, rename)
    assert inspect_checkpoint(folder).naming == generation


def test_what_hinders_is_told_beside_what_is_known(folder: Path) -> None:
    _, second = split(folder)
    (folder / second).unlink()
    change_config(folder, "text_config", rope_scaling={"rope_type": "yarn", "factor": 2.0})
    facts = inspect_checkpoint(folder)
    assert not facts.exportable and facts.shape is None
    assert ["rope_scaling" in facts.reasons[0], second in facts.reasons[1]] == [True, True]
    assert len(facts.reasons) == 2 and facts.vocabulary
    assert "exportable: no" in lines(facts)


def test_tensors_that_do_not_fit_are_a_reason(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"extra.weight": torch.ones(2, 3)}))
    facts = inspect_checkpoint(folder)
    assert not facts.exportable and "unknown: extra.weight" in facts.reasons[0]
    assert facts.weights["other"] == 6


@pytest.mark.parametrize(
    ("card", "prompt"),
    [
        ("prompt = '<|im_start|>USER: …'", TEMPLATE),
        ("# [More Information Needed]", None),
        (None, None),
    ],
)
def test_the_card_hints_at_the_prompt(folder: Path, card: str | None, prompt: str | None) -> None:
    if card is not None:
        (folder / "README.md").write_text(card)
    assert inspect_checkpoint(folder).prompt == prompt


def make_adapter(folder: Path, module: str = "self_attn.q_proj", **more: object) -> Path:
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": "owner/base",
        "revision": "v1",
        "r": 4,
        "lora_alpha": 8,
    }
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **more}))
    name = f"base_model.model.model.language_model.layers.0.{module}"
    matrices = {
        f"{name}.lora_A.weight": torch.ones(4, 6),
        f"{name}.lora_B.weight": torch.ones(6, 4),
    }
    save_file(matrices, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_described(tmp_path: Path) -> None:
    facts = inspect_checkpoint(make_adapter(tmp_path / "adapter"))
    assert (facts.family, facts.exportable) == ("PEFT adapter", True)
    assert facts.weights == {"adapter": 48} and facts.kinds == {"F32": 48}
    assert facts.adapter is not None
    assert (facts.adapter.rank, facts.adapter.targets) == (4, ("q_proj",))
    text = lines(facts)
    assert "base: owner/base at v1" in text and "changes: q_proj" in text


@pytest.mark.parametrize(
    ("module", "more", "reason"),
    [
        ("mlp.experts.0.up_proj", {}, "MoLE"),
        ("self_attn.q_proj", {"use_dora": True}, "use_dora"),
        ("self_attn.q_proj", {"peft_type": "IA3"}, "'IA3'"),
        ("self_attn.q_proj", {"num_experts": 4}, "(num_experts) is a mixture of LoRA experts"),
        ("self_attn.q_proj", {"lora_alpha": float("nan")}, "alpha is nan, no finite number"),
    ],
)
def test_an_adapter_that_cannot_be_exported_says_why(
    tmp_path: Path, module: str, more: dict[str, object], reason: str
) -> None:
    facts = inspect_checkpoint(make_adapter(tmp_path / "adapter", module, **more))
    assert not facts.exportable and len(facts.reasons) == 1 and reason in facts.reasons[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer.json", b"{}", "tokenizer.json: model.type is None, but a Gemma tokenizer has"),
        ("tokenizer.json", b'{"model": 7}', "tokenizer.json is damaged"),
        ("tokenizer.model", b"\xff\xfe no protobuf", "tokenizer.model is damaged"),
        ("preprocessor_config.json", b'{"do_rescale": false}', "do_rescale is False, supported"),
        ("config.json", None, "config.json is a link to a file that is not there"),
        ("model.safetensors", None, "model.safetensors is a link to a file that is not there"),
        ("preprocessor_config.json", None, "config.json is a link to a file that is not there"),
    ],
)
def test_what_an_export_would_refuse_is_a_reason(
    folder: Path, name: str, content: bytes | None, reason: str
) -> None:
    for other in {"tokenizer.json", "tokenizer.model"} - {name}:
        if name.startswith("tokenizer"):
            (folder / other).unlink()
    (folder / name).unlink()
    if content is None:
        (folder / name).symlink_to("../../blobs/c0ffee")
    else:
        (folder / name).write_bytes(content)
    facts = inspect_checkpoint(folder)
    assert not facts.exportable and any(reason in one for one in facts.reasons)


def test_an_untied_head_that_is_not_stored_is_a_reason(folder: Path) -> None:
    change_config(folder, "text_config", tie_word_embeddings=False)
    (reason,) = inspect_checkpoint(folder).reasons
    assert "tie_word_embeddings is False" in reason


def test_a_revision_is_looked_for_in_the_cache(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a hub id or the cache's folder of a repository; elsewhere there is none."""
    repository = folder.parent / "models--owner--name"
    for commit in ("c0ffee", "decade"):
        shutil.copytree(folder, repository / "snapshots" / commit)
    change_config(repository / "snapshots" / "decade", "text_config", rope_theta=-1)
    assert main(["inspect", str(repository), "--revision", "c0ffee"]) == 0
    assert "owner/name at c0ffee" in capsys.readouterr().out
    assert main(["inspect", str(repository), "--revision", "decade"]) == 0
    assert "rope_theta" in capsys.readouterr().out
    for plain in (folder, tiny_bundle):
        assert main(["inspect", str(plain), "--revision", "c0ffee"]) == 2
        assert "--revision c0ffee chooses in a hub repository" in capsys.readouterr().err


@pytest.fixture
def closed(tiny_bundle: Path) -> Iterator[Callable[[str], Path]]:
    """A bundle of which another user may read all but one file; root may read everything."""
    user = os.geteuid()
    with TemporaryDirectory() as place:

        def close(name: str) -> Path:
            copied = shutil.copytree(tiny_bundle, Path(place) / "bundle")
            Path(place).chmod(0o755)
            (copied / name).chmod(0)
            if user == 0:
                os.seteuid(65534)
            return copied

        try:
            yield close
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("name", [".", "manifest.json", "language.gguf", "proof.npz"])
def test_what_may_not_be_read_is_one_sentence(
    closed: Callable[[str], Path], command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = closed(name)
    assert main([command, str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"uservlm: {path}")
    assert "may not be read by this user: change its permissions" in line


def test_a_bundle_whose_files_are_links_to_nothing_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "language.gguf").unlink()
    (copy / "language.gguf").symlink_to("nowhere")
    assert main(["inspect", str(copy)]) == 2
    assert "language.gguf is missing" in capsys.readouterr().err


def test_nothing_is_fetched() -> None:
    with pytest.raises(CheckpointError, match="cache does not hold owner/name; fetch it with `hf"):
        inspect_checkpoint("owner/name")


def test_a_bundle_tells_what_making_it_cost() -> None:
    text = [f"{heading}: {what}" for heading, what in describe_bundle(MANIFEST, "exact", ("onnx",))]
    for line in (
        "source: owner/name at c0ffee (gemma)",
        "merged: first",
        "picture: 448×448, 1024 tokens",
        ": Q4_K, 4.85 bits per weight, unweighted",
        ": Q6_K: v, w (it hurts)",
        "vision: vision.onnx, int8",
        "vision: vision.gguf, q8_0",
        ": cosine 0.9997 on 8 own pictures",
        "sees with: onnxruntime",
        ": cosine 0.9991 (all in int8 0.9100) on 8 drawn people",
        ": 4 of 162 matrices in fp32, 40.0 kB more: a.fc1, b.fc2, c and 1 more",
        "file: a.json, 24 bytes",
        "file: b.gguf, 1.7 GB",
        "parity: first token 75.0%, all 97.5% as the original, vision cosine 0.9987",
        "resident: first token 50.0% as exact, ROUGE-1 0.625",
        "adapter: kind, rank 16, from me/kind",
        "parity: first token 75.0%, all 97.5% as the original, vision cosine 0.9987 with kind",
        "attention: exact",
    ):
        assert line in text


def test_a_bundle_half_measured_tells_the_rest() -> None:
    bare = replace(MANIFEST, parity=None, resident=None, language=None, vision=None, adapters={})
    bare = replace(bare, vision_ggml=None)
    headings = {heading for heading, _ in describe_bundle(bare, "exact", ())}
    assert headings == {
        "name", "source", "merged", "picture", "language", "vision", "sees with", "prompt", "file",
        "size", "attention",
    }  # fmt: skip


def test_the_command_prints_lines_or_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    assert "family       PaliGemma 2\n" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["exportable"] is True and record["shape"]["layers"] == 3


def test_without_the_extra_the_command_says_what_to_install(folder: Path) -> None:
    script = (
        "import sys; sys.modules['transformers'] = None\n"
        "from uservlm.runtime.__main__ import main\n"
        f"sys.exit(main(['inspect', {str(folder)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"uservlm: no bundle at {folder}: manifest.json is missing")
    assert "pip install 'uservlm[convert]'" in done.stderr and done.stderr.count("\n") == 1
