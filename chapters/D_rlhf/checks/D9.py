"""D9's functions against their definitions, and the named edits of the lesson."""

import itertools
import math

import torch

from chapters.envs.tool_world import BACK, CALL, LETTERS, ToolWorld
from chapters.text.dialogues import Text
from chapters.utils.edits import Edit

CONSTANT = ("advantages", "importance_weights", "write", "rollout")
SHAPES = ((2, 3), (5, 4), (8, 7))


def random_batch(seed, num, length):
    """(log_probs, other log_probs, batch): texts of 1 to `length` tokens, some of them the world's."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, other = -2.0 * torch.rand(2, num, length, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, length + 1, (num,), generator=generator)
    exists = torch.arange(length) < lengths[:, None]
    own = exists & (torch.rand(num, length, generator=generator) < 0.6)
    own[:, 0] = True  # the agent begins
    batch = {
        "completion_mask": exists,
        "agent_mask": own,
        "advantages": torch.randn(num, generator=generator, dtype=torch.float64),
        "weights": torch.rand(num, generator=generator, dtype=torch.float64) + 0.5,
    }
    return log_probs * exists, other * exists, batch


def check_write(write):
    """A script of what is sampled, against what must stand in the text and who wrote it."""
    asked = []

    class World:
        def reply(self, row, secret, written):
            asked.append((row, secret, list(written)))
            return {"?": (["one", "two"], False), "!": ([], True)}.get(written[-1], ([], False))

    text, returned = Text(row=3, secret="s"), []
    sampled = ["a", "?", "x", "?", "b", "?", "!", "y", "c", "!"]
    for token in sampled:
        returned.append(write(text, token, World()))
    wanted = ["a", "?", "one", "two", "b", "?", "one", "two", "c", "!"]
    own = [True, True, False, False, True, True, False, False, True, True]
    assert text.written == wanted, f"expected the text {wanted}, found {text.written}"
    assert returned == wanted, f"expected to return {wanted}, found {returned}"
    assert text.own == own, f"who wrote what: expected {own}, found {text.own}"
    assert text.over, "the world said that the text is over"
    assert asked == [(3, "s", wanted[: at + 1]) for at in range(10) if own[at]], (
        f"the world is asked after each of the agent's tokens, with all that stands there: {asked}"
    )


def certain_policy(world):
    """A policy that calls first and then answers with the letter it has read."""
    policy = world.policy(0, habit=60.0)
    policy.table.data[1, world.prompt_ids[:, 0], CALL] += 200.0
    return policy


def watched(policy, seen):
    """The policy, with its inputs remembered."""

    def call(**inputs):
        seen.append({name: inputs[name].clone() for name in ("input_ids", "attention_mask", "position_ids")})
        return policy(**inputs)

    return call


def check_rollout(rollout):
    world, seen = ToolWorld(), []
    rows = torch.tensor([1, 0, 1, 1, 0])
    policy = certain_policy(world)
    batch = rollout(watched(policy, seen), world, rows, torch.Generator().manual_seed(0))
    assert set(batch) >= {"prompt_ids", "prompt_mask", "problems", "completion_ids", "completion_mask"}
    assert batch["problems"].tolist() == rows.tolist(), "problems: the rows that were asked for"
    assert (batch["prompt_ids"] == world.prompt_ids[rows]).all()
    assert torch.allclose(
        batch["rewards"].double(), torch.full((5,), 1.0 - world.price, dtype=torch.float64)
    ), f"a policy that calls and repeats what it reads earns {1 - world.price}: {batch['rewards'].tolist()}"
    for ids, exists, own in zip(batch["completion_ids"], batch["completion_mask"], batch["agent_mask"]):
        letter = int(ids[1])
        assert ids.tolist() == [CALL, letter, BACK, letter, *[world.pad_id] * 3], ids.tolist()
        assert letter in LETTERS
        assert exists.tolist() == [True] * 4 + [False] * 3, "completion_mask: every token that stands there"
        assert own.tolist() == [True, False, False, True, False, False, False], "agent_mask: its own tokens"
    for step, inputs in enumerate(seen):
        assert (inputs["position_ids"][:, -1] == step).all(), f"position of step {step}"
        assert inputs["attention_mask"].shape[1] == step + 1
    assert len(seen) == 4, "four steps are enough for these texts"
    compare_frequencies(rollout, world)


def compare_frequencies(rollout, world):
    """How often each text is written, against its probability."""
    texts, policy = world.every_text(), world.policy(1)
    num = 3000
    batch = rollout(policy, world, torch.arange(2).repeat(num), torch.Generator().manual_seed(1))
    for row, text in enumerate(zip(texts["problems"].tolist(), texts["completion_ids"].tolist())):
        share = 2 * probability(policy, world, texts, row)
        if share < 0.02:
            continue
        same = (batch["problems"] == text[0]) & (batch["completion_ids"] == torch.tensor(text[1])).all(dim=1)
        alike = [m for m, ids in enumerate(texts["completion_ids"].tolist()) if ids == text[1]]
        share = 2 * sum(
            probability(policy, world, texts, m) for m in alike if texts["problems"][m] == text[0]
        )
        found = same.sum().item() / num
        assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / num), (
            f"text {text[1]} of problem {text[0]}: expected a share of {share:.3f}, found {found:.3f}"
        )
    assert not any(value.requires_grad for value in batch.values())


def probability(policy, world, texts, row):
    """Chance of a text, token by token and without the lesson's functions."""
    ids, own = texts["completion_ids"][row].tolist(), texts["agent_mask"][row].tolist()
    problem = int(texts["prompt_ids"][row, 0])
    text, chance = [problem], texts["chance"][row].item()
    table = policy.table.detach().double()
    for token, mine in zip(ids, own):
        if mine:
            before = text[-2] if len(text) > 1 else problem
            logits = table[0, problem] + table[1, text[-1]] + table[2, before]
            chance *= logits.softmax(0)[token].item()
        text.append(token)
    return chance


def check_expected_return(expected_return):
    world = ToolWorld()
    texts = world.every_text()
    for seed in range(2):
        policy = world.policy(seed)
        chances = [probability(policy, world, texts, row) for row in range(len(texts["chance"]))]
        assert math.isclose(sum(chances), 1.0, rel_tol=1e-9)
        exact = sum(chance * reward for chance, reward in zip(chances, texts["rewards"].tolist()))
        found = expected_return(policy, texts)
        assert math.isclose(found.item(), exact, rel_tol=1e-9), f"expected {exact:.6g}, found {found:.6g}"
    (slope,) = torch.autograd.grad(found, policy.table)
    step = 1e-6
    for at in ((0, 6, 0), (1, 7, 2), (2, 1, 1), (1, BACK, 3)):
        ends = []
        for sign in (1, -1):
            policy.table.data[at] += sign * step
            chances = [probability(policy, world, texts, row) for row in range(len(texts["chance"]))]
            ends.append(sum(c * r for c, r in zip(chances, texts["rewards"].tolist())))
            policy.table.data[at] -= sign * step
        assert math.isclose(slope[at], (ends[0] - ends[1]) / (2 * step), abs_tol=1e-7), f"slope at {at}"


def check_advantages(advantages):
    generator = torch.Generator().manual_seed(0)
    for problems in ([0, 0], [0, 1, 0, 1], [4, 2, 4, 4, 2, 2, 2], [1] * 5):
        rewards = torch.randn(len(problems), generator=generator, dtype=torch.float64) + torch.tensor(
            problems
        )
        found = advantages(rewards, torch.tensor(problems))
        for i, problem in enumerate(problems):
            others = [rewards[j].item() for j, other in enumerate(problems) if other == problem and j != i]
            expected = rewards[i].item() - sum(others) / len(others)
            assert math.isclose(found[i], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"text {i} of problems {problems}: expected {expected:.6g}, found {found[i]:.6g}"
            )
    try:
        advantages(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 1]))
    except ValueError:
        return
    raise AssertionError("a text that is alone with its problem must be refused")


def check_turns_loss(turns_loss):
    """Value and slope, token by token."""
    for seed, (num, length) in enumerate(SHAPES):
        log_probs, _, batch = random_batch(seed, num, length)
        log_probs.requires_grad_()
        loss = turns_loss(log_probs, batch)
        (slope,) = torch.autograd.grad(loss, log_probs)
        total = 0.0
        for b, t in itertools.product(range(num), range(length)):
            worth = (batch["weights"][b] * batch["advantages"][b]).item() / (num * length)
            expected = -worth if batch["agent_mask"][b, t] else 0.0
            total += expected * log_probs[b, t].item()
            assert math.isclose(slope[b, t], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"slope at token {t} of text {b}: expected {expected:.6g}, found {slope[b, t]:.6g}"
            )
        assert math.isclose(loss.item(), total, rel_tol=1e-9, abs_tol=1e-12), f"value: expected {total:.6g}"


def check_importance_weights(importance_weights):
    for seed, (num, length) in enumerate(SHAPES):
        new, old, batch = random_batch(seed, num, length)
        own = batch["agent_mask"]
        for cap in (0.5, 2.0, float("inf")):
            found = importance_weights(new.clone().requires_grad_(), old, own, cap)
            assert not found.requires_grad, "a weight is a constant: no gradient flows through it"
            for b in range(num):
                ratio = math.exp(sum((new[b, t] - old[b, t]).item() for t in range(length) if own[b, t]))
                assert math.isclose(found[b], min(cap, ratio), rel_tol=1e-9), (
                    f"text {b}, cut at {cap:g}: expected {min(cap, ratio):.6g}, found {found[b]:.6g}"
                )


def check_expected_loss(expected_loss):
    """Its gradient against the exact one, its value against sums over texts, with and without a cut."""
    world = ToolWorld()
    texts, policy, sampler = world.every_text(), world.policy(0), world.policy(5)
    rows = range(len(texts["chance"]))
    new, old = ([probability(one, world, texts, row) for row in rows] for one in (policy, sampler))
    rewards, problems = texts["rewards"].tolist(), texts["problems"].tolist()
    exact = exact_slope(policy, texts)
    for writer, chances in ((policy, new), (sampler, old)):
        (found,) = torch.autograd.grad(expected_loss(policy, texts, writer), policy.table)
        assert torch.allclose(-world.num_tokens * found, exact, atol=1e-10), (
            "its gradient is not the exact one"
        )
        means = [
            sum(c * r for c, r, q in zip(chances, rewards, problems) if q == p)
            / sum(c for c, q in zip(chances, problems) if q == p)
            for p in range(2)
        ]
        for cap in (0.7, 2.0):
            total = 0.0
            for row in rows:
                weight = min(cap, new[row] / chances[row])
                sums = math.log(new[row] / texts["chance"][row].item())
                total -= chances[row] * weight * (rewards[row] - means[problems[row]]) * sums
            value = expected_loss(policy, texts, writer, cap).item() * world.num_tokens
            assert math.isclose(value, total, rel_tol=1e-8), (
                f"cut at {cap}: expected {total:.6g}, found {value:.6g}"
            )


def exact_slope(policy, texts):
    """The gradient of the expected return, with respect to the table, from the probabilities of all texts."""
    logits = policy(input_ids=torch.cat([texts["prompt_ids"], texts["completion_ids"]], dim=1)).logits[:, :-1]
    chosen = logits.log_softmax(-1).gather(-1, texts["completion_ids"][..., None])[..., 0]
    own = chosen.masked_fill(~texts["agent_mask"], 0.0).sum(dim=1)
    return torch.autograd.grad((texts["chance"] * own.exp() * texts["rewards"]).sum(), policy.table)[0]


MASK = 'batch["agent_mask"]'
WORLD = '(batch["completion_mask"] & ~batch["agent_mask"])'
EDITS = {
    "answer_owned": Edit(
        function="write",
        old="text.own.append(own)",
        new="text.own.append(True)",
        says="takes the world's words for its own",
    ),
    "own_a_token_late": Edit(
        function="write",
        old="text.own.append(own)",
        new="text.own.append(not text.waiting)",
        says="takes the last of the world's words for its own: off by one",
    ),
    "asked_after_each": Edit(
        function="write",
        old="    if own:\n",
        new="    if True:\n",
        says="asks the world after its own words too: only their first is ever said",
        fails=("world_return", "success_sampled"),
    ),
    "sampled_kept": Edit(
        function="write",
        old="token = sampled if own else text.waiting.pop(0)",
        new="token = sampled if own else (sampled, text.waiting.pop(0))[0]",
        says="puts what was sampled in the place of the world's words",
        fails=("world_return", "success_sampled"),
    ),
    "answer_not_read": Edit(
        function="rollout",
        old="torch.tensor(tokens)[:, None]",
        new="torch.tensor(sampled)[:, None]",
        says="the policy goes on reading what it sampled, not what stands in the text",
        fails=("world_return", "success_sampled"),
    ),
    "position_stands": Edit(
        function="rollout",
        old="position_ids[:, -1:] + 1",
        new="position_ids[:, -1:]",
        says="every new token stands at the same position",
        fails=("success_sampled",),
    ),
    "answers_in_probability": Edit(
        function="expected_return",
        old='* texts["agent_mask"]',
        new='* texts["completion_mask"]',
        says="takes the world's words for choices of the policy",
        fails=("gradient_gap", "world_return"),
    ),
    "chance_forgotten": Edit(
        function="expected_return",
        old='texts["chance"] * own.exp()',
        new="own.exp()",
        says="forgets how likely the world's part of a text is",
        fails=("gradient_gap",),
    ),
    "groups_mixed": Edit(
        function="advantages",
        old="(problems[:, None] == problems)",
        new="torch.ones_like(problems[:, None] == problems)",
        says="compares texts of different problems",
    ),
    "own_reward": Edit(
        function="advantages",
        old="(same @ rewards - rewards) / others",
        new="(same @ rewards) / (others + 1.0)",
        says="a text is part of its own baseline: every advantage is too small by a factor",
    ),
    "sum_of_others": Edit(
        function="advantages",
        old="(same @ rewards - rewards) / others",
        new="(same @ rewards - rewards)",
        says="takes off the others' sum, not their mean",
        fails=("world_return",),
    ),
    "alone_allowed": Edit(
        function="advantages",
        old="    if (others < 1.0).any():\n",
        new="    if False:\n",
        says="lets a text be compared with nothing",
    ),
    "observations_learnt": Edit(
        function="turns_loss",
        old=MASK,
        new='batch["completion_mask"]',
        says="trains on the world's words as on its own",
        fails=("gradient_gap",),
    ),
    "inverted_mask": Edit(
        function="turns_loss",
        old=MASK,
        new=WORLD,
        says="the mask inverted: trains on the world's words and on nothing else",
        fails=("gradient_gap", "world_return", "success_sampled"),
    ),
    "credit_after_answer": Edit(
        function="turns_loss",
        old=MASK,
        new=f"({MASK} & ({WORLD}.flip(1).cumsum(1).flip(1) == 0))",
        says="gives credit only to what was written after the world's last words",
        fails=("gradient_gap",),
    ),
    "mask_a_token_late": Edit(
        function="turns_loss",
        old=MASK,
        new=f"{MASK}.roll(1, 1)",
        says="the mask stands one token late",
        fails=("gradient_gap", "world_return", "success_sampled"),
    ),
    "lengths_with_answers": Edit(
        function="turns_loss",
        old="-(worth * own).mean() / log_probs.shape[1]",
        new='-(worth * own / batch["completion_mask"].sum(dim=1)).mean()',
        says="divides each text by its length, the world's words included",
        fails=("gradient_gap",),
    ),
    "own_lengths": Edit(
        function="turns_loss",
        old="-(worth * own).mean() / log_probs.shape[1]",
        new='-(worth * own / batch["agent_mask"].sum(dim=1)).mean()',
        says="divides each text by the number of its own tokens, as GRPO does",
        fails=("gradient_gap",),
    ),
    "climbs_the_loss": Edit(
        function="turns_loss",
        old="return -(worth",
        new="return (worth",
        says="the sign turned: what was worse becomes more likely",
        fails=("gradient_gap", "world_return", "success_sampled"),
    ),
    "weights_forgotten": Edit(
        function="turns_loss",
        old='batch["weights"] * batch["advantages"]',
        new='batch["advantages"]',
        says="forgets the weights of the texts",
        fails=("gradient_gap",),
    ),
    "answers_weighted": Edit(
        function="importance_weights",
        old="((log_probs - sampler_log_probs) * agent_mask)",
        new="(log_probs - sampler_log_probs)",
        says="weighs the world's words too, as if a policy had chosen them",
    ),
    "mean_ratio": Edit(
        function="importance_weights",
        old=".sum(dim=1)",
        new=".sum(dim=1) / agent_mask.sum(dim=1)",
        says="a geometric mean over the tokens for their product",
    ),
    "cut_from_below": Edit(
        function="importance_weights",
        old="clamp(max=cap)",
        new="clamp(min=cap)",
        says="cuts the small weights, not the large ones",
        fails=("gradient_gap",),
    ),
    "ratio_upside_down": Edit(
        function="importance_weights",
        old="(log_probs - sampler_log_probs)",
        new="(sampler_log_probs - log_probs)",
        says="the ratio turned upside down",
    ),
    "weights_learnt": Edit(
        function="importance_weights",
        old=".detach()",
        new="",
        says="lets a gradient flow through the weights",
        fails=("gradient_gap",),
    ),
    "own_sampler": Edit(
        function="expected_loss",
        old="importance_weights(log_probs, old, own, cap)",
        new="importance_weights(log_probs, log_probs, own, cap)",
        says="takes the sampler for the trainer: every weight is 1",
    ),
    "groups_mixed_exactly": Edit(
        function="expected_loss",
        old='(texts["problems"][:, None] == texts["problems"]).double()',
        new='torch.ones_like(texts["problems"][:, None] == texts["problems"]).double()',
        says="one baseline for all problems: right on average, and noisier",
    ),
    "written_by_trainer": Edit(
        function="expected_loss",
        old="(old * own).sum(dim=1).exp()",
        new="(log_probs * own).sum(dim=1).exp()",
        says="weighs texts as if the trainer had written them, and then corrects them",
    ),
}
