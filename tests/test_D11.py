"""D11: its judges, its shop, what is exact of them, and a real causal model as the judge."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from chapters.D_rlhf import D11_ai_feedback as lesson
from chapters.D_rlhf.checks.D11 import EDITS
from chapters.D_rlhf.evidence import D11 as evidence
from chapters.D_rlhf.evidence import D11_neural as neural
from chapters.envs import shop
from chapters.exact import judges
from chapters.text.generation import positions, token_log_probs
from chapters.text.models import LoadedModel, Recipe, make_model, make_tokenizer
from chapters.text.verdicts import load_judge, verdict_logits
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.lesson import UsageError

HABITS = shop.Habits(position=0.5, padding=0.3, own=-0.7)


# The shop


def test_every_kind_is_listed_once_and_says_something_of_its_own():
    for most in (1, 2, 3):
        kinds = shop.kinds(most)
        assert kinds.shape == (16 * (most + 1), 5)
        assert kinds[:, 3].max() == most
        assert len({shop.reply(kind) for kind in kinds}) == len(kinds)
    assert shop.reply(np.array([1.0, 0.0, 1.0, 2.0, 0.0])) == "sure really really same someday thanks"
    assert len(set(shop.REQUESTS)) == 30


def test_gold_is_what_people_mind_and_nothing_else():
    kinds = shop.kinds()
    worth = shop.worth(kinds, HABITS)
    for a, b in itertools.product(range(64), repeat=2):
        gap = kinds[a] - kinds[b]
        if not gap[:3].any():
            assert worth[a] == worth[b]
        both = HABITS.weights(0) + HABITS.weights(1)
        assert worth[a] - worth[b] == pytest.approx(gap[:3] @ both[:3])


def test_bayes_rule_makes_the_ideal_reader_of_what_is_collected():
    """By enumeration of both replies' features: P(better, worse) over P(the other way round)."""
    rng = np.random.default_rng(0)
    weights = np.array([1.2, 0.0, -0.8, 0.5, 0.3])
    better, worse = shop.draw_kinds(rng, np.tile(weights, (60_000, 1)))
    for place, size in enumerate(shop.NUM_VALUES):
        for sign, drawn in ((0.5, better), (-0.5, worse)):
            odds = np.exp(sign * weights[place] * np.arange(size))
            found = np.bincount(drawn[:, place].astype(int), minlength=size) / len(drawn)
            assert found == pytest.approx(odds / odds.sum(), abs=0.01)
    for a, b in itertools.product(range(4), repeat=2):
        said = 0.5 * (0.5 * a - 0.5 * b) - 0.5 * (0.5 * b - 0.5 * a)  # normalisers cancel
        assert said == pytest.approx(0.5 * (a - b))


def test_comparisons_are_as_their_habits_say():
    questions, first_won = shop.write_comparisons(np.random.default_rng(1), 4000, HABITS)
    assert first_won.mean() == pytest.approx(1 / (1 + math.exp(-0.5)), abs=0.03)
    places = [shop.words_by_place(question) for question in questions[:200]]
    for words, question in zip(places, questions):
        principle = question.split(" . ")[0]
        assert principle in shop.PRINCIPLES
        assert question.split(" . ")[1] in shop.REQUESTS
        for place in shop.VERDICTS:
            said = [word for word in words if word.startswith(f"{principle}, {place} ")]
            assert 4 <= len(said) <= 7, "opener, item, time, manner, and up to three fillers"
    fillers = [
        [w.count(f"{q.split(' . ')[0]}, {p} really") for p in shop.VERDICTS]
        for w, q in zip(places, questions)
    ]
    longer = np.sign(np.subtract(*np.transpose(fillers)))
    agrees = longer * (2 * first_won[:200] - 1)
    assert agrees.sum() > 0, "the better reply is longer more often"


def test_words_are_counted_where_they_stand():
    question = shop.question("be kind", "a red cup", "sure really really same", "gladly other")
    known = ["be kind, first really", "be kind, second really", "request red", "be right, first sure"]
    assert shop.count_words([question], known).tolist() == [[2.0, 0.0, 1.0, 0.0]]


def test_a_judge_is_asked_every_ordered_pair_once_under_each_principle():
    asked = []

    def judge(questions):
        asked.extend(questions)
        return np.arange(len(asked) - len(questions), len(asked), dtype=float)

    kinds = shop.kinds(1)[:3]
    requests = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
    found = shop.ask(judge, kinds, requests)
    for p, a, b in np.ndindex(2, 3, 3):
        said = shop.question(
            shop.PRINCIPLES[p], shop.REQUESTS[requests[a, b]], shop.reply(kinds[a]), shop.reply(kinds[b])
        )
        assert asked[int(found[p, a, b])] == said
    assert len(asked) == 18


def test_models_read_what_is_listed():
    known = set(shop.vocabulary())
    rng = np.random.default_rng(0)
    verdicts, answers = shop.write_verdicts(rng, 200, HABITS), shop.write_answers(rng, 300, most=1)
    assert {word for text in verdicts + answers for word in text.split()} <= known
    again = shop.write_comparisons(np.random.default_rng(0), 200, HABITS)
    assert verdicts == [f"{asked} {'first' if won else 'second'}" for asked, won in zip(*again)]
    listed = {shop.reply(kind) for kind in shop.kinds(1)}
    assert {text.split(" . ")[1] for text in answers} == listed
    assert {text.split(" . ")[0] for text in answers} == set(shop.REQUESTS)


# What is exact


def test_the_policy_at_a_divergence_is_the_best_so_near():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=7)
    for kl in (0.1, 0.8):
        best = judges.at_divergence(scores, kl)
        assert judges.kl_from_even(best) == pytest.approx(kl, abs=1e-6)
        for _ in range(200):
            other = judges.tilted((scores + rng.normal(0, 1, 7))[:, None], np.array([rng.uniform(0, 4)]))
            if judges.kl_from_even(other) <= kl:
                assert other @ scores <= best @ scores + 1e-9
    only = judges.at_divergence(scores, 50.0)
    assert only[scores.argmax()] == pytest.approx(1.0, abs=1e-6), "further than the best answer nobody can go"
    assert judges.kl_from_even(np.eye(7)[0]) == pytest.approx(math.log(7))


def test_a_logistic_fit_finds_what_made_the_chances_and_minds_weights():
    rng = np.random.default_rng(3)
    inputs, behind = rng.normal(size=(50, 3)), np.array([0.7, -2.0, 4.0])
    found = judges.logistic_fit(inputs, judges.sigmoid(inputs @ behind), rng.random(50) + 0.1)
    assert found == pytest.approx(behind, abs=1e-4)
    chances = np.array([0.2, 0.8])
    found = judges.logistic_fit(np.ones((2, 1)), chances, np.array([3.0, 1.0]))
    assert judges.sigmoid(found[0]) == pytest.approx(0.35)
    idle = judges.logistic_fit(np.c_[np.ones(2), np.zeros(2)], chances, np.ones(2))
    assert idle == pytest.approx([0.0, 0.0], abs=1e-6), "what no input tells stays at 0"
    held = judges.logistic_fit(np.ones((1, 1)), np.ones(1), np.ones(1), ridge=0.5)[0]
    assert 1 - judges.sigmoid(held) == pytest.approx(0.5 * held), (
        "the ridge is a half of squares in the mean loss"
    )


def test_win_rates_weigh_pairs():
    wins, pairs = np.array([[0.5, 1.0], [0.0, 0.5]]), np.array([[0.0, 3.0], [1.0, 0.0]])
    assert judges.win_rate(wins, pairs) == pytest.approx(0.75)
    assert judges.win_rate(wins, 7 * pairs) == pytest.approx(0.75)


def ideal(habits=HABITS, most=3):
    kinds = shop.kinds(most)
    return kinds, evidence.ideal_logits(kinds, habits), shop.worth(kinds, habits)


def test_exact_labels_without_leanings_make_the_best_policy():
    kinds, logits, gold = ideal()
    contents = evidence.contents_of(logits, kinds)
    rows = np.array(list(itertools.combinations(range(len(kinds)), 2)))
    gains = {}
    for name, content in contents.items():
        chances = judges.sigmoid(content[rows[:, 0], rows[:, 1]])
        gains[name] = lesson.gain(lesson.fit_reward(kinds, rows, chances), kinds, gold, 1.0)
    assert gains["corrected"] == pytest.approx(1.0, abs=1e-6)
    assert gains["swapped"] < 0.95


def test_win_rates_of_two_writers_by_hand():
    kinds, logits, gold = ideal(shop.Habits(), 1)
    found = evidence.rates(logits, kinds, gold, None)
    ours, theirs = (judges.tilted(kinds, tilt) for tilt in (evidence.OURS, evidence.THEIRS))
    total = won = random = second = 0.0
    for (a, p), (b, q) in itertools.product(enumerate(ours), enumerate(theirs)):
        if gold[a] != gold[b]:
            total += p * q
            won += p * q * (gold[a] > gold[b])
            for one in logits:
                random += p * q * (judges.sigmoid(one[a, b]) + 1 - judges.sigmoid(one[b, a])) / 4
                second += p * q * (1 - judges.sigmoid(one[b, a])) / 2
    assert found["truth"] == pytest.approx(won / total)
    assert found["random order"] == pytest.approx(random / total)
    assert found["ours second"] == pytest.approx(second / total)
    assert found["known error rates"] == pytest.approx(won / total)
    assert found["ours second"] < found["random order"] < found["length-controlled"] < found["truth"]


def test_groups_and_gold_labels_are_as_asked():
    kinds, _, gold = ideal()
    groups = evidence.groups_of(kinds)
    for a, b in itertools.product(range(0, 64, 7), range(0, 64, 5)):
        gap = np.sign(kinds[a] - kinds[b])[3:]
        alike = [(c, d) for c, d in ((0, 0), (63, 63)) if (gap == 0).all()]
        assert all(groups[pair] == groups[a, b] for pair in alike)
    assert len(np.unique(groups)) == 9
    better, pairs = evidence.untied(gold, np.full(64, 1 / 64), np.full(64, 1 / 64))
    drawn = evidence.gold_labels(pairs, better, groups, 5, np.random.default_rng(0))
    assert drawn.sum() == 9 * 2 * 5
    assert not drawn[pairs == 0].any()
    for group, side in itertools.product(range(9), (0, 1)):
        assert drawn[(groups == group) & (better == side)].sum() == 5


def test_revision_goes_one_step_at_a_time():
    kinds, logits, gold = ideal(shop.Habits())
    content = evidence.contents_of(logits, kinds)["corrected"]
    probs = evidence.rounds(content, kinds, 3)
    assert probs.sum(axis=1) == pytest.approx(np.ones(4))
    worst = next(row for row, kind in enumerate(kinds) if not kind.any())
    step = lesson.revise(content, kinds)
    assert kinds[step[worst]].tolist() == [0, 0, 1, 0, 0], "kindness is worth most"
    assert probs[3] @ gold == pytest.approx(gold.max())
    assert probs[3] @ kinds[:, 3] == pytest.approx(1.5), "the length is left alone"


def test_intervals_over_pairs_are_too_short_where_pairs_are_alike():
    extra = dataclasses.replace(evidence.Config(), num_evaluations=200)
    by_prompts, by_pairs = evidence.coverage(extra, np.random.default_rng(0))
    assert by_prompts > 0.89
    assert by_pairs < 0.82
    apart = dataclasses.replace(extra, correlation=0.01)
    assert evidence.coverage(apart, np.random.default_rng(0))[1] > 0.88


@pytest.mark.parametrize("name", ["one_order", "adds_the_leaning", "rejected_preferred"])
def test_an_edited_lesson_learns_less(name):
    kinds, logits, gold = ideal(shop.Habits())
    module = edited(lesson, EDITS[name])
    rows = np.random.default_rng(5).integers(len(kinds), size=(1500, 2))

    def gained(which):
        content, _ = which.swap(logits)
        leanings = {j: which.leaning(content, kinds, j) for j in which.FREE}
        chances = judges.sigmoid(which.corrected(content, kinds, leanings)[rows[:, 0], rows[:, 1]])
        return which.gain(which.fit_reward(kinds, rows, chances), kinds, gold, 1.0)

    assert gained(lesson) > 0.999
    assert gained(module) < 0.99 or name == "one_order"
    if name == "one_order":
        content = module.swap(logits)[0]
        assert abs(content + content.T).max() > 0.1, "a place is left in it"


# A causal language model as the judge


@pytest.fixture(scope="module")
def causal():
    """A GPT-2 made here, that has read nothing."""
    recipe = Recipe("shop", shop.vocabulary(), lambda rng, num: [""] * num, width=16, num_layers=1)
    torch.manual_seed(0)
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe, len(tokenizer)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(5.0)  # what it says shall not be nearly the same of all texts
    return LoadedModel(model, tokenizer)


QUESTIONS = [
    shop.question("be kind", "a red cup", "sure same today thanks", "gladly really other today hurry"),
    shop.question(
        "be right", "a pink lamp", "sure really really really same someday thanks", "gladly other today hurry"
    ),
    shop.question("be kind", "a red cup", "sure same today hurry", "sure same today thanks"),
]


def test_log_odds_are_those_of_the_next_word(causal):
    found = verdict_logits(causal, QUESTIONS, shop.VERDICTS, chunk=2)
    for question, value in zip(QUESTIONS, found, strict=True):
        batch = causal.tokenizer([question], return_tensors="pt")
        log_probs = []
        for word in shop.VERDICTS:
            ids = torch.tensor([causal.tokenizer(word)["input_ids"]])
            with torch.no_grad():
                scored = token_log_probs(
                    causal.model,
                    batch["input_ids"],
                    batch["attention_mask"],
                    ids,
                    torch.ones_like(ids).bool(),
                )
            log_probs.append(scored.item())
        assert value == pytest.approx(log_probs[0] - log_probs[1], abs=1e-5), "alone or padded in a batch"
    assert abs(found).max() > 1e-3


def test_verdicts_that_look_alike_are_refused(causal):
    with pytest.raises(UsageError, match=r"does not tell the words first and first apart"):
        verdict_logits(causal, QUESTIONS, ("first", "first"))


def test_a_folder_can_be_the_judge(causal, tmp_path):
    causal.model.save_pretrained(tmp_path / "model")
    causal.tokenizer.save_pretrained(tmp_path / "model")
    judge = load_judge(str(tmp_path / "model"), shop.VERDICTS)
    assert judge(QUESTIONS) == pytest.approx(verdict_logits(causal, QUESTIONS, shop.VERDICTS), abs=1e-6)
    cfg = dataclasses.replace(lesson.Config(), model=str(tmp_path / "model"), **lesson.SMOKE)
    log = RunLog(tmp_path / "run", "D11")
    lesson.main(cfg, log)
    log.close()
    names = {claim.name for claim in log.claims}
    assert names == {"leanings_exact", "corrected_exact"}, "of a judge that is not ours nothing is claimed"
    assert math.isfinite(log.last("leaning_padding"))


def test_prompts_differ_by_as_much_as_their_correlation_says(monkeypatch):
    """Two answers of one prompt agree beyond chance by the correlation: of a beta it is 1 / (a + b + 1)."""
    asked = []

    class Told(np.random.Generator):
        def beta(self, a, b, num):
            asked.append((a, b, num))
            return np.full(num, 0.75)

        def random(self, num):
            return np.linspace(0.0, 1.0, num, endpoint=False)

    monkeypatch.setattr(lesson, "interval_over_prompts", lambda right, clusters: (right.mean(), right.mean()))
    extra = evidence.Config(num_prompts=8, num_pairs=5, num_evaluations=3, correlation=0.2)
    assert evidence.coverage(extra, Told(np.random.PCG64(0))) == (1.0, 1.0), (
        "an interval that is a point, and the mean itself"
    )
    a, b, num = asked[0]
    assert (a / (a + b), 1 / (a + b + 1), num) == pytest.approx((0.75, 0.2, 8))
    assert len(asked) == 3


# The neural judge, and the writer that learns from it


def test_a_writer_has_read_and_one_that_read_nothing_has_not():
    """From the same first weights, every one of the writer's has moved."""
    before, _ = neural.unread(lambda *_: [], 5, seed=0)
    after = neural.make_writer(5, 2, seed=0)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True)
    ]
    assert all(moved)


def ideal_reader(question):
    """The constructed judge, by what it reads."""
    principle, _, *replies, _ = question.split(" . ")
    features = []
    for text in replies:
        _, opener, *words = text.split()
        asked = [words[-3] == "same", words[-2] == "today", words[-1] == "thanks"]
        features.append([*asked, len(words) - 3, opener == "gladly"])
    weights = HABITS.weights(shop.PRINCIPLES.index(principle))
    return float(np.subtract(*np.array(features, dtype=float)) @ weights + HABITS.position)


def test_pairs_are_asked_in_both_orders_and_labelled_by_each():
    kinds, logits, gold = ideal()
    rng = np.random.default_rng(1)
    rows, prompts = rng.integers(len(kinds), size=(4000, 2)), rng.integers(30, size=4000)
    said = neural.ask_pairs(lambda asked: np.array([ideal_reader(q) for q in asked]), kinds, prompts, rows)
    for p, order in itertools.product(range(2), range(2)):
        first, second = rows.T if order == 0 else rows.T[::-1]
        assert said[p, order] == pytest.approx(logits[p, first, second])

    content, _ = lesson.swap(logits)
    leanings = {j: lesson.leaning(content, kinds, j) for j in lesson.FREE}
    apart, gold_apart = (of[rows[:, 0]] - of[rows[:, 1]] for of in (kinds, gold))
    labels = neural.label_pairs(said, apart, gold_apart, leanings, rng)
    assert set(labels) == set(neural.LABELLERS)
    assert (labels["corrected"] == labels["people"]).all(), "of the constructed judge the gold rule is left"
    for name, table in (("people", gold[:, None] - gold), ("swapped", content)):
        expected = judges.sigmoid(table[rows[:, 0], rows[:, 1]])
        assert abs((labels[name] - expected).mean()) < 0.03
        assert np.corrcoef(labels[name], expected)[0, 1] > 0.5
    expected = judges.sigmoid(logits[:, rows[:, 0], rows[:, 1]]).mean(axis=0)
    assert abs((labels["judge"] - expected).mean()) < 0.03
    torn = np.stack([np.full((2, 4000), 50.0), np.full((2, 4000), -10.0)])  # the principles contradict
    drawn = neural.label_pairs(torn, apart, gold_apart, leanings, rng)["judge"]
    assert drawn.mean() == pytest.approx(0.5, abs=0.05), "each label comes from one principle, by lot"


def test_chances_are_those_of_each_answer_with_its_end(causal):
    kinds = shop.kinds(1)[[0, 5, 31]]
    found = neural.chances(causal.model, causal.tokenizer, kinds)
    assert found.shape == (30, 3)
    for prompt, row in ((0, 0), (7, 1), (29, 2)):
        ids = causal.tokenizer(
            [f"{shop.REQUESTS[prompt]} . {shop.reply(kinds[row])} <eos>"], return_tensors="pt"
        )
        with torch.no_grad():
            log_probs = causal.model(input_ids=ids["input_ids"]).logits[0].double().log_softmax(-1)
        tokens = ids["input_ids"][0]
        one = sum(log_probs[t - 1, tokens[t]] for t in range(4, len(tokens)))
        assert found[prompt, row] == pytest.approx(math.exp(one), rel=1e-4)


def test_a_writers_pairs_are_what_it_writes(causal):
    kinds = shop.kinds(1)
    pairs, prompts, rows = neural.writer_pairs(causal, kinds, 600, np.random.default_rng(2))
    decode = causal.tokenizer.batch_decode
    for place in (0, 1):
        texts = decode(pairs["completion_ids"][:, place] * pairs["completion_mask"][:, place])
        expected = [shop.reply(kinds[row]) + " <eos>" for row in rows[:, place]]
        assert [text.replace(" <pad>", "") for text in texts] == expected
    assert decode(pairs["prompt_ids"]) == [f"{shop.REQUESTS[prompt]} ." for prompt in prompts]
    probs = neural.chances(causal.model, causal.tokenizer, kinds)
    probs /= probs.sum(axis=1, keepdims=True)
    expected = probs[prompts].sum(axis=0) / 600
    assert np.bincount(rows.ravel(), minlength=32) / 1200 == pytest.approx(expected, abs=0.06)
    assert pairs["ref_log_probs"].shape == pairs["completion_ids"].shape
    log_probs = pairs["ref_log_probs"].double().sum(dim=2)
    whole = neural.chances(causal.model, causal.tokenizer, kinds)[prompts[:, None], rows]
    assert log_probs.exp().numpy() == pytest.approx(whole, rel=1e-3)


def test_what_a_policy_has_learnt_is_given_its_way():
    kinds, _, gold = ideal(most=1)
    before = np.full((30, 32), 1 / 40)  # a fifth of what it writes is of no kind
    after = np.tile(judges.at_divergence(gold, 0.7), (30, 1)) * 0.9
    found = neural.looks(after, before, kinds, gold)
    assert found["kl"] == pytest.approx(0.7, abs=1e-6)
    assert found["share"] == pytest.approx(1.0, abs=1e-6)
    assert found["worth"] == pytest.approx((after[0] @ gold / 0.9 - gold.mean()) / (gold.max() - gold.mean()))
    assert found["listed"] == pytest.approx(0.9)
    assert found["fillers"] == pytest.approx(0.5), "what is worth nothing stays as it was"
    assert found["own_style"] == pytest.approx(0.5)
    padded = np.tile(judges.tilted(kinds, np.array([0.0, 0.0, 0.0, 1.0, 2.0])), (30, 1))
    found = neural.looks(padded, before, kinds, gold)
    assert found["worth"] == pytest.approx(0.0, abs=1e-9)
    assert found["fillers"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found["own_style"] == pytest.approx(1 / (1 + math.exp(-2)))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_judge_learns_the_word_that_closes_a_comparison(sign, monkeypatch):
    """Where the better answer always stands first, or second, a few steps show it, and no other word."""
    monkeypatch.setattr(neural, "COMPARISONS", 48)
    seen, made = [], neural.unread

    def watched(*how):
        judge, recipe = made(*how)
        judge.model.register_forward_pre_hook(lambda _, __, given: seen.append(given), with_kwargs=True)
        return judge, recipe

    monkeypatch.setattr(neural, "unread", watched)
    judge = neural.make_judge(shop.Habits(position=5.0 * sign), 12, 0)
    better = judge.tokenizer.convert_tokens_to_ids("better")
    for given in seen:
        assert (given["input_ids"][:, -1] == better).all(), "the verdict itself is not to be read"
        assert (given["position_ids"] == positions(given["attention_mask"])).all()
    assert len(seen) == 12
    assert (sign * verdict_logits(judge, QUESTIONS, shop.VERDICTS) > 0.5).all()
    batch = judge.tokenizer(QUESTIONS, return_tensors="pt", padding=True)
    with torch.no_grad():
        out = judge.model(**batch, position_ids=positions(batch["attention_mask"]))
    likeliest = judge.tokenizer.batch_decode(out.logits[:, -1].argmax(dim=1)[:, None])
    assert likeliest == ["first" if sign > 0 else "second"] * 3


def test_the_most_that_can_be_gained_is_not_to_be_beaten():
    rng = np.random.default_rng(7)
    before, gold = rng.dirichlet(np.ones(6), size=4), rng.normal(size=6)
    for kl in (0.2, 0.8):
        best = neural.most_gained(before, gold, kl)
        reached = []
        for _ in range(400):
            odds = before * np.exp(gold * rng.uniform(0, 4, size=(4, 1)) + rng.normal(0, 0.3, size=(4, 6)))
            probs = odds / odds.sum(axis=1, keepdims=True)
            if neural.divergence(probs, before) <= kl:
                reached.append((probs @ gold).mean())
        assert best - 0.2 < max(reached) <= best + 1e-9
    probs = before * np.exp(gold / 0.7)
    probs /= probs.sum(axis=1, keepdims=True)
    best = neural.most_gained(before, gold, neural.divergence(probs, before))
    assert best == pytest.approx((probs @ gold).mean()), "one beta for all requests"
    even = np.full((3, 32), 1 / 32)
    gold = shop.worth(shop.kinds(1), HABITS)
    assert neural.most_gained(even, gold, 0.6) == pytest.approx(judges.at_divergence(gold, 0.6) @ gold)
    assert neural.divergence(np.eye(32)[:3], even) == pytest.approx(math.log(32))


def test_a_writer_learns_what_its_labels_say(causal):
    """Labels by kindness alone, on pairs of a writer that has read nothing and writes all kinds alike."""
    model = copy.deepcopy(causal.model)
    for parameter in model.parameters():
        parameter.data.mul_(0.2)
    writer = LoadedModel(model, causal.tokenizer)
    kinds = shop.kinds(1)
    pairs, _, rows = neural.writer_pairs(writer, kinds, 256, np.random.default_rng(3))
    labels = (1 + kinds[rows[:, 0], 2] - kinds[rows[:, 1], 2]) / 2
    settings = neural.dpo.Config(beta=0.5, learning_rate=3e-3, num_epochs=2)
    kept = [parameter.clone() for parameter in model.parameters()]
    policy = neural.learn(writer, pairs, labels, settings)
    assert all((a == b).all() for a, b in zip(kept, model.parameters())), "the writer itself stays"
    before, after = (neural.chances(one, causal.tokenizer, kinds) for one in (model, policy))
    kindly, padded = (
        [(probs / probs.sum(axis=1, keepdims=True) @ kinds[:, j]).mean() for probs in (before, after)]
        for j in (2, 3)
    )
    assert kindly[1] > kindly[0] + 0.1
    assert abs(padded[1] - padded[0]) < 0.1


def test_a_writer_goes_through_all_pairs_in_ever_smaller_steps(causal, monkeypatch):
    seen = []
    monkeypatch.setattr(
        neural.dpo, "update", lambda _, optimizer, batch, __: seen.append((optimizer.lr, batch["labels"]))
    )
    monkeypatch.setattr(neural, "BATCH", 4)
    neural.learn(causal, {}, np.arange(10.0), neural.dpo.Config(learning_rate=0.6, num_epochs=2))
    assert [rate for rate, _ in seen] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert torch.cat([labels for _, labels in seen]).tolist() == [*range(10), *range(10)]


# What its claims measure


def judged(questions):
    return np.array([ideal_reader(question) for question in questions])


def values_of(log) -> dict[str, float]:
    log.close()
    return {claim.name: claim.value for claim in log.claims}


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_main_measures_the_judge_that_it_asks(off, tmp_path, monkeypatch):
    """One that says what the ideal reader says, or leans to the first place by 0.3 more."""
    collected = []

    def write(rng, num, habits):
        collected.append((rng.random(), num, habits))
        return [], np.zeros(0)

    monkeypatch.setattr(shop, "write_comparisons", write)
    monkeypatch.setattr(lesson, "train_judge", lambda *_: lambda questions: judged(questions) + off)
    monkeypatch.setattr(lesson, "draw_judge", lambda *_: None)
    log = RunLog(tmp_path, "D11")
    cfg = lesson.Config(seed=3, most_fillers=1, position=0.5, padding=0.3, own=-0.7, num_comparisons=9)
    lesson.main(cfg, log)
    values = values_of(log)
    (_, num, habits) = collected[0]
    assert (num, habits) == (9, HABITS)
    leanings = [log.last(f"leaning_{name}") for name in ("position", "padding", "own_style")]
    assert leanings == pytest.approx([0.5 + off, 0.3, -0.7])
    assert values["judge_leans"] == pytest.approx(off, abs=1e-9)
    assert log.last("gain_corrected") == log.last("gain_people"), "drawn with the same luck"
    assert values["correction_pays"] == pytest.approx(log.last("gain_corrected") - log.last("gain_judge"))
    assert log.last("gain_judge") < log.last("gain_corrected")
    kinds, requests = log.kept["kinds"], log.kept["requests"]
    every = np.array(list(itertools.product(range(32), repeat=2)))
    chances = judges.sigmoid(log.kept["logits"]).mean(axis=0).ravel()  # of "first" under either principle
    without_luck = lesson.gain(lesson.fit_reward(kinds, every, chances), kinds, log.kept["gold"], cfg.kl)
    assert log.last("gain_judge") == pytest.approx(without_luck, abs=0.15)
    assert (requests == requests.T).all(), "both orders of a pair answer one request"
    assert len(np.unique(requests)) == 30
    np.testing.assert_allclose(log.kept["logits"], evidence.ideal_logits(kinds, HABITS) + off, atol=1e-9)
    gold = shop.worth(kinds, HABITS)
    np.testing.assert_allclose(log.kept["contents"]["corrected"], gold[:, None] - gold, atol=1e-9)
    np.testing.assert_allclose(log.kept["contents"]["swapped"], lesson.swap(log.kept["logits"])[0])


@pytest.mark.parametrize("feature", lesson.FREE)
def test_a_leaning_that_is_not_given_back_is_noticed(feature, tmp_path, monkeypatch):
    leaning = lesson.leaning
    monkeypatch.setattr(lesson, "leaning", lambda *given: leaning(*given) + 0.01 * (given[2] == feature))
    log = RunLog(tmp_path, "D11")
    lesson.claim_exact(shop.kinds(1), HABITS, log)
    values = values_of(log)
    assert values["leanings_exact"] == pytest.approx(0.01)
    assert values["corrected_exact"] == pytest.approx(0.01), "no two answers differ by more than one here"


def test_rates_are_of_the_ideal_reader_first_and_then_of_the_judge_that_was_asked(tmp_path, monkeypatch):
    kinds, logits, gold = ideal(most=1)
    asked = logits + 0.2
    names = ("truth", "ours second", "random order", "length-controlled", "known error rates")
    tables = iter([(0.7, 0.3, 0.5, 0.62, 0.69), (0.8, 0.3, 0.4, 0.62, 0.9)])
    given = []
    monkeypatch.setattr(evidence, "rates", lambda *how: given.append(how) or dict(zip(names, next(tables))))
    log = RunLog(tmp_path, "D11")
    log.keep(kinds=kinds, gold=gold, habits=HABITS, logits=asked)
    evidence.claim_rates(evidence.Config(num_known=7), log, np.random.default_rng(0))
    values = values_of(log)
    (first, *_, nobody), (second, *_, known) = given
    np.testing.assert_allclose(first, logits)
    np.testing.assert_allclose(second, asked)
    assert nobody is None
    assert log.last("num_gold_labels") == known.sum() == 9 * 2 * 7
    assert values["rates_exact"] == pytest.approx(0.01)
    assert values["length_control"] == pytest.approx(0.08 / 0.2)
    assert values["rates_help"] == pytest.approx(0.1 / 0.4)
    assert log.last("rate_length_controlled") == 0.62
    assert log.last("rate_random_order") == 0.4


def test_what_length_control_hides_is_of_a_judge_without_leanings():
    """By hand: the careful writer, whose better answers are longer, against the hasty one."""
    kinds = shop.kinds(1)
    gold = shop.worth(kinds, HABITS)
    odds = np.exp(kinds[:, :4].sum(axis=1))
    careful, hasty = odds / odds.sum(), 1 / odds / (1 / odds).sum()
    ours, theirs = 0.7 * careful + 0.3 * hasty, 0.3 * careful + 0.7 * hasty
    pairs, shares, longer = [], [], []
    for a, b in itertools.product(range(32), repeat=2):
        if abs(gold[a] - gold[b]) > 1e-9:
            pairs.append(ours[a] * theirs[b])
            shares.append(judges.sigmoid(gold[a] - gold[b]))
            longer.append(kinds[a, 3] - kinds[b, 3])
    inputs = np.c_[np.ones(len(pairs)), longer]
    theta, eta = judges.logistic_fit(inputs, np.array(shares), np.array(pairs))
    assert eta > 0
    expected = np.average(shares, weights=pairs) - judges.sigmoid(theta)
    assert evidence.hidden_truth(kinds, gold) == pytest.approx(expected)


def test_agreement_counts_each_pair_once_and_no_ties(tmp_path):
    _, _, gold = ideal(most=1)
    rng = np.random.default_rng(4)
    requests = np.triu(rng.integers(5, size=(32, 32)))
    requests = np.maximum(requests, requests.T)
    gap = gold[:, None] - gold
    contents = {
        "swapped": gap + 3 * rng.normal(size=gap.shape),
        "corrected": gap + rng.normal(size=gap.shape),
    }
    log = RunLog(tmp_path, "D11")
    log.keep(gold=gold, requests=requests, contents=contents)
    evidence.claim_agreement(log)
    values = values_of(log)
    means = {name: [] for name in contents}
    for prompt in range(5):
        pairs = [
            (a, b)
            for a, b in itertools.combinations(range(32), 2)
            if requests[a, b] == prompt and abs(gold[a] - gold[b]) > 1e-9
        ]
        for name, content in contents.items():
            means[name].append(np.mean([(content[pair] > 0) == (gap[pair] > 0) for pair in pairs]))
    for name, found in means.items():
        assert log.last(f"agreement_{name}") == pytest.approx(np.mean(found))
    more = np.subtract(means["corrected"], means["swapped"])
    width = 2.7764451 * more.std(ddof=1) / 5**0.5  # Student's t with 4 degrees of freedom
    assert values["agreement_gain"] == pytest.approx(more.mean() - width, abs=1e-6)


def test_intervals_are_held_against_what_theory_says_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "coverage", lambda *_: (0.94, 0.7))
    log = RunLog(tmp_path, "D11")
    evidence.claim_coverage(evidence.Config(), log, np.random.default_rng(0))
    assert values_of(log) == {"coverage_prompts": 0.94, "coverage_pairs": 0.7}
    # ten pairs of a prompt that correlate by 0.3: the variance of a mean is 1 + 9 * 0.3 of what it seems
    assert log.claims[1].near[0] == pytest.approx(math.erf(1.959964 / 3.7**0.5 / 2**0.5), abs=1e-6)


def test_gains_of_labels_are_means_over_their_draws(tmp_path, monkeypatch):
    """What a policy gains is known of each labeller and each number of labels, but for the draw."""
    level = {"people": 1.0, "corrected": 0.9, "swapped": 0.6, "judge": 0.5}
    draws = []

    def labels_by(logits, contents, rows, rng):
        assert (logits, contents) == ("logits", "contents")
        draws.append(rows)
        return {name: (name, len(rows), len(draws) % 2) for name in level}

    monkeypatch.setattr(lesson, "labels_by", labels_by)
    monkeypatch.setattr(lesson, "fit_reward", lambda kinds, rows, labels: labels)
    monkeypatch.setattr(
        lesson, "gain", lambda told, kinds, gold, kl: level[told[0]] - 1 / told[1] + 0.02 * told[2] + kl
    )
    log = RunLog(tmp_path, "D11")
    log.keep(kinds=shop.kinds(1), gold=None, logits="logits", contents="contents")
    evidence.claim_labels(
        lesson.Config(kl=0.25), evidence.Config(num_repeats=2), log, np.random.default_rng(0)
    )
    values = values_of(log)
    assert [len(rows) for rows in draws] == [num for num in evidence.NUM_LABELS for _ in range(2)]
    assert not np.array_equal(draws[0], draws[1])
    for name, top in level.items():
        steps, found = log.series(f"learnt_{name}")
        assert tuple(steps) == evidence.NUM_LABELS
        assert found == pytest.approx([top - 1 / num + 0.01 + 0.25 for num in steps])
    late = 0.26 - 1 / 8000
    assert values["labels_no_cure"] == pytest.approx(0.9 - 1 / 500 + 0.26 - (0.5 + late))
    assert values["still_lost"] == pytest.approx((1 - 0.9 - late) / (1 - 0.5 - late))


def test_revisions_are_followed_to_their_end(tmp_path, monkeypatch):
    """Of each judge: answers of one kind after the last round."""
    kinds, logits, gold = ideal(most=1)
    contents = evidence.contents_of(logits, kinds)
    best, padded = (
        gold.argmax(),
        next(row for row, kind in enumerate(kinds) if kind.tolist() == [1, 0, 0, 1, 1]),
    )

    def rounds(content, given, num):
        assert num == 2
        swapped = np.allclose(content, contents["swapped"])
        assert swapped or np.allclose(content, contents["corrected"])
        even = np.full(32, 1 / 32)
        return np.array([even, even, np.eye(32)[padded if swapped else best]])

    monkeypatch.setattr(evidence, "rounds", rounds)
    log = RunLog(tmp_path, "D11")
    log.keep(kinds=kinds, gold=gold, habits=HABITS)
    evidence.claim_revision(evidence.Config(num_rounds=2), log)
    values = values_of(log)
    worth, own = gold[padded] / gold.max(), kinds[best, 4]
    assert log.series("revised_worth_swapped")[1] == pytest.approx([gold.mean() / gold.max()] * 2 + [worth])
    assert log.series("revised_padding_swapped")[1] == [0.5, 0.5, 1.0]
    assert log.series("revised_own_style_corrected")[1] == [0.5, 0.5, own]
    assert values["revision_pads"] == pytest.approx(0.5)
    assert values["revision_mends"] == pytest.approx(0.5), "the length moved; all else was mended"


def test_kindness_is_compared_between_the_two_principles(tmp_path):
    kinds, logits, _ = ideal(most=1)
    log = RunLog(tmp_path, "D11")
    log.keep(kinds=kinds, logits=logits, habits=HABITS)
    evidence.claim_principles(log)
    assert values_of(log)["principle_obeyed"] == pytest.approx(HABITS.gold[2])
    assert log.last("kindness_when_kind") == pytest.approx(HABITS.weights(1)[2])
    assert shop.PRINCIPLES[1] == "be kind"


def test_each_writer_learns_from_its_own_labels_and_is_looked_at(tmp_path, monkeypatch):
    kinds, _, gold = ideal(most=1)
    before = np.full((30, 32), 1 / 40)
    rng = np.random.default_rng(0)
    prompts, rows = rng.integers(30, size=40), rng.integers(32, size=(40, 2))
    tables, learnt = [rng.dirichlet(np.ones(32), size=30) for _ in range(4)], []

    def learn(writer, pairs, labels, settings):
        learnt.append((pairs, labels, settings.beta, settings.learning_rate, settings.num_epochs))
        return len(learnt) - 1

    def writer_pairs(writer, listed, num, rng):
        assert num == 40
        return "pairs", prompts, rows

    monkeypatch.setattr(neural, "make_judge", lambda *_: "reader")
    monkeypatch.setattr(neural, "make_writer", lambda *_: LoadedModel("writer", None))
    monkeypatch.setattr(neural, "verdict_logits", lambda reader, questions, words: judged(questions))
    monkeypatch.setattr(neural, "writer_pairs", writer_pairs)
    monkeypatch.setattr(neural, "learn", learn)
    monkeypatch.setattr(neural, "chances", lambda model, *_: before if model == "writer" else tables[model])
    log = RunLog(tmp_path, "D11")
    log.keep(kinds=kinds, gold=gold, habits=HABITS, requests=np.zeros((32, 32), dtype=int))
    extra = evidence.Config(beta=0.3, learning_rate=0.02, num_passes=2)
    neural.measure_neural(lesson.Config(num_labels=40), extra, log)
    values = values_of(log)
    assert log.last("writer_fillers_before") == pytest.approx(0.5)
    by_name = dict(zip(neural.LABELLERS, learnt))
    for table, (name, (pairs, _, *how)) in zip(tables, by_name.items()):
        assert (pairs, how) == ("pairs", [0.3, 0.02, 2])
        for what, value in neural.looks(table, before, kinds, gold).items():
            assert log.last(f"writer_{what}_{name}") == pytest.approx(value), (what, name)
    assert (by_name["people"][1] == by_name["corrected"][1]).all(), "of an ideal reader the gold rule is left"
    assert (by_name["people"][1] != by_name["judge"][1]).any()
    assert values["neural_leans"] == pytest.approx(1.0)
    assert values["neural_corrected"] == pytest.approx(0.0, abs=1e-9)


def test_a_neural_judge_is_held_against_the_ideal_reader_and_the_gold_rule(tmp_path):
    """It leans to the place as the ideal reader, to fillers by half, to its style by 0.9 as far."""
    kinds, _, gold = ideal(most=1)
    less = dataclasses.replace(HABITS, padding=0.15, own=-0.63)
    log = RunLog(tmp_path, "D11")
    leanings = neural.claim_judge(evidence.ideal_logits(kinds, less), kinds, gold, HABITS, log)
    values = values_of(log)
    assert leanings == pytest.approx({3: 0.3, 4: -1.26})
    assert values["neural_leans"] == pytest.approx(0.5)
    assert values["neural_corrected"] == pytest.approx(0.0, abs=1e-9)
    gaps = kinds[:, None] - kinds
    off = np.sqrt(((gaps[..., 3] * 0.3 - gaps[..., 4] * 1.26) ** 2).mean())
    assert log.last("neural_off_swapped") == pytest.approx(off)
    assert [log.last(f"neural_{name}") for name in ("position", "padding", "own_style")] == pytest.approx(
        [0.5, 0.15, -0.63]
    )
    assert [log.last(f"ideal_{name}") for name in ("position", "padding", "own_style")] == [0.5, 0.3, -0.7]


def test_writers_are_compared_as_their_claims_say(tmp_path):
    log = RunLog(tmp_path, "D11")
    looks = {  # worth, share, fillers
        "people": (0.9, 0.99, 1.5),
        "corrected": (0.8, 0.97, 1.6),
        "swapped": (0.7, 0.7, 2.4),
        "judge": (0.5, 0.6, 2.2),
    }
    for name, found in looks.items():
        log.write(
            0, **{f"writer_{what}_{name}": value for what, value in zip(("worth", "share", "fillers"), found)}
        )
    neural.claim_writer(log)
    assert values_of(log) == pytest.approx(
        {
            "within_frontier": 0.99,
            "rule_teaches_more": 0.4,
            "correction_teaches": 0.3,
            "writer_pads": 0.8,
            "way_wasted": 0.27,
        }
    )
