"""Groups, losses and rankers that cannot go together are refused in one line."""

from __future__ import annotations

import pytest

from stillhouse.errors import StillhouseError
from stillhouse.pipeline.check import check
from stillhouse.pipeline.teachers import scoring_depth
from stillhouse.recipe import load_recipe
from stillhouse.recipe.groups import GroupsSpec
from stillhouse.training.rules import drawn_depth

GROUPS = "stages.distill.groups"
LABELS = "stages.distill.loss={name: contrastive}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # The recipe alone says no.
        ([f"{GROUPS}={{num_negatives: 0}}"], r"num_negatives is 0, but strategy random needs at least 1"),
        ([f"{GROUPS}={{strategy: triples}}"], r"strategy triples needs a file of triples"),
        ([f"{GROUPS}={{triples: a.tsv}}"], r"triples is set, but strategy random does not read it"),
        ([f"{GROUPS}={{strategy: triples, triples: a, depth: 3}}"], r"depth is of the candidates"),
        ([f"{GROUPS}={{unscored: floor}}"], r"unscored is for in_batch and uniform, but strategy is random"),
        ([f"{GROUPS}={{false_negative_margin: 1.5, false_negative_margin_kind: relative}}"], r"relative is a fraction"),
        ([f"{GROUPS}={{false_negative_margin_kind: relative}}"], r"false_negative_margin is None, but relative"),
        # So does what goes with it.
        ([f"{GROUPS}={{strategy: triples, triples: nowhere.tsv}}"], r"groups\.triples: nowhere\.tsv: no such file"),
        ([f"{GROUPS}={{strategy: in_batch}}"], r"groups\.unscored: missing; loss kl reads teacher scores and in_batch"),
        ([f"{GROUPS}={{strategy: uniform}}"], r"groups\.unscored: missing; loss kl reads teacher scores and uniform"),
        ([f"{GROUPS}={{strategy: in_batch, num_negatives: 0, unscored: floor}}"], r"floor is the lowest score"),
        (
            [f"{GROUPS}={{strategy: in_batch, num_negatives: 0, unscored: label_only}}"],
            r"label_only leaves the positive",
        ),
        ([f"{GROUPS}={{strategy: uniform, unscored: label_only}}"], r"kl has nothing to learn"),
        (
            [f"{GROUPS}={{strategy: in_batch}}", LABELS, "stages.distill.queries_per_step=1"],
            r"queries_per_step: 1 query has no others",
        ),
        (
            [f"{GROUPS}={{strategy: in_batch}}", LABELS, "student={ranker: cross_encoder, backbone: minilm}"],
            r"in_batch compares two vectors by one product, but the ranker is a cross_encoder",
        ),
        (
            ["stages.distill.optimizer.kernel_learning_rate=1e-4"],
            r"stages\.distill\.optimizer\.kernel_learning_rate: dual_encoder has no kernels; take the key out",
        ),
        (
            ["teachers.t={ranker: tk, backbone: minilm, stages: {a: {loss: {name: kl}}}}"],
            r"teachers\.t\.stages\.a\.loss: kl reads teacher scores, but there are none",
        ),
        (
            [
                "teachers.t={ranker: tk, backbone: minilm, stages: {a: {loss: {name: contrastive}, "
                "groups: {strategy: teacher_top}}}}"
            ],
            r"teachers\.t\.stages\.a\.groups\.strategy: teacher_top reads teacher scores",
        ),
        (
            [f"baselines.b={{{GROUPS}: {{strategy: in_batch, num_negatives: 3}}}}"],
            r"baselines\.b: stages\.distill\.groups\.unscored: missing",
        ),
    ],
)
def test_what_cannot_work_is_one_line(settings, said):
    with pytest.raises(StillhouseError, match=said) as caught:
        check(load_recipe("smoke", settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("{strategy: in_batch, unscored: score_on_the_fly}", "score_on_the_fly needs teachers that are rankers"),
        (
            "{false_negative_margin: 1.0}",
            "a margin needs magnitudes, but the scores of teacher mine give only an order",
        ),
    ],
)
def test_imported_scores_can_do_less(tmp_path, groups, said):
    (tmp_path / "scores.tsv").write_text("q\td\t1\n")
    teachers = f"teachers={{mine: {{scores: {tmp_path / 'scores.tsv'}, scale: order}}}}"
    with pytest.raises(StillhouseError, match=said):
        check(load_recipe("smoke", [teachers, f"{GROUPS}={groups}", "stages.distill.loss={name: ranknet_order}"]))


@pytest.mark.parametrize(
    "settings",
    [
        [f"{GROUPS}={{strategy: in_batch, unscored: score_on_the_fly, false_negative_margin: 0.5}}"],
        [f"{GROUPS}={{strategy: in_batch, num_negatives: 0}}", LABELS],
        [
            f"{GROUPS}={{strategy: uniform, unscored: label_only}}",
            "stages.distill.extra_losses={label: {name: contrastive}}",
        ],
        ["stages.distill.optimizer.kernel_learning_rate=1e-4", "student={ranker: tk, backbone: minilm}"],
    ],
)
def test_what_can_work_passes(settings):
    check(load_recipe("smoke", settings))


def test_one_negative_comes_with_a_triple():
    assert GroupsSpec(strategy="triples", triples="a.tsv").num_negatives == 1
    assert GroupsSpec(strategy="triples", triples="a.tsv", num_negatives=5).num_negatives == 5


@pytest.mark.parametrize(
    ("groups", "depth"),
    [
        ({}, 30),
        ({"depth": 7}, 7),
        ({"strategy": "in_batch", "depth": 7}, 7),
        ({"strategy": "triples", "triples": "a.tsv"}, 0),
        ({"strategy": "uniform"}, 0),
        ({"strategy": "uniform", "unscored": "floor"}, 30),
    ],
)
def test_the_teacher_scores_as_deep_as_groups_reach(groups, depth):
    assert drawn_depth(GroupsSpec(**groups), 30) == depth


def test_the_teacher_scores_as_deep_as_any_trial_or_baseline_reaches(tmp_path):
    recipe = load_recipe("demo")
    assert scoring_depth(recipe) == recipe.stages["distill"].groups.depth == 16
    baseline = load_recipe("demo", ["baselines.deep={stages.distill.groups.depth: 25}"])
    assert scoring_depth(baseline) == 25
    space = tmp_path / "depth.yaml"
    space.write_text(
        "space:\n"
        "  stages.distill.groups.strategy: {choice: [random, log_random]}\n"
        "  stages.distill.groups.depth: {int: [4, 22], when: {stages.distill.groups.strategy: log_random}}\n"
    )
    assert scoring_depth(load_recipe("demo", [f"search.space={space}", "search.trials=2"])) == 22
