"""The memory budget: its formulas against llama.cpp's own figures, and its refusals."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from uservlm.runtime.budget import (
    MB,
    Need,
    Setting,
    cell_bytes,
    check,
    compute_bytes,
    kv_bytes,
    need,
    residents_that_fit,
    vision_peak,
)
from uservlm.runtime.errors import BudgetError
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.room import Room

POCKET = Architecture(112, 14, 64, 256, 5, 4, 2, 64, 512, 2112, 8192)
FULL = Architecture(448, 14, 1024, 2304, 26, 8, 4, 256, 9216, 257216, 8192)
LANGUAGE, VISION = 1_632_626_464, 425_010_229
"""Files of a 3B/448 bundle in Q4_0 and int8."""
MIB = 1 << 20


@pytest.mark.parametrize(
    ("architecture", "room", "kv", "compute"),
    [
        (POCKET, Room(2048, 1536, 1), 5.00, 82.54),
        (POCKET, Room(5216, 768, 1), 13.13, 99.77),
        (FULL, Room(2048, 1536, 1), 208.0, 274.54),
        (FULL, Room(2048, 1088, 1), 208.0, 194.46),
        (FULL, Room(5216, 1536, 1), 546.0, 403.54),
        (FULL, Room(1600, 512, 1), 182.0, 90.51),
    ],
)
def test_llamas_own_figures_come_out(
    architecture: Architecture, room: Room, kv: float, compute: float
) -> None:
    """What llama.cpp's log said of its buffers, in MiB, flash attention off."""
    assert kv_bytes(architecture, room.cells) / MIB == pytest.approx(kv, rel=0.01)
    assert compute_bytes(architecture, room) / MIB == pytest.approx(compute, rel=0.01)


def test_flash_attention_and_small_cells_take_less() -> None:
    """llama.cpp said 226.56 MiB for the flash attention of this room."""
    room = Room(2048, 1536, 1)
    flash = compute_bytes(FULL, room, flash=True) / MIB
    assert flash == pytest.approx(226.56, rel=0.1)
    assert kv_bytes(FULL, 2048, "q8_0") / kv_bytes(FULL, 2048) == pytest.approx(34 / 64)


def test_the_peak_of_a_full_bundle_is_what_was_measured() -> None:
    """2154 MiB after one prefill of 1084 rows, of them 579 MiB of its own; no vision."""
    wanted = need(FULL, LANGUAGE, VISION, Setting(Room(2048, 1536, 1)))
    assert wanted.language / MIB == pytest.approx(2154, rel=0.1)
    assert (wanted.language - wanted.mapped) / MIB == pytest.approx(579, rel=0.1)


def test_a_context_that_makes_way_costs_the_larger_of_both() -> None:
    room = Room(2048, 1536, 1)
    beside = need(FULL, LANGUAGE, VISION, Setting(room))
    first = need(FULL, LANGUAGE, VISION, Setting(room, carried=0))
    later = need(FULL, LANGUAGE, VISION, Setting(room, carried=1056))
    assert beside.peak == beside.language + beside.vision
    assert first.peak == first.process + first.mapped + first.vision > first.language
    assert later.peak - first.peak == 1056 * cell_bytes(FULL)


def test_a_picture_takes_what_was_measured() -> None:
    """SigLIP So400m at 448 px in int8: 655 to 674 MiB, of which 80 MB are Python and libraries."""
    assert (vision_peak(FULL, VISION) + 80 * MB) / MIB == pytest.approx(664, rel=0.02)


def test_a_picture_by_ggml_takes_what_was_measured() -> None:
    """SigLIP So400m at 224 px in Q8_0: 500 MiB, of which 70 MB are Python and libraries."""
    small = replace(FULL, image_size=224, image_tokens=256)
    wanted = vision_peak(small, 446_163_392, "ggml")
    assert (wanted + 70 * MB) / MIB == pytest.approx(500, rel=0.02)
    setting = Setting(Room(2048, 1536, 1), vision="ggml")
    assert need(small, LANGUAGE, 446_163_392, setting).vision == wanted


def test_parts_add_up_to_the_byte() -> None:
    parts = Need(process=1, mapped=20, copied=300, kv=4000, compute=50_000, vision=600_000)
    assert (parts.language, parts.peak, parts.own) == (54_321, 654_321, 654_301)
    assert replace(parts, vision=1, carried=0).peak == parts.language, "a small picture"
    check(7, replace(parts, vision=7 * MB - 54_321))
    with pytest.raises(BudgetError):
        check(7, replace(parts, vision=7 * MB - 54_320))


def test_the_process_and_its_vocabulary_are_counted() -> None:
    """42 MB without a model, 65 to 80 with onnxruntime; 42 MiB for 257 216 words."""
    full, pocket = (need(one, 0, 0, Setting(Room(2048, 1536, 1))) for one in (FULL, POCKET))
    assert 65 * MB <= pocket.process <= 85 * MB
    assert (full.process - pocket.process) / MIB == pytest.approx(42, rel=0.02)


def test_weights_twice_are_counted_twice() -> None:
    room = Room(2048, 1536, 1)
    table = 486_138_240  # Q6_K, which llama.cpp does not copy
    once = need(FULL, LANGUAGE, VISION, Setting(room, placement="repacked", table_bytes=table))
    twice = need(FULL, LANGUAGE, VISION, Setting(room, placement="both", table_bytes=table))
    assert once.mapped == table
    assert twice.peak - once.peak == LANGUAGE - table
    assert twice.language / MIB == pytest.approx(3240, rel=0.1)  # measured


def test_a_budget_too_small_is_refused_with_the_numbers() -> None:
    wanted = need(FULL, LANGUAGE, VISION, Setting(Room(2048, 1536, 1)))
    least = -(-wanted.peak // MB)
    check(least, wanted)
    with pytest.raises(BudgetError) as refused:
        check(least - 1, wanted)
    message = str(refused.value)
    assert f"{least - 1} MB is too small: {least} MB" in message
    parts = [int(found) for found in re.findall(r"(\d+)[,)]", message)]
    assert sum(parts) == pytest.approx(least, abs=len(parts))


def test_as_many_residents_fit_as_the_budget_pays_for() -> None:
    setting, cells = Setting(Room(2048, 1536, 1)), 1056
    least = -(-need(FULL, LANGUAGE, VISION, setting).peak // MB)
    found = [
        residents_that_fit(least + more, FULL, LANGUAGE, VISION, setting, cells)
        for more in (0, 300, 1000)
    ]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
    room = Room(2048, 1536, 1 + found[2])
    check(least + 1000, need(FULL, LANGUAGE, VISION, Setting(room)))
    with pytest.raises(BudgetError, match="too small"):
        residents_that_fit(least - 1, FULL, LANGUAGE, VISION, setting, cells)


def test_the_goal_of_a_full_bundle_holds_one_resident() -> None:
    """2.5 GB, a picture looked at while somebody is resident: 3B at 448 px, Q4_0, repacked."""
    setting = Setting(Room(1536, 1536, 1), placement="repacked", table_bytes=486_138_240, carried=0)
    assert residents_that_fit(2500, FULL, LANGUAGE, VISION, setting, 1056) == 1


def test_residents_who_are_carried_over_are_paid_for_twice() -> None:
    cells, room = 1056, Room(2048, 1536, 1)
    two = Setting(Room(2048, 1536, 3), carried=2 * cells)
    least = -(-need(FULL, LANGUAGE, VISION, two).peak // MB)
    for budget, users in ((least, 2), (least - 1, 1)):
        setting = Setting(room, carried=0)
        assert residents_that_fit(budget, FULL, LANGUAGE, VISION, setting, cells) == users
