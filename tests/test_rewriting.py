"""What D6 has its rewrites written, packed and scored by: by hand, and with errors planted in it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chapters.D_rlhf.checks.D6 import small_model
from chapters.envs.rewriter import blunt_texts, draw_requests, encode_rewrites, judge
from chapters.text import rewriting
from chapters.utils.edits import Edit, edited


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


def check_rewrite(rewrite):
    """Texts come back in the order of their requests, whatever order they were written in."""
    lm, _ = small_model()
    requests = [request.text for request in draw_requests(np.random.default_rng(11), 40)]
    policy = lm.model
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


def check_compare(compare):
    """Two texts of each request, never equal, and the probability that their scores give."""
    lm, _ = small_model()
    for held_out in (False, True):
        found = compare(lm.model, lm, 30, 1, 2.0, seed=3, held_out=held_out)
        assert 0 < len(found.requests) == len(found.first) == len(found.second) == len(found.probs) < 30
        assert all(first != second for first, second in zip(found.first, found.second))
        for row, request in enumerate(found.requests):
            first, second = judge([request] * 2, [found.first[row], found.second[row]]).score
            odds = np.exp(first / 2.0) / np.exp(second / 2.0)
            assert np.isclose(found.probs[row], odds / (1.0 + odds))
        assert set(found.requests) <= set(blunt_texts([3, 2, held_out], 30, held_out))


CHECKS = {
    "pack": check_pack,
    "RewardModel": check_RewardModel,
    "rewrite": check_rewrite,
    "compare": check_compare,
}
ERRORS = [
    Edit(
        "pack",
        "order = mask.argsort(dim=1, descending=True, stable=True)",
        "order = mask.argsort(dim=1)",
        "order lost",
    ),
    Edit(
        "pack",
        "longest = int(mask.sum(dim=1).max())",
        "longest = int(mask.sum(dim=1).max()) - 1",
        "a column short",
    ),
    Edit("pack", "completion_mask.long()", "0 * completion_mask.long()", "completion left out of the mask"),
    Edit(
        "RewardModel",
        "last_token(self.score(hidden.last_hidden_state)[..., 0], mask)",
        "self.score(hidden.last_hidden_state)[:, -1, 0]",
        "last column",
    ),
    Edit(
        "RewardModel",
        "copy.deepcopy(model.base_model).requires_grad_(True)",
        "model.base_model",
        "trunk shared",
    ),
    Edit(
        "RewardModel",
        "nn.init.zeros_(self.score.weight)",
        "nn.init.ones_(self.score.weight)",
        "prefers at first",
    ),
    Edit(
        "rewrite",
        "zip(rows, tokenizer.batch_decode",
        "zip(range(start, start + chunk), tokenizer.batch_decode",
        "order as written",
    ),
    Edit("rewrite", "manual_seed(seed)", "manual_seed(0)", "seed ignored"),
    Edit("compare", "if texts[row] != texts[row + num_pairs]", "if True", "equal texts kept"),
    Edit(
        "compare",
        "judge(asked, first).score, judge(asked, second).score",
        "judge(asked, second).score, judge(asked, first).score",
        "sides swapped",
    ),
    Edit("compare", "num_pairs, held_out)", "num_pairs)", "held-out requests are the training ones"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_by_definition(name):
    CHECKS[name](getattr(rewriting, name))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.says)
def test_planted_error_is_noticed(error):
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        CHECKS[error.function](getattr(edited(rewriting, error), error.function))
