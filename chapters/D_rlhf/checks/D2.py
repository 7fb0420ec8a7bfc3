"""Definition checks of D2: each function against its equation, written out one token at a time."""

import math
import sys
from types import SimpleNamespace

import torch

from chapters.envs.token_world import token_world
from chapters.utils.edits import Edit

PAD, STOP, NUM_IDS = 0, 1, 7
SHAPES = ((1, 1), (2, 3), (5, 7), (16, 4))  # (B, T)


class Toy(torch.nn.Module):
    """A causal model whose answer depends on every attended token and its position, and on nothing else."""

    def __init__(self, seed=0, scale=1.0, width=NUM_IDS):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = scale * torch.randn(97, width, generator=generator)
        self.numbers = torch.randn(97, generator=generator)
        self.config = SimpleNamespace(hidden_size=width)

    def codes(self, ids, mask, position_ids):
        return ((ids + 1) * (position_ids + 1) ** 2 * mask).cumsum(1) % 97

    def forward(self, input_ids, attention_mask, position_ids, past_key_values=None, use_cache=False):
        ids, places = input_ids, position_ids
        if past_key_values is not None:
            ids, places = (torch.cat([old, new], 1) for old, new in zip(past_key_values, (ids, places)))
        assert attention_mask.shape == ids.shape == places.shape
        rows = self.codes(ids, attention_mask, places)[:, -input_ids.shape[1] :]
        return SimpleNamespace(
            logits=self.table[rows], values=self.numbers[rows], last_hidden_state=self.table[rows],
            past_key_values=(ids, places),
        )  # fmt: skip

    def row(self, tokens):
        """The table's row after a text without padding."""
        return sum((token + 1) * (place + 1) ** 2 for place, token in enumerate(tokens)) % 97


class TabularLoss(torch.nn.Module):
    """`Toy` with a table that can be trained."""

    def __init__(self):
        super().__init__()
        self.toy = Toy(11)
        self.toy.table = torch.nn.Parameter(self.toy.table)

    def forward(self, **inputs):
        return self.toy(**inputs)


def texts(seed, num_texts=12, num_tokens=6):
    """(prompt_ids, prompt_mask, completion_ids, completion_mask, the same as lists without padding)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    # padding is filled with ordinary tokens: only a mask can tell
    prompt_ids, completion_ids = (torch.full((num_texts, size), 3) for size in (4, num_tokens))
    prompt_mask = torch.zeros_like(prompt_ids)
    completion_mask = torch.zeros_like(completion_ids, dtype=torch.bool)
    plain = []
    for b in range(num_texts):
        prompt = [draw(2, NUM_IDS - 1) for _ in range(draw(1, 4))]
        completion = [draw(2, NUM_IDS - 1) for _ in range(draw(1, num_tokens))]
        prompt_ids[b, 4 - len(prompt) :], prompt_mask[b, 4 - len(prompt) :] = torch.tensor(prompt), 1
        completion_ids[b, : len(completion)] = torch.tensor(completion)
        completion_mask[b, : len(completion)] = True
        plain.append((prompt, completion))
    return prompt_ids, prompt_mask, completion_ids, completion_mask, plain


def grids(seed, shape, count):
    """`count` random grids in float64 and a mask of texts of random length, at least one token each."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, shape[1] + 1, (shape[0],), generator=generator)
    return [*numbers, torch.arange(shape[1]) < lengths[:, None]]


def check_positions(positions):
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
    found = positions(mask)
    for row, expected in zip(found.tolist(), ([0, 1, 2], [0, 1, 2], [0, 1, 2])):
        start = mask.tolist()[found.tolist().index(row)].index(1)
        assert row[start : start + 3] == expected
    assert (found >= 0).all(), "an embedding has no row -1"
    assert found.dtype == torch.int64


def check_sample(sample):
    prompt_ids, prompt_mask, _, _, plain = texts(1, num_texts=40)
    toy, generator = Toy(2, scale=1e4), torch.Generator().manual_seed(0)  # so sure that it leaves no choice
    found, mask = sample(toy, prompt_ids, prompt_mask, 6, STOP, PAD, generator)
    assert found.shape == mask.shape == (40, 6)
    ended = 0
    for b, (prompt, _) in enumerate(plain):
        written = []
        while len(written) < 6 and STOP not in written:
            written.append(int(toy.table[toy.row(prompt + written)].argmax()))
        ended += STOP in written
        assert found[b].tolist() == written + [PAD] * (6 - len(written))
        assert mask[b].tolist() == [True] * len(written) + [False] * (6 - len(written))
    assert 5 < ended < 40
    few, none = sample(toy, prompt_ids[:1], prompt_mask[:1], 6, int(found[0, 0]), PAD, generator)
    assert few.shape == (1, 6), "as wide as asked for, even if all texts end early"
    assert none.tolist() == [[True, False, False, False, False, False]]

    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])

    def same(**inputs):
        shape = (*inputs["input_ids"].shape, 5)
        return SimpleNamespace(logits=logits.expand(shape), past_key_values=None)

    many = torch.full((60_000, 1), 2)
    drawn = [sample(same, many, many * 0 + 1, 1, STOP, PAD, generator.manual_seed(s))[0] for s in (3, 3, 4)]
    shares = torch.bincount(drawn[0][:, 0], minlength=5) / len(many)
    assert torch.allclose(shares, logits.exp() / logits.exp().sum(), atol=0.01)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def log_prob(toy, prompt, completion, t):
    """log pi of token t of a completion, from the text without padding."""
    logits = toy.table[toy.row(prompt + completion[:t])].tolist()
    return logits[completion[t]] - math.log(sum(math.exp(logit) for logit in logits))


def check_token_log_probs(token_log_probs):
    toy = Toy(3)
    for seed in range(4):
        *batch, plain = texts(seed)
        found = token_log_probs(toy, *batch)
        assert found.shape == batch[2].shape
        for b, (prompt, completion) in enumerate(plain):
            expected = [log_prob(toy, prompt, completion, t) for t in range(len(completion))]
            expected += [0.0] * (found.shape[1] - len(completion))
            assert torch.allclose(found[b], torch.tensor(expected), atol=1e-5)


def check_log_probs_and_values(log_probs_and_values):
    toy, names = Toy(4), ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    *batch, plain = texts(9)
    log_probs, values = log_probs_and_values(toy, dict(zip(names, batch)))
    assert log_probs.shape == values.shape == batch[2].shape
    for b, (prompt, completion) in enumerate(plain):
        for t in range(len(completion)):
            assert math.isclose(log_probs[b, t], log_prob(toy, prompt, completion, t), abs_tol=1e-5)
            # the value of a state knows what stands before the token, not the token
            assert values[b, t] == toy.numbers[toy.row(prompt + completion[:t])]


def check_token_rewards(token_rewards):
    for seed, shape in enumerate(SHAPES):
        log_ratio, scores, mask = grids(seed, shape, 2)
        kept = log_ratio.clone()
        found = token_rewards(scores[:, 0], log_ratio, mask, 0.3)
        for b, length in enumerate(mask.sum(1).tolist()):
            for t in range(shape[1]):
                expected = -0.3 * float(log_ratio[b, t]) if t < length else 0.0
                expected += float(scores[b, 0]) if t == length - 1 else 0.0
                assert math.isclose(found[b, t], expected, abs_tol=1e-12)
        assert torch.equal(log_ratio, kept)


def check_gae(gae):
    for seed, shape in enumerate(SHAPES):
        for gae_lambda in (0.0, 0.5, 0.95, 1.0):
            rewards, values, mask = grids(seed + 10, shape, 2)
            kept = values.clone()
            found = gae(rewards, values, mask, gae_lambda)
            for b, length in enumerate(mask.sum(1).tolist()):
                deltas = []
                for t in range(length):
                    after = float(values[b, t + 1]) if t + 1 < length else 0.0
                    deltas.append(float(rewards[b, t]) + after - float(values[b, t]))
                for t in range(shape[1]):
                    expected = sum(gae_lambda ** (k - t) * deltas[k] for k in range(t, length))
                    assert math.isclose(found[b, t], expected, abs_tol=1e-10)
            assert torch.equal(values, kept)


def check_masked_mean(masked_mean):
    for seed, shape in enumerate(SHAPES):
        numbers, mask = grids(seed + 20, shape, 1)
        chosen = [float(number) for number, exists in zip(numbers.flatten(), mask.flatten()) if exists]
        assert math.isclose(masked_mean(numbers, mask), sum(chosen) / len(chosen), abs_tol=1e-12)


def check_whiten(whiten):
    for seed, shape in enumerate(SHAPES[1:]):
        advantages, mask = grids(seed + 30, shape, 1)
        advantages = 3.0 + 5.0 * advantages  # a mean that padding would pull towards zero
        for filling in (0.0, 100.0):
            filled = advantages.masked_fill(~mask, filling)
            found = whiten(filled, mask)
            chosen = [float(number) for number, exists in zip(filled.flatten(), mask.flatten()) if exists]
            mean = sum(chosen) / len(chosen)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in chosen) / (len(chosen) - 1))
            expected = (filled - mean) / deviation * mask
            assert torch.allclose(found, expected, atol=1e-6)
    assert torch.isfinite(whiten(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool))).all()


def check_clipped_surrogate(clipped_surrogate):
    ratio, advantages, _ = grids(40, (20, 5), 2)
    ratio = ratio.exp()
    found = clipped_surrogate(ratio, advantages, 0.2)
    for w, a, value in zip(ratio.flatten().tolist(), advantages.flatten().tolist(), found.flatten()):
        assert math.isclose(value, min(w * a, min(max(w, 0.8), 1.2) * a), abs_tol=1e-12)


def check_ppo_loss(ppo_loss):
    for seed, shape in enumerate(SHAPES):
        objective, values, returns, mask = grids(seed + 50, shape, 3)
        each = [
            [
                0.3 * (float(values[b, t]) - float(returns[b, t])) ** 2 - float(objective[b, t])
                for t in range(shape[1])
                if mask[b, t]
            ]
            for b in range(shape[0])
        ]
        tokens = [loss for losses in each for loss in losses]
        found = ppo_loss(objective, values, returns, mask, 0.3)
        assert math.isclose(found, sum(tokens) / len(tokens), abs_tol=1e-10)
        means = [sum(losses) / len(losses) for losses in each]
        found = ppo_loss(objective, values, returns, mask, 0.3, "texts")
        assert math.isclose(found, sum(means) / len(means), abs_tol=1e-10)


class Headed(torch.nn.Module):
    """What `PolicyWithValue` needs of a language model: a trunk and an output layer."""

    def __init__(self):
        super().__init__()
        self.base_model, self.output = Toy(5, width=6), torch.nn.Linear(6, NUM_IDS)
        self.config = self.base_model.config

    def get_output_embeddings(self):
        return self.output


def check_PolicyWithValue(PolicyWithValue):
    model = Headed()
    policy = PolicyWithValue(model)
    prompt_ids, prompt_mask, *_ = texts(6)
    inputs = {"input_ids": prompt_ids, "attention_mask": prompt_mask, "position_ids": prompt_mask.cumsum(1)}
    out, hidden = policy(**inputs), model.base_model(**inputs).last_hidden_state
    assert torch.equal(out.logits, model.output(hidden))
    assert torch.equal(out.values, torch.zeros(prompt_ids.shape)), "before training it expects nothing"
    assert torch.equal(out.past_key_values[0], prompt_ids)
    with torch.no_grad():
        policy.value_head.weight.copy_(torch.arange(6.0)[None])
        policy.value_head.bias.fill_(0.5)
    assert torch.allclose(policy(**inputs).values, hidden @ torch.arange(6.0) + 0.5, atol=1e-5)


def config(function, **changes):
    """The Config of the lesson that `function` is from."""
    return sys.modules[function.__module__].Config(**{"beta": 0.5, **changes})


def world_batch(collect, **changes):
    """(world, policy, a batch of it): the policy is not the reference."""
    module, world = sys.modules[collect.__module__], token_world(3)
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    torch.manual_seed(7)
    with torch.no_grad():
        policy.table += torch.randn_like(policy.table)
        policy.value_table += torch.randn_like(policy.value_table)
    ones = torch.ones_like(world.prompt_ids)
    task = module.Task(world.prompt_ids, ones, world.length, 0, world.pad_id, world.reward)
    cfg = config(collect, num_prompts=200, **changes)
    return world, policy, collect(policy, reference, task, torch.Generator().manual_seed(0), cfg)


def check_collect(collect):
    world, policy, batch = world_batch(collect)
    rows = world.rows(batch["completion_ids"])
    prompts = batch["prompt_ids"][:, 0] - world.num_symbols - 1
    assert set(prompts.tolist()) == {0, 1}
    listed, reference = world.log_probs(policy), world.reference_log_probs()
    for name, truth in (("old_log_probs", listed), ("ref_log_probs", reference)):
        assert torch.allclose(batch[name].sum(1), truth[prompts, rows], atol=1e-10)
        assert not batch[name].requires_grad
        assert (batch[name][~batch["completion_mask"]] == 0).all()
    assert torch.equal(batch["scores"], world.rewards[prompts, rows]), "scores are not clipped here"
    assert torch.equal(batch["completion_mask"], world.completion_mask[rows])
    assert torch.equal(batch["completion_ids"], world.completion_ids[rows])
    assert torch.equal(batch["values"][:, 0], policy.value_table[prompts * policy.offsets[-1]])

    world, policy, wrong = world_batch(collect, count_after_eos=True)
    assert wrong["completion_mask"].all()
    assert torch.equal(
        wrong["completion_ids"], batch["completion_ids"].masked_fill(~batch["completion_mask"], 0)
    )
    assert torch.equal(wrong["scores"], batch["scores"]), "the text is scored as it was written"
    assert (wrong["old_log_probs"] < 0).all()


def check_prepare(prepare):
    for seed, changes in enumerate(
        ({}, {"flip_kl": True}, {"whiten_advantages": False}, {"reward_cap": 0.3})
    ):
        old, ref, values, scores, mask = grids(seed + 60, (6, 5), 4)
        batch = {"old_log_probs": old * mask, "ref_log_probs": ref * mask, "values": values}
        batch |= {"scores": scores[:, 0], "completion_mask": mask}
        cfg = config(prepare, gae_lambda=0.8, **changes)
        found, advantages = prepare(batch, cfg), []
        for b, length in enumerate(mask.sum(1).tolist()):
            running, row = 0.0, []
            for t in reversed(range(length)):
                charge = float(old[b, t]) - float(ref[b, t])
                reward = charge * (0.5 if cfg.flip_kl else -0.5)
                if t == length - 1:
                    reward += min(max(float(scores[b, 0]), -cfg.reward_cap), cfg.reward_cap)
                after = float(values[b, t + 1]) if t + 1 < length else 0.0
                running = reward + after - float(values[b, t]) + 0.8 * running
                row.insert(0, running)
                assert math.isclose(found["returns"][b, t], running + float(values[b, t]), abs_tol=1e-9)
            advantages += row
        spread = torch.tensor(advantages, dtype=torch.float64)
        if cfg.whiten_advantages:
            spread = (spread - spread.mean()) / spread.std()
        assert torch.allclose(found["advantages"][mask], spread, atol=1e-6)
        assert (found["advantages"][~mask] == 0).all()


def check_minibatch_loss(minibatch_loss):
    policy, names = TabularLoss(), ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    *batch, plain = texts(12)
    mini = dict(zip(names, batch))
    old, advantages, returns = torch.randn(3, *batch[2].shape, generator=torch.Generator().manual_seed(1))
    mini |= {"old_log_probs": (old - 2.0) * batch[3], "advantages": advantages, "returns": returns}
    cfg = config(minibatch_loss, clip_eps=0.1, vf_coef=0.7)
    loss, ratio = minibatch_loss(policy, mini, cfg)
    assert loss.requires_grad
    loss, ratio = loss.detach(), ratio.detach()
    total, count = 0.0, 0
    for b, (prompt, completion) in enumerate(plain):
        for t in range(len(completion)):
            w = math.exp(log_prob(policy.toy, prompt, completion, t) - float(mini["old_log_probs"][b, t]))
            a, value = float(advantages[b, t]), policy.toy.numbers[policy.toy.row(prompt + completion[:t])]
            total += 0.7 * float(value - returns[b, t]) ** 2 - min(w * a, min(max(w, 0.9), 1.1) * a)
            count += 1
            assert math.isclose(ratio[b, t], w, rel_tol=1e-4)
    assert math.isclose(loss, total / count, rel_tol=1e-4)


EDITS = {
    "padding_counts": Edit(
        function="positions",
        old="return (mask.cumsum(1) - 1)",
        new="return ((mask * 0 + 1).cumsum(1) - 1)",
        says="padding counts",
    ),
    "starts_at_one": Edit(
        function="positions",
        old="(mask.cumsum(1) - 1).clamp(min=0)",
        new="mask.cumsum(1)",
        says="starts at one",
    ),
    "negative_padding": Edit(
        function="positions",
        old="(mask.cumsum(1) - 1).clamp(min=0)",
        new="(mask.cumsum(1) - 1)",
        says="negative in padding",
    ),
    "padding_counts_positions": Edit(
        function="sample",
        old="position_ids = positions(prompt_mask)",
        new="position_ids = positions(torch.ones_like(prompt_mask))",
        says="padding counts as positions",
    ),
    "position_stands_still": Edit(
        function="sample",
        old="position_ids[:, -1:] + 1",
        new="position_ids[:, -1:] + 0",
        says="position stands still",
    ),
    "padding_attended": Edit(
        function="sample",
        old="ids, mask, cache = prompt_ids, prompt_mask, None",
        new="ids, mask, cache = prompt_ids, torch.ones_like(prompt_mask), None",
        says="padding is attended to",
    ),
    "goes_after_eos": Edit(
        function="sample",
        old="done = done | (token == eos_id)",
        new="done = done | (token == -1)",
        says="goes on after EOS",
    ),
    "eos_no_token": Edit(
        function="sample",
        old="= token, ~done\n",
        new="= token, ~done & (token != eos_id)\n",
        says="EOS is no token",
    ),
    "greedy": Edit(
        function="sample",
        old="torch.multinomial(probs, 1, generator=generator)[:, 0]",
        new="probs.argmax(-1)",
        says="greedy",
    ),
    "temperature": Edit(
        function="sample",
        old="out.logits[:, -1].softmax(-1)",
        new="(out.logits[:, -1] / 0.7).softmax(-1)",
        says="a temperature",
    ),
    "first_column_s_logits": Edit(
        function="sample",
        old="out.logits[:, -1].softmax(-1)",
        new="out.logits[:, 0].softmax(-1)",
        says="the first column's logits",
    ),
    "forgets_text": Edit(
        function="sample",
        old="past_key_values=cache,\n",
        new="past_key_values=None,\n",
        says="forgets the text",
    ),
    "ended_texts_go_padding": Edit(
        function="sample",
        old=".masked_fill(done, pad_id)",
        new="",
        says="ended texts go on in the padding",
    ),
    "own_randomness": Edit(
        function="sample",
        old=", 1, generator=generator)",
        new=", 1)",
        says="its own randomness",
    ),
    "logits_off_one": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, prompt_ids.shape[1] :]",
        says="logits off by one",
    ),
    "prompt_not_cut_off": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, : completion_ids.shape[1]]",
        says="prompt not cut off",
    ),
    "prompt_s_padding_attended": Edit(
        function="token_log_probs",
        old="mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)\n    logits",
        new="mask = torch.cat([torch.ones_like(prompt_mask), completion_mask.long()], dim=1)\n    logits",
        says="prompt's padding attended to",
    ),
    "tokens_after_eos_counted": Edit(
        function="token_log_probs",
        old="return chosen.masked_fill(~completion_mask, 0.0)",
        new="return chosen",
        says="tokens after EOS counted",
    ),
    "mask_upside_down": Edit(
        function="token_log_probs",
        old="chosen.masked_fill(~completion_mask",
        new="chosen.masked_fill(completion_mask",
        says="mask upside down",
    ),
    "not_normalised": Edit(
        function="token_log_probs",
        old="predicting.log_softmax(-1).gather",
        new="predicting.gather",
        says="not normalised",
    ),
    "normalised_over_time": Edit(
        function="token_log_probs",
        old="predicting.log_softmax(-1).gather",
        new="predicting.log_softmax(1).gather",
        says="normalised over time",
    ),
    "value_after_token": Edit(
        function="log_probs_and_values",
        old="out.values[:, prompt_ids.shape[1] - 1 : -1]",
        new="out.values[:, prompt_ids.shape[1] :]",
        says="value after the token",
    ),
    "values_prompt": Edit(
        function="log_probs_and_values",
        old="out.values[:, prompt_ids.shape[1] - 1 : -1]",
        new="out.values[:, : completion_ids.shape[1]]",
        says="values of the prompt",
    ),
    "log_probs_values_padding_counts_positions": Edit(
        function="log_probs_and_values",
        old="out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))",
        new="out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask * 0 + 1))",
        says="padding counts as positions",
    ),
    "sign_kl": Edit(
        function="token_rewards",
        old="rewards = -beta * log_ratio",
        new="rewards = beta * log_ratio",
        says="sign of the KL",
    ),
    "score_last_column": Edit(
        function="token_rewards",
        old="last = completion_mask.sum(dim=1) - 1",
        new="last = torch.full((len(scores),), completion_mask.shape[1] - 1)",
        says="score in the last column",
    ),
    "score_one_behind_last": Edit(
        function="token_rewards",
        old="last = completion_mask.sum(dim=1) - 1",
        new="last = completion_mask.sum(dim=1).clamp(max=completion_mask.shape[1] - 1)",
        says="score one behind the last token",
    ),
    "score_first_token": Edit(
        function="token_rewards",
        old="rewards[torch.arange(len(scores)), last]",
        new="rewards[:, 0]",
        says="score with the first token",
    ),
    "score_every_token": Edit(
        function="token_rewards",
        old="rewards[torch.arange(len(scores)), last] += scores",
        new="rewards += scores[:, None]",
        says="score with every token",
    ),
    "filling_charged": Edit(
        function="token_rewards",
        old="-beta * log_ratio * completion_mask",
        new="-beta * log_ratio * 1",
        says="filling charged",
    ),
    "score_replaces_charge": Edit(
        function="token_rewards",
        old="last] += scores",
        new="last] = scores",
        says="score replaces the charge",
    ),
    "filling_has_value": Edit(
        function="gae",
        old="values * exists, torch.zeros_like",
        new="values * 1, torch.zeros_like",
        says="filling has a value",
    ),
    "sum_does_not_end": Edit(
        function="gae",
        old="gae_lambda * running) * exists[:, t]",
        new="gae_lambda * running)",
        says="sum does not end with the text",
    ),
    "lambda_missing": Edit(
        function="gae",
        old="delta + gae_lambda * running",
        new="delta + running",
        says="lambda missing",
    ),
    "lambda_squared": Edit(
        function="gae",
        old="delta + gae_lambda * running",
        new="delta + gae_lambda**2 * running",
        says="lambda squared",
    ),
    "sign_value": Edit(
        function="gae",
        old="+ next_values - values[:, t]",
        new="+ next_values + values[:, t]",
        says="sign of the value",
    ),
    "next_value_own": Edit(
        function="gae",
        old="advantages[:, t], next_values = running, values[:, t]",
        new="advantages[:, t], next_values = running, values[:, t - 1]",
        says="next value of its own",
    ),
    "forwards": Edit(
        function="gae",
        old="in reversed(range(rewards.shape[1]))",
        new="in range(rewards.shape[1])",
        says="forwards",
    ),
    "over_all_columns": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum()",
        new="(numbers * mask).mean()",
        says="over all columns",
    ),
    "filling_counted": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum()",
        new="numbers.sum() / mask.sum()",
        says="filling counted",
    ),
    "mean_means": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum()",
        new="((numbers * mask).sum(1) / mask.sum(1)).mean()",
        says="mean of means",
    ),
    "mean_over_padding": Edit(
        function="whiten",
        old="(advantages - masked_mean(advantages, mask)) * mask",
        new="(advantages - advantages.mean()) * mask",
        says="mean over padding",
    ),
    "deviation_over_padding": Edit(
        function="whiten",
        old="(mask.sum() - 1)).sqrt()",
        new="(mask.numel() - 1)).sqrt()",
        says="deviation over padding",
    ),
    "padding_whitened_too": Edit(
        function="whiten",
        old="(advantages - masked_mean(advantages, mask)) * mask",
        new="advantages - masked_mean(advantages, mask)",
        says="padding whitened too",
    ),
    "variance_deviation": Edit(
        function="whiten",
        old="(mask.sum() - 1)).sqrt()",
        new="(mask.sum() - 1))",
        says="variance for deviation",
    ),
    "mean_kept": Edit(
        function="whiten",
        old="return centred / (deviation + 1e-8)",
        new="return advantages * mask / (deviation + 1e-8)",
        says="mean kept",
    ),
    "no_guard_against_zero": Edit(
        function="whiten",
        old="(deviation + 1e-8)",
        new="deviation",
        says="no guard against zero",
    ),
    "max_min": Edit(
        function="clipped_surrogate",
        old="return torch.min(ratio * advantages",
        new="return torch.max(ratio * advantages",
        says="max for min",
    ),
    "clip_alone": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="clip alone",
    ),
    "one_sided": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)",
        new="ratio.clamp(max=1.0 + clip_eps)",
        says="one-sided",
    ),
    "sign_objective": Edit(
        function="ppo_loss",
        old=".pow(2) - objective  #",
        new=".pow(2) + objective  #",
        says="sign of the objective",
    ),
    "sign_value_loss": Edit(
        function="ppo_loss",
        old="losses = vf_coef *",
        new="losses = -vf_coef *",
        says="sign of the value loss",
    ),
    "error_not_squared": Edit(
        function="ppo_loss",
        old="(values - returns).pow(2)",
        new="(values - returns).abs()",
        says="error not squared",
    ),
    "ppo_loss_mean_over_padding": Edit(
        function="ppo_loss",
        old="return masked_mean(losses, mask)  #",
        new="return losses.mean()  #",
        says="mean over padding",
    ),
    "texts_weigh_their_length": Edit(
        function="ppo_loss",
        old="((losses * mask).sum(dim=1) / mask.sum(dim=1)).mean()",
        new="(losses * mask).sum(dim=1).mean()",
        says="texts weigh by their length",
    ),
    "values_at_random": Edit(
        function="PolicyWithValue",
        old="nn.init.zeros_(self.value_head.weight)",
        new="",
        says="values at random",
    ),
    "head_without_width": Edit(
        function="PolicyWithValue",
        old="self.value_head(hidden).squeeze(-1)",
        new="self.value_head(hidden)",
        says="a head without its width",
    ),
    "value_last_token_all": Edit(
        function="PolicyWithValue",
        old="values = self.value_head(hidden)",
        new="values = self.value_head(hidden[:, -1:].expand_as(hidden))",
        says="value of the last token for all",
    ),
    "no_cache": Edit(
        function="PolicyWithValue",
        old="past_key_values=out.past_key_values)",
        new="past_key_values=None)",
        says="no cache",
    ),
    "reference_trains_along": Edit(
        function="collect",
        old="token_log_probs(reference, *text)",
        new="token_log_probs(policy, *text)",
        says="a reference that trains along",
    ),
    "not_constant": Edit(
        function="collect",
        old="@torch.no_grad()\ndef collect",
        new="def collect",
        says="not constant",
    ),
    "one_prompt_all": Edit(
        function="collect",
        old="rows = torch.randint(len(",
        new="rows = 0 * torch.randint(len(",
        says="one prompt for all",
    ),
    "end_padding": Edit(
        function="collect",
        old="task.num_tokens, task.eos_id, task.pad_id, generator",
        new="task.num_tokens, task.pad_id, task.eos_id, generator",
        says="the end is padding",
    ),
    "mask_count_forgotten": Edit(
        function="collect",
        old="completion_mask = torch.ones_like(completion_mask)",
        new="completion_mask = completion_mask.clone()",
        says="the mask of a count is forgotten",
    ),
    "sign_log_ratio": Edit(
        function="prepare",
        old='batch["old_log_probs"] - batch["ref_log_probs"]\n    scores',
        new='batch["ref_log_probs"] - batch["old_log_probs"]\n    scores',
        says="sign of the log-ratio",
    ),
    "scores_not_capped": Edit(
        function="prepare",
        old=".clamp(-cfg.reward_cap, cfg.reward_cap)\n    rewards",
        new="\n    rewards",
        says="scores not capped",
    ),
    "target_lacks_values": Edit(
        function="prepare",
        old='advantages + batch["values"] * mask',
        new="advantages",
        says="the target lacks the values",
    ),
    "target_whitened": Edit(
        function="prepare",
        old='"advantages": advantages, "returns": returns',
        new='"advantages": advantages, "returns": advantages + batch["values"]',
        says="the target is whitened",
    ),
    "always_whitened": Edit(
        function="prepare",
        old="if cfg.whiten_advantages else advantages",
        new="if True else advantages",
        says="always whitened",
    ),
    "flip_not_one": Edit(
        function="prepare",
        old="-cfg.beta if cfg.flip_kl else cfg.beta",
        new="cfg.beta",
        says="the flip is not one",
    ),
    "ratio_upside_down": Edit(
        function="minibatch_loss",
        old='ratio = (log_probs - mini["old_log_probs"])',
        new='ratio = (mini["old_log_probs"] - log_probs)',
        says="ratio upside down",
    ),
    "ratio_whole_text": Edit(
        function="minibatch_loss",
        old='(log_probs - mini["old_log_probs"]).exp()',
        new='(log_probs - mini["old_log_probs"]).sum(1, keepdim=True).expand_as(log_probs).exp()',
        says="ratio of a whole text",
    ),
    "no_gradient": Edit(
        function="minibatch_loss",
        old="log_probs, values = log_probs_and_values(policy, mini)",
        new="log_probs, values = (x.detach() for x in log_probs_and_values(policy, mini))",
        says="no gradient",
    ),
    "critic_learns_advantages": Edit(
        function="minibatch_loss",
        old='ppo_loss(objective, values, mini["returns"]',
        new='ppo_loss(objective, values, mini["advantages"]',
        says="the critic learns advantages",
    ),
}
