"""How well a bundle tells people apart: `python bench/identity.py BUNDLE [--record]`.

Owns: whose pictures are taken, the order of measuring, and how it is shown and recorded. People
are split three ways: on the first the reduction is fitted, on the second the thresholds are
chosen, and only the third, who chose nothing, are reported. Pictures of real people (--pictures)
are read into memory; what --record writes are averages over all of them, and it asks for consent.

The same drawn person in a new picture is `people.same_identity`: other expression, clothing,
background, light, pose and company; the hat stays. Drawn people have few traits, so some are each
other's doubles: what nobody could tell apart is printed beside what the bundle can.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from uservlm.bench.telling_apart import (
    AIM,
    People,
    centring,
    choose,
    discriminants,
    equal_error_rate,
    rates,
    try_galleries,
)
from uservlm.runtime.agreement import wilson
from uservlm.runtime.bundle import Bundle, open_bundle, record_file, replace_manifest
from uservlm.runtime.cores import thread_count
from uservlm.runtime.errors import IdentityError, UserVLMError
from uservlm.runtime.identity import IDENTITY_FILE, Reduction, pool, write_reduction
from uservlm.runtime.identity_figures import Identity, IdentityLevel, IdentityRates
from uservlm.runtime.image import Picture, to_pixels
from uservlm.runtime.vision_choice import choose_vision, open_vision

SEED = 4004
"""Of the drawn people; training and the model card draw from others."""
PEOPLE = 900
PICTURES = 7
"""Of each drawn person."""
GALLERIES = (1, 2, 4, 8, 16, 32)
ENROLLED = (1, 3)
DIRECTIONS = (16, 32)
"""Sizes of vectors that are tried."""
ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

WIDTH = 150
"""Columns of the table, whatever the terminal says: it also goes into files."""

Named = tuple[int, Picture]
"""Who is in it, and the picture."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; 0 when that was possible, 2 otherwise."""
    given = _parser().parse_args(arguments)
    if given.record and given.pictures and not given.consent:
        print("--record with --pictures writes averages of people's faces: add --consent when "
              "everybody in them agreed", file=sys.stderr)  # fmt: skip
        return 2
    try:
        bundle = open_bundle(given.bundle)
        pictures = folder_pictures(given.pictures) if given.pictures else drawn(given.people)
        galleries = tuple(sorted({*GALLERIES, *given.gallery}))
        people = embed(bundle, pictures, given.threads)
        _check_enough(people, max(given.gallery, default=1))
        identity, reduction, tried = measure(people, galleries, given.pictures is not None)
        if given.record:
            record(bundle, identity, reduction)
    except UserVLMError as error:
        print(f"uservlm: {error}", file=sys.stderr)
        return 2
    show(identity, tried, Console(width=WIDTH))
    if not given.pictures:
        print(doubles(given.people))
    print(json.dumps({"bundle": bundle.manifest.name, "eer": tried, **asdict(identity)}))
    return 0


def drawn(people: int) -> Iterator[Named]:
    """Draw PICTURES photographs of each of `people` people, each on another day."""
    from uservlm.models.drawing import render
    from uservlm.models.people import random_person, random_scene, same_identity

    for number in range(people):
        rng = np.random.default_rng([SEED, number])
        person = random_person(rng)
        for _ in range(PICTURES):
            yield number, render(random_scene(rng, same_identity(person, rng)))


PROGRESS = 200
"""Pictures between two lines that say how far it is."""


def folder_pictures(folder: Path) -> Iterator[Named]:
    """Give DIR/<person>/*.jpg; people come by lot, so that names do not order them."""
    people = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for number, index in enumerate(np.random.default_rng(SEED).permutation(len(people))):
        files = sorted(f for f in people[index].iterdir() if f.suffix.lower() in ENDINGS)
        for file in files:
            yield number, file


def embed(bundle: Bundle, pictures: Iterator[Named], threads: int | None = None) -> People:
    """Run the vision encoder on every picture and keep the mean of its features."""
    manifest = bundle.manifest
    encoder = open_vision(bundle, choose_vision(manifest), thread_count(threads), keep=True)
    means, labels = [], []
    for number, picture in pictures:
        means.append(pool(encoder.encode(to_pixels(picture, manifest.pixels))))
        labels.append(number)
        if len(labels) % PROGRESS == 0:
            print(f"{len(labels)} pictures seen", file=sys.stderr, flush=True)
    return People(
        np.array(means, dtype=np.float32).reshape(-1, manifest.architecture.width),
        np.array(labels, dtype=np.int64),
    )


def measure(
    people: People, galleries: Sequence[int], own: bool
) -> tuple[Identity, Reduction, dict[str, float]]:
    """Fit, choose and report, each on people of its own.

    Returns:
        What goes into the manifest, the reduction, and the equal error rate of each pooling that
        was tried, on the people who are reported.
    """
    fitting, choosing, held_out = (people.part(part, 3) for part in range(3))
    options = {"centred": centring(fitting)}
    for count in DIRECTIONS:
        options[f"discriminants-{count}"] = discriminants(fitting, count)
    best = min(options, key=lambda name: equal_error_rate(choosing, options[name]))
    tried = {"mean": equal_error_rate(held_out, None)}
    tried |= {name: equal_error_rate(held_out, option) for name, option in options.items()}
    fewest = min(len(choosing.names), len(held_out.names))
    levels = tuple(
        _level(choosing, held_out, options[best], size) for size in galleries if size < fewest
    )
    return Identity(own, best, tried[best], AIM, levels), options[best], tried


def record(bundle: Bundle, identity: Identity, reduction: Reduction) -> None:
    """Write what was measured into the bundle, whole at every moment of it."""
    manifest = bundle.manifest
    files = {name: kept for name, kept in manifest.files.items() if name != IDENTITY_FILE}
    # Between two writes nothing is measured: an old manifest would not fit the new file.
    replace_manifest(bundle.path, replace(manifest, files=files, identity=None))
    file = write_reduction(bundle.path, reduction)
    files[IDENTITY_FILE] = record_file(file)
    replace_manifest(bundle.path, replace(manifest, files=files, identity=identity))


def show(identity: Identity, tried: dict[str, float], console: Console) -> None:
    """Print the held-out figures with their 95 % intervals."""
    poolings = Table("pooling", "equal error rate, held-out people")
    for name, rate in tried.items():
        poolings.add_row(f"{name} (taken)" if name == identity.pooling else name, f"{rate:.2%}")
    console.print(poolings)
    table = Table("known", "enrolled", title="held-out people, 95 % intervals over people")
    known, strangers = ("named", "unsure", "said new", "misnamed"), ("named", "unsure", "said new")
    for heading in (*known, *(f"stranger {one}" for one in strangers)):
        table.add_column(heading)
    for level in identity.levels:
        for one in level.rates:
            table.add_row(f"{level.gallery} people", f"{one.enrolled} pictures", *_cells(one))
    console.print(table)


def doubles(people: int) -> str:
    """Say how often two of the drawn people agree in everything that has a name, and in skin."""
    from uservlm.models.people import Person, random_person

    def traits(person: Person) -> tuple[object, ...]:
        colour = person.hair_colour if person.hair_style != "bald" else None
        return (person.age, person.hair_style, colour, person.glasses, person.hat, person.skin_tone)

    drawn_ = [traits(random_person(np.random.default_rng([SEED, n]))) for n in range(people)]
    _, counts = np.unique([repr(one) for one in drawn_], return_counts=True)
    pair = float((counts * (counts - 1)).sum() / (people * (people - 1)))
    shares = ", ".join(f"{size}: {1 - (1 - pair) ** size:.2%}" for size in GALLERIES)
    return f"strangers who have a double among so many known people (all named traits) {shares}"


def _level(choosing: People, held_out: People, reduction: Reduction, size: int) -> IdentityLevel:
    chosen = choose(size, [try_galleries(choosing, reduction, size, n) for n in ENROLLED])
    count = len(held_out.names)
    return replace(
        chosen,
        rates=tuple(
            rates(try_galleries(held_out, reduction, size, n), chosen, n, count) for n in ENROLLED
        ),
    )


def _cells(one: IdentityRates) -> tuple[str, ...]:
    def sure(share: float) -> str:
        found = wilson(share, one.people)
        return f"{share:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"

    def rest(*shares: float) -> str:
        return f"{max(0.0, 1 - sum(shares)):.1%}"

    return (
        sure(one.known),
        rest(one.known, one.taken_for_new, one.misnamed),
        sure(one.taken_for_new),
        sure(one.misnamed),
        sure(one.false_accept),
        rest(one.false_accept, one.new),
        f"{one.new:.1%}",
    )


def _check_enough(people: People, gallery: int) -> None:
    """Refuse what could not be measured; of a third, the gallery leaves somebody a stranger."""
    persons, pictures = max(9, 3 * (gallery + 1)), max(ENROLLED) + 1
    _, counts = np.unique(people.labels, return_counts=True)
    if len(counts) < persons or counts.min() < pictures:
        raise IdentityError(
            f"{len(counts)} people with at least {min(counts, default=0)} pictures each are too "
            f"few: give at least {persons} people and {pictures} pictures of each"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure how well a bundle tells people apart, on people who chose nothing."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=Path, help="DIR/<person>/*.jpg; drawn people otherwise")
    parser.add_argument(
        "--people", type=int, default=PEOPLE, help="drawn ones; a third is held out"
    )
    parser.add_argument(
        "--gallery", type=int, nargs="*", default=[], help="further sizes to measure"
    )
    parser.add_argument("--record", action="store_true", help="write it into the bundle")
    parser.add_argument("--threads", type=int, help="for vision; 1 is best beside other work")
    parser.add_argument("--consent", action="store_true", help="everybody in --pictures agreed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
