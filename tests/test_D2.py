"""D2's learner, whole: it closes the gap on the token world, and does not once an error is planted in it."""

import dataclasses

import pytest
import torch

from chapters.course.planting import plant
from chapters.D_rlhf import D2_rlhf_llm_with_pytorch as lesson
from chapters.envs.token_world import token_world
from chapters.text.models import load_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, UsageError
from chapters.utils.seeding import seed_everything

BETA, BAR = 0.5, 0.9


def learn(module, folder, seed=5, **changes):
    """(share of the gap closed, KL, largest distance of a first ratio from 1) after a brief training."""
    seed_everything(seed)  # one thread
    world, log = token_world(seed), RunLog(folder, "D2")
    settings = {**module.TOKENS, "num_prompts": 512, "learning_rate": 0.05, "num_updates": 70, **changes}
    cfg = module.Config(seed=seed, **settings)
    policy = world.reference()
    ratio_gap = module.train(policy, world.reference(), module.token_task(world), cfg, log, "test")
    log.close()
    found = world.log_probs(policy).detach()
    return world.gap_closed(found, BETA), float(world.kl(found)), ratio_gap


def test_learner_closes_the_gap(tmp_path):
    closed, kl, ratio_gap = learn(lesson, tmp_path)
    assert closed > BAR
    assert kl == pytest.approx(float(token_world(5).kl(token_world(5).optimum(BETA))), rel=0.15)
    assert ratio_gap == 0.0


PLANTED = {
    "sign of the KL": ("rewards = -beta * log_ratio", "rewards = beta * log_ratio"),
    "no KL": ("rewards = -beta * log_ratio", "rewards = -0.0 * log_ratio"),
    "a reference that trains along": ("token_log_probs(reference, *text)", "token_log_probs(policy, *text)"),
    "logits off by one": ("logits[:, prompt_ids.shape[1] - 1 : -1]", "logits[:, prompt_ids.shape[1] :]"),
    "score with the first column only": ("last = completion_mask.sum(dim=1) - 1", "last = 0 * scores.long()"),
    "sign of the objective": (".pow(2) - objective  #", ".pow(2) + objective  #"),
    "sign of the value loss": ("losses = vf_coef *", "losses = -vf_coef *"),
    "no gradient step": ("            optimizer.step()\n", ""),
    "advantages of other texts": (
        'surrogate(ratio, mini["advantages"], cfg', 'surrogate(ratio, mini["advantages"].flip(0), cfg',
    ),
}  # fmt: skip


@pytest.mark.parametrize("error", PLANTED)
def test_learner_with_a_planted_error_does_not(error, tmp_path):
    closed, *_ = learn(plant(lesson, *PLANTED[error]), tmp_path)
    assert not closed > BAR - 0.1  # a gap that is not a number is not closed either


def test_filling_counted_as_text_costs(tmp_path):
    assert learn(lesson, tmp_path, count_after_eos=True)[0] < BAR


def test_early_stop_counts_epochs(tmp_path):
    """With a target of 0 the first epoch is the last: more epochs change nothing."""
    few, many, unstopped = (
        learn(lesson, tmp_path, num_updates=3, **changes)[0]
        for changes in ({"target_kl": 0.0}, {"target_kl": 0.0, "num_epochs": 6}, {"num_epochs": 6})
    )
    assert few == many
    assert few != unstopped


def test_same_seed_same_policy(tmp_path):
    assert learn(lesson, tmp_path, num_updates=5) == learn(lesson, tmp_path, num_updates=5)
    assert learn(lesson, tmp_path, num_updates=5) != learn(lesson, tmp_path, num_updates=5, seed=6)


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny", review_recipe(lesson.SMOKE["pretrain_steps"]))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def tuned(module, tiny, folder):
    """(how far the reference moved, KL in the second batch) of a brief fine-tuning."""
    log = RunLog(folder, "D2")
    base, cfg = tiny.model, module.with_presets(module.Config(**{**module.SMOKE, "num_updates": 2}), 0)
    before = weights(base).clone()
    module.fine_tune("review", base, tiny.tokenizer, cfg, log)
    log.close()
    return float((weights(base) - before).abs().max()), log.series("review_kl")[1]


def test_the_reference_stays_and_the_policy_leaves(tiny, tmp_path):
    for _ in range(2):  # the second time the base is a frozen model
        moved, kl = tuned(lesson, tiny, tmp_path)
        assert moved == 0.0
        assert kl[0] == 0.0
        assert kl[1] != 0.0


def test_a_forgotten_copy_is_noticed(tiny, tmp_path):
    wrong = plant(lesson, "PolicyWithValue(copy.deepcopy(base))", "PolicyWithValue(base)")
    assert tuned(wrong, tiny, tmp_path)[1] == [0.0, 0.0], "policy and reference are one"


def test_sampling_with_a_cache_is_sampling_without(tiny):
    """The real model: what was sampled has the probabilities that one pass over the whole text gives."""
    tokens = tiny.tokenizer(["i", "the ending made me"], return_tensors="pt", padding=True)
    prompt = tokens["input_ids"], tokens["attention_mask"]
    ids, mask = lesson.sample(tiny.model, *prompt, 8, 1, 0, torch.Generator().manual_seed(0))
    both = lesson.token_log_probs(tiny.model, *prompt, ids, mask)
    alone = lesson.token_log_probs(tiny.model, prompt[0][:1, -1:], prompt[1][:1, -1:], ids[:1], mask[:1])
    assert torch.allclose(both[:1], alone, atol=1e-4), "padding on the left changes nothing"


def test_presets_fit_the_size_and_flags_win():
    assert lesson.with_presets(lesson.Config(), 400_000).learning_rate == lesson.PRESETS[0][1]
    large = lesson.with_presets(lesson.Config(beta=0.0), 135_000_000)
    assert large.learning_rate == lesson.PRESETS[1][1]
    assert large.beta == 0.0
    assert lesson.with_presets(lesson.Config(learning_rate=0.1), 10**12).learning_rate == 0.1


def test_another_model_makes_only_claims_that_hold_for_any(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    cfg = dataclasses.replace(lesson.Config(**lesson.SMOKE), model=str(tmp_path / "model"), only="reviews")
    log = RunLog(tmp_path / "run", "D2", smoke=True)
    lesson.main(cfg, log)
    log.close()
    assert all(claim.always and claim.holds for claim in log.claims)
    assert [figure.name for figure in log.figures] == ["D2.png"]
    with pytest.raises(UsageError, match="allowed: tiny"):
        lesson.main(dataclasses.replace(cfg, model="no such model"), RunLog(tmp_path / "none", "D2"))
