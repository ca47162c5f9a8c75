"""The reference study: its tables give its page, the README's answer, and words that differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.selu_answer import TITLE
from harness.reports.answer import answer
from harness.reports.answer_page import page_text, with_answer
from harness.reports.claims.claim import NOT_ENOUGH_DATA, DecidedClaim, decide_all
from harness.reports.claims.selection import select
from harness.reports.evidence import Evidence, gather
from harness.reports.publications import PUBLISHED, comparison
from harness.reports.share_tables import cell_shares
from harness.store import tables

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "runs" / "reference"
MOST_MEGABYTES = 5.0
# A word that more cells than this share one tells nothing, unless a claim states it.
MOST_OF_ONE_WORD = 0.8
STATED_BY = {
    "input": "inputs_have_common_moments",
    "weights": "lecun_weights_meet_the_premise",
    "dependence": "inputs_are_independent",
    "units": "single_units_are_normalised",
    "gradients": "gradients_stay_bounded",
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return gather(tables.read(FOLDER / "tables"))


@pytest.fixture(scope="module")
def decided(evidence) -> tuple[DecidedClaim, ...]:
    return decide_all(evidence)


def test_every_claim_is_decided_by_numbers(decided):
    missing = [entry.claim.name for entry in decided if entry.decision.word == NOT_ENOUGH_DATA]
    assert missing == []
    assert all(entry.decision.numbers for entry in decided)


def test_the_page_is_what_the_tables_give(evidence):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    text = page_text(evidence, TITLE, ["bash scripts/reference.sh"], lambda picture: None)
    wanted = [line for line in text.splitlines() if line]
    written = set(page.splitlines())
    assert [line for line in wanted if line not in written] == []


def test_the_readme_has_the_answer_of_the_tables(decided):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_answer(readme, answer(decided)) == readme


def test_no_word_is_that_of_nearly_all_cells_unless_a_claim_states_it(evidence, decided):
    sentences = {entry.claim.name: entry.decision.sentence for entry in decided}
    shares = cell_shares(evidence)
    cells = set(select(evidence, {"activation": "selu", "repair": "none"})["cell_id"])
    shares = shares[shares["cell_id"].isin(cells)]
    for (name, phase), group in shares.groupby(["name", "phase"]):
        counts = group["word"].value_counts()
        if counts.iloc[0] > MOST_OF_ONE_WORD * len(group):
            assert name in STATED_BY, f"{name} at {phase}: {counts.to_dict()}"
            assert f"{counts.index[0]} in {counts.iloc[0]}" in sentences[STATED_BY[name]]


@pytest.mark.parametrize("name", [publication.name for publication in PUBLISHED])
def test_publications_were_repeated(evidence, name):
    (publication,) = [entry for entry in PUBLISHED if entry.name == name]
    assert len(comparison(evidence, publication)) == len(publication.values)


def test_the_tables_are_small():
    size = sum(path.stat().st_size for path in (FOLDER / "tables").iterdir())
    assert size < MOST_MEGABYTES * 1e6


def test_the_losses_of_figure_1_are_those_of_its_tables():
    folder = FOLDER / "figure_1"
    kept = tables.read(folder / "tables")
    ends = kept.curves.sort_values("step").groupby("trial_id").last()
    trials = kept.trials.set_index("trial_id")
    assert set(ends["epoch"]) == {44.0}
    page = (folder / "README.md").read_text()
    for words, normalization in (("self-normalizing", "none"), ("batch normalization", "batch")):
        own = trials[trials["normalization"] == normalization].sort_values("depth")
        assert list(own["depth"]) == [8, 16, 32]
        losses = " | ".join(f"{ends['train_loss'][trial]:.3f}" for trial in own.index)
        assert f"| {words} | {losses} |" in page
