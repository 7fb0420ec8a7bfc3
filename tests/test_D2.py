"""D2's learner, whole: it closes the gap on the token world, and does not once an error is made in it."""

import copy
import dataclasses

import pytest
import torch
from spies import watch_adam

from chapters.course.catalog import find
from chapters.course.parts import function_checks
from chapters.D_rlhf import D2_rlhf_llm_with_pytorch as lesson
from chapters.D_rlhf.checks import D2 as checks
from chapters.D_rlhf.evidence import D2 as evidence
from chapters.envs.token_world import token_world
from chapters.text import generation, ppo, tasks
from chapters.text.models import load_model, make_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, UsageError, seed_everything
from chapters.utils.edits import Edit, edited

BETA, BAR = 0.5, 0.9
BRIEF = 40
"""Updates that are enough to tell: the right learner has closed nearly as much by then."""


def learn(module, folder, seed=5, **changes):
    """(share of the gap closed, KL, largest distance of a first ratio from 1) after a brief training."""
    seed_everything(seed)  # one thread
    world, log = token_world(seed), RunLog(folder, "D2")
    settings = {**module.WORLD, "num_prompts": 512, "learning_rate": 0.05, "num_updates": 70, **changes}
    policy = world.reference()
    cfg = module.Config(seed=seed, **settings)
    module.train(policy, world.reference(), tasks.world_task(world), cfg, log, "test")
    log.close()
    found = world.log_probs(policy).detach()
    return world.gap_closed(found, BETA), float(world.kl(found)), max(log.series("test_first_gap")[1])


@pytest.mark.parametrize("module", [lesson, ppo], ids=["lesson", "text"])
def test_equal_advantages_are_whitened_to_nothing(module):
    """What the mean leaves of them is rounding: divided by its own spread it would be near 1."""
    mask = torch.ones(4, 33, dtype=torch.bool)
    mask[1, 5:] = False
    for constant in (0.3, 0.9, 1 / 3, 1e8, 123456.789):
        assert (module.whiten(torch.full(mask.shape, constant), mask) == 0).all()
    assert (module.whiten(torch.randn(mask.shape), torch.zeros_like(mask)) == 0).all()


@pytest.mark.parametrize("module", [lesson, ppo], ids=["lesson", "text"])
def test_one_token_alone_is_whitened_to_nothing(module):
    one = torch.tensor([[False, True, False]])
    assert module.whiten(torch.tensor([[1.0, 3.0, 2.0]]), one).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("module", [lesson, generation], ids=["lesson", "text"])
def test_a_mean_over_no_token_is_nothing(module):
    numbers = torch.randn(2, 3, requires_grad=True)
    assert module.masked_mean(numbers, torch.zeros(2, 3, dtype=torch.bool)) == 0


def test_learner_closes_the_gap(tmp_path):
    closed, kl, ratio_gap = learn(lesson, tmp_path)
    assert closed > BAR
    assert kl == pytest.approx(float(token_world(5).kl(token_world(5).optimum(BETA))), rel=0.15)
    assert ratio_gap == 0.0
    assert learn(lesson, tmp_path / "brief", num_updates=BRIEF)[0] > BAR - 0.05


@pytest.mark.parametrize(
    "name",
    [
        "no_kl",
        "reference_moves",
        # the checks of their functions refuse these within milliseconds
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "kl_sign",
                "off_by_one",
                "score_first_token",
                "sign_of_the_objective",
                "sign_of_the_value_loss",
                "other_advantages",
            )
        ),
    ],
)
def test_learner_with_an_error_does_not(name, tmp_path):
    closed, *_ = learn(edited(lesson, checks.EDITS[name]), tmp_path, num_updates=BRIEF)
    assert not closed > BAR - 0.1  # a gap that is not a number is not closed either


def test_padding_counted_as_text_costs(tmp_path):
    assert learn(edited(lesson, checks.EDITS["padding_counted"]), tmp_path)[0] < BAR


def test_same_seed_same_policy(tmp_path):
    assert learn(lesson, tmp_path, num_updates=5) == learn(lesson, tmp_path, num_updates=5)
    assert learn(lesson, tmp_path, num_updates=5) != learn(lesson, tmp_path, num_updates=5, seed=6)


class TestUpdate:
    """C3's update, as D2 and D6 use it: on a loss whose minimum is known."""

    def steps(self, module=ppo, **changes):
        cfg = dataclasses.replace(lesson.Config(num_epochs=3, num_minibatches=2), **changes)
        policy, seen = torch.nn.Linear(1, 1, bias=False), []
        torch.nn.init.zeros_(policy.weight)

        def loss_of(policy, mini, clip_eps, vf_coef):
            assert (clip_eps, vf_coef) == (cfg.clip_eps, cfg.vf_coef)
            seen.append(mini["scores"].tolist())
            return (policy.weight - 3.0).pow(2).sum(), torch.full((2, 2), 1.5) + len(seen)

        optimizer = module.Adam(policy.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(0)
        gap = module.update(policy, optimizer, {"scores": torch.arange(6.0)}, loss_of, generator, cfg)
        return policy.weight.item(), seen, gap

    def test_each_pass_sees_every_row_once_in_an_order_of_its_own(self):
        weight, seen, gap = self.steps()
        assert [len(rows) for rows in seen] == [3] * 6
        passes = [seen[2 * i] + seen[2 * i + 1] for i in range(3)]
        assert all(sorted(rows) == list(range(6)) for rows in passes)
        assert passes[0] != passes[1]
        assert 0.5 < weight < 0.61, "Adam moves a tenth a step"
        assert gap == 1.5, "of the first minibatch"

    def test_no_step_is_noticed(self):
        wrong = edited(ppo, Edit("update", "            optimizer.step()\n", "", "no gradient step"))
        assert self.steps(wrong)[0] == 0.0


class Headed(torch.nn.Module):
    """What `PolicyWithValue` needs of a language model: a trunk and an output layer."""

    def __init__(self):
        super().__init__()
        self.base_model, self.output = checks.Toy(5, width=6), torch.nn.Linear(6, checks.NUM_IDS)
        self.config = self.base_model.config

    def get_output_embeddings(self):
        return self.output


class TestPolicyWithValue:
    def check(self, module):
        model = Headed()
        policy = module.PolicyWithValue(model)
        prompt_ids, prompt_mask, *_ = checks.texts(6)
        inputs = {"input_ids": prompt_ids, "attention_mask": prompt_mask}
        inputs["position_ids"] = prompt_mask.cumsum(1)
        out, hidden = policy(**inputs), model.base_model(**inputs).last_hidden_state
        assert torch.equal(out.logits, model.output(hidden))
        assert torch.equal(out.values, torch.zeros(prompt_ids.shape)), "before training it expects nothing"
        assert torch.equal(out.past_key_values[0], prompt_ids)
        with torch.no_grad():
            policy.value_head.weight.copy_(torch.arange(6.0)[None])
            policy.value_head.bias.fill_(0.5)
        assert torch.allclose(policy(**inputs).values, hidden @ torch.arange(6.0) + 0.5, atol=1e-5)

    def test_definition(self):
        self.check(ppo)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("nn.init.zeros_(self.value_head.weight)", ""),
            ("self.value_head(hidden).squeeze(-1)", "self.value_head(hidden)"),
            (
                "values = self.value_head(hidden)",
                "values = self.value_head(hidden[:, -1:].expand_as(hidden))",
            ),
            ("past_key_values=out.past_key_values)", "past_key_values=None)"),
        ],
    )
    def test_what_is_wrong_is_noticed(self, old, new):
        wrong = edited(ppo, Edit("PolicyWithValue", old, new, "wrong"))
        with pytest.raises((AssertionError, RuntimeError, TypeError)):
            self.check(wrong)


def test_best_of_is_the_mean_of_the_highest():
    scores = torch.tensor([0.0, 2.0, 1.0, 1.0])
    pairs = torch.cartesian_prod(scores, scores, scores).amax(dim=1)
    assert tasks.best_of(scores, 3) == pytest.approx(float(pairs.mean()))
    assert tasks.best_of(scores, 1) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny", review_recipe(lesson.SMOKE["pretrain_steps"]))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def tuned(tiny, folder, policy):
    """(how far the reference moved, KL in the second batch) of a brief fine-tuning."""
    base, log = tiny.model, RunLog(folder, "D2")
    before = weights(base).clone()
    cfg = lesson.Config(**{**lesson.SMOKE, "num_updates": 2})
    lesson.train(policy, base, tasks.reviews_task(tiny.tokenizer, 8), cfg, log, "review")
    log.close()
    return float((weights(base) - before).abs().max()), log.series("review_kl")[1]


def test_the_reference_stays_and_the_policy_leaves(tiny, tmp_path):
    for _ in range(2):  # the second time the base is a frozen model
        policy = ppo.PolicyWithValue(copy.deepcopy(tiny.model)).requires_grad_(True)
        moved, kl = tuned(tiny, tmp_path, policy)
        assert moved == 0.0
        assert kl[0] == 0.0
        assert kl[1] != 0.0


def test_a_forgotten_copy_is_noticed(tiny, tmp_path):
    """As in the edit "forgotten_copy": policy and reference are one, and frozen."""
    assert tuned(tiny, tmp_path, ppo.PolicyWithValue(tiny.model))[1] == [0.0, 0.0]


def test_sampling_with_a_cache_is_sampling_without(tiny):
    """The real model: what was sampled has the probabilities that one pass over the whole text gives."""
    tokens = tiny.tokenizer(["i", "the ending made me"], return_tensors="pt", padding=True)
    prompt = tokens["input_ids"], tokens["attention_mask"]
    ids, mask = lesson.sample(tiny.model, *prompt, 8, 1, 0, torch.Generator().manual_seed(0))
    both = lesson.token_log_probs(tiny.model, *prompt, ids, mask)
    alone = lesson.token_log_probs(tiny.model, prompt[0][:1, -1:], prompt[1][:1, -1:], ids[:1], mask[:1])
    assert torch.allclose(both[:1], alone, atol=1e-4), "padding on the left changes nothing"


def test_another_model_is_not_held_to_the_grammar(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "ablate", lambda *_: None)  # on the token world, whatever the model
    generator = torch.Generator().manual_seed(0)  # eight texts tell as much as 256 which claims are made
    monkeypatch.setattr(lesson, "fresh", lambda *those: lesson.collect(*those[:3], generator, those[3]))
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    cfg = dataclasses.replace(lesson.Config(**lesson.SMOKE), model=str(tmp_path / "model"))
    log = RunLog(tmp_path / "run", "D2", smoke=True)
    lesson.main(cfg, log)
    evidence.measure(cfg, evidence.Config(**evidence.SMOKE), log)
    log.close()
    assert "reward_without_kl" not in {claim.name for claim in log.claims}
    assert all(claim.holds for claim in log.claims if claim.always)
    with pytest.raises(UsageError, match="allowed: tiny"):
        lesson.main(dataclasses.replace(cfg, model="no such model"), RunLog(tmp_path / "none", "D2"))


def test_every_function_of_the_lesson_that_is_a_definition_is_checked():
    named = {"positions", "sample", "token_log_probs", "log_probs_and_values", "token_rewards", "gae"}
    named |= {"masked_mean", "whiten", "collect", "minibatch_loss"}
    assert set(function_checks(checks)) == named
    assert find("D2").id == "D2"


# Glue


def test_passes_clip_before_each_step_and_updates_are_counted_from_one(tmp_path, monkeypatch):
    """Two updates of three passes over two minibatches: twelve steps, none along a norm above 1."""
    steps = watch_adam(monkeypatch, lesson)
    world, log = token_world(1, num_symbols=3, length=2), RunLog(tmp_path, "D2")
    reference, seen = world.reference(), []
    cfg = lesson.Config(
        num_prompts=16, num_updates=2, num_epochs=3, num_minibatches=2, learning_rate=0.3, vf_coef=1000.0
    )
    task = tasks.world_task(world)
    loud = task._replace(score=lambda rows, ids: 1000.0 * task.score(rows, ids))
    lesson.train(world.reference(), reference, loud, cfg, log, "x", lambda policy, step: seen.append(step))
    log.close()
    assert [rate for rate, _ in steps] == [0.3] * 12
    assert max(norm for _, norm in steps) == pytest.approx(1.0, rel=1e-3)
    assert seen == [1, 2]
    assert log.series("x_first_gap")[0] == [0, 1]
    assert torch.equal(reference.table, world.reference().table)
    assert not reference.table.requires_grad


def test_what_is_measured_afresh_was_not_trained_on(monkeypatch):
    """The same batch for every policy, from a generator that training does not use."""
    asked = []
    monkeypatch.setattr(
        lesson, "collect", lambda *args: asked.append((args[3].initial_seed(), args[4].num_prompts)) or {}
    )
    world = token_world(1, num_symbols=3, length=2)
    lesson.fresh(world.reference(), world.reference(), tasks.world_task(world), lesson.Config(seed=3))
    assert asked == [(10_003, 256)]


def test_an_edited_learner_is_paid_by_one_world_and_judged_by_another(tmp_path, monkeypatch):
    found, log = [], RunLog(tmp_path, "D2")
    world, paying = (token_world(seed, num_symbols=3, length=2) for seed in (1, 2))

    def train(policy, reference, task, cfg, log, name, watch):
        rows = torch.tensor([0, 1])
        ids = world.completion_ids[[3, 5]]
        assert torch.equal(task.score(rows, ids), paying.reward(paying.prompt_ids[rows], ids))
        watch(policy, cfg.num_updates)
        found.append((cfg, name))

    monkeypatch.setattr(lesson, "train", train)
    evidence.learn_world(lesson, world, paying, lesson.Config(num_updates=5), log, "x")
    ((cfg, name),) = found
    assert name == "x"
    assert cfg.num_updates == 15
    assert {key: getattr(cfg, key) for key in lesson.WORLD} == lesson.WORLD
    assert log.series("token_gap_x") == ([15], [pytest.approx(0.0, abs=1e-6)])
    log.close()


def test_fine_tuning_trains_a_copy_and_measures_it_afresh(tmp_path, monkeypatch):
    base = make_model(review_recipe(1), 50).requires_grad_(False)
    trained, log = [], RunLog(tmp_path, "D2")
    log.keep(base=base)
    monkeypatch.setattr(lesson, "train", lambda *arguments: trained.append(arguments))
    batch, asked = {"scores": torch.ones(1)}, []
    monkeypatch.setattr(lesson, "fresh", lambda *arguments: asked.append(arguments) or batch)
    task = tasks.world_task(token_world(1, num_symbols=3, length=2))
    cfg = lesson.Config()
    assert evidence.fine_tune(task, cfg, log, "x") is batch
    log.close()
    ((policy, reference, given, settings, _, name),) = trained
    assert (reference, given, settings, name) == (base, task, cfg, "x")
    assert asked == [(policy, base, task, cfg)]
    assert all(parameter.requires_grad for parameter in policy.parameters())
    for copied, original in zip(policy.model.parameters(), base.parameters()):
        assert copied is not original
        assert torch.equal(copied, original)
