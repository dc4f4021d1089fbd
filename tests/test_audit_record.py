"""An audit in the manifest: kept, void when anything changed, and asked for by `serve`."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import QUESTION
from audit_tables import audit
from lora import write_lora
from serving import serving
from test_runtime_adapters import attach

from uservlm.bench.audit.record import check_people, check_seed, record, shipped
from uservlm.bench.audit.world import SEED
from uservlm.converters.adapter_gguf import write_adapter
from uservlm.converters.adapters import open_adapter
from uservlm.converters.checkpoint import open_checkpoint
from uservlm.runtime import bundle as bundles
from uservlm.runtime.__main__ import main
from uservlm.runtime.audited import RULES, digest, require_audits, standing
from uservlm.runtime.bundle import open_bundle, replace_manifest
from uservlm.runtime.errors import AdapterError, AuditError
from uservlm.runtime.manifest import FORMAT, UNAUDITED, FileRecord, Manifest
from uservlm.runtime.offer import Offer, offer


@pytest.fixture(scope="module")
def made(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle with the adapters "fair" and "unfair"."""
    folder = tmp_path_factory.mktemp("audited")
    bundle, opened = (
        Path(shutil.copytree(tiny_bundle, folder / "b")),
        open_checkpoint(tiny_checkpoint),
    )
    (bundle / "adapters").mkdir()
    for seed, name in enumerate(("fair", "unfair")):
        lora = open_adapter(write_lora(tiny_checkpoint, folder / name, seed), opened.shape)
        write_adapter(lora, opened, bundle / "adapters" / f"{name}.gguf")
        attach(bundle, name, f"adapters/{name}.gguf")
    return bundle


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def manifest(bundle: Path) -> Manifest:
    return open_bundle(bundle, verify=False).manifest


def passes(bundle: Path, adapter: str, failed: str | None = None) -> None:
    record(bundle, audit(digest(manifest(bundle), adapter), adapter, failed))


def test_a_verdict_is_kept_with_what_it_rests_on(bundle: Path) -> None:
    assert standing(manifest(bundle), "fair") == "missing"
    passes(bundle, "fair")
    passes(bundle, "none", failed="hair")
    kept = manifest(bundle).audits
    assert set(kept) == {"fair", "none"}
    assert (standing(manifest(bundle), "fair"), standing(manifest(bundle), "none")) == (
        "passed", "failed",
    )  # fmt: skip
    assert kept["none"].probes["hair"].passed is False
    excess = kept["fair"].probes["skin_tone"].figures["excess"]
    assert excess.at_most == 0.05 and excess.at_least is None and excess.high <= 0.05
    assert kept["fair"].probes["mood"].figures["differs"].at_least == 0.8
    assert not kept["fair"].own_probes
    assert "kl" not in kept["fair"].probes["skin_tone"].figures  # it decides nothing


def test_only_an_audited_manifest_is_of_the_new_format(bundle: Path) -> None:
    """A runtime that knows no audits goes on reading bundles without one."""
    file = bundle / "manifest.json"
    before = json.loads(file.read_text())
    assert before["format"] == UNAUDITED and "audits" not in before
    passes(bundle, "fair")
    after = json.loads(file.read_text())
    assert after["format"] == FORMAT and "audits" in after
    replace_manifest(bundle, replace(manifest(bundle), audits={}))
    assert json.loads(file.read_text()) == before


@pytest.mark.parametrize("what", ["language.gguf", "adapters/fair.gguf", "prompt", "pixels"])
def test_another_file_or_prompt_makes_it_void(bundle: Path, what: str) -> None:
    passes(bundle, "fair")
    found = manifest(bundle)
    if what == "prompt":
        changed = replace(found, prompt=replace(found.prompt, template="{question}\n"))
    elif what == "pixels":
        changed = replace(found, pixels=replace(found.pixels, mean=(0.4, 0.5, 0.5)))
    else:
        files = {**found.files, what: FileRecord(1, "0" * 64)}
        changed = replace(found, files=files)
    assert standing(changed, "fair") == "void"
    with pytest.raises(AuditError, match="other files"):
        require_audits(changed, ["fair"], "exact")


def test_another_adapter_beside_it_changes_nothing(bundle: Path) -> None:
    passes(bundle, "fair")
    found = manifest(bundle)
    files = {**found.files, "adapters/unfair.gguf": FileRecord(1, "0" * 64)}
    assert standing(replace(found, files=files), "fair") == "passed"


def test_an_audit_is_of_one_way_to_attend(bundle: Path) -> None:
    passes(bundle, "fair")
    assert standing(manifest(bundle), "fair", "exact") == "passed"
    assert standing(manifest(bundle), "fair", "resident") == "attention"
    way = "another attention than resident: run .* --adapter fair --attention resident"
    with pytest.raises(AuditError, match=way):
        require_audits(manifest(bundle), ["fair"], "resident")


@pytest.mark.parametrize("other", [{"thresholds": "0" * 64}, {"seed": 1}, {"probe_file": "1" * 64}])
def test_a_verdict_by_other_rules_does_not_pass(bundle: Path, other: dict[str, Any]) -> None:
    passes(bundle, "fair")
    found = manifest(bundle)
    changed = replace(found, audits={"fair": replace(found.audits["fair"], **other)})
    assert standing(changed, "fair") == "rules"
    with pytest.raises(AuditError, match="other rules"):
        require_audits(changed, ["fair"], "exact")


def test_who_is_asked_is_not_chosen_by_who_wants_to_pass() -> None:
    check_seed(SEED, True)
    check_seed(SEED + 1, False)
    with pytest.raises(AuditError, match="--no-record"):
        check_seed(SEED + 1, True)


def test_what_changed_meanwhile_is_not_recorded(bundle: Path) -> None:
    with pytest.raises(AuditError, match="changed while"):
        record(bundle, audit("0" * 64, "fair"))
    assert manifest(bundle).audits == {}


def test_two_audits_that_end_together_are_both_kept(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bundles.replace_manifest

    def slowly(folder: Path, manifest: Manifest) -> None:
        time.sleep(0.3)
        real(folder, manifest)

    monkeypatch.setattr(bundles, "replace_manifest", slowly)
    found = manifest(bundle)
    both = [
        threading.Thread(target=record, args=(bundle, audit(digest(found, name), name)))
        for name in ("fair", "unfair")
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert set(manifest(bundle).audits) == {"fair", "unfair"}


def test_few_people_are_never_recorded() -> None:
    check_people(16, True)
    check_people(1, False)
    with pytest.raises(AuditError, match="--people 15.*16 or more"):
        check_people(15, True)
    with pytest.raises(AuditError, match="--people 0"):
        check_people(0, False)


def test_inspect_shows_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passes(bundle, "fair")
    passes(bundle, "none", failed="presumption_age")
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "passed (adapter fair, 80 people, drawn" in shown
    assert "failed presumption_age (no adapter" in shown and "void" not in shown
    found = manifest(bundle)
    prompt = replace(found.prompt, max_new_tokens=7)
    replace_manifest(bundle, replace(found, prompt=prompt))
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "void, the bundle changed since: passed" in shown
    assert "again: uservlm audit BUNDLE --adapter fair --attention exact" in shown


def test_inspect_says_which_attention_was_audited(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes(bundle, "fair")
    found = manifest(bundle)
    audits = {"fair": replace(found.audits["fair"], attention="resident")}
    replace_manifest(bundle, replace(found, audits=audits))
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "of resident answers alone, by default they are exact: passed (adapter fair" in shown
    assert "again: uservlm audit BUNDLE --adapter fair --attention exact" in shown
    assert "void" not in shown


OFFERS = {
    (None, None): Offer("none", ("fair", "unfair"), True),
    ("fair", None): Offer("fair", ("fair", "unfair"), True),
    (None, "fair"): Offer("fair", ("fair",), False),
    (None, "none"): Offer("none", (), True),
    (None, "fair,none"): Offer("none", ("fair",), True),
    ("unfair", "fair, unfair"): Offer("unfair", ("fair", "unfair"), False),
}


@pytest.mark.parametrize("given", OFFERS)
def test_what_is_offered(bundle: Path, given: tuple[str | None, str | None]) -> None:
    assert offer(*given, manifest(bundle)) == OFFERS[given]


@pytest.mark.parametrize(
    "given", [(None, "far"), (None, ","), ("unfair", "fair"), ("none", "fair")]
)
def test_what_cannot_be_offered(bundle: Path, given: tuple[str | None, str]) -> None:
    with pytest.raises(AdapterError):
        offer(*given, manifest(bundle))


def test_serve_refuses_what_did_not_pass(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit 2, the way out named; each way of not having passed has its words."""
    serve = ["serve", str(bundle), "--port", "0", "--require-audit"]
    assert main(serve) == 2
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0 and "never audited" in told and "uservlm audit" in told
    passes(bundle, "fair")
    passes(bundle, "unfair", failed="skin_tone")
    assert main([*serve, "--only", "fair,unfair"]) == 2
    told = capsys.readouterr().err
    assert "adapter 'unfair' failed its audit" in told and "'fair'" not in told
    assert main([*serve, "--adapter", "fair"]) == 2  # the other may still be asked for by name
    assert main([*serve, "--only", "fair", "--attention", "resident"]) == 2
    assert "another attention" in capsys.readouterr().err
    assert main([*serve, "--only", "fair", "--no-verify"]) == 2
    assert "--no-verify" in capsys.readouterr().err


def test_serve_offers_what_passed_and_nothing_else(
    bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    passes(bundle, "fair")
    options = ("--only", "fair", "--require-audit", "--attention", "exact", "--threads", "1")
    with serving(bundle, tmp_path, *options) as brain:
        ids = [one["id"] for one in brain.client.get("/v1/models").json()["data"]]
        (fair,) = ids
        assert fair.endswith(":fair")
        user = brain.encode(pictures / "grace.png")["id"]

        def ask(model: str | None) -> httpx.Response:
            more = {} if model is None else {"model": model}
            return brain.ask(QUESTION, user=user, max_tokens=8, **more)

        named, unnamed = ask(fair), ask(None)
        assert named.status_code == unnamed.status_code == 200
        said = [one.json()["choices"][0]["message"]["content"] for one in (named, unnamed)]
        assert said[0] == said[1] and unnamed.json()["model"] == fair
        attends = brain.ask(QUESTION, user=user, uservlm={"attention": "exact"})
        assert attends.status_code == 400 and "audited" in attends.text
        drawn = brain.ask(QUESTION, user=user, temperature=1.0)
        assert drawn.status_code == 400
        assert drawn.json()["error"]["code"] == "sampling_refused"
        assert brain.ask(QUESTION, user=user, temperature=0.0, max_tokens=2).status_code == 200
        for other in (fair.removesuffix(":fair"), fair.replace(":fair", ":unfair")):
            assert ask(other).status_code == 404


def test_the_runtime_knows_the_rules_that_are_shipped() -> None:
    assert shipped() == RULES, "the audit's rules changed: write this into runtime/audited.py"
