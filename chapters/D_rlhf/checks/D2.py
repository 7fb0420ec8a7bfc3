"""Definition checks of D2: each function against its equation, written out one token at a time."""

import math
import sys
from types import SimpleNamespace

import torch

from chapters.envs.token_world import token_world
from chapters.text.tasks import world_task
from chapters.utils.edits import Edit

PAD, STOP, NUM_IDS = 0, 1, 7
SHAPES = ((1, 1), (2, 3), (5, 7), (16, 4))  # (B, T)
CONSTANT = (
    "token_rewards",
    "gae",
    "whiten",
)  # of the weights: they may be written with or without a gradient


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
                assert math.isclose(found[b, t], expected, abs_tol=1e-6)
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
                    assert math.isclose(found[b, t], expected, abs_tol=1e-6)
            assert torch.equal(values, kept)


def check_masked_mean(masked_mean):
    for seed, shape in enumerate(SHAPES):
        numbers, mask = grids(seed + 20, shape, 1)
        chosen = [float(number) for number, exists in zip(numbers.flatten(), mask.flatten()) if exists]
        assert math.isclose(masked_mean(numbers, mask), sum(chosen) / len(chosen), abs_tol=1e-6)
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert masked_mean(torch.ones(2, 3), none) == 0.0, "without any token the mean is 0"


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
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    for constant in (1.0, 0.9, 123456.789):  # the mean of 7 such numbers is not quite theirs
        found = whiten(torch.full(mask.shape, constant), mask)
        assert (found == 0.0).all(), f"equal advantages {constant}: expected 0, found {found[0, 0]:.3g}"


def config(function, **changes):
    """The Config of the lesson that `function` is from."""
    return sys.modules[function.__module__].Config(**{"beta": 0.5, **changes})


def world_batch(collect, beta):
    """(world, policy, a batch of it): the policy is not the reference."""
    world = token_world(3)
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    torch.manual_seed(7)
    with torch.no_grad():
        policy.table += torch.randn_like(policy.table)
        policy.value_table += torch.randn_like(policy.value_table)
    cfg = config(collect, num_prompts=200, gae_lambda=0.8, beta=beta)
    batch = collect(policy, reference, world_task(world), torch.Generator().manual_seed(0), cfg)
    return world, policy, batch


def check_collect(collect):
    world, policy, batch = world_batch(collect, beta=0.5)
    rows = world.rows(batch["completion_ids"])
    prompts = batch["prompt_ids"][:, 0] - world.num_symbols - 1
    assert set(prompts.tolist()) == {0, 1}
    listed, mask = world.log_probs(policy), batch["completion_mask"]
    log_ratio = listed - world.reference_log_probs()
    for name, truth in (("old_log_probs", listed), ("log_ratio", log_ratio)):
        assert torch.allclose(batch[name].sum(1), truth[prompts, rows], atol=1e-10)
        assert (batch[name][~mask] == 0).all()
    assert not any(values.requires_grad for values in batch.values())
    assert torch.equal(batch["scores"], world.rewards[prompts, rows])
    assert torch.equal(mask, world.completion_mask[rows])
    assert torch.equal(batch["completion_ids"], world.completion_ids[rows])

    text = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    values = policy(input_ids=text).values[:, :-1].detach()  # of what stands before each token
    spread = []
    for b, length in enumerate(mask.sum(1).tolist()):
        running, row = 0.0, []
        for t in reversed(range(length)):
            reward = -0.5 * float(batch["log_ratio"][b, t])
            reward += float(batch["scores"][b]) if t == length - 1 else 0.0
            after = float(values[b, t + 1]) if t + 1 < length else 0.0
            running = reward + after - float(values[b, t]) + 0.8 * running
            row.insert(0, running)
            assert math.isclose(batch["returns"][b, t], running + float(values[b, t]), abs_tol=1e-9)
        spread += row
    spread = torch.tensor(spread, dtype=torch.float64)
    assert torch.allclose(batch["advantages"][mask], (spread - spread.mean()) / spread.std(), atol=1e-6)
    assert (batch["advantages"][~mask] == 0).all()


def check_minibatch_loss(minibatch_loss):
    policy, names = TabularLoss(), ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    *batch, plain = texts(12)
    mini = dict(zip(names, batch))
    old, advantages, returns = torch.randn(3, *batch[2].shape, generator=torch.Generator().manual_seed(1))
    mini |= {"old_log_probs": (old - 2.0) * batch[3], "advantages": advantages, "returns": returns}
    loss, ratio = minibatch_loss(policy, mini, 0.1, 0.7)
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
        assert (ratio[b, len(completion) :] == 1.0).all(), "padding has no ratio but 1"
    assert math.isclose(loss, total / count, rel_tol=1e-4)


EDITS = {
    "no_kl": Edit(
        function="token_rewards",
        old="rewards = -beta * log_ratio",
        new="rewards = -0.0 * log_ratio",
        says="no KL penalty: leaving is free",
        fails=("gap_closed", "kl"),
    ),
    "kl_sign": Edit(
        function="token_rewards",
        old="rewards = -beta * log_ratio",
        new="rewards = beta * log_ratio",
        says="the sign of the KL penalty flipped: leaving is paid",
        fails=("gap_closed", "reward_after", "kl"),
    ),
    "padding_counted": Edit(
        function="collect",
        old="    batch = dict(zip(TEXT",
        new="    ids = ids.masked_fill(~mask, task.eos_id)\n"
        "    mask = torch.ones_like(mask)\n"
        "    batch = dict(zip(TEXT",
        says="padding counted as text, as if nobody had made a mask",
        fails=("gap_closed", "reward_after"),
    ),
    "mean_of_means": Edit(
        function="minibatch_loss",
        old='    return masked_mean(losses, mini["completion_mask"]), ratio',
        new='    mask = mini["completion_mask"]\n'
        "    return ((losses * mask).sum(dim=1) / mask.sum(dim=1)).mean(), ratio",
        says="the mean of each completion's mean: a token of a short one weighs more",
    ),
    "not_whitened": Edit(
        function="collect",
        old='batch["advantages"] = whiten(advantages, mask)',
        new='batch["advantages"] = advantages',
        says="advantages as they are, not whitened",
    ),
    "padding_has_value": Edit(
        function="gae",
        old="values = values * completion_mask",
        new="values = values * 1",
        says="padding has a value",
    ),
    "next_value_own": Edit(
        function="gae",
        old="next_values = values[:, t]",
        new="next_values = values[:, t - 1]",
        says="the next value is that of the token before",
    ),
    "padding_attended": Edit(
        function="sample",
        old="attention_mask=mask",
        new="attention_mask=torch.ones_like(mask)",
        says="padding is attended to",
    ),
    "eos_is_no_token": Edit(
        function="sample",
        old="~done[:, None]",
        new="(~done & (token != eos_id))[:, None]",
        says="the EOS is no token: stopping is never learnt",
        fails=("gap_closed",),
    ),
    "text_of_another": Edit(
        function="sample",
        old="input_ids=ids,",
        new="input_ids=ids.roll(1, 0),",
        says="goes on with another row's text",
    ),
    "padding_in_the_sum": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum().clamp(min=1)",
        new="numbers.sum() / mask.sum().clamp(min=1)",
        says="padding is counted in the sum",
    ),
    "sign_of_the_objective": Edit(
        function="minibatch_loss",
        old="vf_coef * errors - clipped",
        new="vf_coef * errors + clipped",
        says="the sign of the objective: what is rewarded is unlearnt",
        fails=("gap_closed", "reward_after", "kl"),
    ),
    "sign_of_the_value_loss": Edit(
        function="minibatch_loss",
        old="losses = vf_coef * errors",
        new="losses = -vf_coef * errors",
        says="the sign of the value loss: the critic runs away",
    ),
    "error_not_squared": Edit(
        function="minibatch_loss",
        old=".pow(2)",
        new=".abs()",
        says="the critic's error is not squared",
    ),
    "mean_over_padding_too": Edit(
        function="minibatch_loss",
        old='masked_mean(losses, mini["completion_mask"])',
        new="losses.mean()",
        says="a mean over padding as well",
    ),
    "other_advantages": Edit(
        function="minibatch_loss",
        old='mini["advantages"], clip',
        new='mini["advantages"].flip(0), clip',
        says="the advantages of other completions",
    ),
    "forgotten_copy": Edit(
        function="main",
        old="PolicyWithValue(copy.deepcopy(base)).requires_grad_(True)",
        new="PolicyWithValue(base)",
        says="policy and reference are one model, and that is frozen",
        fails=("reward_after",),
    ),
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
        old="positions(mask)",
        new="positions(torch.ones_like(mask))",
        says="padding counts as positions",
    ),
    "position_stands_still": Edit(
        function="sample",
        old="positions(mask)",
        new="positions(mask).clamp(max=prompt_ids.shape[1] - 1)",
        says="position stands still",
    ),
    "goes_after_eos": Edit(
        function="sample",
        old="done = done | (token == eos_id)",
        new="done = done | (token == -1)",
        says="goes on after EOS",
    ),
    "greedy": Edit(
        function="sample",
        old="torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]",
        new="logits.argmax(-1)",
        says="greedy",
        fails=("gap_closed", "reward_after"),
    ),
    "temperature": Edit(
        function="sample",
        old="logits.softmax(-1)",
        new="(logits / 0.7).softmax(-1)",
        says="a temperature",
    ),
    "first_logits": Edit(
        function="sample",
        old=".logits[:, -1]",
        new=".logits[:, 0]",
        says="the first column's logits",
    ),
    "goes_on_in_the_padding": Edit(
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
    "off_by_one": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, prompt_ids.shape[1] :]",
        says="logits off by one",
        fails=("gap_closed", "reward_after"),
    ),
    "prompt_not_cut_off": Edit(
        function="token_log_probs",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, : completion_ids.shape[1]]",
        says="prompt not cut off",
    ),
    "prompt_padding_attended": Edit(
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
    "value_too_late": Edit(
        function="log_probs_and_values",
        old="out.values[:, prompt_ids.shape[1] - 1 : -1]",
        new="out.values[:, prompt_ids.shape[1] :]",
        says="value after the token",
    ),
    "values_of_the_prompt": Edit(
        function="log_probs_and_values",
        old="out.values[:, prompt_ids.shape[1] - 1 : -1]",
        new="out.values[:, : completion_ids.shape[1]]",
        says="values of the prompt",
    ),
    "padding_has_positions": Edit(
        function="log_probs_and_values",
        old="out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))",
        new="out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask * 0 + 1))",
        says="padding counts as positions",
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
    "padding_pays": Edit(
        function="token_rewards",
        old="-beta * log_ratio * completion_mask",
        new="-beta * log_ratio * 1",
        says="filling charged",
    ),
    "score_replaces_penalty": Edit(
        function="token_rewards",
        old="last] += scores",
        new="last] = scores",
        says="score replaces the charge",
    ),
    "sum_does_not_end": Edit(
        function="gae",
        old="gae_lambda * running) * completion_mask[:, t]",
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
    "forwards": Edit(
        function="gae",
        old="in reversed(range(rewards.shape[1]))",
        new="in range(rewards.shape[1])",
        says="forwards",
    ),
    "over_all_columns": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum().clamp(min=1)",
        new="(numbers * mask).mean()",
        says="over all columns",
    ),
    "mean_of_nothing": Edit(
        function="masked_mean",
        old="mask.sum().clamp(min=1)",
        new="mask.sum()",
        says="0 / 0 where there is no token",
    ),
    "mean_of_rows": Edit(
        function="masked_mean",
        old="(numbers * mask).sum() / mask.sum().clamp(min=1)",
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
        old="(mask.sum() - 1).clamp(min=1)).sqrt()",
        new="(mask.numel() - 1)).sqrt()",
        says="deviation over padding",
    ),
    "padding_whitened_too": Edit(
        function="whiten",
        old="(advantages - masked_mean(advantages, mask)) * mask",
        new="advantages - masked_mean(advantages, mask)",
        says="padding whitened too",
    ),
    "rounding_divided": Edit(
        function="whiten",
        old=" * mask * differ",
        new=" * mask",
        says="divides rounding by rounding where all advantages are equal",
    ),
    "variance": Edit(
        function="whiten",
        old="(mask.sum() - 1).clamp(min=1)).sqrt()",
        new="(mask.sum() - 1).clamp(min=1))",
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
    "reference_moves": Edit(
        function="collect",
        old="token_log_probs(reference, *prompt",
        new="token_log_probs(policy, *prompt",
        says="the reference is the policy itself: no KL is ever seen",
        fails=("gap_closed",),
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
        old="task.eos_id, task.pad_id, generator",
        new="task.pad_id, task.eos_id, generator",
        says="EOS and padding change places",
    ),
    "sign_log_ratio": Edit(
        function="collect",
        old='batch["old_log_probs"] - token',
        new='-batch["old_log_probs"] + token',
        says="the log-ratio is that of the reference over the policy",
    ),
    "target_lacks_values": Edit(
        function="collect",
        old="advantages + values * mask",
        new="advantages",
        says="the critic's target lacks the old values",
    ),
    "target_whitened": Edit(
        function="collect",
        old="advantages + values * mask",
        new="whiten(advantages, mask) + values * mask",
        says="the critic's target is whitened",
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
        old='values - mini["returns"]',
        new='values - mini["advantages"]',
        says="the critic learns advantages",
    ),
}
