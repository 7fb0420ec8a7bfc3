"""D8: a learner on one problem, wrong once edited; the world; the evidence on known cases."""

import types

import numpy as np
import pytest
import torch
from torch import nn

from chapters.course import ledger
from chapters.course.catalog import find
from chapters.D_rlhf import D8_process_rewards as lesson
from chapters.D_rlhf.checks.D8 import EDITS, random_tree
from chapters.D_rlhf.evidence import D8 as evidence
from chapters.envs import running_sums
from chapters.text import chains, tasks
from chapters.text.models import load_model
from chapters.text.recipes import running_sums_recipe
from chapters.text.tasks import Task
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


class ByPlace(nn.Module):
    """A policy that looks at nothing but the place: enough for one problem."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8, 14))

    def forward(self, input_ids, position_ids, **_):
        return types.SimpleNamespace(logits=self.table[position_ids], past_key_values=None)


def learn(module, kind, folder):
    """The chance of the right chain, and of the right answer, after some training on `3852=`."""
    digits = torch.tensor([[3, 8, 5, 2]])
    policy = chains.DigitsOnly(ByPlace())
    cfg = module.Config(num_prompts=4, group_size=16, num_updates=60)
    log = RunLog(folder, "D8")
    task, right = chains.chains_task(digits), chains.right_chains(digits)
    module.train(policy, task, right, kind, 0.2, cfg, log, "quick")
    log.close()
    probs = policy.model.table[4:7, 3:13].softmax(dim=1)
    chances = probs[torch.arange(3), right[0]]
    return chances.prod().item(), chances[-1].item()


def test_both_rewards_teach_the_answer_and_only_one_the_steps(tmp_path):
    chain, answer = learn(lesson, "process", tmp_path / "process")
    assert chain > 0.8
    chain, answer = learn(lesson, "outcome", tmp_path / "outcome")
    assert answer > 0.8
    assert chain < 0.3, "by place, an answer needs no steps: nothing asks for them"


@pytest.mark.parametrize("name", ["climbs_down", "own_step_only", "ids_for_digits", "wrong_steps_paid"])
def test_an_edited_learner_learns_less(name, tmp_path):
    kind = "process" if name != "own_step_only" else "outcome"
    assert not learn(edited(lesson, EDITS[name]), kind, tmp_path)[0] > 0.8


def test_the_world():
    problem = np.array([[3, 8, 5, 2]])
    assert running_sums.chains(problem).tolist() == [[1, 6, 8]]
    assert running_sums.prompt(problem[0]) == "3852="
    known, held_out = running_sums.problems(), running_sums.problems(held_out=True)
    assert (len(known), len(held_out)) == (8000, 2000)
    assert len(np.unique(np.concatenate([known, held_out]), axis=0)) == 10_000
    texts = running_sums.write_chains(np.random.default_rng(0), 3000)
    asked = {tuple(map(int, text[:4])) for text in texts}
    assert not asked & {tuple(row) for row in held_out.tolist()}
    for text in texts[:100]:
        digits = list(map(int, text[:4]))
        assert text[4] == "="
        assert [int(c) for c in text[5:]] == [sum(digits[: t + 2]) % 10 for t in range(3)]
    counts = np.bincount([int(text[0]) for text in texts], minlength=10)
    assert counts[1] / counts[0] == pytest.approx(running_sums.FREQUENCY, abs=0.08)


@pytest.fixture(scope="module")
def base():
    return chains.DigitsOnly(load_model("tiny", running_sums_recipe(5)).model)


def test_every_beginning_has_its_probability(base):
    """The tree against the log-probabilities of chains that were sampled."""
    digits = torch.from_numpy(running_sums.problems(held_out=True))[:3]
    probs = chains.next_digit_probs(base, digits)
    rows = torch.arange(3).repeat(20)
    batch = tasks.answer(base, chains.chains_task(digits), rows, torch.Generator().manual_seed(0))
    first, second, third = (batch["completion_ids"] - chains.FIRST_DIGIT).unbind(1)
    found = torch.stack(
        [probs[0][rows, first], probs[1][rows, first, second], probs[2][rows, first, second, third]], dim=1
    )
    with torch.no_grad():
        wanted = tasks.log_probs_of(base, batch).exp()
    assert torch.allclose(found.float(), wanted, atol=1e-5)
    assert torch.allclose(probs[2].sum(-1), torch.ones((), dtype=torch.float64))
    right = chains.right_chains(digits)
    assert batch["rewards"].tolist() == (third == right[rows, -1]).float().tolist()
    outcomes = chains.every_outcome(digits)
    assert outcomes.shape == (3, 10, 10, 10)
    assert torch.equal(outcomes.argmax(-1)[:, 4, 7], right[:, -1])
    assert (outcomes.sum(-1) == 1.0).all()


def test_a_step_model_reads_a_step_and_nothing_behind_it(base):
    torch.manual_seed(0)
    model = chains.StepModel(base).eval()
    asked = chains.prompt_ids(torch.tensor([[3, 8, 5, 2]]))
    one, other = torch.tensor([[4, 9, 11]]), torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        first, second = model(asked, one)[0], model(asked, other)[0]
    assert first.shape == (3,)
    assert torch.allclose(first[0], second[0], atol=1e-6), "a later step changed an earlier score"
    assert not torch.allclose(first[1], second[1], atol=1e-4), "the step itself was not read"


def test_all_chains_are_scored_as_the_model_scores_them_one_by_one(base):
    torch.manual_seed(1)
    model = chains.StepModel(base).eval()
    model.bias.data += 0.7
    digits = torch.tensor([[3, 8, 5, 2], [9, 0, 1, 4]])
    every = evidence.every_chain()
    steps = torch.stack(evidence.spread(evidence.score_all(model, digits)), dim=-1).flatten(1, -2)
    for asked, found in zip(chains.prompt_ids(digits), steps):
        with torch.no_grad():
            wanted = model(asked.expand(len(every), -1), every + chains.FIRST_DIGIT).sigmoid()
        assert torch.allclose(found.float(), wanted, atol=1e-5)


@pytest.mark.parametrize("slip", [0, 1], ids=["perfect", "lucky"])
def test_a_policy_is_seen_as_it_is(slip, tmp_path):
    asked = set()

    def policy(input_ids, past_key_values=None, **_):
        """Writes the right chain but for the first step: keeps what it has read in place of a cache."""
        if past_key_values is None:
            asked.update(map(tuple, (input_ids[:, :4] - chains.FIRST_DIGIT).tolist()))
        read = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)
        t = read.shape[1] - 5  # steps written so far
        digits = read[:, :4] - chains.FIRST_DIGIT
        sums = digits[:, : t + 2].sum(1) + slip * (t == 0)
        logits = torch.full((*input_ids.shape, 14), -1e9)
        logits[torch.arange(len(read)), -1, chains.FIRST_DIGIT + sums % 10] = 0.0
        return types.SimpleNamespace(logits=logits, past_key_values=read)

    log = RunLog(tmp_path, "D8")
    watch = chains.watcher("seen", 25, 0, log)
    for step in (7, 20, 25):
        watch(policy, step)
    assert log.series("seen_answers") == ([20, 25], [1.0, 1.0])
    assert log.last("seen_chains") == 1.0 - slip
    assert asked == {tuple(row) for row in running_sums.problems(held_out=True).tolist()}
    log.close()


def test_gradients_and_noise_are_those_of_all_chains_one_by_one():
    probs, outcomes = random_tree(3, 1, 3, 2)
    values = lesson.prefix_values(probs, outcomes)
    found = evidence.gradients(probs, values)
    logits = [prob.log().requires_grad_() for prob in probs]
    logs = [logit.log_softmax(-1) for logit in logits]
    before = {(): float(values[0])} | {(a,): float(values[1][0, a]) for a in range(3)}
    expected = dict.fromkeys(evidence.NOISY, 0.0)
    squares = dict.fromkeys(evidence.NOISY, 0.0)
    for a in range(3):
        for b in range(3):
            r, v0, v1 = float(outcomes[0, a, b]), before[()], before[(a,)]
            chance = float(probs[0][0, a] * probs[1][0, a, b])
            weights = {"outcome": (r, r), "baseline": (r - v0, r - v1), "instalments": (v1 - v0, r - v1)}
            for name, (first, second) in weights.items():
                score = first * logs[0][0, a] + second * logs[1][0, a, b]
                slope = evidence.flat(torch.autograd.grad(score, logits, retain_graph=True))
                expected[name] = expected[name] + chance * slope
                squares[name] += chance * float(slope.pow(2).sum())
    exact = found["exact"][0]
    for name in evidence.NOISY:
        mean, noise = found[name]
        assert torch.allclose(mean, expected[name])
        assert torch.allclose(mean, exact)
        assert noise == pytest.approx((squares[name] - float(mean.pow(2).sum())) ** 0.5)


def test_lucky_answers():
    metrics = {"process_answers": [[0, 9.0], [5, 0.5]], "process_chains": [[5, 0.2]]}
    assert evidence.lucky({"metrics": metrics}, "process") == pytest.approx(0.6)


def test_step_sizes_are_tried_with_the_reward_they_are_for(tmp_path, monkeypatch):
    """Each reward gets half and double the lesson's own step size, which is not trained anew."""
    asked = []

    def train(policy, task, right, kind, rate, cfg, log, name, watch):
        asked.append((kind, name, rate))
        log.write(cfg.num_updates, **{f"{name}_answers": rate, f"{name}_chains": 0.0})

    monkeypatch.setattr(lesson, "train", train)
    cfg, log = lesson.Config(outcome_rate=1e-3, process_rate=4e-3), RunLog(tmp_path, "D8")
    log.keep(base=nn.Linear(1, 1), task=None, right=None)
    for kind in lesson.KINDS:
        log.write(cfg.num_updates, **{f"{kind}_answers": 0.9, f"{kind}_chains": 0.8})
    evidence.tune(cfg, log)
    assert asked == [
        ("outcome", "outcome_0", 5e-4),
        ("outcome", "outcome_2", 2e-3),
        ("process", "process_0", 2e-3),
        ("process", "process_2", 8e-3),
    ]
    assert (log.last("process_1_answers"), log.last("process_1_chains")) == (0.9, 0.8)
    assert [log.last(f"process_{i}_rate") for i in range(3)] == [2e-3, 4e-3, 8e-3]
    log.close()


class KnowsSteps(nn.Module):
    """A model of steps that is sure of each: right or wrong."""

    bias = torch.zeros(())

    def model(self, input_ids, **_):
        """At each place: which digit is right there."""
        digits = input_ids[:, :4] - chains.FIRST_DIGIT
        right = chains.right_chains(digits) + chains.FIRST_DIGIT  # [B, 3]
        logits = torch.full((*input_ids.shape, 14), -50.0)
        logits[:, 4:] = logits[:, 4:].scatter(2, right[:, : input_ids.shape[1] - 4, None], 50.0)
        return types.SimpleNamespace(logits=logits)

    def forward(self, asked, written):
        digits = asked[:, :4] - chains.FIRST_DIGIT
        right = chains.right_chains(digits) + chains.FIRST_DIGIT
        return torch.where(written == right, 50.0, -50.0)


def test_the_best_of_n_with_models_that_know(base, tmp_path, monkeypatch):
    """A right answer is missed only if none is among n; by its weakest step, a whole chain."""
    digits = torch.from_numpy(running_sums.problems(held_out=True))[5:7]
    probs = chains.next_digit_probs(base, digits)
    values = lesson.prefix_values(probs, chains.every_outcome(digits))
    monkeypatch.setattr(evidence, "verifiers", lambda *_: dict.fromkeys(lesson.KINDS, KnowsSteps()))
    log = RunLog(tmp_path, "D8")
    log.keep(base=base, digits=digits, values=values)
    evidence.choose(lesson.Config(), evidence.Config(), log)
    a, b, c = chains.right_chains(digits).unbind(1)
    rows = torch.arange(2)
    whole = probs[0][rows, a] * probs[1][rows, a, b] * probs[2][rows, a, b, c]
    for i, n in enumerate(evidence.SIZES):
        answers = (1.0 - (1.0 - values[0]) ** n).mean().item()
        for name in ("outcome", "process"):
            assert log.series(f"{name}_answers_of_n")[1][i] == pytest.approx(answers)
        found = log.series("weakest_chains_of_n")[1][i]
        assert found == pytest.approx((1.0 - (1.0 - whole) ** n).mean().item())
    assert log.last("outcome_rise") == pytest.approx(answers - values[0].mean().item())
    (claim,) = (claim for claim in log.claims if claim.name == "below_perfect")
    assert claim.holds
    log.close()


def test_a_choice_beyond_what_can_be_known_is_noticed(base, tmp_path, monkeypatch):
    """Only where the process model's last step chooses among 4 chains: always a right answer."""
    digits = torch.from_numpy(running_sums.problems(held_out=True))[5:7]
    outcomes = chains.every_outcome(digits)
    values = lesson.prefix_values(chains.next_digit_probs(base, digits), outcomes)
    right, best_of_n, asked = outcomes.flatten(1), evidence.distillation.best_of_n, []

    def choose(log_probs, score, n):
        asked.append(n)
        sure = n == 4 and asked.count(n) == 2
        return (right / right.sum(dim=1, keepdim=True)).log() if sure else best_of_n(log_probs, score, n)

    monkeypatch.setattr(evidence.distillation, "best_of_n", choose)
    monkeypatch.setattr(evidence, "verifiers", lambda *_: dict.fromkeys(lesson.KINDS, KnowsSteps()))
    log = RunLog(tmp_path, "D8")
    log.keep(base=base, digits=digits, values=values)
    evidence.choose(lesson.Config(), evidence.Config(), log)
    log.close()
    (claim,) = (claim for claim in log.claims if claim.name == "below_perfect")
    assert claim.value == pytest.approx(((1.0 - values[0]) ** 4).mean().item())


def test_how_much_of_the_values_is_explained(tmp_path):
    """All by the values themselves; by others, as much as a loop over all beginnings finds."""
    probs, outcomes = random_tree(4, 2, 10, 3)
    values = lesson.prefix_values(probs, outcomes)
    steps = values[1:]
    guess = [0.8 * value + 0.05 for value in steps]
    rows = []  # (chance, value) of each beginning
    for n, a in np.ndindex(2, 10):
        chance = float(probs[0][n, a])
        rows.append((chance, float(values[1][n, a])))
        rows += [(chance * float(probs[1][n, a, b]), float(values[2][n, a, b])) for b in range(10)]
    weights, exact = np.array(rows).T
    middle = np.average(exact, weights=weights)
    missed = np.average((0.8 * exact + 0.05 - exact) ** 2, weights=weights)
    wanted = 1.0 - missed / np.average((exact - middle) ** 2, weights=weights)
    for number, (scores, explained) in enumerate(((steps, 1.0), (guess, wanted))):
        log = RunLog(tmp_path / str(number), "D8")
        evidence.claim_scores(scores, probs, values, log)
        assert log.last("explained") == pytest.approx(explained)
        log.close()


def test_both_verifiers_cost_equally_many_completions(base, tmp_path, monkeypatch):
    digits = torch.from_numpy(running_sums.problems())[:50]
    task = chains.chains_task(digits)
    found = {}

    def fit(base, *data):
        found[data[-1]] = data[:4]
        return base

    def try_steps(*given):
        tried.append(try_all(*given))
        return tried[-1]

    tried, try_all = [], chains.try_steps
    monkeypatch.setattr(evidence, "fit", fit)
    monkeypatch.setattr(evidence.chains, "try_steps", try_steps)
    log = RunLog(tmp_path, "D8")
    log.keep(base=base, task=task)
    evidence.verifiers(lesson.Config(), evidence.Config(num_labelled=8, num_tries=4), log)
    assert {name: len(written) for name, (_, written, _, _) in found.items()} == {
        "outcome": 8 * (1 + 2 * 4),
        "process": 8,
    }
    for name, (asked, written, labels, mask) in found.items():
        answers = (KnowsSteps()(asked, written)[:, -1] > 0).float()
        assert torch.equal(labels[:, -1], answers), "the last step's label is the outcome of that chain"
        assert (mask[:, -1] == 1.0).all()
        assert (mask[:, :-1] == float(name == "process")).all(), "an outcome is told at the end alone"
    assert torch.equal(found["process"][2], tried[0][1].mean(dim=2)), "soft labels: the share that came right"
    log.close()


def test_a_step_model_is_fitted_to_its_labels(base, tmp_path):
    """Labels that can be read off the step: 1 for small digits."""
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(10, (64, 4), generator=generator)
    written = torch.randint(10, (64, 3), generator=generator) + chains.FIRST_DIGIT
    labels, mask = (written < chains.FIRST_DIGIT + 5).float(), torch.ones(64, 3)
    log = RunLog(tmp_path, "D8")
    asked = chains.prompt_ids(digits)
    extra = evidence.Config(num_fits=25, fit_rate=1e-2)
    model = evidence.fit(base, asked, written, labels, mask, lesson.Config(), extra, log, "quick")
    with torch.no_grad():
        assert lesson.label_loss(model(asked, written), labels, mask) < 0.4
    log.close()


def test_labels_are_as_they_are_on_average():
    values = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
    assert evidence.labels_gap(values) < 1e-12
    right = lesson.hard_mean
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesson, "hard_mean", lambda values, num: right(values, num) + 0.1)
        assert evidence.labels_gap(values) > 0.05


class Copier:
    """A policy that goes on with the token after the last, always: what it writes shows what it was given."""

    def __call__(self, input_ids, past_key_values=None, **_):
        logits = torch.full((*input_ids.shape, 20), -1e9)
        return type(
            "Out", (), {"logits": logits.scatter(2, (input_ids + 1)[..., None], 0.0), "past_key_values": None}
        )


def counts_up(try_steps):
    """With a policy that counts up, and one that flips coins: what is kept, tried and scored."""
    prompt_ids = torch.tensor([[5, 3], [5, 6], [5, 9]])
    seen = []

    def score(rows, completion_ids):
        seen.append((rows.clone(), completion_ids.clone()))
        return (completion_ids[:, -1] == prompt_ids[rows, -1] + 3).float()

    task = Task(prompt_ids, torch.ones_like(prompt_ids), 0, 0, 3, score)
    rows = torch.tensor([2, 0, 0, 1])
    ids, outcomes = try_steps(Copier(), task, rows, 2, torch.Generator().manual_seed(0))
    expected = prompt_ids[rows, -1:] + torch.arange(1, 4)
    assert torch.equal(ids, expected), "the chains are the policy's own, one for each problem asked"
    assert outcomes.shape == (4, 3, 2), "an outcome for each continuation of each beginning of each chain"
    assert (outcomes == 1.0).all(), "a continuation goes on from the problem and the steps that were kept"
    for given, completion_ids in seen:
        assert completion_ids.shape[1] == 3, "what is scored is a whole chain, kept steps and all"
        assert torch.equal(completion_ids, prompt_ids[given, -1:] + torch.arange(1, 4)), (
            "kept steps and continuations belong to the same problem"
        )
    coin_flips(try_steps)


def coin_flips(try_steps):
    """A fair coin at each of two steps: right if it shows heads twice."""

    def policy(input_ids, **_):
        logits = torch.full((*input_ids.shape, 3), -torch.inf)
        logits[..., 1:] = 0.0
        return type("Out", (), {"logits": logits, "past_key_values": None})

    def score(rows, completion_ids):
        return (completion_ids == 1).all(dim=1).float()

    asked = torch.ones(1, 1, dtype=torch.long)
    task = Task(asked, asked, 0, 0, 2, score)
    rows = torch.zeros(400, dtype=torch.long)
    ids, outcomes = try_steps(policy, task, rows, 8, torch.Generator().manual_seed(1))
    heads = ids[:, 0] == 1
    assert (outcomes[~heads] == 0.0).all(), "after tails nothing can be right: the steps so far are kept"
    assert abs(outcomes[heads, 0].mean() - 0.5) < 0.06, "after heads, every second continuation is right"
    assert outcomes[heads, 0].std(dim=1).mean() > 0.3, "continuations are drawn one by one"
    final = (ids == 1).all(dim=1).float()[:, None].expand(-1, 8)
    assert torch.equal(outcomes[:, 1], final), "after the last step its outcome stands"


MISTAKES = {
    "a step is judged by continuations that do not begin with it": (
        "kept = ids[:, :t].repeat_interleave",
        "kept = ids[:, : t - 1].repeat_interleave",
    ),
    "steps of one problem under the prompt of another": (
        "many = rows.repeat_interleave(num_tries)",
        "many = rows.repeat(num_tries)",
    ),
    "the chain itself is scored, again and again": (
        "torch.cat([kept, rest], dim=1)",
        "ids.repeat_interleave(num_tries, dim=0)",
    ),
}


def test_what_is_tried_begins_with_the_steps_that_were_kept():
    counts_up(chains.try_steps)


@pytest.mark.parametrize("says", list(MISTAKES))
def test_that_test_notices(says):
    old, new = MISTAKES[says]
    wrong = edited(chains, Edit("try_steps", old, new, says))
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        counts_up(wrong.try_steps)


def test_the_texts_say_what_was_recorded():
    """Which reward leads, whose step size is whose, and which reading of a reward model may choose."""
    found = [run["metrics"] for run in ledger.load(find("D8"))["runs"]]
    assert len(found) == 5
    for metrics in found:
        for what in ("answers", "chains"):
            assert metrics[f"process_{what}"] > metrics[f"outcome_{what}"]
    rises = {name: [metrics[f"{name}_rise"] for metrics in found] for name in evidence.VERIFIERS}
    for weakest, *last_steps in zip(rises["weakest"], rises["outcome"], rises["process"]):
        assert max(last_steps) < 0.0, "of 64 chains the last step chooses worse than a draw"
        assert weakest > max(last_steps)
    assert np.median(rises["weakest"]) < 0.0, "as a rule"
    for kind in lesson.KINDS:
        ends = [found[0][f"{kind}_{i}_answers"] for i in range(len(evidence.FACTORS))]
        assert int(np.argmax(ends)) == evidence.FACTORS.index(1.0)
        assert found[0][f"{kind}_1_rate"] == getattr(lesson.Config(), f"{kind}_rate")
    assert lesson.Config().process_rate == 4 * lesson.Config().outcome_rate


# What its claims measure


def test_what_is_trained_on_and_what_is_measured(base, tmp_path, monkeypatch):
    """`main` trains on no held-out problem, enumerates nothing else, and claims what its watchers saw."""
    seen = {"outcome": (0.3, 0.2, 0.5, 0.35), "process": (0.3, 0.2, 0.6, 0.54)}  # answers, chains; then, too
    trained, watched = [], []

    def watcher(name, num_updates, seed, log):
        def watch(policy, step):
            watched.append((name, step, policy is given[0]))
            before = step == 0
            answers, chain = seen[name][:2] if before else seen[name][2:]
            log.write(step, **{f"{name}_answers": answers, f"{name}_chains": chain})

        return watch

    def train(policy, task, right, kind, rate, cfg, log, name, watch):
        trained.append((policy, task.prompt_ids, right, kind, rate))
        watch(policy, cfg.num_updates)

    given = []
    monkeypatch.setattr(lesson, "running_sums_recipe", lambda num_steps: num_steps)
    monkeypatch.setattr(lesson, "load_model", lambda name, recipe: types.SimpleNamespace(model=base.model))
    monkeypatch.setattr(lesson.chains, "DigitsOnly", lambda model: given.append(base) or base)
    monkeypatch.setattr(lesson.chains, "watcher", watcher)
    monkeypatch.setattr(lesson, "train", train)
    monkeypatch.setattr(lesson, "draw", lambda log: None)
    log = RunLog(tmp_path, "D8")
    cfg = lesson.Config(num_exact=3, num_updates=7, outcome_rate=0.1, process_rate=0.2)
    lesson.main(cfg, log)
    log.close()
    held_out = {tuple(row) for row in running_sums.problems(held_out=True).tolist()}
    assert {tuple(row) for row in log.kept["digits"].tolist()} <= held_out
    assert len(log.kept["digits"]) == 3
    for policy, prompts, right, _, _ in trained:
        digits = prompts[:, :4] - chains.FIRST_DIGIT
        assert len(digits) == 8000
        assert not held_out & {tuple(row) for row in digits.tolist()}
        assert torch.equal(right, chains.right_chains(digits))
        assert policy is not base, "each reward begins with a copy of its own"
    assert [row[3:] for row in trained] == [("outcome", 0.1), ("process", 0.2)]
    assert watched == [(kind, step, step == 0) for kind in lesson.KINDS for step in (0, 7)]
    for found, wanted in zip(log.kept["values"], lesson.prefix_values(*tree(base, log.kept["digits"]))):
        assert torch.allclose(found, wanted)
    values = {claim.name: claim.value for claim in log.claims}
    assert values["both_learn"] == pytest.approx(0.2 / (0.5 / 2000**0.5))
    assert values["fewer_lucky"] == pytest.approx(0.54 / 0.6 - 0.35 / 0.5)


def tree(base, digits):
    return chains.next_digit_probs(base, digits), chains.every_outcome(digits)


def test_a_learner_is_watched_after_each_update_and_its_steps_grow_smaller(tmp_path, monkeypatch):
    rates, watched = [], []

    class Watched(lesson.Adam):
        def step(self):
            rates.append(self.lr)
            super().step()

    monkeypatch.setattr(lesson, "Adam", Watched)
    digits, policy = torch.tensor([[3, 8, 5, 2]]), chains.DigitsOnly(ByPlace())
    log = RunLog(tmp_path, "D8")
    cfg = lesson.Config(num_prompts=2, group_size=2, num_updates=4)
    task, right = chains.chains_task(digits), chains.right_chains(digits)
    watch = lambda policy, step: watched.append(step)  # noqa: E731
    lesson.train(policy, task, right, "process", 0.2, cfg, log, "quick", watch)
    log.close()
    assert watched == [1, 2, 3, 4]
    assert rates == [0.2 * lesson.grpo.schedule(i, 4) for i in range(4)]


@pytest.mark.parametrize("wrong", [None, "summed", "sum_of_differences"])
def test_regret_and_padding_are_those_of_the_best_texts(wrong, tmp_path, monkeypatch):
    """Of four problems of three digits a step: what differs is the largest, what is padded the fewest."""
    values = lesson.prefix_values(*random_tree(7, 4, 3, 3))
    reachable = torch.tensor([1.0, 1.0, 0.0, 0.0])  # two problems cannot end well
    values = [value * reachable.view(4, *[1] * (value.dim() - 1)) for value in values]
    if wrong:
        monkeypatch.setattr(lesson, "token_reward", edited(lesson, EDITS[wrong]).token_reward)
    log = RunLog(tmp_path, "D8")
    lesson.claim_exact(values, log)
    log.close()
    rewards = {
        "outcome": lambda before, after, outcome, ended: outcome - 0.01,
        "differences": lambda before, after, outcome, ended: lesson.token_reward(
            before, after, outcome, ended, "differences", 0.01
        ),
        "sum": lambda before, after, outcome, ended: lesson.token_reward(
            before, after, outcome, ended, "sum", 0.01
        ),
    }
    true = {}
    for place, longest in enumerate(range(3, 9)):
        for kind, reward in rewards.items():
            _, outcome, length = lesson.padding.best_text(values, longest, reward)
            true[kind] = outcome - 0.01 * length
            assert log.series(f"padding_{kind}")[0][place] == longest
            assert log.series(f"padding_{kind}")[1][place] == pytest.approx((length - 3).mean().item())
            assert log.series(f"true_{kind}")[1][place] == pytest.approx(true[kind].mean().item())
    found = {claim.name: claim.value for claim in log.claims}
    gaps = true["outcome"] - true["differences"]
    assert found["shaping_regret"] == pytest.approx(gaps.max().item(), abs=1e-12)
    assert found["sum_padding"] == pytest.approx((length - 3).min().item() / 5)
    if wrong == "summed":
        assert found["shaping_regret"] > 0.01 > gaps.min(), "not of every problem"
    if wrong == "sum_of_differences":
        assert found["sum_padding"] < 1.0


def test_gradients_are_compared_with_that_of_the_value(base, tmp_path, monkeypatch):
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    known = {"outcome": (exact, 40.0), "baseline": (exact * 0.9, 20.0), "instalments": (exact, 15.0)}
    asked = []
    monkeypatch.setattr(
        evidence, "gradients", lambda *given: asked.append(given) or known | {"exact": (exact, 0.0)}
    )
    log = RunLog(tmp_path, "D8")
    digits = torch.from_numpy(running_sums.problems(held_out=True))[:4]
    log.keep(base=base, digits=digits)
    evidence.claim_gradients(evidence.Config(num_gradients=3), log)
    log.close()
    probs, outcomes = tree(base, digits[:3])
    for found, wanted in zip(asked[0][0] + asked[0][1], probs + lesson.prefix_values(probs, outcomes)):
        assert torch.allclose(found, wanted)
    values = {claim.name: claim.value for claim in log.claims}
    assert values == {"same_gradient": pytest.approx(0.1), "less_noise": pytest.approx(0.75)}
    assert [log.last(f"noise_{name}") for name in evidence.NOISY] == [8.0, 4.0, 3.0]


def test_sampled_labels_are_held_against_the_values_of_their_own_beginnings(tmp_path, monkeypatch):
    values = lesson.prefix_values(*random_tree(5, 2, 10, 3))
    ids = torch.tensor([[1, 2, 3], [4, 5, 6], [9, 0, 1], [2, 2, 2]]).repeat(2, 1)
    generator = torch.Generator().manual_seed(3)
    outcomes = (torch.rand(8, 3, 5, generator=generator) < 0.4).float()
    asked = []

    def try_steps(base, task, rows, num_tries, generator):
        asked.append((rows, num_tries))
        return ids + chains.FIRST_DIGIT, outcomes

    monkeypatch.setattr(evidence.chains, "try_steps", try_steps)
    log = RunLog(tmp_path, "D8")
    log.keep(base=None, digits=torch.tensor([[3, 8, 5, 2], [1, 1, 1, 1]]), values=values)
    evidence.claim_labels(lesson.Config(), evidence.Config(num_tries=5), log)
    log.close()
    rows, num_tries = asked[0]
    assert (rows.tolist(), num_tries) == ([0, 0, 0, 0, 1, 1, 1, 1], 5)
    exact = [
        [values[1][row, first].item(), values[2][row, first, second].item()]
        for row, (first, second, _) in zip(rows, ids.tolist())
    ]
    exact, soft = np.array(exact), outcomes[:, :2].double().mean(dim=2).numpy()
    found = {claim.name: claim.value for claim in log.claims}
    spread = (exact * (1 - exact) / 5).sum() ** 0.5
    assert found["sampled_labels"] == pytest.approx((soft - exact).sum() / spread)
    assert found["labels_gap"] < 1e-12
    hard = outcomes[:, :2].amax(dim=2).mean().item()
    means = [log.last(f"mean_{name}") for name in ("value", "soft", "hard")]
    assert means == pytest.approx([exact.mean(), soft.mean(), hard])
