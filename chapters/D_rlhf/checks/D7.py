"""D7's functions against their definitions, and the named edits of the lesson."""

import math

import torch

from chapters.envs.reviews import NEGATIVE, POSITIVE
from chapters.utils.edits import Edit

SHAPES = ((2, 3, 5), (1, 4, 7), (3, 6, 4))
PAIRWISE, SAMPLING = ("sft", "reward", "dpo"), ("grpo", "rloo", "ppo")


def config(function, **changes):
    """A configuration of the lesson that `function` comes from, or of the right one."""
    from chapters.D_rlhf import D7_trl_trainers as lesson

    return lesson.Config(**changes)


BUDGETS = (
    {},
    {"num_batches": 3, "rounds_a_batch": 2, "group_size": 4, "num_epochs": 3, "num_tokens": 9, "beta": 0.7},
    {"num_batches": 5, "group_size": 2, "num_epochs": 1, "learning_rate": 3e-5, "seed": 4},
)


def check_settings(settings):
    """The budget as TRL counts it, and what must not be left at its default."""
    for changes in BUDGETS:
        cfg = config(settings, **changes)
        texts = 28 * cfg.rounds_a_batch  # B
        for name in PAIRWISE + SAMPLING:
            found = settings(name, cfg, "a folder")
            assert found.get("learning_rate") == cfg.learning_rate, f"{name}: the step size is not ours"
            assert found.get("bf16") is False, f"{name}: 16 bits unless bf16 is False"
            assert found.get("output_dir") == "a folder", name
            assert found.get("seed") == cfg.seed, name
            batch = found.get("per_device_train_batch_size")
            if name in PAIRWISE:
                assert batch == 14, f"{name}: {batch} pairs in a batch, a round has 14"
                assert found.get("num_train_epochs") == cfg.num_epochs, f"{name}: passes"
                assert found.get("max_length") is None, f"{name}: cuts texts"
            else:
                assert batch == texts, f"{name}: {batch} completions in a batch, not {texts}"
            if name == "dpo":
                assert found.get("beta") == cfg.beta, "dpo: beta is not ours"
        for name in ("grpo", "rloo"):
            found = settings(name, cfg)
            assert found.get("num_generations") == cfg.group_size, name
            assert found.get("num_iterations") == cfg.num_epochs, f"{name}: passes over a batch"
            told = f"{found.get('max_steps')} steps, {cfg.num_batches} batches, {cfg.num_epochs} passes each"
            assert found.get("max_steps") == cfg.num_batches * cfg.num_epochs, f"{name}: {told}"
            assert found.get("max_completion_length") == cfg.num_tokens, f"{name}: length"
            assert found.get("beta") == cfg.beta, f"{name}: beta is not ours"
        found = settings("ppo", cfg)
        assert found.get("total_episodes") == cfg.num_batches * texts, "ppo: texts in all"
        assert found.get("num_ppo_epochs") == cfg.num_epochs, "ppo: passes over a batch"
        assert found.get("kl_coef") == cfg.beta, "ppo: kl_coef is not ours"
        assert found.get("response_length") == cfg.num_tokens, "ppo: length"
        assert found.get("stop_token") == "eos", "ppo: writes on behind the end"
        assert found.get("temperature") == 1.0, "ppo: trains a sharper policy than the one measured"


def check_pair_up(pair_up):
    """Each pair from one prompt, the higher reward first, no ties; every such pair once."""
    for seed, (rounds, num_prompts) in enumerate(((1, 1), (1, 3), (3, 2), (2, 14))):
        generator = torch.Generator().manual_seed(seed)
        rewards = torch.randint(-1, 2, (2 * rounds * num_prompts,), generator=generator).double()
        expected = set()
        for start in range(0, len(rewards), 2 * num_prompts):
            for prompt in range(num_prompts):
                a, b = start + prompt, start + num_prompts + prompt
                if rewards[a] != rewards[b]:
                    expected.add((a, b) if rewards[a] > rewards[b] else (b, a))
        found = [tuple(row) for row in pair_up(rewards, num_prompts).tolist()]
        assert len(found) == len(set(found)), "a pair stands twice"
        assert set(found) == expected, f"{num_prompts} prompts: expected {sorted(expected)}, found {found}"


def check_rule(rule):
    """Positive less negative words of the whole text, cut at 3; whatever else it is called with."""
    good, bad = POSITIVE, NEGATIVE
    cases = (
        ("the film was", f"{good[0]} .", 1.0),
        ("i", f"{bad[0]} it . a {bad[1]} {good[2]} film", -1.0),
        (f"a {good[0]} film", "made me talk", 1.0),
        ("we", " ".join(good[:5]), 3.0),
        ("we", " ".join(bad[:4]), -3.0),
    )
    prompts, texts, expected = zip(*cases)
    found = rule(prompts=list(prompts), completions=list(texts), completion_ids=[[1]] * len(cases), step=7)
    assert isinstance(found, list), "a list, one number for each text"
    assert all(isinstance(one, float) for one in found), "numbers, not tensors or arrays"
    assert found == list(expected), f"expected {list(expected)}, found {found}"


def check_sft_loss(sft_loss):
    """Token by token, over those with a label."""
    for seed, (num, length, size) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(num, length, size, generator=generator, dtype=torch.float64, requires_grad=True)
        labels = torch.randint(size, (num, length), generator=generator)
        labels[:, 0] = -100  # the prompt
        labels[0, -1] = -100  # padding
        total, count = 0.0, 0
        for b in range(num):
            for t in range(1, length):
                if labels[b, t] != -100:
                    total = total - torch.log_softmax(logits[b, t - 1], -1)[labels[b, t]]
                    count += 1
        found = sft_loss(logits, labels)
        assert math.isclose(found.item(), (total / count).item(), rel_tol=1e-9), (
            f"expected {(total / count).item():.6g}, found {found.item():.6g}"
        )
        slopes = (torch.autograd.grad(one, logits)[0] for one in (found, total / count))
        assert torch.allclose(*slopes), "its gradient differs"


def check_adapted(adapted):
    for seed, (m, r, n) in enumerate(((3, 1, 2), (4, 2, 5), (2, 3, 6))):
        generator = torch.Generator().manual_seed(seed)
        weight, left, right = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((m, n), (m, r), (r, n))
        )
        found = adapted(weight, left, right, 5.0)
        for i in range(m):
            for j in range(n):
                product = sum(left[i, k].item() * right[k, j].item() for k in range(r))
                expected = weight[i, j].item() + 5.0 / r * product
                assert math.isclose(found[i, j], expected, rel_tol=1e-9, abs_tol=1e-12), (
                    f"row {i}, column {j}: expected {expected:.6g}, found {found[i, j]:.6g}"
                )


def check_win_interval(win_interval):
    for share, num in ((0.5, 100), (0.8, 400), (0.25, 48), (1.0, 10)):
        low, high = win_interval(share, num)
        half = 1.96 * math.sqrt(share * (1.0 - share) / num)
        assert math.isclose(low, share - half, abs_tol=1e-9), f"{share} of {num}: from {low:.4f}"
        assert math.isclose(high, share + half, abs_tol=1e-9), f"{share} of {num}: to {high:.4f}"


EDITS = {
    "default_rate": Edit(
        function="settings",
        old='"learning_rate": cfg.learning_rate,',
        new="",
        says="leaves the step size at the library's default: on this budget nothing moves",
    ),
    "sixteen_bits": Edit(
        function="settings",
        old='"use_cpu": True, "bf16": False,',
        new='"use_cpu": True,',
        says="leaves the precision at the library's default, 16 bits",
        fails=("sft_loss_gap",),
    ),
    "pairs_counted_as_texts": Edit(
        function="settings",
        old='"per_device_train_batch_size": ROUND // 2,',
        new='"per_device_train_batch_size": ROUND,',
        says="takes the texts of a round for its pairs: half as many steps",
    ),
    "prompts_counted": Edit(
        function="settings",
        old='"per_device_train_batch_size": batch,  # completions',
        new='"per_device_train_batch_size": batch // cfg.group_size,  # completions',
        says="counts prompts where TRL counts completions",
    ),
    "samples_counted_as_steps": Edit(
        function="settings",
        old='"max_steps": cfg.num_batches * cfg.num_epochs,',
        new='"max_steps": cfg.num_batches,',
        says="forgets that each pass over a batch is a step: half of the budget is not spent",
        fails=("texts_asked",),
    ),
    "one_pass": Edit(
        function="settings",
        old='"num_iterations": cfg.num_epochs,',
        new="",
        says="GRPO and RLOO sample anew for every step: more texts than the budget has",
        fails=("texts_asked",),
    ),
    "default_length": Edit(
        function="settings",
        old='"max_completion_length": cfg.num_tokens,',
        new="",
        says="lets completions grow to the library's 512 tokens, more than the model has positions",
    ),
    "default_penalty": Edit(
        function="settings",
        old='"beta": cfg.beta,  # the second',
        new="",
        says="leaves beta at the library's defaults: none for GRPO, a quarter of ours for RLOO",
    ),
    "default_dpo_penalty": Edit(
        function="settings",
        old='{**pairs, "beta": cfg.beta}',
        new="pairs",
        says="leaves DPO's beta at the library's default: another optimum",
    ),
    "default_kl_coef": Edit(
        function="settings",
        old='"kl_coef": cfg.beta,',
        new="",
        says="leaves PPO's penalty at the library's default, a quarter of ours",
    ),
    "never_stops": Edit(
        function="settings",
        old='"stop_token": "eos", ',
        new="",
        says="PPO writes on behind the end, and is judged there",
    ),
    "sharpened": Edit(
        function="settings",
        old='"temperature": 1.0,',
        new="",
        says="PPO samples at temperature 0.7: another policy than the one that is measured",
    ),
    "episodes_are_batches": Edit(
        function="settings",
        old='"total_episodes": batch * cfg.num_batches,',
        new='"total_episodes": cfg.num_batches,',
        says="takes PPO's episodes for batches: it stops after the first",
    ),
    "prefers_rejected": Edit(
        function="pair_up",
        old="(first > second)",
        new="(first < second)",
        says="calls the worse text of a pair chosen",
        fails=("win_rate",),
    ),
    "neighbours": Edit(
        function="pair_up",
        old=".view(-1, 2, num_prompts).transpose(1, 2).reshape(-1, 2)",
        new=".view(-1, 2)",
        says="pairs texts of different prompts",
    ),
    "keeps_ties": Edit(
        function="pair_up",
        old="return rows[first != second]",
        new="return rows",
        says="keeps pairs of equal reward: what they teach is chance",
    ),
    "completion_alone": Edit(
        function="rule",
        old='f"{prompt} {text}"',
        new="text",
        says="judges the completion without its prompt",
    ),
    "wants_cold": Edit(
        function="rule",
        old='return sentiment([f"{prompt} {text}" for prompt, text in zip(prompts, completions)]).tolist()',
        new='return (-sentiment([f"{p} {t}" for p, t in zip(prompts, completions)])).tolist()',
        says="pays for cold reviews",
        fails=("win_rate",),
    ),
    "next_token_forgotten": Edit(
        function="sft_loss",
        old="logits[:, :-1].log_softmax(-1), labels[:, 1:]",
        new="logits.log_softmax(-1), labels",
        says="does not shift: each position is asked for the token that it reads",
        fails=("sft_loss_gap",),
    ),
    "learns_the_prompt": Edit(
        function="sft_loss",
        old="counted = labels != -100",
        new="counted = labels != -1",
        says="counts tokens that have no label",
        fails=("sft_loss_gap",),
    ),
    "mean_over_all": Edit(
        function="sft_loss",
        old="/ counted.sum()",
        new="/ counted.numel()",
        says="divides by all positions, padding and prompt included",
        fails=("sft_loss_gap",),
    ),
    "raises_the_loss": Edit(
        function="sft_loss",
        old="return -(chosen * counted)",
        new="return (chosen * counted)",
        says="the log-probability itself, not its negative",
        fails=("sft_loss_gap",),
    ),
    "no_scale": Edit(
        function="adapted",
        old="alpha / left.shape[1] * left",
        new="left",
        says="forgets the scale alpha over r",
    ),
    "scaled_by_height": Edit(
        function="adapted",
        old="left.shape[1]",
        new="left.shape[0]",
        says="divides by the height of the matrix, not by the rank",
    ),
    "replaces": Edit(
        function="adapted",
        old="weight + alpha",
        new="alpha",
        says="puts the adapter in place of the weights, not beside them",
    ),
    "one_sided": Edit(
        function="win_interval",
        old="1.96",
        new="1.645",
        says="the quantile of a one-sided bound: 90 %, not 95",
    ),
    "no_root": Edit(
        function="win_interval",
        old=" ** 0.5",
        new="",
        says="a variance where a standard deviation belongs",
    ),
}
