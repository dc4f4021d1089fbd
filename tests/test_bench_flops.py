"""The counter against arithmetic written out by hand, and the tables against what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from uservlm.bench import analytic, counting, flop_tables, flops, peer_shapes
from uservlm.bench.peer_shapes import CAMERA, SQUARE, Subject
from uservlm.bench.results import Count, Flops, RatioTable
from uservlm.models.architecture import pocket_shape
from uservlm.models.random_checkpoint import SHAPES
from uservlm.models.shapes import Architecture, find

torch = pytest.importorskip("torch")

B3, B10 = find("paligemma2-3b-448").architecture, find("paligemma2-10b-448").architecture
BY_NAME = {peer.name: peer for peer in peer_shapes.peers()}
SMALL_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}
SMALL_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
SMALL_TILES = {
    "attention_heads": 2,
    "num_global_layers": 1,
    "intermediate_layers_indices": [0],
    "vision_output_dim": 64,
}


@pytest.fixture(scope="module")
def pocket() -> Architecture:
    return pocket_shape()


@pytest.fixture(scope="module")
def found(pocket: Architecture) -> Flops:
    return flops.measure(pocket, lambda _: None)


@pytest.fixture(scope="module")
def by(found: Flops) -> Mapping[tuple[str, str], Count]:
    return {(one.model, one.case): one for one in found.counts}


@pytest.fixture(scope="module")
def tables(found: Flops) -> Mapping[str, RatioTable]:
    return {table.key: table for table in found.tables}


def small(peer: Subject) -> Subject:
    """A peer with its own class, mechanisms and pictures, and few weights."""
    text = {**peer.config["text_config"], **SMALL_TEXT}
    vision = {**peer.config["vision_config"], **SMALL_VISION}
    if "head_dim" in text:
        text["head_dim"] = 24  # Pixtral's is not width / heads either
    image = 499
    if peer.config["model_type"] == "mllama":
        text |= {"num_hidden_layers": 3, "cross_attention_layers": [1], "pad_token_id": 0}
        vision |= SMALL_TILES
        image = 500  # behind the vocabulary, as published
    config = {**peer.config, "text_config": text, "vision_config": vision}
    return replace(peer, config={**config, "image_token_index": image})


def real(subject: Subject) -> Any:
    """The same class with random weights, in float32."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    config = AutoConfig.for_model(**subject.config)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    return model.float().eval()


def prompt(subject: Subject, picture: Mapping[str, Any], features: int, text: int) -> Any:
    """Ids as a processor lays them out: the image's, Pixtral's breaks, then text."""
    places = peer_shapes.positions(subject, features, picture)
    image = torch.full((1, places), subject.config["image_token_index"])
    image[:, min(features, places) :] = 7
    return torch.cat([image, torch.full((1, text), 5)], 1)


def test_a_linear_layer_is_two_flops_for_each_weight_and_row() -> None:
    layer = torch.nn.Linear(3, 5, device="meta")
    _, cost = counting.count(lambda: layer(torch.empty(2, 3, device="meta")))
    assert cost == counting.Counted(total=2 * (2 * 3 * 5), attention=0)
    assert cost.total == 60


def test_a_convolution_counts_each_place_of_its_output() -> None:
    """8 × 8 under 3 × 3 without padding leaves 6 × 6; 2 channels become 4."""
    layer = torch.nn.Conv2d(2, 4, 3, device="meta")
    _, cost = counting.count(lambda: layer(torch.empty(1, 2, 8, 8, device="meta")))
    assert cost.total == 2 * (6 * 6) * (3 * 3) * 2 * 4 == 5184


def test_attention_counts_scores_and_sums_of_every_head_over_all_keys() -> None:
    """4 heads of size 6, of which pairs share keys and values; 5 queries, 7 keys; no mask helps."""
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    def empty(heads: int, tokens: int) -> Any:
        return torch.empty(1, heads, tokens, 6, device="meta")

    module = torch.nn.Module()
    module.num_key_value_groups, module.head_dim = 2, 6
    mask = torch.empty(1, 1, 5, 7, device="meta")
    given = (module, empty(4, 5), empty(2, 7), empty(2, 7), mask)
    _, cost = counting.count(lambda: eager_attention_forward(*given))
    assert cost.total == cost.attention == 2 * (2 * 4 * 5 * 7 * 6) == 3360


@pytest.mark.parametrize("name", flop_tables.PEERS)
def test_in_two_halves_on_meta_is_what_generate_computes_for_real(name: str) -> None:
    """One call of generate with ids, pixels and real weights; the head is for one position."""
    subject = small(BY_NAME[name])
    picture = peer_shapes.picture(subject, SQUARE)
    meta = counting.build(subject.config)
    seen = counting.look(meta, picture)
    places = peer_shapes.positions(subject, seen.features, picture)
    counted = seen.cost.total + counting.read(meta, places + 9, 0, seen.beside).total

    model = real(subject)
    ids = prompt(subject, picture, seen.features, 9)
    given = {key: value for key, value in picture.items() if key != "num_tiles"}
    given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False}
    _, cost = counting.count(lambda: model.generate(**given, max_new_tokens=1))
    assert counted == cost.total


@pytest.mark.parametrize("name", flop_tables.PEERS)
def test_over_a_cache_is_what_the_class_computes_over_its_own(name: str) -> None:
    """The image and 3 tokens kept, 9 computed; Llama's cross-attention reads its cache, too."""
    subject = small(BY_NAME[name])
    picture = peer_shapes.picture(subject, SQUARE)
    meta = counting.build(subject.config)
    seen = counting.look(meta, picture)
    places = peer_shapes.positions(subject, seen.features, picture)
    counted = counting.read(meta, 9, places + 3, seen.beside)

    model = real(subject)
    ids = prompt(subject, picture, seen.features, 3)
    given = {key: value for key, value in picture.items() if key != "num_tiles"}
    with torch.inference_mode():
        past = model(input_ids=ids, use_cache=True, **given).past_key_values
    assert past.get_seq_length() == places + 3
    question = torch.full((1, 9), 5)
    asked = {"input_ids": question, "past_key_values": past, "logits_to_keep": 1}
    _, cost = counting.count(lambda: model(**asked))
    assert counted == cost


def test_ours_in_two_halves_is_what_generate_computes_for_real(pocket: Architecture) -> None:
    subject = peer_shapes.paligemma(pocket)
    picture = peer_shapes.picture(subject, (112, 112))
    meta = counting.build(subject.config)
    seen = counting.look(meta, picture)
    counted = seen.cost.total + counting.read(meta, seen.features + 9).total

    ids = prompt(subject, picture, seen.features, 9)
    given = {**picture, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model = real(subject)
    _, cost = counting.count(
        lambda: model.generate(**given, max_new_tokens=1, do_sample=False, eos_token_id=1)
    )
    assert counted == cost.total


def test_autocast_is_left_as_it_was() -> None:
    before = torch.autocast
    with pytest.raises(ZeroDivisionError):
        counting.count(lambda: 1 // 0)
    assert torch.autocast is before


def test_peers_have_as_many_weights_as_published(by: Mapping[tuple[str, str], Count]) -> None:
    """So no field of their configurations that decides a size is wrong."""
    counted = {name: by[name, flop_tables.BOTH].weights for name in BY_NAME}
    assert counted[flop_tables.LLAVA_15] == 7_063_427_072
    assert counted[flop_tables.LLAMA] == 10_670_220_835
    for name, peer in BY_NAME.items():
        assert counted[name] == pytest.approx(peer.weights, rel=2e-3), name
    for size, billion in (("3B", 3.03), ("10B", 9.66)):
        weights = by[flop_tables.OURS[size], flop_tables.COLD].weights
        assert weights == find(flops.ENTRIES[size]).weights
        assert round(weights / 1e9, 2) == billion


def test_image_tokens_are_those_of_each_models_processor(
    by: Mapping[tuple[str, str], Count],
) -> None:
    """LLaVA-1.6: a base of 24² and a grid of 48 rows of 48 with a newline each; Pixtral: rows of
    28 or 64 patches of 16 px with a break each; Llama: 4 tiles of 40² + 1."""
    square = {name: by[name, flop_tables.BOTH].image_tokens for name in flop_tables.PEERS}
    camera = {name: by[name, flop_tables.CAMERA].image_tokens for name in flop_tables.PEERS}
    assert square == {
        flop_tables.LLAMA: 4 * (40 * 40 + 1),
        flop_tables.PIXTRAL: 28 * (28 + 1),
        flop_tables.LLAVA_16: 24 * 24 + 48 * (48 + 1),
        flop_tables.LLAVA_15: 24 * 24,
    }
    assert camera == {
        **square,
        flop_tables.PIXTRAL: 48 * (64 + 1),
        flop_tables.LLAVA_16: 24 * 24 + 36 * (48 + 1),
    }
    assert by[flop_tables.OURS["3B"], flop_tables.COLD].image_tokens == 32 * 32
    assert by[flop_tables.ONE_TILE, flop_tables.BOTH].image_tokens == 40 * 40 + 1


def test_a_square_fills_one_tile_and_the_cameras_picture_all() -> None:
    """The tables say so."""
    llama = BY_NAME[flop_tables.LLAMA]
    assert peer_shapes.picture(llama, SQUARE)["num_tiles"] == [[1]]
    assert peer_shapes.picture(llama, CAMERA)["num_tiles"] == [[4]]


def test_the_analytic_model_agrees_with_every_count_of_ours(found: Flops) -> None:
    checked = [one for one in found.counts if one.analytic is not None]
    assert {one.model for one in checked} == {
        *flop_tables.OURS.values(),
        *flop_tables.UNTUNED.values(),
        flops.BUNDLE,
    }
    cases = {one.case for one in checked if one.model == flops.BUNDLE}
    assert cases >= {flop_tables.COLD, flop_tables.EXACT, flop_tables.RESIDENT}
    for one in checked:
        assert one.analytic == pytest.approx(one.total, rel=0.01), (one.model, one.case)


def test_what_is_left_out_by_hand_is_the_rotations_angles_alone(pocket: Architecture) -> None:
    """transformers multiplies positions with frequencies as matrices: head_dim / 2 each."""
    model = counting.build(peer_shapes.paligemma(pocket).config)
    rotations = 2 * 73 * pocket.head_dim // 2
    assert counting.read(model, 73).total == analytic.language(pocket, 73) + rotations


def test_the_analytic_model_gives_the_anchors_figures() -> None:
    """TFLOP of docs' derived model: a question of 60 tokens, an image of 1024."""
    for shape, cold, kept in ((B3, 5.61, 0.258), (B10, 19.84, 1.045)):
        total = analytic.vision(shape) + analytic.language(shape, 1024 + 60)
        assert total / 1e12 == pytest.approx(cold, rel=0.03)
        assert analytic.language(shape, 60, 1024) / 1e12 == pytest.approx(kept, rel=0.03)


def test_ours_keeps_what_it_says_it_keeps(by: Mapping[tuple[str, str], Count]) -> None:
    for ours in (*flop_tables.OURS.values(), flops.BUNDLE):
        cold, exact, resident = (
            by[ours, case] for case in (flop_tables.COLD, flop_tables.EXACT, flop_tables.RESIDENT)
        )
        assert exact.total == cold.total - cold.vision == cold.language
        assert (exact.image_tokens, exact.cached_tokens) == (cold.image_tokens, 0)
        assert (resident.image_tokens, resident.cached_tokens) == (0, cold.image_tokens)
        assert resident.vision == 0
        assert resident.text_tokens == cold.text_tokens == flop_tables.QUESTION


def test_a_peers_cache_spares_it_image_then_instruction(
    by: Mapping[tuple[str, str], Count],
) -> None:
    for peer in flop_tables.PEERS:
        whole, image, everything = (
            by[peer, case]
            for case in (flop_tables.BOTH, flop_tables.IMAGE_CACHED, flop_tables.ALL_CACHED)
        )
        assert image.vision == everything.vision == 0
        assert image.cached_tokens == whole.image_tokens
        assert everything.cached_tokens == whole.image_tokens + flop_tables.INSTRUCTION
        assert (whole.text_tokens, everything.text_tokens) == (150, 50)
        assert whole.total > 3 * image.total > 3 * everything.total


def test_sizes_by_name_times_seven_and_a_half_give_all_but_llamas_cells() -> None:
    fits, other = flop_tables.rule()
    assert len(fits) == 6
    assert all(flop_tables.LLAMA not in cell for cell in fits)
    assert other == [
        f"{flop_tables.LLAMA} against 3B (27.5 by it, 22.5 printed)",
        f"{flop_tables.LLAMA} against 10B (8.25 by it, 16.5 printed)",
    ]


def test_no_cell_of_the_papers_is_a_ratio_of_text_alone(tables: Mapping[str, RatioTable]) -> None:
    """Llama's neither: counted over words its cells are less than half of what is printed."""
    paper, text = tables["paper"], tables["text"]
    for (_, printed), (_, counted) in zip(paper.lines, text.lines, strict=True):
        for one, other in zip(printed, counted, strict=True):
            assert one is not None
            assert other is not None
            assert other < 0.65 * one
    assert "reached in none of the 8 cells" in text.says


def test_tables_are_ratios_of_the_counts(
    by: Mapping[tuple[str, str], Count], tables: Mapping[str, RatioTable]
) -> None:
    cases = {
        "text": (flop_tables.OURS_TEXT, flop_tables.TEXT),
        "everything": (flop_tables.COLD, flop_tables.BOTH),
        "everything_camera": (flop_tables.COLD, flop_tables.CAMERA),
        "everything_resident": (flop_tables.RESIDENT, flop_tables.BOTH),
        "peer_cached": (flop_tables.RESIDENT, flop_tables.IMAGE_CACHED),
        "peer_all_cached": (flop_tables.RESIDENT, flop_tables.ALL_CACHED),
    }
    assert list(tables) == ["paper", *cases]
    for key, (ours, theirs) in cases.items():
        for (line, ratios), size in zip(tables[key].lines[:2], ("3B", "10B"), strict=True):
            own = by[flop_tables.OURS[size], ours].total
            assert line.startswith(flop_tables.OURS[size])
            for peer, ratio in zip(flop_tables.PEERS, ratios, strict=False):
                assert ratio == by[peer, theirs].total / own


def test_every_line_has_a_cell_for_every_column(tables: Mapping[str, RatioTable]) -> None:
    for table in tables.values():
        assert all(len(cells) == len(table.columns) for _, cells in table.lines)


def test_sentences_follow_the_counts(found: Flops) -> None:
    """Were ours ten times dearer, resident would not reach the paper's figures any more."""

    def verdict(counts: list[Count]) -> str:
        drawn = {table.key: table for table in flop_tables.tables(counts, 0.0)}
        return drawn["everything_resident"].says

    ours = flop_tables.OURS["3B"]
    dearer = [
        replace(one, language=10 * one.language) if one.model == ours else one
        for one in found.counts
    ]
    assert "reached in all 8 cells" in verdict(list(found.counts))
    assert f"{flop_tables.LLAVA_15} against 3B is 4.7, printed 17.5" in verdict(dearer)


def test_a_cell_below_one_is_called_what_it_is() -> None:
    cell = flop_tables.Cell("10B", flop_tables.LLAVA_15, 0.5, 5.25)
    assert "Ours costs more than the peer: LLaVA-1.5 7B against 10B" in flop_tables.verdict([cell])


def test_the_pocket_is_counted_but_not_compared(found: Flops) -> None:
    """A toy beside models of 7 billion would only look good."""
    assert any(one.model == flops.BUNDLE for one in found.counts)
    for table in found.tables:
        assert all(flops.BUNDLE not in line for line, _ in table.lines)


def test_a_shape_without_rows_is_refused() -> None:
    with pytest.raises(peer_shapes.ShapeError, match="give `rows`"):
        peer_shapes.paligemma(SHAPES["square"])
