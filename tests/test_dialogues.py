"""Worlds that write into a text (tool, calculator, guessing game, poker), against what can be counted."""

import itertools
import math

import numpy as np
import pytest
import torch

from chapters.D_rlhf.checks.D9 import SHAPES, random_batch
from chapters.envs import calculator
from chapters.envs.guessing import GuessingGame, IntervalPolicy, most_found
from chapters.envs.tool_world import BACK, CALL, PAD, ToolWorld
from chapters.exact import kuhn
from chapters.text import kuhn_words
from chapters.text.dialogues import CalculatorDialogue, Dialogue, Text, forbidden, padded, pulls
from chapters.text.models import make_tokenizer
from chapters.text.recipes import calculator_recipe, kuhn_recipe


def test_all_texts_of_the_world_are_there():
    """4 that do not call, 4 that call once, 5 that call twice; for each problem and hidden letter."""
    texts = ToolWorld().every_text()
    assert len(texts["chance"]) == 2 * 3 * (4 + 4 + 5)
    rows = {(int(x), *ids) for x, ids in zip(texts["problems"], texts["completion_ids"].tolist())}
    assert len(rows) == 2 * (4 + 3 * 4 + 3 * 5), "a guess does not show what was hidden"
    assert texts["rewards"].max() == 1.0
    assert texts["rewards"].min() == pytest.approx(-0.2)
    (row,) = [m for m, ids in enumerate(texts["completion_ids"].tolist()) if ids[:4] == [CALL, 2, BACK, 2]][
        :1
    ]
    assert texts["agent_mask"][row].tolist() == [True, False, False, True, False, False, False]
    assert texts["completion_mask"][row].tolist() == [True] * 4 + [False] * 3
    assert texts["completion_ids"][row, 4:].tolist() == [PAD] * 3
    assert texts["rewards"][row] == pytest.approx(0.9)
    assert texts["chance"][row] == pytest.approx(0.2 / 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_chances_of_all_texts_sum_to_one(seed):
    """The world's part times the agent's, token by token; also if the text is read with a cache."""
    world = ToolWorld()
    texts, policy = world.every_text(), world.policy(seed)
    ids = torch.cat([texts["prompt_ids"], texts["completion_ids"]], dim=1)
    logits = policy(input_ids=ids).logits
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    chance = texts["chance"] * chosen.masked_fill(~texts["agent_mask"], 0.0).sum(dim=1).exp()
    assert chance.sum().item() == pytest.approx(1.0)
    start = policy(input_ids=ids[:, :3])
    after = policy(input_ids=ids[:, 3:4], past_key_values=start.past_key_values)
    assert torch.equal(start.logits, logits[:, :3])
    assert torch.equal(after.logits, logits[:, 3:4])


def test_the_best_return_is_that_of_the_best_of_many_plans():
    """For each problem: guess a letter, or call and repeat, or call twice and repeat."""
    world = ToolWorld()
    plans = [[*prior, 1.0 - world.price, 1.0 - 2 * world.price] for prior in world.priors]
    best = max(sum(pair) / 2 for pair in itertools.product(*plans))
    assert world.best_return() == pytest.approx(best)
    assert world.best_return(calls=False) == pytest.approx((0.7 + 0.34) / 2)


def test_hidden_letters_are_as_likely_as_the_problem_says():
    world = ToolWorld()
    drawn = world.secrets([0] * 4000 + [1] * 4000, torch.Generator().manual_seed(0))
    for row, prior in enumerate(world.priors):
        shares = np.bincount(drawn[4000 * row : 4000 * (row + 1)], minlength=4)[1:] / 4000
        assert shares == pytest.approx(prior, abs=0.03)


def test_the_calculator_works_out_what_it_is_given():
    assert calculator.reply("C37*84>") == "108;"
    assert calculator.reply("C99*99>") == "801;"
    assert calculator.reply("C1*1>") == calculator.reply("C>") == "E;"
    assert calculator.reply("37*84>") == calculator.reply("C37*84") == ""
    train, held = (
        {tuple(sorted(pair)) for pair in calculator.operands(part).tolist()} for part in (False, True)
    )
    assert not train & held
    assert len(train | held) == 90 * 91 // 2
    assert len(held) == round(0.2 * 90 * 91 / 2)
    texts = calculator.write_demonstrations(np.random.default_rng(0), 2000)
    assert np.mean([calculator.CALL in text for text in texts]) == pytest.approx(0.3, abs=0.04)
    for text in texts[:200]:
        a, b = map(int, text.split("=")[0].split("*"))
        assert text.endswith(f"{a * b % 1000:03d}")
        assert tuple(sorted((a, b))) in train


@pytest.mark.parametrize(
    ("text", "over", "reward", "words"),
    [
        ("108<eos>", True, 1.0, ""),
        ("107<eos>", True, 0.0, ""),
        ("108", False, 0.0, ""),
        ("C37*84>", False, 0.0, "108;"),
        ("C37*8>", False, 0.0, "E;"),
        ("C37*84>108;108<eos>", True, 1.0, ""),
        ("C37*84>108;C11*11>121;108<eos>", True, 1.0, ""),
        ("C37*84>108;1108<eos>", True, 0.0, ""),
        ("C11*11>121;121<eos>", True, 0.0, ""),
        ("<unk>108<eos>", True, 0.0, ""),
        ("<eos>", True, 0.0, ""),
    ],
)
def test_a_text_with_the_calculator(text, over, reward, words):
    tokenizer = make_tokenizer(calculator_recipe())
    dialogue = CalculatorDialogue(tokenizer, np.array([[37, 84]]))
    assert isinstance(dialogue, Dialogue)
    assert tokenizer.decode(dialogue.prompt_ids[0]) == "37*84="
    ids = tokenizer(text)["input_ids"]
    answer, ended = dialogue.reply(0, None, ids)
    assert (dialogue.text(answer), ended) == (words, over)
    assert dialogue.reward(0, None, ids) == reward


def won(game, policy, secret, written):
    """Chance that `policy` finds a number from here on, by going through all guesses."""
    ids = torch.tensor([[int(game.prompt_ids[0, 0]), *written]])
    probs = policy(input_ids=ids).logits[0, -1].double().softmax(-1).tolist()
    total = 0.0
    for guess in range(game.num_numbers):
        text = [*written, guess]
        answer, over = game.reply(0, secret, text)
        total += probs[guess] * (
            game.reward(0, secret, text) if over else won(game, policy, secret, text + answer)
        )
    return total


def test_guessing_has_its_optimum_and_its_exact_success():
    for numbers, guesses in itertools.product((1, 5, 10, 15), (1, 2, 3, 4)):
        best = min(1.0, (2**guesses - 1) / numbers)
        assert most_found(numbers, guesses) / numbers == pytest.approx(best)
        assert GuessingGame(numbers, guesses).optimum == pytest.approx(best)
    game = GuessingGame(7, 3)
    policy = IntervalPolicy(game)
    for made, low, high in itertools.product(range(3), range(8), range(8)):
        if low < high:
            policy.table.data[made, low, high, (low + high - 1) // 2] = 60.0  # halve what is left
    assert policy.success() == pytest.approx(1.0)
    game = GuessingGame(4, 3)
    policy = IntervalPolicy(game)
    policy.table.data = torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = np.mean([won(game, policy, secret, []) for secret in range(4)])
    assert policy.success() == pytest.approx(exact, rel=1e-6)


def test_poker_in_words_is_kuhns():
    rng = np.random.default_rng(0)
    texts = kuhn_words.situations()
    assert len(set(texts)) == 12
    assert texts[4 * 2 + 1] == "you hold the king . you act second . they : pass . you :"
    assert texts[3] == "you hold the jack . you act first . you : pass . they : bet . you :"
    bets = rng.uniform(size=(3, 4))
    games = kuhn_words.play(bets, 6000, rng)
    assert games["returns"][:6000].mean() == pytest.approx(kuhn.value(bets, bets), abs=0.07)
    assert (games["returns"][:6000] == -games["returns"][6000:]).all()
    for number in range(12):
        at = games["situations"] == number
        assert games["moves"][at].mean() == pytest.approx(bets[number // 4, number % 4], abs=0.08)
        rows = np.nonzero(at)[0]
        assert set(rows // 6000) == {kuhn.mover(kuhn.BEGINNINGS[number % 4])}
        assert set(games["hands"][rows] % 3) == {number // 4}
    tokenizer = make_tokenizer(kuhn_recipe())
    written = kuhn_words.write_games(rng, 200)
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(written + texts)["input_ids"])


def test_pulls_are_those_counted_token_by_token():
    for seed, (num, length) in enumerate(SHAPES):
        slopes, _, batch = random_batch(seed, num, length)
        slopes = (slopes + 1.0) * batch["completion_mask"]
        exists, own = batch["completion_mask"], batch["agent_mask"]
        total = world = early = answered = 0.0
        texts = 0
        for b in range(num):
            places = [t for t in range(length) if exists[b, t] and not own[b, t]]
            texts += bool(places)
            for t in range(length):
                size = abs(slopes[b, t].item())
                total += size
                world += size if t in places else 0.0
                answered += size if places else 0.0
                early += size if places and own[b, t] and t < max(places) else 0.0
        found = pulls(slopes, batch)
        expected = {
            "world_pull": world / total,
            "early_pull": early / answered if answered else 0.0,
            "answered": texts / num,
        }
        for name, value in expected.items():
            assert math.isclose(found[name], value, rel_tol=1e-6, abs_tol=1e-9), (
                f"{name}: expected {value:.6g}, found {found[name]:.6g}"
            )
    every = torch.ones(2, 3, dtype=torch.bool)
    found = pulls(torch.zeros(2, 3), {"completion_mask": every, "agent_mask": every})
    assert list(found.values()) == [0.0, 0.0, 0.0], "no pull, no world: zeros"


def test_padded_texts_keep_whose_each_token_is():
    texts = [Text(0, None, [5, 6, 7], [True, False, True]), Text(1, None, [4], [True])]
    found = padded(texts, ToolWorld())
    assert found["completion_ids"].tolist() == [[5, 6, 7] + [PAD] * 4, [4] + [PAD] * 6]
    assert found["completion_mask"].tolist() == [[True] * 3 + [False] * 4, [True] + [False] * 6]
    assert found["agent_mask"].tolist() == [[True, False, True] + [False] * 4, [True] + [False] * 6]


def test_a_forbidden_token_is_never_written():
    world = ToolWorld()
    policy = world.policy(0)
    ids, mask = world.prompt_ids, world.prompt_mask
    inputs = {"input_ids": ids, "attention_mask": mask}
    plain, silenced = policy(**inputs).logits, forbidden(policy, CALL)(**inputs).logits
    assert (silenced.softmax(-1)[..., CALL] < 1e-12).all()
    rest = [token for token in range(plain.shape[-1]) if token != CALL]
    assert torch.equal(silenced[..., rest], plain[..., rest])
