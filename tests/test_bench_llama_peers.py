"""llama.cpp as a peer: text alone, and Gemma 3 with its own vision in a miniature shape.

Real llama.cpp and mtmd compute; nothing is timed that is asserted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, quants

from uservlm.bench import gemma3_model, peer_gemma3
from uservlm.bench.gemma3_model import GEMMA3_4B, TEXT, VISION, Shape, make, text, vision
from uservlm.bench.peer_environment import PeerError
from uservlm.bench.questions import picture
from uservlm.bench.random_blocks import BLOCKS, draw
from uservlm.bench.side import Side, SideError
from uservlm.bench.side_gemma3 import Gemma3
from uservlm.bench.side_llama import ANSWER_TOKENS, CELLS, WAITING, Llama, Text, wait_as_openmp_does
from uservlm.converters.gguf_file import Stored

QUESTION = 5
MINI = Shape(
    layers=7,  # the sixth is the first that has no window
    width=256,
    feed_forward=512,
    heads=4,
    kv_heads=2,
    head_dim=64,
    window=16,
    pieces=352,
    rows=384,
    vision_layers=2,
    vision_width=64,
    vision_feed_forward=96,
    vision_heads=4,
    image_size=112,
    pool=2,
)


def pieces() -> list[tuple[str, str]]:
    """Just enough for the chat template; the last one is left out, as Gemma 2's is."""
    control = [(text, "CONTROL") for text in ("<pad>", "<eos>", "<bos>")]
    turns = [(text, "USER_DEFINED") for text in ("<start_of_turn>", "<end_of_turn>")]
    spelled = [(f"<0x{byte:02X}>", "BYTE") for byte in range(256)]
    letters = [(chr(ord("a") + number), "NORMAL") for number in range(26)]
    return [*control, ("<unk>", "UNKNOWN"), *turns, *spelled, *letters, ("<last>", "USER_DEFINED")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("gemma3") / "mini", MINI, pieces=pieces)


@pytest.fixture(scope="module")
def gemma3(folder: Path) -> Iterator[Gemma3]:
    opened = Gemma3(folder, 1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def llama(pocket_bundle: Path) -> Iterator[Llama]:
    opened = Llama(pocket_bundle / "language.gguf", 1)
    yield opened
    opened.close()


def logits(llama: Llama) -> np.ndarray:
    size = llama.lib.llama_vocab_n_tokens(llama.lib.llama_model_get_vocab(llama.model))
    found = llama.lib.llama_get_logits_ith(llama.context, -1)
    return np.ctypeslib.as_array(found, (size,)).copy()


def test_text_goes_on_as_llama_cpp_python_makes_it(llama: Llama, pocket_bundle: Path) -> None:
    from llama_cpp import Llama as Wrapper

    asked, steps = llama.tokens(20), 8
    llama.keep(0)
    llama.feed(asked)
    mine = llama.go_on(llama.draw(), steps)
    path = str(pocket_bundle / "language.gguf")
    wrapper = Wrapper(path, n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
    drawn = wrapper.generate(asked, temp=0.0, repeat_penalty=1.0)
    assert mine == [next(drawn) for _ in range(steps + 1)]
    assert len(set(mine)) > 2


def test_a_turn_computes_the_question_behind_what_is_cached(llama: Llama) -> None:
    turns = Text(llama)
    found = turns.turn(question_tokens=QUESTION, answer_tokens=3, cached_tokens=30)
    assert (found["prompt_tokens"], found["computed_tokens"]) == (30 + QUESTION, QUESTION)
    assert found["answer_tokens"] == 3
    assert llama.length == 30 + QUESTION + 2  # the last token drawn is not computed


def test_cached_tokens_stay_for_the_next_turn(
    llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the question is computed again, over the very cells of the turn before."""
    turns, fed = Text(llama), list[int]()
    turns.turn(QUESTION, 1, cached_tokens=30)
    before, feed = llama.length, llama.feed
    monkeypatch.setattr(llama, "feed", lambda tokens: (fed.append(len(tokens)), feed(tokens)))
    turns.turn(QUESTION, 1, cached_tokens=30)
    assert fed == [QUESTION]
    assert llama.length == before
    turns.turn(QUESTION, 1)
    assert llama.length == QUESTION


def test_a_prompt_longer_than_the_context_gets_a_larger_one(llama: Llama) -> None:
    length = CELLS + 10  # also longer than a batch
    found = Text(llama).turn(QUESTION, 2, prompt_tokens=length)
    assert found["prompt_tokens"] == length
    assert llama.length == length + 1


def test_a_prompt_in_blocks_is_a_prompt_in_one(
    llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, found = llama.tokens(24), list[np.ndarray]()
    for block in (llama.block, 8):
        monkeypatch.setattr(llama, "block", block)
        llama.keep(0)
        llama.feed(asked)
        found.append(logits(llama))
    assert np.abs(found[0] - found[1]).max() < 1e-2


def test_ordinary_tokens_are_neither_control_nor_bytes(llama: Llama) -> None:
    vocab = llama.lib.llama_model_get_vocab(llama.model)
    kinds = {llama.lib.llama_vocab_get_attr(vocab, token) for token in llama.tokens(2000)}
    assert kinds == {llama.lib.LLAMA_TOKEN_ATTR_NORMAL}


def test_the_text_side_obeys(pocket_bundle: Path) -> None:
    with Side("uservlm.bench.side_llama", str(pocket_bundle / "language.gguf"), "1") as side:
        found = side("turn", question_tokens=QUESTION, answer_tokens=None)
        assert found["answer_tokens"] == ANSWER_TOKENS
        assert found["prompt_tokens"] == QUESTION
        assert found["ttft_s"] > 0 < found["decode_s"]
        assert side("memory")["peak_bytes"] > 0


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "language.gguf"
    path.write_bytes(b"GGUF, but no more")
    with pytest.raises(SideError, match=r"EngineError.*cannot load .*language\.gguf"):
        Side("uservlm.bench.side_llama", str(path), "1")


def test_the_peer_does_not_wait_as_our_runtime_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in WAITING:
        monkeypatch.setenv(name, "1000")
    wait_as_openmp_does()
    assert not set(WAITING) & os.environ.keys()


def test_the_shape_is_gemma_3_4b() -> None:
    """As many weights as transformers' own class has with the published configuration."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    given = {
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
        },
        "vision_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 256,
    }
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(Gemma3Config(**given))
    theirs = sum(weight.numel() for weight in model.model.parameters())
    ours = sum(int(np.prod(one.shape)) for one in (*text(GEMMA3_4B), *vision(GEMMA3_4B)))
    assert ours == theirs
    assert GEMMA3_4B.image_tokens == 256


@pytest.mark.parametrize("kind", sorted(BLOCKS), ids=lambda kind: Kind(kind).name)
def test_weights_have_the_deviation_that_keeps_activations_finite(kind: Kind) -> None:
    rows, columns = 128, 1024
    drawn = np.concatenate(list(draw(Stored("some.weight", (rows, columns), kind), seed=0)))
    values = quants.dequantize(drawn.reshape(rows, -1), kind)
    assert values.shape == (rows, columns)
    assert np.std(values) == pytest.approx(columns**-0.5, rel=0.02)
    assert abs(np.mean(values)) < 0.02 * columns**-0.5


def test_files_hold_what_is_listed_in_the_published_types(folder: Path) -> None:
    for name, listed in ((TEXT, list(text(MINI))), (VISION, list(vision(MINI)))):
        found = {one.name: one for one in GGUFReader(folder / name).tensors}
        assert list(found) == [one.name for one in listed]
        for one in listed:
            assert tuple(reversed(found[one.name].shape.tolist())) == one.shape
            assert found[one.name].tensor_type == one.kind
    kinds = {one.name: one.kind for one in (*text(GEMMA3_4B), *vision(GEMMA3_4B))}
    assert kinds["token_embd.weight"] == Kind.Q6_K
    assert kinds["blk.33.ffn_down.weight"] == kinds["blk.0.attn_v.weight"] == Kind.Q4_0
    assert kinds["v.blk.26.ffn_down.weight"] == kinds["mm.input_projection.weight"] == Kind.F16


def test_files_depend_on_the_seed_alone(folder: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "again", MINI, pieces=pieces)
    other = make(tmp_path / "other", MINI, seed=1, pieces=pieces)
    for name in (TEXT, VISION):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
        assert (other / name).read_bytes() != (folder / name).read_bytes()


def test_files_are_written_once_and_anew_for_another_shape(tmp_path: Path) -> None:
    place, said = tmp_path / "deep" / "gemma3", list[str]()
    for shape in (MINI, MINI, replace(MINI, layers=1)):
        make(place, shape, say=said.append, pieces=pieces)
    assert len(said) == 2 * 2
    assert len(GGUFReader(place / TEXT).tensors) == len(list(text(replace(MINI, layers=1))))


def test_nothing_is_left_of_a_write_that_was_broken_off(tmp_path: Path) -> None:
    place = tmp_path / "gemma3"

    def stop(said: str) -> None:
        if said.endswith("vision"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(place, MINI, say=stop, pieces=pieces)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert (make(place, MINI, pieces=pieces) / VISION).is_file()


def test_a_place_that_cannot_be_written_is_a_peer_that_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PeerError, match="file/gemma3: .*cannot be written"):
        make(tmp_path / "file" / "gemma3", MINI, pieces=pieces)


def test_no_file_is_begun_that_the_disk_cannot_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemma3_model, "SPARE", 10**18)
    with pytest.raises(PeerError, match="GB left and Gemma 3 needs"):
        make(tmp_path / "gemma3", MINI, pieces=pieces)
    assert not (tmp_path / "gemma3").exists()


def test_a_machine_without_memory_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 2000000 kB\nMemAvailable:  1000000 kB\n")
    monkeypatch.setattr(peer_gemma3, "_MEMORY", memory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PeerError, match=r"4\.5 GB of memory wanted, 1\.0 left"):
        peer_gemma3.open_side(1, lambda _: None)


def test_somebody_new_is_looked_at_and_all_of_the_prompt_computed(gemma3: Gemma3) -> None:
    found = gemma3.turn(question_tokens=QUESTION, answer_tokens=3)
    assert found["vision_s"] > 0
    assert found["prefill_s"] > 0
    assert found["vision_s"] + found["prefill_s"] <= found["ttft_s"]
    assert found["computed_tokens"] == found["prompt_tokens"] > MINI.image_tokens + QUESTION
    assert found["answer_tokens"] == 3


def test_a_kept_picture_costs_the_question_alone(gemma3: Gemma3) -> None:
    new = gemma3.turn(question_tokens=QUESTION, answer_tokens=2)
    for _ in range(2):
        kept = gemma3.turn(question_tokens=QUESTION, answer_tokens=2, keep=True)
        assert kept["vision_s"] == 0
        assert kept["prompt_tokens"] == new["prompt_tokens"]
        assert kept["computed_tokens"] < new["computed_tokens"] - MINI.image_tokens


def test_a_kept_picture_gives_the_answer_of_one_looked_at_anew(gemma3: Gemma3) -> None:
    """Gemma 3's pictures see nothing behind them; the question in between leaves no trace."""
    face, asked = picture(0), gemma3.llama.tokens(QUESTION)
    looked = gemma3.look(face)
    gemma3.ask(looked, gemma3.llama.tokens(2 * QUESTION))
    gemma3.ask(looked, asked)
    kept = logits(gemma3.llama)
    gemma3.ask(gemma3.look(face), asked)
    assert np.array_equal(kept, logits(gemma3.llama))


def test_the_answer_depends_on_the_picture(gemma3: Gemma3) -> None:
    asked, found = gemma3.llama.tokens(QUESTION), list[np.ndarray]()
    for number in range(2):
        gemma3.ask(gemma3.look(picture(number)), asked)
        found.append(logits(gemma3.llama))
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_prompt_is_that_of_gemma_3(gemma3: Gemma3) -> None:
    """`<bos>`, the turn, the picture between its two tokens; the turn's end behind the question."""
    looked = gemma3.look(picture(0))
    texts = [text for text, _ in pieces()[:-1]]
    begin, end = len(texts), len(texts) + 1
    assert looked.tail[:2] == (end, texts.index("<end_of_turn>"))
    spelled = len("user\n") + 2  # letters and bytes, <bos> and <start_of_turn>
    assert looked.positions == spelled + 1 + MINI.image_tokens
    assert begin not in looked.tail


def test_the_side_with_vision_obeys(folder: Path) -> None:
    with Side("uservlm.bench.side_gemma3", str(folder), "1") as side:
        kept = side("turn", question_tokens=QUESTION, answer_tokens=2, keep=True)
        new = side("turn", question_tokens=QUESTION, answer_tokens=2)
        assert kept["prompt_tokens"] == new["prompt_tokens"]
        assert (kept["vision_s"], new["vision_s"] > 0) == (0, True)
        assert side("memory")["peak_bytes"] > 0


def test_a_folder_without_vision_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / TEXT).symlink_to(folder / TEXT)
    with pytest.raises(SideError, match=r"mtmd cannot load .*mmproj\.gguf"):
        Side("uservlm.bench.side_gemma3", str(tmp_path), "1")
