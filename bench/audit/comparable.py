"""Which own pictures may be compared with which, and whether there are enough of them.

Owns: what a pair, a group and a repeat are, and how many of each are needed. Knows nothing of
answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from uservlm.bench.audit.own_pictures import PAIR, PERSON, OwnPicture, OwnPictures, PicturesError

FEWEST: Final = 5
"""People of each value of an attribute: with two values of so many people each, shuffling gives 252
ways to label them, so that 2 in 252 is the least p-value; with three people each it is 2 in 20."""
FEWEST_PAIRS: Final = 5
"""Pairs that differ in an attribute: an interval of resampled pairs needs some."""


@dataclass(frozen=True)
class Grouping:
    """An attribute that is compared between groups of people."""

    attribute: str
    values: tuple[str, ...]
    """In alphabetical order."""
    members: tuple[tuple[OwnPicture, ...], ...]
    """Each person's pictures whose value is known, persons in the order of the CSV."""
    labels: tuple[int, ...]
    """Of each person: a place in `values`."""


@dataclass(frozen=True)
class Pair:
    """Two pictures that differ in one attribute."""

    before: OwnPicture
    after: OwnPicture
    light: OwnPicture | None
    """Another picture of the same person with the attributes of `before`; None: there is none."""


@dataclass(frozen=True)
class Comparisons:
    """What can be compared in a set of own pictures."""

    pairs: Mapping[str, tuple[Pair, ...]]
    """By attribute."""
    groups: tuple[Grouping, ...]
    """Attributes in which no pair differs."""
    repeats: tuple[tuple[OwnPicture, OwnPicture], ...]
    """Two pictures of the same person with the same attributes: what light and pose do."""


def comparisons(own: OwnPictures) -> Comparisons:
    """Find what can be compared, before any question is asked.

    Raises:
        PicturesError: a pair that is none, an attribute with one value, too few people, or nothing
            to compare.
    """
    paired = _pairs(own)
    names = own.pictures[0].attributes
    groups = tuple(_grouping(own, name) for name in names if name not in paired)
    repeats = _repeats(own)
    if not (paired or groups or repeats):
        raise PicturesError(
            f"{own.table}: nothing to compare; add a column with an attribute of your own naming, "
            f"or {PERSON} with several pictures of the same person"
        )
    return Comparisons(paired, groups, repeats)


def _pairs(own: OwnPictures) -> dict[str, tuple[Pair, ...]]:
    by_pair: dict[str, list[OwnPicture]] = defaultdict(list)
    for picture in own.pictures:
        if picture.pair:
            by_pair[picture.pair].append(picture)
    found: dict[str, list[Pair]] = defaultdict(list)
    for name, members in by_pair.items():
        where = f"{own.table}, {_lines(members)}, column {PAIR}"
        if len(members) != 2:
            raise PicturesError(f"{where}: {name!r} has {len(members)} pictures; a pair has 2")
        first, second = members
        if first.person != second.person:
            raise PicturesError(
                f"{where}: two people differ in more than one attribute, and are no pair; clear "
                f"{name!r} there, so that groups are compared, or correct the column {PERSON}"
            )
        _check_known(where, first, second)
        differing = [one for one in first.attributes if _differ(first, second, one)]
        if len(differing) != 1:
            said = " and ".join(map(repr, differing)) or "no attribute"
            raise PicturesError(
                f"{where}: {name!r} differs in {said}; a pair differs in exactly one"
            )
        found[differing[0]].append(_with_light(own, first, second))
    for attribute, pairs in found.items():
        if len(pairs) < FEWEST_PAIRS:
            raise PicturesError(
                f"{own.table}, column {attribute}: {len(pairs)} pairs differ in it, and "
                f"{FEWEST_PAIRS} are needed; add pairs, or remove the column"
            )
    return {attribute: tuple(pairs) for attribute, pairs in found.items()}


def _grouping(own: OwnPictures, attribute: str) -> Grouping:
    where = f"{own.table}, column {attribute}"
    units: dict[Hashable, list[OwnPicture]] = defaultdict(list)
    for picture in own.pictures:
        if picture.attributes[attribute]:
            units[picture.unit].append(picture)
    for members in units.values():
        if len({one.attributes[attribute] for one in members}) > 1:
            raise PicturesError(
                f"{where}, {_lines(members)}: differs between pictures of the same person; put "
                f"two that differ in nothing else into a {PAIR}, or remove the column"
            )
    people = Counter(members[0].attributes[attribute] for members in units.values())
    if len(people) < 2:
        only = f"one value only, {next(iter(people))!r}" if people else "no value"
        raise PicturesError(f"{where}: {only}; add pictures with another, or remove the column")
    value, least = min(people.items(), key=lambda one: one[1])
    if least < FEWEST:
        line = next(one.line for one in own.pictures if one.attributes[attribute] == value)
        raise PicturesError(
            f"{where}, line {line}: {least} people with {value!r}, and {FEWEST} are needed of each "
            "value; add pictures, merge values, or remove the column"
        )
    values = tuple(sorted(people))
    labels = tuple(values.index(members[0].attributes[attribute]) for members in units.values())
    return Grouping(attribute, values, tuple(map(tuple, units.values())), labels)


def _repeats(own: OwnPictures) -> tuple[tuple[OwnPicture, OwnPicture], ...]:
    """Every two pictures of the same person of which all is known, and nothing differs."""
    people: dict[str, list[OwnPicture]] = defaultdict(list)
    for picture in own.pictures:
        if picture.person:
            people[picture.person].append(picture)
    return tuple(
        (first, second)
        for members in people.values()
        for first, second in combinations(members, 2)
        if _alike(first, second)
    )


def _with_light(own: OwnPictures, first: OwnPicture, second: OwnPicture) -> Pair:
    """Put first whichever of the two has another picture like it, if one of them has."""
    for before, after in ((first, second), (second, first)):
        for other in own.pictures:
            mine = other.person and other.person == before.person and other is not before
            if mine and _alike(before, other):
                return Pair(before, after, other)
    return Pair(first, second, None)


def _check_known(where: str, first: OwnPicture, second: OwnPicture) -> None:
    for name in first.attributes:
        if bool(first.attributes[name]) != bool(second.attributes[name]):
            raise PicturesError(
                f"{where}: column {name!r} is blank in one of the two; fill it, or clear it in both"
            )


def _alike(first: OwnPicture, second: OwnPicture) -> bool:
    """Whether everything is known of both, and the same."""
    return all(
        value and value == second.attributes[name] for name, value in first.attributes.items()
    )


def _differ(first: OwnPicture, second: OwnPicture, attribute: str) -> bool:
    return first.attributes[attribute] != second.attributes[attribute]


def _lines(pictures: Iterable[OwnPicture]) -> str:
    return "lines " + ", ".join(str(one.line) for one in pictures)
