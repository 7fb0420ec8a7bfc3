"""Definition checks of D11: each function against its equation, one pair of answers at a time."""

import itertools
import math

import numpy as np
from scipy import optimize

from chapters.envs import shop
from chapters.utils.edits import Edit


def logistic(x):
    return 1 / (1 + math.exp(-x))


def odd_kinds():
    """Features of ten answers [M, 3], some of which differ by one step in one place."""
    return np.array(list(itertools.product((0.0, 1.0), (0.0, 1.0, 2.0), (0.0, 1.0)))[:10])


def random_logits(seed, num=10, principles=2):
    return np.random.default_rng(seed).normal(0.0, 2.0, size=(principles, num, num))


def check_constructed(constructed):
    kinds, rng = odd_kinds(), np.random.default_rng(0)
    for num, position in ((1, 0.0), (2, 0.7), (3, -0.4)):
        weights = rng.normal(size=(num, 3))
        found = constructed(kinds, weights, position)
        assert found.shape == (num, len(kinds), len(kinds))
        for p, a, b in np.ndindex(found.shape):
            expected = sum(w * (x - y) for w, x, y in zip(weights[p], kinds[a], kinds[b])) + position
            assert math.isclose(found[p, a, b], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"principle {p}, first {a}, second {b}: expected {expected:.4g}, found {found[p, a, b]:.4g}"
            )


def check_train_judge(train_judge):
    """On many comparisons it finds the ideal reader's log-odds; a word that was never read says nothing."""
    habits = shop.Habits(position=0.5, padding=0.3, own=-0.6)
    questions, first_won = shop.write_comparisons(np.random.default_rng(3), 3000, habits)
    judge = train_judge(questions, first_won)
    kinds, rng = shop.kinds(), np.random.default_rng(4)
    off = []
    for _ in range(60):
        principle, first, second = rng.integers(2), *kinds[rng.integers(len(kinds), size=2)]
        asked = shop.question(
            shop.PRINCIPLES[principle], shop.REQUESTS[rng.integers(30)], shop.reply(first), shop.reply(second)
        )
        expected = habits.weights(principle) @ (first - second) + habits.position
        off.append(float(np.asarray(judge([asked])).ravel()[0]) - expected)
    assert np.sqrt(np.mean(np.square(off))) < 0.5, "far from the ideal reader of the comparisons"
    strange = judge([shop.question("be wild", "xx xx xx", "xx", "xx")] * 2)
    assert np.shape(strange) == (2,), "one number for each question"
    assert np.allclose(strange, 0.0), "of words that it has never read a judge knows nothing"
    # a word read once: only the prior, worth one comparison of all, keeps its weight finite
    few = [shop.question("be kind", f"a {thing} cup", "sure", "gladly") for thing in ("red", "blue")]
    said = train_judge(few, np.array([1.0, 0.0]))(few)
    slope = [logistic(-said[0]), -logistic(said[1])]  # what the data still ask of each question
    assert np.allclose(said, [slope[0], slope[1]], atol=1e-3), "the prior is worth one comparison"


def check_swap(swap):
    for seed, principles in ((0, 1), (1, 2), (2, 3)):
        logits = random_logits(seed, 4, principles)
        content, position = swap(logits)
        for a, b in np.ndindex(4, 4):
            answers = sum((logits[p, a, b] - logits[p, b, a]) / 2 for p in range(principles))
            place = sum((logits[p, a, b] + logits[p, b, a]) / 2 for p in range(principles)) / principles
            assert math.isclose(content[a, b], answers, rel_tol=1e-9, abs_tol=1e-12), f"content of ({a}, {b})"
            assert math.isclose(position[a, b], place, rel_tol=1e-9, abs_tol=1e-12), f"position of ({a}, {b})"


def check_leaning(leaning):
    kinds, content = odd_kinds(), random_logits(5)[0]
    for place in range(3):
        gains = []
        for a, b in itertools.product(range(len(kinds)), repeat=2):
            step = kinds[b] - kinds[a]
            if step[place] == 1 and abs(step).sum() == 1:
                gains += [content[b, other] - content[a, other] for other in range(len(kinds))]
        found = leaning(content, kinds, place)
        expected = sum(gains) / len(gains)
        assert math.isclose(found, expected, rel_tol=1e-9), (
            f"feature {place}: {found:.4g}, not {expected:.4g}"
        )


def check_corrected(corrected):
    kinds, content = odd_kinds(), random_logits(6)[0]
    before = content.copy()
    for leanings in ({}, {1: 0.4}, {0: -1.0, 2: 0.3}):
        found = corrected(content, kinds, leanings)
        for a, b in np.ndindex(content.shape):
            taken = sum(value * (kinds[a, j] - kinds[b, j]) for j, value in leanings.items())
            assert math.isclose(found[a, b], before[a, b] - taken, rel_tol=1e-9, abs_tol=1e-12), f"({a}, {b})"
    assert (content == before).all(), "what was given is not changed"


def check_preferred(preferred):
    for seed, principles in ((7, 1), (8, 2)):
        logits = random_logits(seed, 4, principles)
        found = preferred(logits)
        for a, b in np.ndindex(4, 4):
            chances = [
                (logistic(logits[p, a, b]) + 1 - logistic(logits[p, b, a])) / 2 for p in range(principles)
            ]
            assert math.isclose(found[a, b], sum(chances) / principles, rel_tol=1e-9), f"({a}, {b})"
    far = preferred(np.array([[[0.0, 2000.0], [-2000.0, 0.0]]]))
    assert np.allclose(far, [[0.5, 1.0], [0.0, 0.5]]), "no overflow where a judge is quite sure"


def pair_world(seed):
    """(better, groups, pairs, how a judge errs) of a judge that knows only which is better, and the group."""
    rng = np.random.default_rng(seed)
    worth = rng.permutation(8).astype(float)
    better = (worth[:, None] > worth).astype(float)
    groups = rng.integers(3, size=(8, 8))
    pairs = rng.random((8, 8)) * (1 - np.eye(8))
    rates = rng.uniform(0.6, 0.95, size=(3, 2))  # sensitivity, specificity
    shares = np.where(better == 1, rates[groups, 0], 1 - rates[groups, 1])
    return better, groups, pairs, shares


def check_rate_by_errors(rate_by_errors):
    """Exact if the judge errs alike in all pairs of a group, whatever the known pairs are."""
    for seed in range(4):
        better, groups, pairs, shares = pair_world(seed)
        known = np.random.default_rng(seed + 50).random((8, 8)) * (1 - np.eye(8))
        truth = (pairs * better).sum() / pairs.sum()
        found = rate_by_errors(shares, better, groups, pairs, known)
        assert math.isclose(found, truth, rel_tol=1e-9), f"expected {truth:.4g}, found {found:.4g}"
        only = pairs * (groups != 1)  # a group that is not judged needs no known pairs
        found = rate_by_errors(shares, better, groups, only, known * (groups != 1))
        assert math.isclose(found, (only * better).sum() / only.sum(), rel_tol=1e-9)


def check_length_controlled(length_controlled):
    """It finds theta of a logistic model; and else the likeliest one, by another solver."""
    rng = np.random.default_rng(9)
    longer = rng.integers(-3, 4, size=(6, 6)).astype(float)
    pairs = rng.random((6, 6))
    for theta, eta in ((0.4, 0.7), (-1.0, 0.0), (0.0, -0.5)):
        shares = 1 / (1 + np.exp(-theta - eta * longer))
        found = length_controlled(shares, longer, pairs)
        assert math.isclose(found, logistic(theta), rel_tol=1e-5), f"theta {theta}, eta {eta}: {found:.4g}"
    shares = rng.random((6, 6))
    found = length_controlled(shares, longer, pairs)

    def loss(line):
        forecast = 1 / (1 + np.exp(-line[0] - line[1] * longer))
        return -(pairs * (shares * np.log(forecast) + (1 - shares) * np.log(1 - forecast))).sum()

    best = optimize.minimize(loss, np.zeros(2)).x[0]
    assert abs(found - logistic(best)) < 1e-4, "not the likeliest logistic model of the weighted pairs"


def check_interval_over_prompts(interval_over_prompts):
    """Against means by loops, and Student's quantile by a table."""
    rng = np.random.default_rng(10)
    for num, quantile in ((2, 12.7062), (5, 2.7764), (11, 2.2281)):
        prompts = np.concatenate([np.arange(num), rng.integers(num, size=40)]) * 7
        values = rng.random(len(prompts))
        means = [np.mean([v for v, q in zip(values, prompts) if q == 7 * p]) for p in range(num)]
        centre = sum(means) / num
        spread = math.sqrt(sum((mean - centre) ** 2 for mean in means) / (num - 1))
        low, high = interval_over_prompts(values, prompts)
        assert math.isclose(low, centre - quantile * spread / math.sqrt(num), rel_tol=1e-4, abs_tol=1e-4)
        assert math.isclose(high, centre + quantile * spread / math.sqrt(num), rel_tol=1e-4, abs_tol=1e-4)
    low, high = interval_over_prompts(values, prompts, 0.5)
    assert math.isclose(high - low, 2 * 0.69981 * spread / math.sqrt(11), rel_tol=1e-4), "another level"


def check_fit_reward(fit_reward):
    """Labels that are chances give the weights behind them; others the likeliest, where no slope is left."""
    kinds, rng = odd_kinds(), np.random.default_rng(11)
    rows = rng.integers(len(kinds), size=(300, 2))
    behind = np.array([1.0, -0.5, 0.3])
    gaps = kinds[rows[:, 0]] - kinds[rows[:, 1]]
    found = np.asarray(fit_reward(kinds, rows, 1 / (1 + np.exp(-gaps @ behind))))
    assert np.allclose(found, behind, atol=1e-4), f"expected {behind}, found {found.round(3)}"
    labels = (rng.random(300) < 0.6).astype(float)
    found = np.asarray(fit_reward(kinds, rows, labels))
    slope = sum((y - logistic(gap @ found)) * gap for gap, y in zip(gaps, labels)) / 300
    assert np.allclose(slope, 0.0, atol=1e-6), "the likelihood has a slope there"


def check_gain(gain):
    """The policy by a fine search for beta, its reward by sums."""
    kinds, rng = odd_kinds(), np.random.default_rng(12)

    def at(scores, kl):
        def policy(scale):
            odds = [math.exp(scale * s) for s in scores]
            return [x / sum(odds) for x in odds]

        def away(scale):
            return sum(p * math.log(p * len(scores)) for p in policy(scale))

        low, high = 0.0, 60.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if away(middle) < kl else (low, middle)
        return policy(low)

    for kl in (0.2, 1.0):
        gold, reward = rng.normal(size=len(kinds)) + 3.0, rng.normal(size=3)
        worth = [sum(p * r for p, r in zip(at(s, kl), gold)) for s in (kinds @ reward, gold)]
        expected = (worth[0] - gold.mean()) / (worth[1] - gold.mean())
        found = gain(reward, kinds, gold, kl)
        assert math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6), f"{found:.4g}, not {expected:.4g}"


def check_revise(revise):
    kinds = odd_kinds()
    for seed in range(3):
        content = random_logits(20 + seed)[0]
        content = content - content.T
        found = revise(content, kinds)
        for a in range(len(kinds)):
            near = [b for b in range(len(kinds)) if abs(kinds[a] - kinds[b]).sum() <= 1]
            best = max(near, key=lambda b, a=a, content=content: content[b, a])
            assert found[a] == best, f"answer {a}: expected {best}, found {found[a]}"
    indifferent = revise(np.zeros((10, 10)), kinds)
    assert (indifferent == np.arange(10)).all(), "what is liked no better is no revision"
    rounding = revise(1e-13 * content, kinds)
    assert (rounding == np.arange(10)).all(), "rounding is no fault"


def check_labels_by(labels_by):
    """Shares of labels against the chances, with the same luck for all labellers."""
    logits, rng = random_logits(30, 3), np.random.default_rng(13)
    contents = {"one": logits[0] - logits[0].T, "two": np.zeros((3, 3))}
    rows = rng.integers(3, size=(40_000, 2))
    found = labels_by(logits, contents, rows, rng)
    assert set(found) == {"one", "two", "judge"}
    for name, labels in found.items():
        assert set(np.unique(labels)) <= {0.0, 1.0}
        for a, b in itertools.product(range(3), repeat=2):
            here = (rows[:, 0] == a) & (rows[:, 1] == b)
            if name == "judge":
                expected = np.mean([logistic(logits[p, a, b]) for p in range(2)])
            else:
                expected = logistic(contents[name][a, b])
            assert abs(labels[here].mean() - expected) < 0.035, f"{name}, pair ({a}, {b})"
    sure = labels_by(logits, {"low": np.zeros((3, 3)), "high": np.ones((3, 3))}, rows, rng)
    assert (sure["high"] >= sure["low"]).all(), (
        "one luck for all: who is surer of the first never says second"
    )


EDITS = {
    "sides_exchanged": Edit(
        function="constructed",
        old="scores[:, :, None] - scores[:, None, :]",
        new="scores[:, None, :] - scores[:, :, None]",
        says="takes the row's answer for the second one",
        fails=("corrected_exact",),
    ),
    "first_is_worse": Edit(
        function="constructed",
        old="+ position  # eq. (1)",
        new="- position  # eq. (1)",
        says="the first place counts against an answer",
        fails=("leanings_exact",),
    ),
    "no_prior": Edit(
        function="train_judge",
        old="ridge=1 / len(questions)",
        new="ridge=1e-9",
        says="no prior: a word read once may say anything",
    ),
    "heavy_prior": Edit(
        function="train_judge",
        old="ridge=1 / len(questions)",
        new="ridge=1.0",
        says="a prior worth as many comparisons as there are: all leanings shrink",
        fails=("judge_leans",),
    ),
    "verdicts_turned": Edit(
        function="train_judge",
        old="logistic_fit(inputs, first_won, even",
        new="logistic_fit(inputs, 1 - first_won, even",
        says="learns who lost",
        fails=("judge_leans",),
    ),
    "one_order": Edit(
        function="swap",
        old="((logits - other) / 2).sum(axis=0)",
        new="logits.sum(axis=0)",
        says="asks in one order only: the place counts as content",
        fails=("corrected_exact",),
    ),
    "signs_exchanged": Edit(
        function="swap",
        old="((logits - other) / 2).sum(axis=0), ((logits + other) / 2)",
        new="((logits + other) / 2).sum(axis=0), ((logits - other) / 2)",
        says="takes what changes its sign for the place's, and what does not for the answers'",
        fails=("leanings_exact", "corrected_exact", "judge_leans"),
    ),
    "not_halved": Edit(
        function="swap",
        old="((logits - other) / 2).sum(axis=0)",
        new="(logits - other).sum(axis=0)",
        says="the sum of both orders for their mean: everything counts twice",
        fails=("leanings_exact", "corrected_exact", "judge_leans"),
    ),
    "mean_of_principles": Edit(
        function="swap",
        old="((logits - other) / 2).sum(axis=0)",
        new="((logits - other) / 2).mean(axis=0)",
        says="the mean over principles for their sum: each is heard half",
        fails=("leanings_exact", "corrected_exact"),
    ),
    "position_added_up": Edit(
        function="swap",
        old="((logits + other) / 2).mean(axis=0)",
        new="((logits + other) / 2).sum(axis=0)",
        says="counts the place once for every principle",
        fails=("leanings_exact", "judge_leans"),
    ),
    "turned": Edit(
        function="leaning",
        old="content[rows[changed]] - content[row]",
        new="content[row] - content[rows[changed]]",
        says="what the edit loses, for what it gains",
        fails=("leanings_exact", "corrected_exact", "judge_leans"),
    ),
    "as_the_other": Edit(
        function="leaning",
        old="content[rows[changed]] - content[row]",
        new="content[:, rows[changed]] - content[:, row]",
        says="edits the other answer",
        fails=("leanings_exact", "corrected_exact"),
    ),
    "two_steps": Edit(
        function="leaning",
        old="tuple(kind + (np.arange(len(kind)) == feature))",
        new="tuple(kind + (np.arange(len(kind)) == feature) + (np.arange(len(kind)) == 0))",
        says="changes the first feature too: what it is worth counts as a leaning",
        fails=("leanings_exact", "corrected_exact"),
    ),
    "adds_the_leaning": Edit(
        function="corrected",
        old="content - value *",
        new="content + value *",
        says="adds the leaning once more instead of taking it off",
        fails=("corrected_exact", "correction_pays"),
    ),
    "one_side_only": Edit(
        function="corrected",
        old="(kinds[:, None, feature] - kinds[None, :, feature])",
        new="kinds[:, None, feature]",
        says="corrects the first answer only",
        fails=("corrected_exact",),
    ),
    "in_place": Edit(
        function="corrected",
        old="content = content - value * (",
        new="content -= value * (",
        says="writes over what it was given",
    ),
    "never_swapped": Edit(
        function="preferred",
        old="(chances + 1 - chances.transpose(0, 2, 1)) / 2",
        new="chances",
        says="the row's answer always first",
    ),
    "first_for_preferred": Edit(
        function="preferred",
        old="1 - chances.transpose(0, 2, 1)",
        new="chances.transpose(0, 2, 1)",
        says='takes "first" for a vote for the row\'s answer, wherever that stood',
    ),
    "log_odds_averaged": Edit(
        function="preferred",
        old="    chances = sigmoid(logits)\n",
        new="    chances = sigmoid(np.broadcast_to(logits.mean(axis=0), logits.shape))\n",
        says="averages log-odds, not chances, over principles",
    ),
    "one_group": Edit(
        function="rate_by_errors",
        old="        inside = groups == group\n",
        new="        inside = np.ones_like(pairs)\n",
        says="the same error rates for all pairs",
    ),
    "rates_exchanged": Edit(
        function="rate_by_errors",
        old="corrected_rate(observed, sensitivity, specificity)",
        new="corrected_rate(observed, specificity, sensitivity)",
        says="sensitivity and specificity exchanged",
    ),
    "wins_of_the_worse": Edit(
        function="rate_by_errors",
        old="win_rate(1 - shares,",
        new="win_rate(shares,",
        says="takes the wins of worse answers for their losses",
    ),
    "groups_alike": Edit(
        function="rate_by_errors",
        old="total += (pairs * inside).sum() *",
        new="total += pairs.sum() / len(np.unique(groups[pairs > 0])) *",
        says="all groups count alike, however many pairs they have",
    ),
    "observed_where_known": Edit(
        function="rate_by_errors",
        old="win_rate(shares, pairs * inside)",
        new="win_rate(shares, known * inside)",
        says="observes the pairs with gold labels instead of those to be judged",
    ),
    "length_kept": Edit(
        function="length_controlled",
        old="    return float(sigmoid(theta))",
        new="    return float((pairs * shares).sum() / pairs.sum())",
        says="the win rate as it is",
    ),
    "pairs_alike": Edit(
        function="length_controlled",
        old="shares.ravel(), pairs.ravel()",
        new="shares.ravel(), np.ones(pairs.size)",
        says="all pairs alike, however often they are written",
    ),
    "no_constant": Edit(
        function="length_controlled",
        old="np.ones(longer.size), longer.ravel()",
        new="1e-3 * np.ones(longer.size), longer.ravel()",
        says="leaves the model hardly a constant: nothing but length explains who wins",
    ),
    "pairs_as_prompts": Edit(
        function="interval_over_prompts",
        old="for prompt in np.unique(prompts)])",
        new="for prompt in prompts])",
        says="a prompt counts once for each of its pairs",
    ),
    "deviation_for_error": Edit(
        function="interval_over_prompts",
        old=" / np.sqrt(len(means))",
        new="",
        says="the spread of the prompts for the error of their mean",
    ),
    "n_for_divisor": Edit(
        function="interval_over_prompts",
        old="ddof=1",
        new="ddof=0",
        says="divides by N, not N - 1",
    ),
    "normal_quantile": Edit(
        function="interval_over_prompts",
        old="stats.t.ppf((1 + level) / 2, len(means) - 1)",
        new="stats.norm.ppf((1 + level) / 2)",
        says="the normal quantile: too narrow for few prompts",
    ),
    "one_sided": Edit(
        function="interval_over_prompts",
        old="(1 + level) / 2",
        new="level",
        says="a one-sided quantile on both sides",
    ),
    "rejected_preferred": Edit(
        function="fit_reward",
        old="kinds[rows[:, 0]] - kinds[rows[:, 1]]",
        new="kinds[rows[:, 1]] - kinds[rows[:, 0]]",
        says="rewards the answer that lost",
        fails=("correction_pays",),
    ),
    "sums_for_differences": Edit(
        function="fit_reward",
        old="kinds[rows[:, 0]] - kinds[rows[:, 1]]",
        new="kinds[rows[:, 0]] + kinds[rows[:, 1]]",
        says="adds the features of both answers up",
        fails=("correction_pays",),
    ),
    "gold_at_the_start_forgotten": Edit(
        function="gain",
        old="(found - gold.mean()) / (best - gold.mean())",
        new="found / best",
        says="forgets what the first policy is worth already",
    ),
    "not_at_equal_kl": Edit(
        function="gain",
        old="at_divergence(kinds @ reward, kl) @ gold",
        new="at_divergence(kinds @ reward, 2 * kl) @ gold",
        says="lets the policy go further than the best one that it is compared with",
    ),
    "worst_neighbour": Edit(
        function="revise",
        old="-np.inf).argmax(axis=0)",
        new="-np.inf).argmax(axis=1)",
        says="asks which answers the neighbours would be revised from",
    ),
    "any_answer": Edit(
        function="revise",
        old="np.where(steps <= 1, liked, -np.inf)",
        new="liked",
        says="revises into any answer at once",
    ),
    "must_change": Edit(
        function="revise",
        old="np.where(steps <= 1, liked, -np.inf)",
        new="np.where(steps == 1, liked, -np.inf)",
        says="always finds a fault",
    ),
    "ties_are_faults": Edit(
        function="revise",
        old="content - 1e-9 * steps",
        new="content",
        says="takes rounding for a fault",
    ),
    "luck_of_their_own": Edit(
        function="labels_by",
        old="(luck < sigmoid(log_odds[name]))",
        new="(rng.random(len(rows)) < sigmoid(log_odds[name]))",
        says="every labeller has a luck of its own: the comparison is noisier",
    ),
    "one_principle": Edit(
        function="labels_by",
        old="logits[rng.integers(len(logits), size=len(rows)), first, second]",
        new="logits[0, first, second]",
        says="the judge hears the first principle only",
    ),
    "always_the_likelier": Edit(
        function="labels_by",
        old="(luck < sigmoid(log_odds[name]))",
        new="(log_odds[name] > 0)",
        says="no draw: the likelier verdict, however close",
    ),
}
