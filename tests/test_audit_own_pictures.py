"""Own pictures for an audit: the CSV and its faults, what is compared, and what is written of them.

What answers here is a rule over a picture's attributes, so that what the statistics have to find is
known; tests/test_audit.py asks a bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import audits
import numpy as np
import pytest
from PIL import Image

from uservlm.bench.audit.comparable import FEWEST, FEWEST_PAIRS, comparisons
from uservlm.bench.audit.findings import ProbeResult, to_json
from uservlm.bench.audit.own_comparison import Answer, compare
from uservlm.bench.audit.own_pictures import OwnPicture, OwnPictures, PicturesError, read
from uservlm.bench.audit.page import write_page
from uservlm.bench.audit.permutation import Distances, Labels, group_difference, shares
from uservlm.runtime.agreement import Logits

QUESTIONS = tuple(f"Question {number}?" for number in range(8))
SEEDS = range(10)
MARKERS = ("Marguerite-Durand", "durand-0042", "pair-of-durands", "Rue-des-Lilas")
"""File name, person, pair and EXIF of a picture."""


# --- the CSV -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file,person,glasses\na.png,p1,yes\nb.png,,no\n", "utf-8"),
        ("file,person,glasses\r\na.png,p1,yes\r\n\r\n,,\r\nb.png,,no\r\n", "utf-8-sig"),
        ('File;Person;glasses\n"a.png";p1;yes\nb.png;;no', "utf-8"),
        ("glasses , file , person\n yes , a.png , p1\nno,b.png,\n", "utf-8"),
    ],
    ids=["plain", "byte order mark, blank lines", "semicolons", "spaces, another order"],
)
def test_a_table_is_read_as_programs_write_it(tmp_path: Path, text: str, encoding: str) -> None:
    found = read_text(tmp_path, text, encoding).pictures
    assert [(one.index, one.file, one.person, one.attributes) for one in found] == [
        (0, "a.png", "p1", {"glasses": "yes"}),
        (1, "b.png", "", {"glasses": "no"}),
    ]


def test_an_attribute_may_have_any_name_and_value(tmp_path: Path) -> None:
    text = 'file,"Haut, ton","crème ""brûlée"""\na.png,"clair, 1",ja\n'
    (found,) = read_text(tmp_path, text).pictures
    assert found.attributes == {"Haut, ton": "clair, 1", 'crème "brûlée"': "ja"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("file,tone\n", "no line below its header"),
        ("picture,tone\na.png,1\n", "line 1: no column 'file' among 'picture', 'tone'"),
        ("file,tone,\na.png,1,2\n", "line 1: a column without a name"),
        ("file,tone,tone\na.png,1,2\n", "line 1: 2 columns are called 'tone'"),
        ("file,tone\na.png,1\nb.png\n", "line 3: 1 cells below 2 columns"),
        ("file,tone\n,1\n", "line 2, column file: blank"),
        ("file,tone\na.png,1\nc.png,1\n", "line 3, column file: no picture at"),
        ("file,tone\ntext.png,1\n", "line 2, column file: .*not a picture"),
        ("file,tone\n../out.png,1\n", "line 2, column file: '../out.png' leads out of"),
        ("file,tone\nlink.png,1\n", "line 2, column file: 'link.png' leads out of"),
        ("file,tone\na.png,1\n./a.png,2\n", "line 3, column file: the picture of line 2 again"),
        ('file,tone\na.png,"1"x\n', "line 2: .*between quotes"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PicturesError, match=said) as caught:
        read_text(tmp_path, text)
    assert "people.csv" in str(caught.value)


def test_a_table_of_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(PicturesError, match=r"people.csv, line 2: not UTF-8; save"):
        read_text(tmp_path, "file,tone\na.png,crème\n", "latin-1")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PicturesError, match="cannot be read: No such file"):
        read(tmp_path, tmp_path / "none.csv")
    with pytest.raises(PicturesError, match="is no folder"):
        read(tmp_path / "none", tmp_path / "none.csv")


# --- what can be compared ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([(f"p{i}", "", "dark") for i in range(12)], "column tone: one value only, 'dark'"),
        ([(f"p{i}", "", "") for i in range(12)], "column tone: no value"),
        ([(f"p{i}", "", "dark" if i else "light") for i in range(12)],
         f"column tone, line 2: 1 people with 'light', and {FEWEST} are needed of each"),
        ([(f"p{i // 2}", "", ("dark", "light")[i % 2]) for i in range(12)],
         "column tone, lines 2, 3: differs between pictures of the same person"),
        ([("p", "x", "dark")] * 3, "lines 2, 3, 4, column pair: 'x' has 3 pictures"),
        ([("p", "x", "dark")] * 2, "lines 2, 3, column pair: 'x' differs in no attribute"),
        ([("p", "x", "dark"), ("q", "x", "light")], "lines 2, 3, column pair: two people differ"),
        ([("p", "x", "dark"), ("p", "x", "")], "column 'tone' is blank in one of the two"),
        ([("", f"x{i // 2}", ("dark", "light")[i % 2]) for i in range(2 * FEWEST_PAIRS - 2)],
         f"column tone: {FEWEST_PAIRS - 1} pairs differ in it, and {FEWEST_PAIRS} are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_told_before_anything_is_asked(
    lines: list[tuple[str, str, str]], said: str
) -> None:
    own = people({"person": p, "pair": pair, "tone": tone} for p, pair, tone in lines)

    def never(picture: OwnPicture, question: str) -> tuple[str, Logits]:
        raise AssertionError("asked")

    with pytest.raises(PicturesError, match=said):
        compare(own, never, QUESTIONS, seed=0)


def test_a_pair_differs_in_one_attribute_alone() -> None:
    own = people(
        [{"pair": "x", "tone": "1", "hat": "no"}, {"pair": "x", "tone": "2", "hat": "yes"}]
    )
    with pytest.raises(PicturesError, match="'x' differs in 'tone' and 'hat'; a pair differs in"):
        comparisons(own)


def test_pictures_without_any_column_more_have_nothing_to_compare() -> None:
    with pytest.raises(PicturesError, match="nothing to compare; add a column"):
        comparisons(people([{}, {}]))


def test_an_attribute_of_pairs_is_not_compared_by_groups() -> None:
    own = people(
        {"pair": f"x{i // 2}", "tone": str(i % 2), "place": "in" if i < 10 else "out"}
        for i in range(20)
    )
    found = comparisons(own)
    assert list(found.pairs) == ["tone"] and [one.attribute for one in found.groups] == ["place"]
    assert sorted(found.groups[0].labels) == [0] * 5 + [1] * 5, "a pair is one person"


def test_another_picture_of_the_same_person_shows_what_light_does() -> None:
    own = people(twins(FEWEST_PAIRS))
    found = comparisons(own)
    assert [pair.light is not None for pair in found.pairs["tone"]] == [True] * FEWEST_PAIRS
    assert all(pair.light.attributes == pair.before.attributes
               for pair in found.pairs["tone"] if pair.light)  # fmt: skip
    assert len(found.repeats) == FEWEST_PAIRS


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize("people_each", [(20, 20), (35, 6), (15, 15, 15)])
def test_a_planted_difference_between_groups_is_found_and_none_is_not(
    people_each: tuple[int, ...],
) -> None:
    """Also where one group is small; chance alone may find one in twenty."""
    found = {share: [world(seed, people_each, share) for seed in SEEDS] for share in (0.0, 0.4)}
    apart = {planted: [group_difference(*one, seed=1, draws=400) for one in worlds]
             for planted, worlds in found.items()}  # fmt: skip
    assert sum(one.p_value < 0.05 for one in apart[0.4]) == len(SEEDS)
    assert all(one.interval.low > 0 for one in apart[0.4])
    assert sum(one.p_value >= 0.05 for one in apart[0.0]) >= 9
    assert sum(one.interval.low <= 0 <= one.interval.high for one in apart[0.0]) >= 9
    spread = 2 * 1.96 * np.std([one.difference for one in apart[0.4]], ddof=1)
    width = np.mean([one.interval.high - one.interval.low for one in apart[0.4]])
    assert 0.5 < width / spread < 2, "as wide as other people of the same kind would differ"


def test_the_statistic_of_a_case_computed_by_hand() -> None:
    distances = np.array([[0, 0.5, 1, 1], [0.5, 0, 1, 0], [1, 1, 0, 0.2], [1, 0, 0.2, 0]])
    found = group_difference(distances, np.array([0, 0, 1, 1]), seed=0)
    assert found.between == pytest.approx(0.75) and found.within == pytest.approx(0.35)
    assert found.difference == pytest.approx(0.4)
    restless = distances + np.eye(4)
    assert shares(restless, np.array([0, 0, 1, 1])) == shares(distances, np.array([0, 0, 1, 1]))
    # The two other ways to make two pairs of four people give 0.175 and -0.575.
    assert found.p_value == pytest.approx(1 / 3, abs=0.04)


def test_a_label_of_one_person_is_refused() -> None:
    with pytest.raises(ValueError, match=r"people by label: \[1, 2\]"):
        group_difference(np.zeros((3, 3)), np.array([0, 1, 1]), seed=0)


def test_people_who_all_get_the_same_answers_are_no_proof_by_themselves() -> None:
    """The interval stays as wide as so few people leave it."""
    few = group_difference(np.zeros((10, 10)), np.arange(10) % 2, seed=0)
    many = group_difference(np.zeros((80, 80)), np.arange(80) % 2, seed=0)
    assert few.interval.high > 0.2 > 0.05 > many.interval.high and few.p_value == 1.0


def test_what_an_attribute_adds_to_light_is_found() -> None:
    own = people(twins(80))
    for seed in SEEDS[:3]:
        found = probe(own, rule(seed, ("tone",), share=0.3, noise=0.05), seed, "own.attribute.tone")
        excess = value(found, "excess")
        assert not found.passed and excess.kept is False
        assert excess.interval.low > 0 and excess.value == pytest.approx(0.3, abs=0.1)
        assert value(found, "changed_by_light").value == pytest.approx(0.1, abs=0.05)


def test_what_light_does_is_not_taken_for_the_attribute() -> None:
    own = people(twins(40))
    found = [probe(own, rule(seed, (), noise=0.05), seed, "own.attribute.tone") for seed in SEEDS]
    assert {one.name for one in found[0].figures} == {
        "changed", "changed_by_light", "excess", "worst_question", "kl_ratio",
    }  # fmt: skip
    assert all(value(one, "changed").value > 0.04 for one in found)
    assert sum(value(one, "excess").interval.low <= 0 for one in found) >= 9


def test_pairs_alone_count_light_as_nothing() -> None:
    own = people({"pair": f"x{i // 2}", "tone": str(i % 2)} for i in range(160))
    steady = probe(own, rule(0, ()), 0, "own.attribute.tone")
    assert steady.passed
    assert [one.name for one in steady.figures] == ["changed", "worst_question"]
    assert "counts as nothing" in steady.asks and steady.people == 80
    biased = probe(own, rule(0, ("tone",), share=0.5), 0, "own.attribute.tone")
    assert not biased.passed and value(biased, "changed").value == pytest.approx(0.5, abs=0.1)
    assert biased.moved[0].answer_before != biased.moved[0].answer_after
    assert biased.moved[0].changed == "tone 0 → 1" and biased.moved[0].kl > 0
    stray = probe(own, rule(0, (), noise=0.5), 0, "own.attribute.tone")
    assert stray.moved == tuple(sorted(stray.moved, key=lambda one: -one.kl))
    assert len({one.kl for one in stray.moved}) > 1


@pytest.mark.parametrize("known", [True, False])
def test_an_attribute_that_decides_one_question_of_many_is_found(known: bool) -> None:
    """And with noise alone none is, whether or not there is another picture of each person."""
    own = people(line for line in twins(80) if known or line["pair"])
    many = tuple(f"Question {number}?" for number in range(31))

    def answering(biased: bool) -> ProbeResult:
        fair = rule(2, (), noise=0.004)

        def answer(picture: OwnPicture, question: str) -> tuple[str, Logits]:
            text, logits = fair(picture, question)
            tone = picture.attributes["tone"] if biased and question == many[7] else ""
            return f"{text} {tone}", logits

        return compare(own, answer, many, 0)[0]

    steady, found = answering(biased=False), answering(biased=True)
    assert steady.passed, steady.figures
    broken = [one for one in found.figures if one.kept is False]
    assert [one.name for one in broken] == ["worst_question"] and not found.passed
    assert "“Question 7?”, 80 people asked: the answer changed" in broken[0].about


def test_groups_are_compared_from_the_table_to_the_verdict() -> None:
    own = people({"person": f"p{i // 2}", "tone": ("dark", "light")[i // 2 % 2]} for i in range(80))
    fair = probe(own, rule(3, (), noise=0.05), 3, "own.attribute.tone")
    assert fair.passed and value(fair, "p_value").value > 0.05, fair.figures
    biased = probe(own, rule(3, ("tone",), share=0.5, noise=0.05), 3, "own.attribute.tone")
    assert not biased.passed and value(biased, "p_value").value < 0.001
    assert (biased.people, biased.cases) == (40, 40 * 39 // 2 * len(QUESTIONS))
    worst = biased.moved[0]
    assert worst.changed.startswith("tone dark → light, different people; each group's commonest")
    assert worst.changed.count("of 20") == 2
    assert worst.answer_before != worst.answer_after
    assert all("differ in more than this attribute" in one.asks for one in (fair, biased))


def test_the_same_person_is_answered_alike_or_not() -> None:
    own = people({"person": f"p{i // 3}"} for i in range(120))
    (steady,) = compare(own, rule(0, ()), QUESTIONS, 0)
    (restless,) = compare(own, rule(0, (), noise=0.5), QUESTIONS, 0)
    assert steady.passed and steady.part == 5 and steady.people == 40
    assert not restless.passed and restless.moved[0].changed == "another picture of the same person"


def test_each_picture_is_asked_once_and_people_one_after_the_other() -> None:
    own = people({"person": f"p{i % 10}", "tone": str(i % 2)} for i in range(30))
    asked: list[tuple[int, str]] = []
    answer = rule(0, ())

    def noting(picture: OwnPicture, question: str) -> tuple[str, Logits]:
        asked.append((picture.index, question))
        return answer(picture, question)

    compare(own, noting, QUESTIONS, 0)
    order = (person + 10 * time for person in range(10) for time in range(3))
    assert asked == [(index, question) for index in order for question in QUESTIONS]


def test_the_same_seed_gives_the_same_results() -> None:
    own = people(twins(10))
    first, again = (compare(own, rule(0, ("tone",), 0.2), QUESTIONS, 5) for _ in range(2))
    assert first == again


# --- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_of_a_picture_is_written_unless_it_was_asked_for(
    tmp_path: Path, keep: bool
) -> None:
    """Neither pixels nor EXIF, nor the name of a file, of a person or of a pair."""
    folder, out = tmp_path / "pictures", tmp_path / "out"
    name, person, pair, place = MARKERS
    folder.mkdir()
    lines = ["file,person,pair,tone"]
    for number in range(2 * FEWEST_PAIRS):
        marked_picture(folder / f"{name}-{number}.jpg", place)
        lines.append(
            f"{name}-{number}.jpg,{person}-{number // 2},{pair}-{number // 2},{number % 2}"
        )
    table = tmp_path / "people.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    results = compare(read(folder, table), rule(0, ("tone",), 1.0), QUESTIONS, 0, keep)
    told = audits.audit(own_pictures=True, probes=results)
    write_page(told, out, folder if keep else None)
    (out / "audit.json").write_text(to_json(told), encoding="utf-8")
    written = b"".join(path.read_bytes() for path in sorted(out.rglob("*")))
    assert results[0].moved and b"tone 0 \xe2\x86\x92 1" in written
    assert (name.encode() in written) == keep and (b"data:image/jpeg" in written) == keep
    assert b"\xff\xd8\xff" not in written, "a raw JPEG"
    assert not any(marker.encode() in written for marker in (person, pair, place))


# --- what the tests are made of ------------------------------------------------------------------


def read_text(folder: Path, text: str, encoding: str = "utf-8") -> OwnPictures:
    """Read a table of pictures that lie beside it, some of which are not what they should be."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for path in (pictures / "a.png", pictures / "b.png", folder / "out.png"):
        Image.new("RGB", (4, 3), "teal").save(path)
    (pictures / "text.png").write_text("no picture", encoding="utf-8")
    (pictures / "link.png").symlink_to(folder / "out.png")
    table = folder / "people.csv"
    table.write_bytes(text.encode(encoding))
    return read(pictures, table)


def marked_picture(path: Path, place: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = place  # ImageDescription
    Image.effect_noise((64, 48), 60).convert("RGB").save(path, exif=exif, comment=place.encode())


def people(lines: Iterable[dict[str, str]]) -> OwnPictures:
    """Give the lines of a table whose pictures nobody opens."""
    return OwnPictures(Path("people.csv"), tuple(
        OwnPicture(index, index + 2, Path(f"{index}.png"), f"{index}.png", cells.pop("person", ""),
                   cells.pop("pair", ""), cells)
        for index, cells in enumerate(dict(line) for line in lines)
    ))  # fmt: skip


def twins(count: int) -> Iterator[dict[str, str]]:
    """Three pictures of each person: a pair in tone, and the first again in other light."""
    for number in range(count):
        for tone, pair in (("dark", "x"), ("light", "x"), ("dark", "")):
            yield {"person": f"p{number}", "pair": f"{pair}{number}" if pair else "", "tone": tone}


def rule(
    seed: int, by: tuple[str, ...], share: float = 0.0, noise: float = 0.0, kinds: int = 3
) -> Answer:
    """Answer by who it is and, in a share of the questions, by attributes; some answers stray.

    Without `by` and `noise` the answers to a person's pictures are alike, whatever is in them.
    """

    def answer(picture: OwnPicture, question: str) -> tuple[str, Logits]:
        who = picture.person or picture.pair or str(picture.index)
        said = [question, number(kinds, seed, who, question)]
        if by and chance(seed, who, question, "by") < share:
            said = [question, *(picture.attributes[name] for name in by)]
        if chance(seed, picture.index, question, "noise") < noise:
            said.append(number(1000, seed, picture.index, question))
        text = " ".join(map(str, said))
        logits = np.zeros(16, dtype=np.float32)
        logits[number(16, text)] = 4.0 + chance(text)
        return text, logits

    return answer


def number(below: int, *what: object) -> int:
    return zlib.crc32(repr(what).encode()) % below


def chance(*what: object) -> float:
    return number(10_000, *what) / 10_000


def world(seed: int, each: tuple[int, ...], planted: float) -> tuple[Distances, Labels]:
    """Answers of three kinds to twelve questions, a share of which follow the label instead."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(each)), each)
    answers = rng.integers(3, size=(len(labels), 12))
    answers = np.where(rng.random(answers.shape) < planted, 10 + labels[:, None], answers)
    return (answers[:, None] != answers[None]).mean(axis=2), labels


def probe(own: OwnPictures, answer: Answer, seed: int, name: str) -> ProbeResult:
    results = compare(own, answer, QUESTIONS, seed)
    return next(one for one in results if one.id == name)


def value(found: ProbeResult, name: str) -> audits.Figure:
    return next(one for one in found.figures if one.name == name)
