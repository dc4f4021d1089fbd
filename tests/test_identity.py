"""Who is in view: known, new or unsure, by thresholds that were measured and never guessed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uservlm.bench import identity as bench
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
from uservlm.runtime import UserVLM
from uservlm.runtime.bundle import open_bundle, record_file
from uservlm.runtime.errors import BundleError, EmbeddingError, IdentityError
from uservlm.runtime.identity import (
    IDENTITY_FILE,
    Identifier,
    Reduction,
    centroid,
    decide,
    identify,
    level_for,
    pool,
    write_reduction,
)
from uservlm.runtime.identity_figures import Identity, IdentityLevel
from uservlm.runtime.manifest import MANIFEST_FILE, Manifest
from uservlm.runtime.profiles import Consent
from uservlm.runtime.users import UserEmbedding

LEVEL = IdentityLevel(gallery=4, known=0.8, margin=0.1, new=0.5, rates=())
ALONE = ("--threads", "1")
X, Y = np.eye(3, dtype=np.float32)[:2]


def at(similarity: float) -> np.ndarray:
    """A unit vector of this similarity to X and of none to Y."""
    return np.array([similarity, 0, np.sqrt(1 - similarity**2)], dtype=np.float32)


def invented(people: int = 60, pictures: int = 5, noise: float = 0.3, seed: int = 0) -> People:
    """People who differ in 8 numbers of 24; the other 16 are loud and say nothing of them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(people), pictures)
    own = rng.standard_normal((people, 8))[labels]
    own = own + noise * rng.standard_normal(own.shape)
    loud = 4 * rng.standard_normal((len(labels), 16))
    return People(np.hstack([own, loud]).astype(np.float32) + 50, labels)


@pytest.mark.parametrize(
    ("vector", "gallery", "kind"),
    [
        (X, {}, "new"),
        (at(0.3), {"Ada": X}, "new"),
        (at(0.6), {"Ada": X}, "unsure"),
        (at(0.9), {"Ada": X}, "known"),
        (at(0.9), {"Ada": X, "Bob": Y}, "known"),
        (at(0.9), {"Ada": X, "Twin": at(0.999)}, "unsure"),
    ],
)
def test_near_and_clearly_nearest_is_known_and_far_is_new(
    vector: np.ndarray, gallery: dict[str, np.ndarray], kind: str
) -> None:
    found = identify(vector, gallery, LEVEL)
    assert found.kind == kind
    assert found.name == ("Ada" if kind == "known" else None)
    assert (found.nearest is None) == (found.similarity is None) == (not gallery)
    assert (found.runner_up is None) == (len(gallery) < 2)


def test_several_pictures_of_a_person_count_as_their_middle() -> None:
    both = np.stack([at(0.6) * (1, 1, 1), at(0.6) * (1, 1, -1)]).astype(np.float32)
    np.testing.assert_allclose(centroid(both), X, atol=1e-6)
    assert identify(X, {"Ada": both, "Bob": at(0.7)}, LEVEL).name == "Ada"
    with pytest.raises(EmbeddingError, match="different people"):
        centroid(np.stack([X, -X]))
    with pytest.raises(EmbeddingError, match="pool the embeddings again"):
        identify(X, {"Ada": X[:2]}, LEVEL)


def test_a_larger_gallery_takes_its_own_thresholds_and_too_large_a_one_is_refused() -> None:
    figures = Identity(False, "centred", 0.1, 0.01, (LEVEL, replace(LEVEL, gallery=8)))
    sizes = [level_for(figures, people, Path("b")).gallery for people in (0, 4, 5, 8)]
    assert sizes == [4, 4, 8, 8]
    with pytest.raises(IdentityError, match=r"9 people .* at most 8: run .*--gallery 9"):
        level_for(figures, 9, Path("b"))


def test_a_pooled_vector_is_a_unit_and_forgets_what_all_have_in_common() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32) + 100
    mean = pool(rows)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    vector = Reduction(np.full(3, 100, np.float32))(mean)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(vector * np.linalg.norm(mean - 100), mean - 100, atol=1e-5)
    with pytest.raises(EmbeddingError, match="nothing by which"):
        Reduction(mean)(mean)


def test_discriminants_find_what_people_differ_in() -> None:
    fitting, held_out = invented(), invented(seed=1)
    plain = equal_error_rate(held_out, centring(fitting))
    fitted = equal_error_rate(held_out, discriminants(fitting, 8))
    assert fitted < 0.06 < 0.2 < plain
    assert equal_error_rate(held_out, None) > plain - 0.05


def test_people_are_split_whole() -> None:
    parts = [invented(10).part(index, 3) for index in range(3)]
    assert [list(part.names) for part in parts] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert sum(len(part.means) for part in parts) == len(invented(10).means)


def test_thresholds_keep_wrong_names_at_the_aim_where_they_were_chosen() -> None:
    people, reduction = invented(noise=1.0), discriminants(invented(seed=1, noise=1.0), 8)
    for gallery in (1, 8):
        trials = [try_galleries(people, reduction, gallery, count) for count in (1, 3)]
        level = choose(gallery, trials)
        assert level.new <= level.known
        for one, enrolled in zip(trials, (1, 3), strict=True):
            found = rates(one, level, enrolled, 60)
            assert found.false_accept <= AIM
            assert found.misnamed <= AIM
            assert 0 < found.known < 1
            assert found.known + found.taken_for_new + found.misnamed <= 1
        # No lower threshold would do, as far as the tried margins go.
        lower = replace(level, known=level.known - 0.02)
        worst = [rates(one, lower, 1, 60) for one in trials]
        assert max(max(one.false_accept, one.misnamed) for one in worst) > AIM


def test_what_is_measured_is_what_the_runtime_decides() -> None:
    people, reduction = invented(noise=1.0), discriminants(invented(seed=1, noise=1.0), 8)
    for gallery in (1, 4):
        trials = try_galleries(people, reduction, gallery, 1)
        named = trials.named(LEVEL.known, LEVEL.margin)
        assert 0 < named.mean() < 1
        for number in range(0, len(named), 97):
            second = float(trials.second[number]) if gallery > 1 else None
            kind = decide(float(trials.best[number]), second, LEVEL)
            assert (kind == "known") == named[number]


@pytest.fixture(scope="module")
def recorded(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, measured on few drawn people: the mechanics, not the quality."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("identity") / "bundle"))
    assert bench.main([str(folder), "--people", "12", "--record", "--gallery", "3", *ALONE]) == 0
    return folder


def test_a_bundle_that_was_not_measured_names_the_command(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.manifest.identity is None
    with pytest.raises(IdentityError, match=r"python bench/identity.py \S+ --record"):
        Identifier(bundle.manifest, bundle.path)


def test_a_recorded_bundle_identifies(recorded: Path) -> None:
    bundle = open_bundle(recorded)
    identity = bundle.manifest.identity
    assert identity is not None
    assert not identity.own_pictures
    assert [level.gallery for level in identity.levels] == [1, 2, 3]
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest
    identifier = Identifier(bundle.manifest, bundle.path)
    assert identifier.key == bundle.manifest.files[IDENTITY_FILE].sha256
    shape = bundle.manifest.architecture
    rng = np.random.default_rng(0)
    vision = bundle.manifest.files["vision.onnx"].sha256
    ada, bob = (
        UserEmbedding(rng.standard_normal((shape.image_tokens, shape.width)), vision)
        for _ in range(2)
    )
    vector = identifier.pool(ada)
    assert identifier.identify(vector, {"Ada": vector}).name == "Ada"
    assert identifier.identify(vector, {}).kind == "new"
    gallery = {"Ada": vector, "Bob": identifier.pool(bob)}
    assert identifier.identify(vector, gallery).nearest == "Ada"
    with pytest.raises(EmbeddingError, match="another|encoder"):
        identifier.pool(UserEmbedding(ada.features, "0" * 64))


def test_an_engine_names_whom_it_keeps(recorded: Path, tmp_path: Path) -> None:
    """The same picture is the same person; whoever is forgotten is nobody; disk counts too."""
    pictures = [
        np.random.default_rng(seed).integers(0, 255, (60, 60, 3), np.uint8) for seed in (1, 2)
    ]
    consent = Consent(datetime.now(timezone.utc), "said yes", "embedding")
    with UserVLM.load(recorded, users=tmp_path, threads=1, verify=False) as vlm:
        assert vlm.identify(pictures[0]).kind == "new"
        for name, picture in zip(("Ada", "Bob"), pictures, strict=True):
            vlm.users.keep(name, vlm.encode(picture), consent)
        assert [vlm.identify(picture).nearest for picture in pictures] == ["Ada", "Bob"]
    with UserVLM.load(recorded, users=tmp_path, threads=1, verify=False) as vlm:
        assert [vlm.identify(picture).nearest for picture in pictures] == ["Ada", "Bob"]
        vlm.users.forget("Ada")
        assert vlm.identify(pictures[0]).nearest == "Bob"
        vlm.users.keep("Bob", vlm.encode(pictures[0]))
        assert vlm.identify(pictures[0]).similarity == pytest.approx(1, abs=1e-5)


def test_recording_again_and_being_killed_between_leave_a_whole_bundle(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(recorded)
    identity = bundle.manifest.identity
    assert identity is not None
    reduction = Reduction(np.ones(bundle.manifest.architecture.width, np.float32))
    with monkeypatch.context() as patched:
        patched.setattr(bench, "record_file", _killed)
        with pytest.raises(KeyboardInterrupt):
            bench.record(bundle, identity, reduction)
    between = open_bundle(recorded)
    assert between.manifest.identity is None
    bench.record(between, identity, reduction)
    assert open_bundle(recorded).manifest == replace(
        bundle.manifest,
        files={**bundle.manifest.files, IDENTITY_FILE: record_file(recorded / IDENTITY_FILE)},
    )


def _killed(path: Path) -> None:
    raise KeyboardInterrupt(path)


def test_a_damaged_or_foreign_reduction_is_refused(recorded: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(recorded, tmp_path / "bundle"))
    manifest = open_bundle(folder).manifest
    width = manifest.architecture.width
    write_reduction(folder, Reduction(np.ones(width - 1, np.float32)))
    with pytest.raises(BundleError, match="does not fit.*bench/identity.py"):
        Identifier(manifest, folder)
    write_reduction(folder, Reduction(np.full(width, np.nan, np.float32)))
    with pytest.raises(BundleError, match="does not fit"):
        Identifier(manifest, folder)
    for content in (b"", b"not a zip"):
        (folder / IDENTITY_FILE).write_bytes(content)
        with pytest.raises(BundleError, match="cannot be read"):
            Identifier(manifest, folder)
    (folder / IDENTITY_FILE).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        Identifier(manifest, folder)


def test_a_folder_of_people_is_measured_and_leaves_no_name(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "people"
    drawn = list(bench.drawn(9))
    for index, (number, picture) in enumerate(drawn):
        if index % bench.PICTURES < 4:
            person = pictures / f"Somebody-{number}"
            person.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(person / f"{index}.jpg")
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    before = (folder / MANIFEST_FILE).read_bytes()
    given = [str(folder), "--pictures", str(pictures), *ALONE]
    assert bench.main([*given, "--record"]) == 2
    assert "--consent" in capsys.readouterr().err
    assert (folder / MANIFEST_FILE).read_bytes() == before
    assert bench.main([*given, "--record", "--consent"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said.splitlines()[-1])["own_pictures"]
    assert "Somebody" not in said + (folder / MANIFEST_FILE).read_text(encoding="utf-8")


def test_too_few_people_measure_nothing(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([str(tiny_bundle), "--pictures", str(tmp_path)]) == 2
    assert "at least 9 people and 4 pictures" in capsys.readouterr().err
    bench._check_enough(invented(9), 2)
    with pytest.raises(IdentityError, match="at least 12 people"):
        bench._check_enough(invented(9), 3)


def test_the_same_person_is_found_in_new_pictures(pocket_bundle: Path) -> None:
    """The shipped model on few people: far from chance (50 %). The rates are the bench's."""
    people = bench.embed(open_bundle(pocket_bundle), bench.drawn(24), threads=1)
    identity, _, _ = bench.measure(people, (2,), own=False)
    assert identity.equal_error_rate < 0.2
