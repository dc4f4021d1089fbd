"""Adapters kept apart: the numbers of a merged checkpoint, switched without loading again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import PICTURE, QUESTION
from gguf import GGMLQuantizationType, GGUFWriter
from lora import ATTENTION, merged, write_lora
from PIL import Image
from reference import Floats, Reference
from transformers import SiglipImageProcessor

from uservlm.converters.adapter_gguf import write_adapter
from uservlm.converters.adapters import open_adapter
from uservlm.converters.checkpoint import open_checkpoint
from uservlm.runtime import Consent, GenerationOptions, UserVLM
from uservlm.runtime.__main__ import main
from uservlm.runtime.bundle import record_file
from uservlm.runtime.errors import AdapterError, BundleError
from uservlm.runtime.manifest import Adapter, Agreement, Manifest
from uservlm.runtime.residents import Owner
from uservlm.runtime.room import plan_room

BOUND = 0.02
"""As in test_runtime_exact.py: f16 weights and f16 KV against float32."""
SHORT = GenerationOptions(max_new_tokens=2)
LONGER = GenerationOptions(max_new_tokens=8)
LORAS: dict[str, dict[str, Any]] = {
    "fair": {"use_rslora": True, "r": 8, "rank_pattern": {"q_proj": 2}},
    "brief": {"target_modules": ATTENTION},
}
FAITHFUL = Agreement(16, 1.0, 0.0, 1.0, 0.95)


@dataclass(frozen=True)
class Kept:
    """A checkpoint, adapters for it, and its bundle with the adapters in it."""

    checkpoint: Path
    loras: dict[str, Path]
    bundle: Path

    def reference(self, adapter: str | None) -> Reference:
        """Give transformers with the adapter merged by peft."""
        folders = [] if adapter is None else [self.loras[adapter]]
        processor = SiglipImageProcessor.from_pretrained(self.checkpoint)
        return Reference(merged(self.checkpoint, *folders).eval(), processor)

    def beside(self, plain: Path, out: Path) -> Path:
        """Copy another bundle of the same checkpoint and put the same adapters into it."""
        shutil.copytree(plain, out)
        shutil.copytree(self.bundle / "adapters", out / "adapters")
        for name in self.loras:
            attach(out, name, f"adapters/{name}.gguf")
        return out


def change_manifest(bundle: Path, change: Callable[[Manifest], Manifest]) -> None:
    path = bundle / "manifest.json"
    path.write_text(change(Manifest.from_json(path.read_text())).to_json())


def attach(bundle: Path, name: str, file: str, resident: Agreement | None = None) -> None:
    """Note an adapter's file in the manifest, as the converter does."""
    kept = Adapter(file, "a folder", 8, None, resident)
    record = record_file(bundle / file)
    change_manifest(
        bundle,
        lambda old: replace(
            old, adapters={**old.adapters, name: kept}, files={**old.files, file: record}
        ),
    )


def keep(checkpoint: Path, plain: Path, folder: Path) -> Kept:
    """Make adapters for a checkpoint and put them into a copy of its bundle."""
    bundle, loras = Path(shutil.copytree(plain, folder / "bundle")), {}
    (bundle / "adapters").mkdir()
    opened = open_checkpoint(checkpoint)
    for seed, (name, config) in enumerate(LORAS.items()):
        loras[name] = write_lora(checkpoint, folder / name, seed, **config)
        adapter = open_adapter(loras[name], opened.shape)
        write_adapter(adapter, opened, bundle / "adapters" / f"{name}.gguf")
        attach(bundle, name, f"adapters/{name}.gguf")
    return Kept(checkpoint, loras, bundle)


@pytest.fixture(scope="module")
def kept(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path_factory: Any) -> Kept:
    return keep(tiny_checkpoint, tiny_bundle, tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def vlm(kept: Kept) -> Iterator[UserVLM]:
    with UserVLM.load(kept.bundle, attention="resident", threads=1) as loaded:
        yield loaded


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Path:
    """The bundle, to damage."""
    return Path(shutil.copytree(kept.bundle, tmp_path / "bundle"))


def distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max())


def head_of(vlm: UserVLM) -> int:
    return vlm._requests.tokens(QUESTION).head


@pytest.fixture(scope="module", params=["square", "scaled_queries"])
def shaped(request: Any, make_checkpoint: Any, make_bundle: Any, tmp_path_factory: Any) -> Kept:
    """The same, and one whose queries need a factor of their own."""
    if request.param == "square":
        return request.getfixturevalue("kept")  # type: ignore[no-any-return]
    folder = tmp_path_factory.mktemp("scaled")
    return keep(make_checkpoint(request.param), make_bundle(request.param), folder)


def test_logits_are_those_of_the_merged_checkpoint(shaped: Kept) -> None:
    """Exact and resident, one adapter after the other."""
    kept = shaped
    bare = kept.reference(None)
    pixels = bare.pixels(Image.fromarray(PICTURE))
    with UserVLM.load(kept.bundle, attention="resident", threads=1) as vlm:
        tokens = vlm.prefix_tokens(QUESTION)
        for name in LORAS:
            reference = kept.reference(name)
            for attention, head in (("exact", None), ("resident", head_of(vlm))):
                wanted = reference.logits(pixels, tokens, head=head)
                found = vlm.first_logits(QUESTION, image=PICTURE, attention=attention, adapter=name)
                assert distance(found, wanted) < BOUND, (name, attention)
                assert distance(wanted, bare.logits(pixels, tokens, head=head)) > 20 * BOUND


def test_the_whole_answer_is_the_adapters(kept: Kept, vlm: UserVLM) -> None:
    """What follows the prefix is computed with the adapter too."""
    reference, answer = kept.reference("fair"), (40, 50, 60, 70)
    pixels, tokens = reference.pixels(Image.fromarray(PICTURE)), vlm.prefix_tokens(QUESTION)
    trace = vlm.trace(QUESTION, image=PICTURE, attention="exact", adapter="fair", answer=answer)
    for done, found in enumerate(trace):
        wanted = reference.logits(pixels, tokens, answer=answer[:done])
        assert distance(found, wanted) < BOUND, done
    assert done == len(answer)


@pytest.mark.parametrize("attention", ["exact", "resident"])
def test_switched_off_it_leaves_no_trace(kept: Kept, tiny_bundle: Path, attention: Any) -> None:
    """Bit for bit what the bundle without adapters gives, however often one was on.

    Resident blocks lie where there is room, and sums depend on where: in the plain bundle other
    users stand where the adapters' blocks of this one do.
    """
    stands = {"fair": PICTURE[::-1], "brief": PICTURE[:, ::-1], None: PICTURE}
    script = ("fair", None, "brief", None, "fair", None)
    with UserVLM.load(tiny_bundle, attention=attention, threads=1) as plain:
        wanted = [plain.first_logits(QUESTION, image=stands[name]) for name in script]
    with UserVLM.load(kept.bundle, attention=attention, threads=1) as vlm:
        found = [vlm.first_logits(QUESTION, image=PICTURE, adapter=name) for name in script]
    for step, name in enumerate(script):
        assert np.array_equal(found[step], wanted[step]) == (name is None), step


def test_an_engine_may_have_an_adapter_of_its_own(kept: Kept, vlm: UserVLM) -> None:
    with UserVLM.load(kept.bundle, attention="exact", adapter="fair", threads=1) as fair:
        assert (fair.adapter, vlm.adapter) == ("fair", None)
        for asked, same in ((None, "fair"), ("none", "none"), ("brief", "brief")):
            found = fair.first_logits(QUESTION, image=PICTURE, adapter=asked)
            wanted = vlm.first_logits(QUESTION, image=PICTURE, attention="exact", adapter=same)
            assert np.array_equal(found, wanted), asked
        text = fair.ask(QUESTION, image=PICTURE).text
    assert text == vlm.ask(QUESTION, image=PICTURE, attention="exact", adapter="fair").text
    assert text != vlm.ask(QUESTION, image=PICTURE, attention="exact").text
    with UserVLM.load(kept.bundle, adapter="none", threads=1) as bare:
        assert bare.adapter is None


def test_an_unknown_adapter_is_named_with_the_known(kept: Kept, vlm: UserVLM) -> None:
    message = "no adapter 'kind'; it has fair, brief, and 'none' asks the bare weights"
    with pytest.raises(AdapterError, match=message):
        UserVLM.load(kept.bundle, adapter="kind")
    for ask in (vlm.ask, vlm.stream, vlm.first_logits):
        with pytest.raises(AdapterError, match=message):
            ask(QUESTION, image=PICTURE, adapter="kind")


def test_a_users_block_serves_only_the_adapter_that_made_it(kept: Kept) -> None:
    with UserVLM.load(kept.bundle, attention="resident", threads=1) as vlm:
        asked = ("none", "fair", "none", "fair", "brief", "fair", "none")
        usages = [vlm.ask(QUESTION, image=PICTURE, adapter=a, options=SHORT).usage for a in asked]
        reused = [usage.prefix_reused > 0 for usage in usages]
        assert reused == [False, False, True, True, False, True, True]
        counters, digest = vlm.counters, vlm.encode(PICTURE).digest
        assert (counters.resident_builds, counters.vision_runs) == (3, 1)
        owners = {Owner(digest, adapter) for adapter in (None, "fair", "brief")}
        assert set(vlm._prefiller.residents) == owners


def test_forgetting_a_user_drops_every_block_of_theirs(kept: Kept) -> None:
    with UserVLM.load(kept.bundle, attention="resident", threads=1) as vlm:
        other = PICTURE[::-1]
        vlm.users.keep("Ada", vlm.encode(PICTURE))
        for adapter in ("none", "fair"):
            vlm.ask(QUESTION, user="Ada", adapter=adapter, options=SHORT)
        vlm.ask(QUESTION, image=other, adapter="fair", options=SHORT)
        vlm.users.forget("Ada")
        assert vlm._prefiller.residents == (Owner(vlm.encode(other).digest, "fair"),)
        usage = vlm.ask(QUESTION, image=PICTURE, adapter="fair", options=SHORT).usage
        assert (usage.vision_runs, usage.prefix_reused) == (1, 0)


def test_a_saved_block_serves_only_the_adapter_that_made_it(kept: Kept, tmp_path: Path) -> None:
    """After a restart each adapter finds its own block, and gives the answers it gave."""
    consent = Consent(datetime.now(timezone.utc), "said yes", "state")
    names = ["none", "fair", "brief"]
    found: list[list[str]] = []
    for came in ("built", "restored"):
        with UserVLM.load(
            kept.bundle, users=tmp_path, attention="resident", threads=1, verify=False
        ) as vlm:
            if came == "built":
                vlm.users.keep("Ada", vlm.encode(PICTURE), consent)
            answers = [
                vlm.ask(QUESTION, user="Ada", adapter=name, options=LONGER) for name in names
            ]
            assert {answer.usage.resident for answer in answers} == {came}
            found.append([answer.text for answer in answers])
    assert found[0] == found[1] and len(set(found[0])) > 1


@pytest.mark.parametrize("faithful", ["the adapter", "the bundle"])
def test_auto_follows_what_was_measured_of_the_adapter(copy: Path, faithful: str) -> None:
    own = FAITHFUL if faithful == "the adapter" else None
    bare = FAITHFUL if own is None else None
    change_manifest(copy, lambda old: replace(old, resident=bare))
    attach(copy, "fair", "adapters/fair.gguf", own)
    with_it, without = ("resident", "exact") if own else ("exact", "resident")
    with UserVLM.load(copy, threads=1) as vlm:
        assert vlm.attention == without
        for adapter, wanted in (("fair", with_it), ("none", without), (None, without)):
            usage = vlm.ask(QUESTION, image=PICTURE, adapter=adapter, options=SHORT).usage
            assert usage.attention == wanted, adapter
        room = plan_room(None, vlm.bundle.manifest.architecture.image_tokens, "resident")
        assert vlm._language.cells >= room.cells, "for some question resident users are kept"
    with UserVLM.load(copy, adapter="fair", threads=1) as vlm:
        assert vlm.attention == with_it


@pytest.mark.parametrize("quant", ["q4_0", "q4_k_m"])
def test_it_works_beside_packed_weights(
    kept: Kept, make_bundle: Any, tmp_path: Path, quant: str
) -> None:
    """llama.cpp repacks 4-bit weights; the adapter is added to them all the same."""
    packed = kept.beside(make_bundle("square", quant), tmp_path / "packed")
    bare, fair = kept.reference(None), kept.reference("fair")
    pixels = bare.pixels(Image.fromarray(PICTURE))
    with UserVLM.load(packed, attention="exact", threads=1) as vlm:
        tokens = vlm.prefix_tokens(QUESTION)
        plain = vlm.first_logits(QUESTION, image=PICTURE)
        moved = vlm.first_logits(QUESTION, image=PICTURE, adapter="fair") - plain
        assert np.array_equal(vlm.first_logits(QUESTION, image=PICTURE, adapter="none"), plain)
    wanted = fair.logits(pixels, tokens) - bare.logits(pixels, tokens)
    assert np.corrcoef(moved, wanted)[0, 1] > 0.9
    assert 0.8 < np.linalg.norm(moved) / np.linalg.norm(wanted) < 1.25


Matrices = dict[str, np.ndarray[Any, Any]]
PAIR: Matrices = {
    "blk.0.attn_q.weight.lora_a": np.ones((4, 256), np.float32),
    "blk.0.attn_q.weight.lora_b": np.ones((256, 4), np.float32),
}
VALUES: dict[str, Any] = {
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 4.0,
}


def write(path: Path, values: dict[str, Any], matrices: Matrices, arch: str = "gemma2") -> None:
    writer = GGUFWriter(path, arch)
    for key, value in values.items():
        add = {str: writer.add_string, float: writer.add_float32, list: writer.add_array}
        add[type(value)](key, value)
    for name, matrix in matrices.items():
        kind = GGMLQuantizationType.I32 if matrix.dtype == np.int32 else None
        writer.add_tensor(name, matrix, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


A, B = PAIR
FOREIGN: dict[str, tuple[dict[str, Any], Matrices, str]] = {
    "a model": (VALUES | {"general.type": "model"}, PAIR, "general.type is 'model'"),
    "a control vector": (VALUES | {"adapter.type": "control"}, PAIR, "adapter.type"),
    "alpha as text": (VALUES | {"adapter.lora.alpha": "4"}, PAIR, "alpha is no number"),
    "no alpha": (without(VALUES, "adapter.lora.alpha"), PAIR, "alpha is no number"),
    "aLoRA": (VALUES | {"adapter.alora.invocation_tokens": [1]}, PAIR, "alora"),
    "nothing": (VALUES, {}, "no matrices"),
    "half a pair": (VALUES, without(PAIR, B), "attn_q.weight with .lora_a"),
    "another width": (VALUES, PAIR | {A: np.ones((4, 128), np.float32)}, r"\(4, 128\)"),
    "another rank": (VALUES, PAIR | {A: np.ones((8, 256), np.float32)}, r"\(8, 256\)"),
    "another layer": (VALUES, {k.replace("0", "9"): m for k, m in PAIR.items()}, "blk.9.attn_q"),
    "tokens": (
        VALUES, {k.replace("blk.0.attn_q", "token_embd"): m for k, m in PAIR.items()}, "token_embd",
    ),
    "a norm": (VALUES, {"blk.0.attn_norm.weight": np.ones(256, np.float32)}, "fits no matrix"),
    "integers": (VALUES, {name: m.astype(np.int32) for name, m in PAIR.items()}, "not f32 or f16"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_is_refused_before_llama_cpp_sees_it(copy: Path, case: str) -> None:
    """llama.cpp asserts on some of these, which would end the process."""
    values, matrices, message = FOREIGN[case]
    write(copy / "adapters" / "odd.gguf", values, matrices)
    attach(copy, "odd", "adapters/odd.gguf")
    with pytest.raises(BundleError, match=message):
        UserVLM.load(copy, threads=1)


def test_damaged_files_and_names_are_refused(copy: Path) -> None:
    whole, odd = (copy / "adapters" / "fair.gguf").read_bytes(), copy / "adapters" / "odd.gguf"
    for data, message in (
        (whole[:-40], "cut off"),
        (whole[:60], "cut off"),
        (b"", "no GGUF|not a"),
    ):
        odd.write_bytes(data)
        attach(copy, "odd", "adapters/odd.gguf")
        with pytest.raises(BundleError, match=message):
            UserVLM.load(copy, threads=1)
    write(odd, VALUES, PAIR, arch="llama")
    attach(copy, "odd", "adapters/odd.gguf")
    with pytest.raises(BundleError, match="general.architecture is 'llama'"):
        UserVLM.load(copy, threads=1)
    write(odd, VALUES, PAIR)
    attach(copy, "none", "adapters/odd.gguf")
    with pytest.raises(BundleError, match="cannot be called 'none'"):
        UserVLM.load(copy, threads=1)


def test_a_file_that_changed_since_the_export_is_refused(copy: Path) -> None:
    path = copy / "adapters" / "fair.gguf"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        UserVLM.load(copy)
    files = lambda old: {k: v for k, v in old.files.items() if k != "adapters/fair.gguf"}  # noqa: E731
    change_manifest(copy, lambda old: replace(old, files=files(old)))
    with pytest.raises(BundleError, match="does not list adapters/fair.gguf"):
        UserVLM.load(copy)


def test_the_command_line_takes_and_lists_adapters(
    kept: Kept, vlm: UserVLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "me.png")
    ask = ["ask", str(kept.bundle), QUESTION, "--image", str(tmp_path / "me.png")]
    ask += ["--attention", "exact", "--max-new-tokens", "8", "--json", "--threads", "1"]
    options = GenerationOptions(max_new_tokens=8)
    for adapter in ("fair", "none"):
        assert main([*ask, "--adapter", adapter]) == 0
        said = json.loads(capsys.readouterr().out)["text"]
        wanted = vlm.ask(
            QUESTION, image=PICTURE, attention="exact", adapter=adapter, options=options
        )
        assert said == wanted.text
    assert main([*ask, "--adapter", "kind"]) == 2
    assert "it has fair, brief, and 'none'" in capsys.readouterr().err
    assert main(["inspect", str(kept.bundle)]) == 0
    assert "fair, rank 8, from a folder" in capsys.readouterr().out
