"""Definition checks of D6: each function against its meaning, one text and one number at a time."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import torch

from chapters.envs.rewriter import draw_requests, encode_prompts, encode_rewrites
from chapters.text.models import pretrained
from chapters.text.recipes import rewriter_recipe
from chapters.utils.edits import Edit


def check_preference(preference):
    rng = np.random.default_rng(0)
    for noise in (0.3, 1.0, 4.0):
        first, second = rng.normal(0.0, 3.0, size=(2, 40))
        found = preference(first, second, noise)
        for p, a, b in zip(found, first, second):
            # the odds are those of two texts of strength exp(score / noise)
            odds = math.exp(a / noise) / math.exp(b / noise)
            assert math.isclose(p, odds / (1 + odds), rel_tol=1e-9)


def check_ceiling(ceiling):
    rng = np.random.default_rng(1)
    for size in (1, 7, 200):
        probs = rng.random(size)
        expected = sum(p if p > 0.5 else 1 - p for p in probs) / size
        assert math.isclose(ceiling(probs), expected, rel_tol=1e-12)
    assert ceiling(np.array([0.5, 0.5])) == 0.5


def check_expected_accuracy(expected_accuracy):
    """Equals the mean over many drawn labels; a perfect and a perfectly wrong model add up to 1."""
    rng = np.random.default_rng(2)
    margins, probs = rng.normal(size=60), rng.random(60)
    margins[:5] = 0.0
    labels = rng.random((40_000, 60)) < probs
    guesses = np.where(margins == 0, rng.random(labels.shape) < 0.5, margins > 0)
    assert abs(expected_accuracy(margins, probs) - (guesses == labels).mean()) < 3e-3
    assert math.isclose(expected_accuracy(margins, probs) + expected_accuracy(-margins, probs), 1.0)
    assert expected_accuracy(np.zeros(3), np.ones(3)) == 0.5


def check_label(label):
    """Each text is chosen as often as its probability says, and never mixed up with another request's."""
    compared = sys.modules[label.__module__].Comparisons(
        requests=["r0", "r1", "r2"], first=["a0", "a1", "a2"], second=["b0", "b1", "b2"],
        probs=np.array([0.0, 1.0, 0.3]),
    )  # fmt: skip
    rng, wins = np.random.default_rng(3), 0
    for _ in range(4000):
        pairs = label(compared, rng)
        assert list(pairs.requests) == compared.requests
        for row, texts in enumerate(zip(pairs.chosen, pairs.rejected)):
            assert sorted(texts) == [f"a{row}", f"b{row}"]
        assert pairs.chosen[:2] == ["b0", "a1"]
        wins += pairs.chosen[2] == "a2"
    assert abs(wins / 4000 - 0.3) < 0.025


def check_bradley_terry_loss(bradley_terry_loss):
    torch.manual_seed(4)
    for size in (1, 5, 64):
        chosen, rejected = 2.0 * torch.randn(2, size)
        expected = 0.0
        for a, b in zip(chosen.tolist(), rejected.tolist()):
            expected -= math.log(math.exp(a) / (math.exp(a) + math.exp(b))) / size
        assert math.isclose(bradley_terry_loss(chosen, rejected), expected, rel_tol=1e-4, abs_tol=1e-6)
    assert torch.isfinite(bradley_terry_loss(torch.tensor([-500.0]), torch.tensor([500.0])))


def check_pack(pack):
    rng = np.random.default_rng(5)
    for _ in range(20):
        texts = [(rng.integers(3, 50, rng.integers(1, 7)), rng.integers(3, 50, rng.integers(1, 9)))
                 for _ in range(rng.integers(1, 6))]  # fmt: skip
        wide = max(len(prompt) for prompt, _ in texts) + 1
        long = max(len(completion) for _, completion in texts) + 2
        prompt_ids, completion_ids = (
            torch.zeros(len(texts), wide).long(),
            torch.zeros(len(texts), long).long(),
        )
        prompt_mask, completion_mask = torch.zeros_like(prompt_ids), torch.zeros_like(completion_ids).bool()
        for row, (prompt, completion) in enumerate(texts):
            prompt_ids[row, wide - len(prompt) :] = torch.from_numpy(prompt)
            prompt_mask[row, wide - len(prompt) :] = 1
            completion_ids[row, : len(completion)] = torch.from_numpy(completion)
            completion_mask[row, : len(completion)] = True
        ids, mask = pack(prompt_ids, prompt_mask, completion_ids, completion_mask)
        assert ids.shape == mask.shape == (len(texts), max(len(p) + len(c) for p, c in texts))
        for row, (prompt, completion) in enumerate(texts):
            whole = [*prompt, *completion]
            assert ids[row, : len(whole)].tolist() == whole
            assert mask[row].tolist() == [1] * len(whole) + [0] * (ids.shape[1] - len(whole))


def check_minibatches(minibatches):
    for num_pairs, num_human, size, share in ((50, 0, 8, 0.5), (50, 7, 8, 0.25), (30, 3, 10, 1.0)):
        rng = np.random.default_rng(6)
        parts = list(minibatches(num_pairs, num_human, size, share, rng))
        assert len(parts) == math.ceil(num_pairs / size)
        judged = [int(row) for rows, _ in parts for row in rows]
        assert len(set(judged)) == len(judged), "no pair of the judge's comes twice in one epoch"
        assert set(judged) <= set(range(num_pairs))
        for rows, own in parts:
            assert len(own) == (round(share * size) if num_human else 0)
            assert all(0 <= row < num_human for row in own)
            assert len(rows) + len(own) <= size
        if not num_human:
            assert sorted(judged) == list(range(num_pairs))
            assert judged != sorted(judged), "in random order"
        else:
            assert len({int(row) for _, own in parts for row in own}) > num_human / 2, "not only the first"


def small_model():
    """The smoke run's tiny model, half-trained on office notes, and 12 prompts."""
    lm = pretrained(rewriter_recipe(20))
    requests = [request.text for request in draw_requests(np.random.default_rng(7), 12)]
    return lm, requests


def check_RewardModel(RewardModel):
    """One text at a time, without padding, by hand; nothing shared with the model it came from."""
    lm, requests = small_model()
    torch.manual_seed(8)
    found = RewardModel(lm.model)
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    ids = [lm.tokenizer(text, return_tensors="pt")["input_ids"][0] for text in requests]
    longest = max(map(len, ids))
    padded = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in ids])
    mask = torch.stack([(torch.arange(longest) < len(row)).long() for row in ids])
    assert torch.equal(found(padded, mask), torch.zeros(len(ids))), "at first nothing is preferred"
    torch.nn.init.normal_(found.score.weight)
    rewards = found(padded, mask)
    for row, reward in zip(ids, rewards):
        hidden = lm.model.base_model(input_ids=row[None]).last_hidden_state[0, -1]
        assert torch.isclose(reward, hidden @ found.score.weight[0] + found.score.bias[0], atol=1e-4)
    rewards.sum().backward()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.1
    assert all(torch.equal(before[name], weight) for name, weight in lm.model.state_dict().items())


def batch_for(function):
    """(lesson, config, policy that has moved on, reference, reward model, model, a batch of 12 rewrites)."""
    lesson, (lm, requests) = sys.modules[function.__module__], small_model()
    cfg = lesson.Config(num_tokens=10, gae_lambda=0.9, beta=0.3)
    torch.manual_seed(9)
    policy, reward_model = lesson.PolicyWithValue(lm.model), lesson.RewardModel(lm.model)
    with torch.no_grad():
        for parameter in (*policy.parameters(), reward_model.score.weight):
            parameter += 0.05 * torch.randn_like(parameter)
        policy.model.base_model.wte.weight[lm.tokenizer.eos_token_id] *= 3.0
    generator = torch.Generator().manual_seed(3)
    batch = lesson.collect(policy, lm.model, reward_model, lm, requests, generator, cfg)
    return lesson, cfg, policy, reward_model, lm, requests, batch


def alone(policy, ids, start):
    """(log-probability, value) of each token from column `start` on, of one text without padding."""
    out = policy(input_ids=ids[None])
    log_probs = out.logits[0].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
    values = out.values[0, start - 1 : -1] if hasattr(policy, "value_head") else None
    return log_probs[start - 1 :], values


def check_collect(collect):
    _, cfg, policy, reward_model, lm, requests, batch = batch_for(collect)
    prompt_ids, prompt_mask, completion_ids, completion_mask = batch["text"]
    again = encode_prompts(lm.tokenizer, requests)
    assert torch.equal(prompt_ids, again[0])
    assert torch.equal(prompt_mask, again[1])
    assert (completion_mask.sum(1) < cfg.num_tokens).any(), "some texts end early, or this proves little"
    assert not any(tensor.requires_grad for tensor in batch.values() if isinstance(tensor, torch.Tensor))
    expected = []  # [(advantages, returns)] before whitening
    for row in range(len(requests)):
        prompt = prompt_ids[row][prompt_mask[row].bool()]
        completion = completion_ids[row][completion_mask[row]]
        ids = torch.cat([prompt, completion])
        with torch.no_grad():
            log_probs, values = alone(policy, ids, len(prompt))
            ref, _ = alone(lm.model, ids, len(prompt))
            score = reward_model(ids[None], torch.ones_like(ids)[None])[0]
        size = len(completion)
        assert torch.isclose(batch["scores"][row], score, atol=1e-4)
        assert torch.allclose(batch["old_log_probs"][row, :size], log_probs, atol=1e-4)
        assert torch.isclose(batch["log_ratio"][row], (log_probs - ref).sum(), atol=1e-4)
        rewards = -cfg.beta * (log_probs - ref)
        rewards[-1] += score
        following = torch.cat([values[1:], torch.zeros(1)])
        deltas = (rewards + following - values).tolist()
        advantages = [sum(cfg.gae_lambda ** (k - t) * deltas[k] for k in range(t, size)) for t in range(size)]
        expected.append(torch.tensor(advantages))
        assert torch.allclose(batch["returns"][row, :size], expected[-1] + values, atol=1e-4)
        assert batch["advantages"][row, size:].abs().sum() == 0, "nothing happens behind the end"
    tokens = torch.cat(expected)
    whitened = torch.cat([batch["advantages"][row, : len(one)] for row, one in enumerate(expected)])
    assert torch.allclose(whitened, (tokens - tokens.mean()) / tokens.std(), atol=1e-3)


def check_minibatch_loss(minibatch_loss):
    _, cfg, policy, _, _, _, batch = batch_for(minibatch_loss)
    rows = torch.tensor([7, 2, 11, 4])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    loss, ratio = minibatch_loss(policy, batch, rows, cfg)
    loss.backward()  # it can be learnt from
    loss, ratio = loss.detach(), ratio.detach()
    total, count, clipped = 0.0, 0, 0
    for place, row in enumerate(rows.tolist()):
        prompt_ids, prompt_mask, completion_ids, completion_mask = (tensor[row] for tensor in batch["text"])
        prompt, completion = prompt_ids[prompt_mask.bool()], completion_ids[completion_mask]
        with torch.no_grad():
            log_probs, values = alone(policy, torch.cat([prompt, completion]), len(prompt))
        for t in range(len(completion)):
            w, a = math.exp(log_probs[t] - batch["old_log_probs"][row, t]), float(batch["advantages"][row, t])
            assert math.isclose(ratio[place, t], w, rel_tol=1e-3)
            flat = w > 1 + cfg.clip_eps if a > 0 else w < 1 - cfg.clip_eps
            edge = (1 + cfg.clip_eps if a > 0 else 1 - cfg.clip_eps) * a
            total += cfg.vf_coef * float(values[t] - batch["returns"][row, t]) ** 2 - (
                edge if flat else w * a
            )
            count, clipped = count + 1, clipped + flat
    assert 0 < clipped < count, "some ratios are clipped and some are not, or this proves little"
    assert math.isclose(loss, total / count, rel_tol=1e-3, abs_tol=1e-4)


def check_rewrite(rewrite):
    """Texts come back in the order of their requests, whatever order they were written in."""
    lesson, (lm, _) = sys.modules[rewrite.__module__], small_model()
    requests = [request.text for request in draw_requests(np.random.default_rng(11), 40)]
    policy = lesson.PolicyWithValue(lm.model)
    ids = encode_rewrites(lm.tokenizer, requests)[0]
    words = dict(zip(requests, ids[:, 1].tolist()))

    class Echo:
        """Writes the second word of the prompt it is given, then ends."""

        def __call__(self, input_ids, attention_mask, past_key_values, **_):
            if past_key_values is None:  # the prompt: its second token is at the first True, plus one
                first = attention_mask.argmax(dim=1)
                token = input_ids[torch.arange(len(first)), first + 1]
            else:
                token = torch.full((len(input_ids),), lm.tokenizer.eos_token_id)
            logits = torch.full((len(input_ids), 1, len(lm.tokenizer)), -1e9)
            logits[torch.arange(len(token)), 0, token] = 0.0
            return SimpleNamespace(logits=logits, past_key_values="seen")

    found = rewrite(Echo(), lm, requests, 5, 0, chunk=7)
    assert found == [lm.tokenizer.decode([words[text]]) for text in requests]
    same = [rewrite(policy, lm, requests, 5, seed) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2], "the seed, and nothing else, decides what is drawn"


EDITS = {
    "prefers_worse": Edit(
        function="preference",
        old="np.exp(-(first - second) / noise)",
        new="np.exp((first - second) / noise)",
        says="prefers the worse",
    ),
    "noise_multiplies": Edit(
        function="preference",
        old="-(first - second) / noise",
        new="-(first - second) * noise",
        says="noise multiplies",
    ),
    "less_likely_answer": Edit(
        function="ceiling",
        old="np.maximum(probs, 1.0 - probs).mean()",
        new="np.minimum(probs, 1.0 - probs).mean()",
        says="the less likely answer",
    ),
    "if_always_took_first": Edit(
        function="ceiling",
        old="np.maximum(probs, 1.0 - probs).mean()",
        new="probs.mean()",
        says="as if it always took the first",
    ),
    "signs_swapped": Edit(
        function="expected_accuracy",
        old="np.where(margins > 0, probs,",
        new="np.where(margins < 0, probs,",
        says="signs swapped",
    ),
    "tie_counts_right": Edit(
        function="expected_accuracy",
        old="1.0 - probs, 0.5))",
        new="1.0 - probs, 1.0))",
        says="a tie counts as right",
    ),
    "sides_swapped": Edit(
        function="label",
        old="(a, b) if win else (b, a)",
        new="(b, a) if win else (a, b)",
        says="sides swapped",
    ),
    "no_luck": Edit(
        function="label",
        old="rng.random(len(compared.probs)) < compared.probs",
        new="compared.probs > 0.5",
        says="no luck",
    ),
    "sign": Edit(
        function="bradley_terry_loss",
        old="-nn.functional.logsigmoid(chosen - rejected)",
        new="nn.functional.logsigmoid(chosen - rejected)",
        says="sign",
    ),
    "prefers_rejected": Edit(
        function="bradley_terry_loss",
        old="logsigmoid(chosen - rejected)",
        new="logsigmoid(rejected - chosen)",
        says="prefers the rejected",
    ),
    "sum_mean": Edit(
        function="bradley_terry_loss",
        old="logsigmoid(chosen - rejected).mean()",
        new="logsigmoid(chosen - rejected).sum()",
        says="sum for mean",
    ),
    "order_words_lost": Edit(
        function="pack",
        old="mask.argsort(dim=1, descending=True, stable=True)[",
        new="mask.argsort(dim=1, descending=False)[",
        says="order of words lost",
    ),
    "one_column_short": Edit(
        function="pack",
        old=": int(mask.sum(dim=1).max())]",
        new=": int(mask.sum(dim=1).max()) - 1]",
        says="one column short",
    ),
    "completion_left_out_mask": Edit(
        function="pack",
        old="mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)\n    order",
        new="mask = torch.cat([prompt_mask, 0 * completion_mask.long()], dim=1)\n    order",
        says="completion left out of the mask",
    ),
    "nobody_s_answers_are": Edit(
        function="minibatches",
        old="if num_human else 0",
        new="if num_human else 1",
        says="nobody's answers are read",
    ),
    "your_answers_come_top": Edit(
        function="minibatches",
        old="rows[: batch_size - ours]",
        new="rows",
        says="your answers come on top",
    ),
    "only_your_first_answer": Edit(
        function="minibatches",
        old="rng.integers(max(1, num_human), size=ours)",
        new="rng.integers(1, size=ours)",
        says="only your first answer",
    ),
    "reads_last_column": Edit(
        function="RewardModel",
        old="last = mask.sum(dim=1) - 1\n        return",
        new="last = -1\n        return",
        says="reads the last column",
    ),
    "reads_one_token_too": Edit(
        function="RewardModel",
        old="last = mask.sum(dim=1) - 1\n        return",
        new="last = mask.sum(dim=1) - 2\n        return",
        says="reads one token too early",
    ),
    "shares_model_s_trunk": Edit(
        function="RewardModel",
        old="self.trunk = copy.deepcopy(model.base_model).requires_grad_(True)",
        new="self.trunk = model.base_model",
        says="shares the model's trunk",
    ),
    "tokens_after_eos_counted": Edit(
        function="collect",
        old="mask, log_ratio = text[3],",
        new="mask, log_ratio = torch.ones_like(text[3]),",
        says="tokens after EOS counted",
    ),
    "sign_charge": Edit(
        function="collect",
        old="rewards = -beta * log_ratio",
        new="rewards = beta * log_ratio",
        says="sign of the charge",
    ),
    "score_last_column": Edit(
        function="collect",
        old="last = completion_mask.sum(dim=1) - 1  # [B]",
        new="last = -1",
        says="score on the last column",
    ),
    "whitened_padding": Edit(
        function="collect",
        old='"advantages": whiten(advantages, mask),',
        new='"advantages": whiten(advantages, mask | True),',
        says="whitened with the padding",
    ),
    "values_one_token_late": Edit(
        function="collect",
        old="out.values[:, prompt_ids.shape[1] - 1 : -1]",
        new="out.values[:, prompt_ids.shape[1] :]",
        says="values one token late",
    ),
    "logits_one_off": Edit(
        function="collect",
        old="logits[:, prompt_ids.shape[1] - 1 : -1]",
        new="logits[:, prompt_ids.shape[1] :]",
        says="logits one off",
    ),
    "value_lost_from_returns": Edit(
        function="collect",
        old='"returns": advantages + values * mask',
        new='"returns": advantages',
        says="value lost from the returns",
    ),
    "sign_objective": Edit(
        function="minibatch_loss",
        old="cfg.vf_coef * errors - objective",
        new="cfg.vf_coef * errors + objective",
        says="sign of the objective",
    ),
    "ratio_upside_down": Edit(
        function="minibatch_loss",
        old='ratio = (log_probs - batch["old_log_probs"][rows]).exp()',
        new='ratio = (batch["old_log_probs"][rows] - log_probs).exp()',
        says="ratio upside down",
    ),
    "clip_alone": Edit(
        function="minibatch_loss",
        old="return torch.min(ratio * advantages, clipped * advantages)",
        new="return clipped * advantages",
        says="clip alone",
    ),
    "padding_averaged": Edit(
        function="minibatch_loss",
        old="masked_mean(cfg.vf_coef * errors - objective, text[3])",
        new="(cfg.vf_coef * errors - objective).mean()",
        says="padding averaged in",
    ),
    "another_text_s_advantages": Edit(
        function="minibatch_loss",
        old='batch["advantages"][rows]',
        new='batch["advantages"][: len(rows)]',
        says="another text's advantages",
    ),
    "order_written": Edit(
        function="rewrite",
        old="zip(rows, tokenizer.batch_decode",
        new="zip(range(start, start + chunk), tokenizer.batch_decode",
        says="in the order written",
    ),
    "seed_ignored": Edit(
        function="rewrite",
        old="generator, tokenizer = torch.Generator().manual_seed(seed), lm.tokenizer",
        new="generator, tokenizer = torch.Generator().manual_seed(0), lm.tokenizer",
        says="seed ignored",
    ),
}
