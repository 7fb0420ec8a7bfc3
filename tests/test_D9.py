"""D9's learner in its small world and in self-play, and what is wrong once edited."""

from dataclasses import replace

import pytest
import torch

from chapters.D_rlhf import D9_tools_and_turns as lesson
from chapters.D_rlhf.checks.D9 import EDITS
from chapters.D_rlhf.evidence import D9 as evidence
from chapters.diagnosis.logs import suspects
from chapters.diagnosis.names import learners_of
from chapters.envs.guessing import GuessingGame, IntervalPolicy
from chapters.envs.tool_world import ToolWorld
from chapters.exact import kuhn
from chapters.utils import RunLog
from chapters.utils.edits import edited


def trained(module, tmp_path, **changes):
    """(exact return at the end over the optimum, log) of a short run in the small world."""
    world, log = ToolWorld(), RunLog(tmp_path, "D9")
    policy = world.policy(0, dtype=torch.float32)
    settings = {"num_prompts": 2, "group_size": 16, "num_updates": 40, "learning_rate": 0.1, **changes}
    module.train(policy, world, replace(lesson.Config(), **settings), log, "x")
    log.close()
    return lesson.expected_return(policy, world.every_text()).item() / world.best_return(), log


def named(log):
    """What `rl diagnose` suspects first, if anything."""
    (learner,) = learners_of(log.metrics)
    found = suspects(learner)
    return found[0].bug if found else None


def test_the_learner_finds_the_tool(tmp_path):
    share, log = trained(lesson, tmp_path)
    assert share > 0.9
    assert set(log.series("x_world_pull")[1]) == {0.0}
    assert min(log.series("x_early_pull")[1][:5]) > 0.0
    assert log.last("x_answered") > 0.9
    assert named(log) is None


@pytest.mark.parametrize("name", ["inverted_mask", "climbs_the_loss"])
def test_an_edited_learner_does_not(name, tmp_path):
    share, log = trained(edited(lesson, EDITS[name]), tmp_path)
    assert share < 0.9
    if name == "inverted_mask":
        assert max(log.series("x_world_pull")[1]) == pytest.approx(1.0)


def test_lost_credit_and_learnt_observations_show_in_the_log(tmp_path):
    _, log = trained(edited(lesson, EDITS["credit_after_answer"]), tmp_path / "late", num_updates=8)
    assert set(log.series("x_early_pull")[1]) == {0.0}
    assert max(log.series("x_answered")[1]) > 0.0
    assert named(log) == "calls_uncredited"
    _, log = trained(edited(lesson, EDITS["observations_learnt"]), tmp_path / "all", num_updates=8)
    assert min(log.series("x_world_pull")[1]) > 0.1
    assert named(log) == "world_learnt"


def test_a_rollout_of_the_guessing_game_wins_as_often_as_its_policy_should():
    game = GuessingGame(7, 3)
    policy = IntervalPolicy(game)
    generator = torch.Generator().manual_seed(0)
    policy.table.data = torch.randn(policy.table.shape, generator=generator)
    batch = lesson.rollout(policy, game, torch.zeros(4000, dtype=torch.long), generator)
    assert batch["rewards"].mean().item() == pytest.approx(policy.success(), abs=0.04)


def test_a_table_in_self_play_loses_less(tmp_path, monkeypatch):
    """The price must be taken off: added, it ends above what a player who never mixes loses."""
    compared, right = set(), lesson.advantages

    def advantages(rewards, problems):
        compared.update(problems.tolist())
        return right(rewards, problems)

    monkeypatch.setattr(lesson, "advantages", advantages)
    log = RunLog(tmp_path, "D9")
    table = torch.zeros(12, 2, requires_grad=True)
    extra = replace(evidence.Config(), kuhn_updates=60, kuhn_games=128)
    settings = lesson.Config()
    by_lot = evidence.self_play([table], lambda: table.log_softmax(-1), 0.05, settings, extra, log, "x")
    log.close()
    assert log.last("x_last") < kuhn.PURE_LOSS
    assert log.last("x_by_lot") == pytest.approx(kuhn.exploitability(by_lot))
    assert log.last("x_last") < log.last("x_by_lot") < kuhn.RANDOM_LOSS, "the lot still draws beginners"
    assert log.series("x_last")[1][0] == pytest.approx(kuhn.RANDOM_LOSS, abs=1e-6)
    assert compared == set(range(6)), "a game is compared with games of the same seat and card"


def test_a_factor_is_no_distance_and_a_direction_is():
    exact = torch.tensor([1.0, 2.0])
    assert evidence.off(3.0 * exact, exact) == pytest.approx(0.0, abs=1e-6)
    assert evidence.off(-exact, exact) == pytest.approx(1.0)
    assert evidence.off(torch.zeros(2), exact) == pytest.approx(1.0)
    assert evidence.off(torch.tensor([2.0, -1.0]), exact) == pytest.approx(1.0)
