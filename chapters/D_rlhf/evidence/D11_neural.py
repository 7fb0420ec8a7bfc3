"""D11's judge as a small language model, and a small writer that learns from its labels by D4's DPO.

Both are GPT-2s, made anew on each seed. The judge has read comparisons, each closed by its verdict:
principle, request, two answers, and "first" or "second" as one more word. The writer has read answers of
every kind.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.D_rlhf import D4_direct_preference_optimization as dpo
from chapters.D_rlhf import D11_ai_feedback as lesson
from chapters.envs import shop
from chapters.envs.shop import FEATURES, PRINCIPLES, REQUESTS, Habits
from chapters.exact.judges import sigmoid
from chapters.text.charts import LABELLERS
from chapters.text.generation import positions, token_log_probs
from chapters.text.models import LoadedModel, Recipe, make_model, make_tokenizer, train
from chapters.text.preferences import step_size
from chapters.text.verdicts import verdict_logits
from chapters.utils import RunLog, plotting
from chapters.utils.optim import Adam

Write = Callable[[np.random.Generator, int], list[str]]
BATCH, COMPARISONS, JUDGE_RATE = 64, 256, 5e-3
"""Pairs in a step of the writer, comparisons in one of the judge, and the judge's largest step size."""
PADDING, OWN = lesson.FREE


def unread(write: Write, num_steps: int, seed: int) -> tuple[LoadedModel, Recipe]:
    """A GPT-2 of 28,000 parameters that knows the shop's words and has read nothing yet.

    Its first weights are five times GPT-2's, which suit a model 24 times as wide: with those, attention
    starts out so even that the verdict hangs on nothing for hundreds of steps.
    """
    words = shop.vocabulary()
    recipe = Recipe("shop", words, write, num_steps=num_steps, width=32, context=40, seed=seed)
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe, len(tokenizer))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(5.0)
    return LoadedModel(model.eval(), tokenizer), recipe


def make_writer(num_steps: int, most: int, seed: int) -> LoadedModel:
    """A model that has read batches of fresh answers, word by word."""
    writer, recipe = unread(functools.partial(shop.write_answers, most=most), num_steps, seed)
    train(writer.model, writer.tokenizer, recipe)
    return writer


def make_judge(habits: Habits, num_steps: int, seed: int) -> LoadedModel:
    """A model that has read batches of fresh comparisons, and learnt which word comes last."""
    judge, _ = unread(functools.partial(shop.write_verdicts, habits=habits), num_steps, seed)
    optimizer = Adam(judge.model.parameters(), lr=JUDGE_RATE)
    rng = np.random.default_rng([seed, 6])
    for step in range(num_steps):
        batch = judge.tokenizer(
            shop.write_verdicts(rng, COMPARISONS, habits), return_tensors="pt", padding=True
        )
        ids, mask = batch["input_ids"][:, :-1], batch["attention_mask"][:, :-1]  # padded on the left
        out = judge.model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), logits_to_keep=1)
        loss = nn.functional.cross_entropy(out.logits[:, -1], batch["input_ids"][:, -1])
        optimizer.lr = JUDGE_RATE * step_size(step, num_steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.model.parameters(), 1.0)
        optimizer.step()
    return judge


def texts_of(tokenizer: Any, kinds: lesson.Kinds) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((ids, mask) [N, P] of all requests, (ids, mask) [M, T] of all kinds of answers, each with its end)."""
    asked = tokenizer([f"{request} ." for request in REQUESTS], return_tensors="pt")
    closed = [f"{shop.reply(kind)} {tokenizer.eos_token}" for kind in kinds]
    answers = tokenizer(closed, return_tensors="pt", padding=True, padding_side="right")
    found = [(batch["input_ids"], batch["attention_mask"]) for batch in (asked, answers)]
    return found[0], (found[1][0], found[1][1].bool())


@torch.no_grad()
def chances(policy: nn.Module, tokenizer: Any, kinds: lesson.Kinds) -> Float[np.ndarray, "N M"]:
    """How likely a policy is to write each kind of answer to each request, exactly."""
    asked, answers = texts_of(tokenizer, kinds)
    prompts = (part.repeat_interleave(len(kinds), dim=0) for part in asked)
    completions = (part.repeat(len(REQUESTS), 1) for part in answers)
    log_probs = token_log_probs(policy, *prompts, *completions).double().sum(dim=1)
    return log_probs.exp().reshape(len(REQUESTS), len(kinds)).numpy()


def writer_pairs(
    writer: LoadedModel, kinds: lesson.Kinds, num: int, rng: np.random.Generator
) -> tuple[dpo.Pairs, Int[np.ndarray, " B"], Int[np.ndarray, "B 2"]]:
    """(pairs for D4 with the writer as reference, their requests, the kinds of both answers).

    The writer is drawn from until what it says is an answer of some kind: of others nobody has a rule.
    """
    probs = chances(writer.model, writer.tokenizer, kinds)
    upto = (probs / probs.sum(axis=1, keepdims=True)).cumsum(axis=1)[:, :-1]  # [N, M - 1]
    prompts = rng.integers(len(REQUESTS), size=num)
    rows = (rng.random((num, 2, 1)) > upto[prompts][:, None]).sum(axis=2)  # [B, 2]
    asked, answers = texts_of(writer.tokenizer, kinds)
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    parts = [part[prompts] for part in asked] + [part[rows] for part in answers]
    return dpo.add_reference(dict(zip(names, parts)), writer.model), prompts, rows


def ask_pairs(
    judge: lesson.Judge, kinds: lesson.Kinds, prompts: Int[np.ndarray, " B"], rows: Int[np.ndarray, "B 2"]
) -> Float[np.ndarray, "P 2 B"]:
    """Log-odds of "first" under each principle, of each pair as it is and in the other order."""
    texts = [shop.reply(kind) for kind in kinds]
    found = []
    for principle in PRINCIPLES:
        for order in (rows, rows[:, ::-1]):
            asked = [
                shop.question(principle, REQUESTS[prompt], texts[first], texts[second])
                for prompt, (first, second) in zip(prompts, order)
            ]
            found.append(judge(asked))
    return np.array(found).reshape(len(PRINCIPLES), 2, len(rows))


def label_pairs(
    said: Float[np.ndarray, "P 2 B"],
    apart: Float[np.ndarray, "B F"],
    gold_apart: Float[np.ndarray, " B"],
    leanings: dict[int, float],
    rng: np.random.Generator,
) -> dict[str, Float[np.ndarray, " B"]]:
    """One drawn label on each pair: 1 if its first answer is preferred, by each of `LABELLERS`.

    said: what `ask_pairs` found. apart, gold_apart: features and gold worth, the first answer's minus the
    second's. leanings: what `lesson.leaning` found.
    """
    as_they_stand, turned = said[:, 0], said[:, 1]
    swapped = ((as_they_stand - turned) / 2).sum(axis=0)  # the lesson's eq. (3), pair by pair
    corrected = swapped - sum(value * apart[:, j] for j, value in leanings.items())  # eq. (5)
    principles = rng.integers(len(said), size=len(apart))
    log_odds = {"people": gold_apart, "corrected": corrected, "swapped": swapped}
    log_odds["judge"] = as_they_stand[principles, np.arange(len(apart))]
    luck = rng.random(len(apart))
    return {name: (luck < sigmoid(values)).astype(np.float64) for name, values in log_odds.items()}


def learn(
    writer: LoadedModel, pairs: dpo.Pairs, labels: Float[np.ndarray, " B"], cfg: dpo.Config
) -> nn.Module:
    """The writer after passes over the pairs with these labels."""
    policy = copy.deepcopy(writer.model)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    batches = torch.arange(len(labels)).split(BATCH)
    pairs = {**pairs, "labels": torch.from_numpy(labels).float()}
    num_steps = cfg.num_epochs * len(batches)
    for step in range(num_steps):
        optimizer.lr = cfg.learning_rate * (1 - step / num_steps)
        rows = batches[step % len(batches)]
        dpo.update(policy, optimizer, {name: values[rows] for name, values in pairs.items()}, cfg)
    return policy


def most_gained(before: Float[np.ndarray, "N M"], gold: Float[np.ndarray, " M"], kl: float) -> float:
    """The largest mean gold worth within a mean divergence of `kl` nats from `before`, by bisection.

    It belongs to a policy in proportion to before e^(gold / beta), with one beta for all requests.
    """
    low, high = -15.0, 15.0  # log of 1 / beta
    for _ in range(60):
        middle = (low + high) / 2
        odds = before * np.exp((gold - gold.max()) * np.exp(middle))
        probs = odds / odds.sum(axis=1, keepdims=True)
        low, high = (middle, high) if divergence(probs, before) < kl else (low, middle)
    return float((probs @ gold).mean())


def divergence(probs: Float[np.ndarray, "N M"], before: Float[np.ndarray, "N M"]) -> float:
    """KL of `probs` from `before` in nats, the mean over requests; what is never written counts nothing."""
    logs = np.log(np.where(probs > 0, probs / before, 1.0))
    return float((probs * logs).sum(axis=1).mean())


def looks(
    probs: Float[np.ndarray, "N M"], before: Float[np.ndarray, "N M"], kinds: lesson.Kinds, gold: np.ndarray
) -> dict[str, float]:
    """What a policy writes, against the writer it comes from; both given that it is one of the kinds.

    worth: gained, of what lies between the writer and nothing but best answers. share: of what is the most
    that can be gained at the same divergence.
    """
    listed = probs.sum(axis=1, keepdims=True)
    probs, before = probs / listed, before / before.sum(axis=1, keepdims=True)
    kl = divergence(probs, before)
    start, found = (before @ gold).mean(), (probs @ gold).mean()
    best = most_gained(before, gold, kl)
    return {
        "kl": kl,
        "worth": (found - start) / (gold.max() - start),
        "share": (found - start) / (best - start),
        "fillers": float((probs @ kinds[:, PADDING]).mean()),
        "own_style": float((probs @ kinds[:, OWN]).mean()),
        "listed": float(listed.mean()),
    }


def measure_neural(cfg: lesson.Config, extra: Any, log: RunLog) -> None:
    """The judge's leanings, and what is left without them; the writer by who labelled its pairs.

    extra: with num_judge_steps, num_writer_steps, num_passes, beta and learning_rate.
    """
    kinds, gold, habits = (log.kept[name] for name in ("kinds", "gold", "habits"))
    reader = make_judge(habits, extra.num_judge_steps, cfg.seed)
    judge = functools.partial(verdict_logits, reader, words=shop.VERDICTS)
    logits = shop.ask(judge, kinds, log.kept["requests"])
    leanings = claim_judge(logits, kinds, gold, habits, log)

    writer = make_writer(extra.num_writer_steps, cfg.most_fillers, cfg.seed)
    rng = np.random.default_rng([cfg.seed, 4])
    pairs, prompts, rows = writer_pairs(writer, kinds, cfg.num_labels, rng)
    apart, gold_apart = (of[rows[:, 0]] - of[rows[:, 1]] for of in (kinds, gold))
    labels = label_pairs(ask_pairs(judge, kinds, prompts, rows), apart, gold_apart, leanings, rng)
    settings = dpo.Config(beta=extra.beta, learning_rate=extra.learning_rate, num_epochs=extra.num_passes)
    before = chances(writer.model, writer.tokenizer, kinds)
    fillers = (before / before.sum(axis=1, keepdims=True)) @ kinds[:, PADDING]
    log.write(0, writer_fillers_before=float(fillers.mean()))
    for name in LABELLERS:
        policy = learn(writer, pairs, labels[name], settings)
        found = looks(chances(policy, writer.tokenizer, kinds), before, kinds, gold)
        log.write(0, **{f"writer_{what}_{name}": value for what, value in found.items()})
    claim_writer(log)


def claim_judge(
    logits: lesson.Logits, kinds: lesson.Kinds, gold: np.ndarray, habits: Habits, log: RunLog
) -> dict[int, float]:
    """Returns its leanings, for who corrects by them."""
    content, position = lesson.swap(logits)
    leanings = {j: lesson.leaning(content, kinds, j) for j in lesson.FREE}
    found = {"position": float(position.mean())} | {FEATURES[j]: leanings[j] / 2 for j in lesson.FREE}
    log.write(0, **{f"neural_{name.replace(' ', '_')}": value for name, value in found.items()})
    ideal = dict(zip(found, (habits.position, habits.padding, habits.own)))
    log.write(0, **{f"ideal_{name.replace(' ', '_')}": value for name, value in ideal.items()})
    parts = [found[name] / ideal[name] for name in found if ideal[name]]
    says = (
        "a small neural language model leans as its comparisons do, half as far at least as an ideal reader"
    )
    rule = {"unit": "of the ideal reader's, the least of three", "source": "Bayes' rule, equation 1"}
    log.claim("neural_leans", says, min(parts, default=1.0), at_least=0.5, **rule)
    gap = gold[:, None] - gold
    left = {
        name: float(np.sqrt(((table - gap) ** 2).mean()))
        for name, table in (("swapped", content), ("corrected", lesson.corrected(content, kinds, leanings)))
    }
    log.write(0, **{f"neural_off_{name}": value for name, value in left.items()})
    says = "without its leanings the neural judge lies less than half as far from the gold rule"
    rule = {"at_most": 0.5, "unit": "of the distance in either order"}
    log.claim("neural_corrected", says, left["corrected"] / left["swapped"], source="less than half", **rule)
    return leanings


def claim_writer(log: RunLog) -> None:
    """At equal labels, steps and beta."""

    def more(what: str, one: str, other: str) -> float:
        return log.last(f"writer_{what}_{one}") - log.last(f"writer_{what}_{other}")

    shares = [log.last(f"writer_share_{name}") for name in LABELLERS]
    says = "nobody's labels take the writer beyond the best policy at its divergence"
    source = "the optimum at a divergence, by enumeration of all kinds"
    rule = {"unit": "of the most possible gain, the largest of four", "always": True, "seeds": "5/5"}
    log.claim("within_frontier", says, max(shares), at_most=1.0 + 1e-6, source=source, **rule)
    rule = {"at_least": 0.0, "source": "equal labels, steps and beta; exact evaluation"}
    says = (
        "a writer learns more by DPO of what people mind from their labels than from the neural judge's own"
    )
    log.claim("rule_teaches_more", says, more("worth", "people", "judge"), unit="of all worth", **rule)
    says = "and more of it from the judge's corrected labels than from the judge as it comes"
    log.claim("correction_teaches", says, more("worth", "corrected", "judge"), unit="of all worth", **rule)
    says = "from labels in both orders, uncorrected, it learns to pad more than from corrected ones"
    log.claim("writer_pads", says, more("fillers", "swapped", "corrected"), unit="fillers an answer", **rule)
    says = "and gains less of what its divergence allows than from corrected ones"
    short = more("share", "corrected", "swapped")
    log.claim("way_wasted", says, short, unit="of the most at its divergence", **rule)


def last(run: dict, metric: str) -> float:
    """A run's latest value of a metric."""
    return run["metrics"][metric][-1][1]


def draw_neural(runs: Sequence[dict], log: RunLog) -> None:
    """The judge's leanings beside the ideal reader's; what the writer learnt by who labelled its pairs."""
    figure, (leanings, chart) = plotting.new_figure(1, 2, width=5.8, height=4.0)
    names = {"standing first": "position", "one filler more": "padding", "the own style": "own_style"}
    rows = {says: [last(run, f"neural_{name}") for run in runs] for says, name in names.items()}
    plotting.dot_rows(leanings, rows, [plotting.ORANGE] * 3)
    for row, name in enumerate(names.values()):
        label = "an ideal reader" if row == 0 else None
        ideal = last(runs[0], f"ideal_{name}")
        leanings.plot([ideal] * 2, [row - 0.4, row + 0.4], label=label, **plotting.REFERENCE)
    shown = [f"{whose}_{name}" for whose in ("neural", "ideal") for name in names.values()]
    largest = max(last(run, metric) for run in runs for metric in shown)
    leanings.set(xlim=(0, 1.1 * largest), xlabel="log-odds of being preferred")
    leanings.set_title("What a neural judge likes")
    leanings.legend(loc="lower left")

    for name, (label, color) in LABELLERS.items():
        worth, fillers = (
            [last(run, f"writer_{what}_{name}") for run in runs] for what in ("worth", "fillers")
        )
        chart.plot(fillers, worth, "o", color=color, label=f"labels: {label}")
    before = np.median([last(run, "writer_fillers_before") for run in runs])
    chart.axvline(before, ymin=0.45, label="fillers before", **plotting.REFERENCE)  # the key stands below
    chart.set(xlim=(0, shop.MOST), ylim=(0, 1), xlabel="fillers in an answer", ylabel="worth gained, of all")
    chart.set_title("What a writer learns")
    chart.legend(loc="lower left", fontsize=9)
    log.figure(figure, "neural")
