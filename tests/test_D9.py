"""D9's learner in its small world and in self-play, and what is wrong once edited."""

from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from chapters.D_rlhf import D9_tools_and_turns as lesson
from chapters.D_rlhf.checks.D9 import EDITS, certain_policy, probability
from chapters.D_rlhf.evidence import D9 as evidence
from chapters.diagnosis.logs import suspects
from chapters.diagnosis.names import learners_of
from chapters.envs import calculator
from chapters.envs.guessing import GuessingGame, IntervalPolicy
from chapters.envs.tool_world import ToolWorld
from chapters.exact import kuhn
from chapters.text import kuhn_words
from chapters.text.models import make_model, make_tokenizer
from chapters.text.recipes import calculator_recipe, kuhn_recipe
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
    steps, losses = log.series("x_last")
    assert steps == [*range(0, 61, 10)]
    assert losses[0] == pytest.approx(kuhn.RANDOM_LOSS, abs=1e-6)
    assert compared == set(range(6)), "a game is compared with games of the same seat and card"


def test_a_factor_is_no_distance_and_a_direction_is():
    exact = torch.tensor([1.0, 2.0])
    assert evidence.off(3.0 * exact, exact) == pytest.approx(0.0, abs=1e-6)
    assert evidence.off(-exact, exact) == pytest.approx(1.0)
    assert evidence.off(torch.zeros(2), exact) == pytest.approx(1.0)
    assert evidence.off(torch.tensor([2.0, -1.0]), exact) == pytest.approx(1.0)


# What is trained on, and what is measured


class Still(lesson.Adam):
    """Takes no step, so that its gradient can be looked at."""

    def step(self):
        pass


def many(num):
    """The small world with so many problems."""
    return ToolWorld(priors=((0.7, 0.2, 0.1),) * num)


def test_a_step_is_along_the_loss_of_this_batch_alone():
    """The gradient of the masked loss with weights 1, twice the same; then pulls of this loss."""
    world = ToolWorld()
    policy = world.policy(3)
    batch = lesson.rollout(policy, world, torch.tensor([0, 0, 0, 1, 1, 1]), torch.Generator().manual_seed(0))
    judged = lesson.advantages(batch["rewards"], batch["problems"]).double()
    filled = batch | {"advantages": judged, "weights": torch.ones_like(judged)}
    log_probs = lesson.log_probs_of(policy, batch)
    slopes, expected = torch.autograd.grad(lesson.turns_loss(log_probs, filled), (log_probs, policy.table))
    assert 0 < expected.norm() < 1, "nothing is cut"
    optimizer = Still(policy.parameters(), lr=0.1)
    for _ in range(2):
        seen = lesson.update(policy, optimizer, batch)
        assert torch.allclose(policy.table.grad, expected)
        assert seen == pytest.approx(lesson.pulls(slopes, batch))


def test_training_draws_different_problems_and_is_watched_after_each_update(tmp_path, monkeypatch):
    asked, watched, rates = [], [], []

    def rollout(policy, dialogue, rows, generator):
        asked.append(rows.tolist())
        return {"rewards": torch.tensor([0.0, 1.0])}

    monkeypatch.setattr(lesson, "rollout", rollout)
    monkeypatch.setattr(lesson, "update", lambda policy, optimizer, batch: rates.append(optimizer.lr) or {})
    world, log = many(9), RunLog(tmp_path, "D9")
    cfg = replace(lesson.Config(), num_prompts=4, group_size=3, num_updates=20, learning_rate=0.1)
    lesson.train(ToolWorld().policy(0), world, cfg, log, "x", lambda policy, step: watched.append(step))
    log.close()
    assert watched == list(range(1, 21))
    assert rates == pytest.approx([0.1 * lesson.schedule(i, 20) for i in range(20)])
    for rows in asked:
        assert rows == [row for row in rows[::3] for _ in range(3)], "groups of three"
        assert len(set(rows)) == 4
    assert {row for rows in asked for row in rows} == set(range(9)), "any problem may be drawn"
    assert log.series("x_reward") == (list(range(20)), [0.5] * 20)


def test_the_language_model_is_measured_on_products_that_nothing_was_trained_on(tmp_path, monkeypatch):
    tokenizer, model, trained, asked = make_tokenizer(calculator_recipe()), nn.Linear(1, 1), [], []

    def train(policy, dialogue, cfg, log, name, watch):
        trained.append((policy, dialogue.pairs, name))
        for step in (1, 5, 7):
            watch(policy, step)

    def success(one, dialogue, seed):
        asked.append((one, dialogue, seed))
        return len(asked) / 100

    part = calculator.operands
    monkeypatch.setattr(calculator, "operands", lambda held_out=False: part(held_out)[:200])
    monkeypatch.setattr(lesson, "load_model", lambda *_: (model, tokenizer))
    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(lesson, "success", success)
    monkeypatch.setattr(lesson, "greedy", lambda policy: ("greedy", policy))
    monkeypatch.setattr(lesson, "forbidden", lambda policy, token: ("forbidden", policy, token))
    log = RunLog(tmp_path, "D9")
    found = lesson.learn_calculator(replace(lesson.Config(), num_held_out=30, num_updates=7, seed=2), log)
    log.close()
    ((policy, pairs, _),) = trained
    assert policy is not model, "what was made before the lesson stays"
    held_out = {tuple(pair) for pair in calculator.operands(held_out=True).tolist()}
    assert {tuple(pair) for pair in pairs} == {tuple(pair) for pair in calculator.operands().tolist()}
    call = tokenizer.convert_tokens_to_ids("C")
    kinds = [policy, ("greedy", policy), ("forbidden", policy, call)]
    assert [one for one, _, _ in asked] == 3 * kinds, "before, after five updates, and at the end"
    for _, dialogue, seed in asked:
        assert seed == 2
        assert len({tuple(pair) for pair in dialogue.pairs}) == 30
        assert {tuple(pair) for pair in dialogue.pairs} <= held_out
    assert log.series("success_greedy") == ([0, 5, 7], [0.02, 0.05, 0.08])
    assert found == {"sampled": 0.07, "greedy": 0.08, "forbidden": 0.09}


def test_success_is_that_of_all_problems_once(monkeypatch):
    seen = []

    def rollout(policy, dialogue, rows, generator):
        seen.append((rows.tolist(), generator.initial_seed()))
        return {"rewards": torch.tensor([1.0, 0.0, 1.0, 1.0])}

    monkeypatch.setattr(lesson, "rollout", rollout)
    assert lesson.success(many(4).policy(0), many(4), 5) == 0.75
    ((rows, seed),) = seen
    assert rows == [0, 1, 2, 3]
    assert seed > 1000, "training's generators have small seeds"


@pytest.mark.parametrize("name", [None, "observations_learnt", "credit_after_answer"])
def test_main_claims_the_gradient_and_the_end_of_its_policy(name, tmp_path, monkeypatch):
    module = edited(lesson, EDITS[name]) if name else lesson

    def train(policy, world, cfg, log, named, watch):
        assert (cfg.num_updates, cfg.num_prompts, cfg.group_size) == (60, 2, 32)
        watch(certain_policy(world), 60)

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "draw", lambda log: None)
    monkeypatch.setattr(
        module, "learn_calculator", lambda *_: {"sampled": 0.95, "greedy": 0.99, "forbidden": 0.2}
    )
    log = RunLog(tmp_path, "D9")
    module.main(lesson.Config(), log)
    log.close()
    values = {claim.name: claim.value for claim in log.claims}
    world = ToolWorld()
    assert log.series("world_return")[1] == [
        pytest.approx(lesson.expected_return(policy, world.every_text()).item())
        for policy in (world.policy(0), certain_policy(world))
    ]
    assert values["world_return"] == pytest.approx(
        0.9 / world.best_return(), abs=1e-3
    )  # all but one call each
    assert values["success_sampled"] == 0.95
    assert values["success_forbidden"] == 0.2
    assert (values["gradient_gap"] < 1e-10) == (name is None)


# What the evidence measures


def listed(policy, sampler):
    """(chances by either, advantages, gradients of log pi [M, weights]) of every text, one by one."""
    world = ToolWorld()
    texts = world.every_text()
    rows = range(len(texts["chance"]))
    new, old = (
        torch.tensor([probability(one, world, texts, row) for row in rows], dtype=torch.float64)
        for one in (policy, sampler)
    )
    judged = torch.empty_like(new)
    for problem in range(2):
        here = texts["problems"] == problem
        judged[here] = texts["rewards"][here] - (old * texts["rewards"])[here].sum() / old[here].sum()
    sums = (lesson.log_probs_of(policy, texts) * texts["agent_mask"]).sum(dim=1)
    slopes = [torch.autograd.grad(one, policy.table, retain_graph=True)[0].flatten() for one in sums]
    return new, old, judged, torch.stack(slopes)


def test_what_a_cut_costs_is_that_of_all_texts_one_by_one(tmp_path):
    extra, log = evidence.Config(), RunLog(tmp_path, "D9")
    evidence.claim_weights(lesson.Config(seed=1), extra, log)
    log.close()
    policy = ToolWorld().policy(1)
    kept = policy.table.clone()
    sampler = evidence.drifted(policy, extra.drift, 1)
    assert torch.equal(policy.table, kept)
    assert (sampler.table - policy.table).std().item() == pytest.approx(extra.drift, rel=0.2)
    new, old, judged, slopes = listed(policy, sampler)
    exact = ((new * judged)[:, None] * slopes).sum(dim=0)
    for number, cap in enumerate(evidence.CAPS):
        each = ((new / old).clamp(max=cap) * judged)[:, None] * slopes
        mean = (old[:, None] * each).sum(dim=0)
        assert log.series("cut_bias")[1][number] == pytest.approx(
            ((mean - exact).norm() / exact.norm()).item(), abs=1e-9
        )
        spread = (old * (each - mean).pow(2).sum(dim=1)).sum().sqrt()
        assert log.series("cut_noise")[1][number] == pytest.approx((spread / exact.norm()).item())
    stale = ((old * judged)[:, None] * slopes).sum(dim=0)
    bias = log.series("cut_bias")[1][3]
    assert evidence.CAPS[3] == 2.0
    forgotten = ((stale - exact).norm() / exact.norm()).item()
    values = {claim.name: claim.value for claim in log.claims}
    assert log.last("stale_bias") == pytest.approx(forgotten)
    assert values["uncut_bias"] < 1e-8
    assert values["cut_bias"] == bias
    assert values["cut_beats_none"] == pytest.approx(bias / forgotten)


def test_each_fault_is_measured_where_it_shows(tmp_path, monkeypatch):
    """Faults of weights with texts that another policy wrote, the others with the policy's own."""
    distances = {name: 0.1 * (number + 1) for number, name in enumerate(evidence.FAULTS)}
    distances |= {"groups_mixed_exactly": 0.03, "right": 0.01}
    written, policies = {}, {}

    def loss_of(name):
        def expected_loss(policy, texts, writer):
            written[name], policies[name] = writer, policy
            return name

        return expected_loss

    names = {id(edit): name for name, edit in EDITS.items()}
    monkeypatch.setattr(
        evidence, "edited", lambda _, edit: SimpleNamespace(expected_loss=loss_of(names[id(edit)]))
    )
    monkeypatch.setattr(lesson, "expected_loss", loss_of("right"))
    monkeypatch.setattr(evidence, "gradient", lambda loss, policy: loss)
    monkeypatch.setattr(evidence, "off", lambda found, exact: distances[found])
    log = RunLog(tmp_path, "D9")
    evidence.claim_faults(lesson.Config(seed=4), evidence.Config(), log)
    log.close()
    for name, writer in written.items():
        stale = name in (*evidence.STALE, "right")
        assert (writer is policies[name]) != stale, name
    for name in evidence.FAULTS:
        assert log.last(f"off_{name}") == distances[name]
    assert log.last("off_no_fault") == 0.01
    values = {claim.name: claim.value for claim in log.claims}
    assert values["faults_off"] == pytest.approx(0.1)
    assert values["mixed_groups_off"] == 0.03
    policy = ToolWorld().policy(4)
    new, _, judged, _ = listed(policy, policy)
    rewards = ToolWorld().every_text()["rewards"]
    plain = (new * judged**2).sum().sqrt().item()
    mixed = (new * (rewards - new @ rewards) ** 2).sum().sqrt().item()
    assert (log.last("spread_right"), log.last("spread_mixed")) == pytest.approx((plain, mixed))
    assert values["mixed_groups_spread"] == pytest.approx(mixed / plain)


def test_a_fault_is_trained_and_the_exact_return_watched(tmp_path, monkeypatch):
    trained = []

    def train(policy, world, cfg, log, name, watch):
        trained.append((cfg, name))
        watch(certain_policy(world), 9)

    log = RunLog(tmp_path, "D9")
    monkeypatch.setattr(lesson, "train", None)
    module = ModuleType("edited")
    module.train = train
    evidence.learn(module, lesson.Config(seed=1), log, "x")
    log.close()
    assert trained == [(lesson.Config(seed=1), "x")]
    start = lesson.expected_return(ToolWorld().policy(1), ToolWorld().every_text()).item()
    assert log.series("x_return") == ([0, 9], [pytest.approx(start), pytest.approx(0.9, abs=1e-3)])


def test_symptoms_are_of_all_updates(tmp_path, monkeypatch):
    learnt, names = [], {id(edit): name for name, edit in EDITS.items()}
    pulls = {"observations_learnt": (0.2, 0.0), "credit_after_answer": (0.0, 0.3)}

    def learn(module, cfg, log, name):
        learnt.append((module, cfg, name))
        world, early = pulls.get(name, (0.0, 0.0))
        for step, part in enumerate((1.0, 0.5)):
            log.write(step, **{f"{name}_world_pull": part * world, f"{name}_early_pull": part * early})

    monkeypatch.setattr(evidence, "edited", lambda _, edit: names[id(edit)])
    monkeypatch.setattr(evidence, "learn", learn)
    log = RunLog(tmp_path, "D9")
    log.keep(small="small")
    for step, pull in enumerate((0.1, 0.0)):
        log.write(step, world_world_pull=pull)
    evidence.claim_symptoms(log)
    log.close()
    assert learnt == [(name, "small", name) for name in evidence.TRAINED]
    assert {claim.name: claim.value for claim in log.claims} == pytest.approx(
        {"world_pull": 0.1, "world_pull_learnt": 0.15, "early_pull_lost": 0.3}
    )


def test_guessers_are_judged_by_the_worst_of_four(tmp_path, monkeypatch):
    trained, shares = [], {1: 0.1, 2: 0.27, 3: 0.7, 4: 0.95}

    def train(policy, game, cfg, log, name):
        batches = (cfg.num_updates, cfg.num_prompts, cfg.group_size)
        trained.append((game.num_guesses, game.num_numbers, batches, name))

    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(IntervalPolicy, "success", lambda policy: shares[policy.game.num_guesses])
    monkeypatch.setattr(
        evidence, "most_found", lambda numbers, guesses: min(numbers, 2**guesses - 1) - 0.5 * (guesses == 2)
    )
    log = RunLog(tmp_path, "D9")
    evidence.claim_guessing(lesson.Config(), replace(evidence.Config(), guess_updates=5, guess_games=7), log)
    log.close()
    assert trained == [(guesses, 10, (5, 1, 7), f"guess_{guesses}") for guesses in (1, 2, 3, 4)]
    assert log.series("guess_success") == ([1, 2, 3, 4], list(shares.values()))
    assert log.series("guess_optimum")[1] == pytest.approx([0.1, 0.3, 0.7, 1.0])
    assert {claim.name: claim.value for claim in log.claims} == pytest.approx(
        {"guess_optimum": 0.05, "guess_success": 0.9}
    )


def test_a_language_model_is_asked_for_its_moves_where_they_are_due():
    """Each situation alone, without padding: the chances of pass and bet, of these two."""
    recipe = kuhn_recipe()
    torch.manual_seed(0)
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe, len(tokenizer)).eval()
    for weights in model.parameters():
        weights.data.mul_(5.0)
    found = evidence.reader(model, tokenizer)()
    moves = tokenizer.convert_tokens_to_ids(["pass", "bet"])
    for row, text in zip(found, kuhn_words.situations(), strict=True):
        logits = model(**tokenizer([text], return_tensors="pt")).logits[0, -1, moves]
        assert torch.allclose(row, logits.log_softmax(-1), atol=1e-4), text
    assert found.exp().std(dim=0)[0] > 1e-3, "not the same everywhere"


def test_poker_s_claims_are_of_the_language_model_before_and_by_lot(tmp_path, monkeypatch):
    played = []

    def self_play(parameters, choose, learning_rate, cfg, extra, log, name):
        played.append(name)
        for step, last in ((0, 0.47), (10, 0.3)):
            table = 0.01 * (name == "kuhn_table")
            log.write(step, **{f"{name}_last": last + table, f"{name}_by_lot": last - 0.2 + table})

    monkeypatch.setattr(evidence, "self_play", self_play)
    monkeypatch.setattr(evidence, "pretrained", lambda recipe: (nn.Linear(1, 1), None))
    monkeypatch.setattr(evidence, "reader", lambda *_: None)
    log = RunLog(tmp_path, "D9")
    evidence.claim_kuhn(lesson.Config(), replace(evidence.Config(), cfr_iterations=7), log)
    log.close()
    assert played == ["kuhn_words", "kuhn_table"]
    values = {claim.name: claim.value for claim in log.claims}
    regret = [kuhn.exploitability(kuhn.counterfactual_regret(count)) for count in (1, 3, 7)]
    assert log.series("kuhn_cfr_exploitability") == ([1, 3, 7], pytest.approx(regret))
    assert values == pytest.approx({"kuhn_before": 0.47, "kuhn_after": 0.1, "kuhn_cfr": regret[-1]})
