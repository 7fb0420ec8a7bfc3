"""D6's way from ratings to a policy, whole and in small; what is kept of ratings; mistakes it must notice."""

import copy
import dataclasses
import socket

import numpy as np
import pytest
import torch
from spies import watch_adam, weights

from chapters.course.catalog import find
from chapters.D_rlhf import D6_text_rewriter as lesson
from chapters.D_rlhf.checks.D6 import EDITS, small_model
from chapters.D_rlhf.evidence import D6 as evidence
from chapters.D_rlhf.evidence import D6_trl
from chapters.envs import rewriter as office
from chapters.rating import RatingStore, ScriptedRater, Session
from chapters.rating import ask as raters
from chapters.text import ppo, rewriting
from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import rewriter_recipe
from chapters.text.rewriting import Comparisons, Pairs
from chapters.utils import RunLog, UsageError, seed_everything
from chapters.utils.edits import edited

SMOKE = lesson.Config(**lesson.SMOKE)


def run(module, folder, **changes):
    """The log of a smoke run of the lesson alone in `folder`."""
    log, cfg = RunLog(folder, "D6", smoke=True), dataclasses.replace(SMOKE, num_eval_texts=4, **changes)
    module.main(cfg, log)
    return log


def verdicts(log):
    return {claim.name: claim.holds for claim in log.claims}


@pytest.fixture
def whole(smoke_run):
    """The log of the smoke run with all evidence, TRL's training among it, which is made once."""
    return smoke_run(find("D6"))


@pytest.fixture
def pairs():
    """Pairs that anybody can tell apart: polite and whole, or curt."""
    requests = office.draw_requests(np.random.default_rng(0), 12)
    polite = [f"please {request.core} , thank you ." for request in requests]
    return [request.text for request in requests], polite, [f"{request.core} now ." for request in requests]


def test_a_scripted_rater_goes_all_the_way_and_is_resumed(tmp_path):
    log = run(lesson, tmp_path / "first", rater="scripted")
    evidence.claim_ratings(evidence.unseen_pairs(SMOKE, log), SMOKE, log)
    evidence.claim_start(log)
    log.close()
    assert all(holds for name, holds in verdicts(log).items() if name in EXACT)
    assert 2 <= log.last("rated_pairs") <= SMOKE.num_ratings
    assert (tmp_path / "first" / "ratings.jsonl").exists()
    with RatingStore(tmp_path / "ratings-scripted-smoke.sqlite") as store:  # beside the runs, not in one
        before = store.events("me")
    assert len(before) > SMOKE.num_ratings, "some pairs are shown twice"
    again = run(lesson, tmp_path / "second", rater="scripted")
    again.close()
    with RatingStore(tmp_path / "ratings-scripted-smoke.sqlite") as store:
        assert store.events("me") == before, "nothing is asked twice"
    assert again.last("rated_pairs") == log.last("rated_pairs")


EXACT = ("ratings_round_trip", "first_ratio_gap", "first_kl")


@pytest.mark.parametrize("who", ["terminal", "web"])
def test_an_interrupt_keeps_every_answer(who, pairs, tmp_path, monkeypatch):
    """Ctrl-C after three answers; the same command then asks for the rest only."""
    asked = {"rate": True} if who == "terminal" else {"rate_web": True}
    cfg = dataclasses.replace(SMOKE, ratings=tmp_path / "mine.sqlite", **asked)
    assert raters.who_rates(cfg) == who
    script, shown, answered = ScriptedRater(office.prefers), raters.to_rate(*pairs, 12), []

    def person(session, stop_after):
        while (seen := session.next()) is not None and len(answered) < stop_after:
            session.answer(script(seen))
            answered.append(seen.pair.id)
        if seen is not None:
            raise KeyboardInterrupt

    name = f"rate_in_{'terminal' if who == 'terminal' else 'browser'}"
    log = RunLog(tmp_path / "run", "D6")
    monkeypatch.setattr(raters, name, lambda session, *port: person(session, 3))
    with pytest.raises(KeyboardInterrupt):
        raters.ask(who, shown, office.prefers, cfg, log)
    monkeypatch.setattr(raters, name, lambda session, *port: person(session, 100))
    prompts, chosen, rejected = raters.ask(who, shown, office.prefers, cfg, log)
    log.close()
    assert len(answered) == 15, "twelve pairs, three of them twice, none of the first three again"
    assert sorted(zip(prompts, chosen, rejected)) == sorted(zip(*pairs))
    assert log.last("rated_agreement") == log.last("rated_consistency") == 1.0


@pytest.mark.parametrize(
    "asked",
    [
        {"rate": True, "rate_web": True},
        {"rate": True, "rater": "scripted"},
        {"rate_web": True, "rater": "terminal"},
    ],
    ids=str,
)  # fmt: skip
def test_two_raters_are_refused_in_one_line(asked, tmp_path):
    with pytest.raises(UsageError, match=r"^--r[^\n]*allowed: one of them\)$"):
        run(lesson, tmp_path, **asked)


def test_a_port_in_use_is_told_before_texts_are_written(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^port {port}: cannot listen there .*0 takes any free port$"):
            run(lesson, tmp_path, rate_web=True, port=port)


def test_the_page_stands_at_the_port_that_was_asked_for(pairs, tmp_path, monkeypatch):
    ports = []
    monkeypatch.setattr(raters, "rate_in_browser", lambda session, port: ports.append(port))
    cfg = dataclasses.replace(SMOKE, ratings=tmp_path / "mine.sqlite", rate_web=True, port=8765)
    log = RunLog(tmp_path / "run", "D6")
    raters.ask("web", raters.to_rate(*pairs, 12), office.prefers, cfg, log)
    log.close()
    assert ports == [8765]


@pytest.mark.parametrize("who", ["terminal", "web"])
def test_a_person_is_told_what_comes_before_the_first_pair(who, capsys):
    raters.who_rates(dataclasses.replace(SMOKE, rater=who))
    assert capsys.readouterr().out.startswith(
        "First the texts to compare are written, which can take minutes"
    )
    raters.who_rates(SMOKE)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("choice", [None, "tie", "skip"])
def test_finishing_without_a_preference_ends_cleanly(pairs, tmp_path, monkeypatch, capsys, choice):
    def person(session, port):
        if choice and session.next():
            session.answer(choice)

    monkeypatch.setattr(raters, "rate_in_browser", person)
    log = RunLog(tmp_path / "run", "D6")
    cfg = dataclasses.replace(SMOKE, rater="web")
    assert raters.ask("web", raters.to_rate(*pairs, 12), office.prefers, cfg, log) == ([], [], [])
    log.close()
    assert "the lesson goes on with the judge's comparisons alone" in capsys.readouterr().out


@pytest.mark.parametrize("own_file", [True, False])
def test_ratings_of_smoke_runs_are_kept_apart(pairs, tmp_path, own_file):
    """A full run never learns from what was said of a smoke run's nonsense."""
    cfg = dataclasses.replace(SMOKE, ratings=tmp_path / "mine.sqlite" if own_file else None)
    for smoke in (True, False):
        log = RunLog(tmp_path / f"run-{smoke}", "D6", smoke=smoke)
        half = slice(0, 6) if smoke else slice(6, 12)
        shown = raters.to_rate(*(column[half] for column in pairs), 6)
        found = raters.ask("scripted", shown, office.prefers, cfg, log)
        log.close()
        assert set(found[0]) <= set(pairs[0][half])
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_forty_pairs_hold_ten_repeats_and_say_by_what_to_judge(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(raters, "rate_in_terminal", seen.append)
    texts = [f"text {n}" for n in range(400)]
    log = RunLog(tmp_path / "run", "D6")
    for count, repeats in ((40, 10), (8, 2), (400, 40)):
        shown = raters.to_rate(texts, texts, texts, count)
        raters.ask("terminal", shown, office.prefers, dataclasses.replace(SMOKE, rate=True), log)
        assert seen[-1].progress.total == count + repeats
        assert seen[-1].criterion == raters.CRITERION
    log.close()


def test_the_same_rater_twice_is_no_contradiction():
    assert raters.who_rates(dataclasses.replace(SMOKE, rate=True, rater="terminal")) == "terminal"
    assert raters.who_rates(SMOKE) == "heuristic"


def test_your_taste_decides_if_you_ask_for_it(pairs, tmp_path):
    """Ratings against the judge's labels: with a share of 1 they alone are learnt, with 0 not at all."""
    lm, log = load_model("tiny", rewriter_recipe(SMOKE.pretrain_steps)), RunLog(tmp_path, "D6")
    judged, yours = Pairs(*pairs), Pairs(pairs[0], pairs[2], pairs[1])
    for share, sign in ((0.0, 1), (1.0, -1)):
        cfg = dataclasses.replace(SMOKE, human_share=share, rm_epochs=12)
        found = lesson.fit_reward_model(lm.model, lm, judged, yours, cfg, log, f"share{share:g}")
        chosen, rejected = found.margins(lm, judged)
        assert (sign * (chosen - rejected) > 0).all()
    log.close()


def test_what_the_reward_model_is_tested_on_it_never_learnt_from(tmp_path, monkeypatch):
    """Neither from your answers nor from the judge's labels of the same requests."""
    learnt, tested, fit = [], [], lesson.fit_reward_model

    def spy(model, lm, pairs, human, *rest):
        learnt.extend([pairs, human])
        return fit(model, lm, pairs, human, *rest)

    monkeypatch.setattr(lesson, "fit_reward_model", spy)
    monkeypatch.setattr(rewriting, "tell_agreement", lambda model, lm, unseen, log: tested.append(unseen))
    log, cfg = RunLog(tmp_path / "run", "D6", smoke=True), dataclasses.replace(SMOKE, rater="scripted")
    lesson.main(cfg, log)
    log.close()
    (pairs, human), (unseen,) = learnt, tested
    assert unseen.requests
    assert not set(unseen.requests) & {*pairs.requests, *human.requests}
    assert len(unseen.requests) + len(human.requests) == log.last("rated_pairs")


def test_every_fifth_request_is_held_out_with_all_its_pairs():
    requests = [f"request {row % 11}" for row in range(30)]
    columns = Pairs(requests, [f"a{row}" for row in range(30)], [f"b{row}" for row in range(30)])
    learnt, tested = rewriting.hold_out(columns)
    assert set(tested.requests) == {"request 4", "request 9"}
    assert not set(tested.requests) & set(learnt.requests)
    assert {*zip(*learnt), *zip(*tested)} == {*zip(*columns)}
    few = columns.pick(range(4))
    assert rewriting.hold_out(few) == (few, Pairs([], [], []))


def test_agreement_with_your_answers_is_counted_and_told(tmp_path, capsys):
    class Likes(rewriting.RewardModel):
        def __init__(self):
            pass

        def margins(self, lm, pairs):
            return torch.tensor([2.0, 1.0, 0.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, -2.0])

    log, four = RunLog(tmp_path, "D6"), Pairs(["r"] * 4, ["a"] * 4, ["b"] * 4)
    rewriting.tell_agreement(Likes(), LoadedModel(None, None), four, log)
    nothing = rewriting.tell_agreement(Likes(), LoadedModel(None, None), Pairs([], [], []), log)
    assert nothing.shape == (0,), "where no answer was left out, none can be told"
    assert log.series("human_rm_agreement") == ([0], [0.5])
    log.close()
    assert log.last("human_rm_agreement") == 0.5
    assert "4 answers that it did not learn from, the reward model shares 50%" in capsys.readouterr().out


def test_a_reference_that_trains_along_is_noticed(whole, tmp_path):
    """Two trainings from the imitating model begin alike only if none of them moved it."""
    for module, stays in ((lesson, True), (edited(lesson, EDITS["reference_moves"]), False)):
        sft = copy.deepcopy(whole.kept["sft"])
        log, before = RunLog(tmp_path / str(stays), "D6"), weights(sft)
        module.train(sft, *(whole.kept[name] for name in ("reward_model", "lm", "requests")), SMOKE, log)
        log.close()
        assert torch.equal(before, weights(sft)) == stays


def test_log_probs_of_another_moment_are_noticed(tmp_path):
    """Reading the old log-probabilities off the reference makes the first ratios differ from 1."""
    log = run(edited(lesson, EDITS["old_of_the_reference"]), tmp_path, num_updates=3, learning_rate=1e-3)
    log.close()
    assert not verdicts(log)["first_ratio_gap"]


def test_trl_takes_our_models_as_they_are(whole):
    assert verdicts(whole)["trl_parity"]
    assert len(whole.series("trl_kl")[1]) == SMOKE.num_updates
    assert whole.series("trl_cpu_seconds")[1][0] > 0


def test_the_judge_finds_what_it_says_it_finds():
    """Courtesy, content, invention, length and ending, one at a time."""
    request = "send the old report by friday now"
    texts = [
        "could you please send the old report by friday ? thank you .",
        "please send the old report by friday .",
        "send the old report by friday .",
        "please send the report by friday .",
        "please send the new report by friday .",
        "you must please send the old report by friday .",
        "please send the old report by friday",
        "please please please please please please please send the old report by friday .",
        "please send the old old report by friday .",
    ]
    found = office.judge([request] * len(texts), texts)
    assert found.score.tolist() == [6, 5, 4, 4, 3, 4, 4, 4.75, 4]
    assert found.polite.tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 1]
    assert found.content.tolist() == [1, 1, 1, 0.75, 0.75, 1, 1, 1, 1]
    assert found.invented.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found.length.tolist() == [11, 7, 6, 6, 7, 9, 7, 13, 8]


def test_held_out_contents_are_in_no_training_text():
    held = {request.core for request in office.draw_requests(np.random.default_rng(1), 300, held_out=True)}
    rng = np.random.default_rng(2)
    asked = [text.split(f" {office.ARROW} ")[0] for text in office.write_demonstrations(rng, 500)]
    asked += [text.split(" again : ")[0] for text in office.write_notes(rng, 500)]
    frames = [frame.split("{}") for frame in (*office.BLUNT, *office.POLITE, *office.SHORT, *office.CURT)]
    whole = {f"{before}{core}{after}" for core in held for before, after in frames}
    assert not whole & set(asked)


def test_ratings_of_other_sessions_count_too(pairs, tmp_path):
    cfg = dataclasses.replace(SMOKE, ratings=tmp_path / "mine.sqlite")
    with RatingStore(cfg.ratings) as store:
        early = raters.to_rate(*(column[:4] for column in pairs), 4)
        ScriptedRater(office.prefers).rate(Session(early, store))
    log = RunLog(tmp_path / "run", "D6")
    late = raters.to_rate(*(column[4:] for column in pairs), 8)
    prompts, *_ = raters.ask("scripted", late, office.prefers, cfg, log)
    log.close()
    assert len(prompts) > 8 - 3, "a noisy script contradicts itself now and then"
    assert set(pairs[0][:4]) <= set(prompts)


# Glue


def test_step_sizes_fall_and_gradients_are_clipped(tmp_path, monkeypatch, pairs):
    """Imitation and reward model: in a line to nothing, the latter after twenty steps of warming up."""
    steps = watch_adam(monkeypatch, lesson)
    lm, _ = small_model()
    log, cfg = RunLog(tmp_path, "D6"), dataclasses.replace(SMOKE, sft_steps=3, rm_epochs=4)
    before = weights(lm.model)
    imitating = lesson.imitate(lm, cfg, log)
    assert [rate for rate, _ in steps] == pytest.approx([1e-3, 1e-3 * 2 / 3, 1e-3 / 3])
    assert torch.equal(weights(lm.model), before), "a copy is trained"
    assert not torch.equal(weights(imitating), before)
    assert not any(parameter.requires_grad for parameter in imitating.parameters())
    steps.clear()
    many = Pairs(*[list(side) * 2 for side in pairs])  # 24 pairs in sixteens: two steps a pass
    nobody = Pairs([], [], [])
    lesson.fit_reward_model(imitating, lm, many, nobody, cfg, log, "x")
    assert [rate for rate, _ in steps] == pytest.approx([1e-3 * (i + 1) / 20 * (1 - i / 8) for i in range(8)])
    assert max(norm for _, norm in steps) <= 1.0 + 1e-4
    assert log.series("x_loss")[1][0] == pytest.approx(np.log(2), abs=1e-3), "at first nothing is preferred"
    log.close()


def test_requests_come_in_their_order_and_the_step_size_falls(tmp_path, monkeypatch):
    steps = watch_adam(monkeypatch, lesson)
    lm, requests = small_model()
    asked, seen = [], []
    collect = lesson.collect
    monkeypatch.setattr(lesson, "collect", lambda *args: asked.append(args[4]) or collect(*args))
    log = RunLog(tmp_path, "D6")
    cfg = dataclasses.replace(SMOKE, num_prompts=4, num_updates=3, num_epochs=1, num_minibatches=2)
    reward_model = rewriting.RewardModel(lm.model)
    watch = lambda policy, step: seen.append(step)  # noqa: E731
    lesson.train(lm.model, reward_model, lm, requests, cfg, log, "x", watch)
    log.close()
    assert asked == [requests[:4], requests[4:8], requests[8:12]]
    falling = [cfg.learning_rate * left for left in (1, 2 / 3, 1 / 3) for _ in range(2)]
    assert [rate for rate, _ in steps] == pytest.approx(falling)
    assert max(norm for _, norm in steps) <= 1.0 + 1e-4
    assert seen == [1, 2, 3]
    assert log.series("x_first_gap")[1][0] == pytest.approx(0.0, abs=1e-4)
    assert log.series("x_kl")[1][0] == pytest.approx(0.0, abs=1e-3), "it begins at the reference"


# What the evidence makes of what it trains


def test_unseen_pairs_are_held_out(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        evidence,
        "compare",
        lambda *args, **more: asked.append((args, more)) or Comparisons([], [], [], np.ones(0)),
    )
    log = RunLog(tmp_path, "D6")
    log.keep(sft="sft", lm="lm")
    for num_pairs, num in ((400, 100), (12, 8)):
        cfg = dataclasses.replace(SMOKE, seed=3, num_pairs=num_pairs)
        evidence.unseen_pairs(cfg, log)
        args, more = asked.pop()
        assert args == ("sft", "lm", num, cfg.num_tokens, cfg.judge_noise, 3)
        assert more == {"held_out": True}
    log.close()


def test_the_librarys_policy_is_judged_beside_the_imitating_one(tmp_path, monkeypatch):
    """Two requests: a better rewrite than the imitating model's, and the same one."""
    requests = ["send the old report today now", "send the report now"]
    written = ["please send the old report today .", "send the report ."]
    imitated = ["send it .", "send the report ."]
    claimed = []
    monkeypatch.setattr(evidence, "rewrite", lambda policy, lm, asked, num, seed: written)
    monkeypatch.setattr(evidence, "claim_race", lambda found, log: claimed.append(found))
    for name in ("draw_peer", "draw_rewrites"):
        monkeypatch.setattr(evidence, name, lambda *_: None)
    log = RunLog(tmp_path, "D6")
    found = {"sft": vars(office.judge(requests, imitated))}
    log.keep(lm=None, tests=requests, found=found, texts={"sft": imitated})
    evidence.outcome(torch.nn.Linear(1, 1), SMOKE, log)
    log.close()
    ((trl, sft),) = [(one["trl"], one["sft"]) for one in claimed]
    assert sft is found["sft"]
    assert trl["wins"].tolist() == [1.0, 0.5]
    assert trl["content"].tolist() == [1.0, 1.0]
    assert log.last("trl_final_wins") == 0.75
    assert log.last("trl_final_score") == pytest.approx(np.mean([5.0, 4.0]))


def test_the_first_point_at_the_level_gives_the_seconds(tmp_path):
    log = RunLog(tmp_path, "D6")
    for step, (seconds, score) in enumerate([(1.0, 0.2), (2.0, 0.5), (3.0, 0.4), (4.0, 0.9)]):
        log.write(step, x_cpu_seconds=seconds, x_score=score)
    assert D6_trl.seconds_to(log, "x", 0.5) == 2.0
    assert D6_trl.seconds_to(log, "x", 0.6) == 4.0
    assert D6_trl.seconds_to(log, "x", 0.95) == 4.0, "at its last if never"
    log.close()


def test_the_gap_to_the_library_is_what_was_planted(monkeypatch):
    """Rewards and whitening agree; each is noticed once it is a hundredth off."""
    seed_everything(0)
    lm, requests = small_model()
    reward_model = rewriting.RewardModel(lm.model)
    torch.nn.init.normal_(reward_model.score.weight)
    prompts = office.encode_prompts(lm.tokenizer, requests[:4])
    rewrites = office.encode_rewrites(
        lm.tokenizer, ["send it .", "please do .", "no", "send the old report ."]
    )

    def gap(whiten=ppo.whiten, shift=0.0):
        def pack(*texts):
            ids, mask = rewriting.pack(*texts)
            return ids, mask

        model = reward_model
        if shift:
            model = Shifted(reward_model, shift)
        return D6_trl.trl_gap(model, whiten, pack, prompts, rewrites, lm.tokenizer.pad_token_id)

    assert gap() < 1e-5
    assert gap(whiten=lambda numbers, mask: ppo.whiten(numbers, mask) + 0.01 * mask) == pytest.approx(
        0.01, rel=0.01
    )
    assert gap(shift=0.01) == pytest.approx(0.01, rel=0.01)


class Shifted(torch.nn.Module):
    """A reward model as TRL reads it, that answers a little too high where we ask it."""

    def __init__(self, model, shift):
        super().__init__()
        self.base_model_prefix, self.score, self.shift = model.base_model_prefix, model.score, shift
        setattr(self, model.base_model_prefix, getattr(model, model.base_model_prefix))
        self.answer = model.forward

    def forward(self, *inputs):
        return self.answer(*inputs) + self.shift


def test_the_library_gets_our_settings_and_computes_as_we_do():
    cfg = lesson.Config()
    found = D6_trl.ppo_settings(cfg, "folder")
    ours = {
        "kl_coef": cfg.beta, "cliprange": cfg.clip_eps, "vf_coef": cfg.vf_coef, "lam": cfg.gae_lambda,
        "learning_rate": cfg.learning_rate, "num_ppo_epochs": cfg.num_epochs, "seed": cfg.seed,
        "num_mini_batches": cfg.num_minibatches, "response_length": cfg.num_tokens, "gamma": 1.0,
        "total_episodes": cfg.num_prompts * cfg.num_updates, "temperature": 1.0,
        "gradient_accumulation_steps": 1,
    }  # fmt: skip
    assert {name: found[name] for name in ours} == ours
    assert found["use_cpu"]
    assert not found["bf16"], "single precision"
    assert not found["gradient_checkpointing"], "nothing is computed twice"
