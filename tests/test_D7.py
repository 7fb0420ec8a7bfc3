"""D7 beside TRL: the defaults that the text names, small trainings, and what is optional missing."""

import ast
import contextlib
import dataclasses
import functools
import importlib.metadata
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from chapters.course import ledger
from chapters.course.catalog import find
from chapters.course.parts import edits_of
from chapters.D_rlhf import D7_trl_trainers as lesson
from chapters.D_rlhf.evidence import D7 as evidence
from chapters.D_rlhf.evidence import D7_ours as ours
from chapters.text import trainers
from chapters.text.checkpoint import read
from chapters.text.models import EOS, load_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.lesson import RunOptions, UsageError, execute
from chapters.utils.optim import Adam
from chapters.utils.peers import silence
from chapters.utils.runlog import is_timing, read_metrics

SMOKE = lesson.Config(**lesson.SMOKE)
TRAINERS = ("sft", "reward", "dpo", "grpo", "rloo", "ppo")
CONFIGS = {
    "sft": "trl/trainer/sft_config.py",
    "reward": "trl/trainer/reward_config.py",
    "dpo": "trl/trainer/dpo_config.py",
    "grpo": "trl/trainer/grpo_config.py",
    "rloo": "trl/trainer/rloo_config.py",
    "ppo": "trl/experimental/ppo/ppo_config.py",
}


@pytest.fixture(scope="module")
def lm():
    return load_model("tiny", review_recipe(SMOKE.pretrain_steps))


@pytest.fixture(scope="module")
def written(lm):
    return lesson.write_and_judge(lm, SMOKE, 3)


# What the text says of TRL


def source(name):
    return importlib.metadata.distribution("trl").locate_file(name).read_text(encoding="utf-8")


def defaults(name):
    """{field: default} of TRL's own configuration, read without importing it."""
    found = {}
    for file in ("trl/trainer/base_config.py", name):
        for node in ast.walk(ast.parse(source(file))):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                given = {word.arg: word.value for word in node.value.keywords}
                if "default" in given:
                    found[node.target.id] = ast.literal_eval(given["default"])
    return found


def test_the_table_of_defaults_is_trls():
    assert importlib.metadata.version("trl") == "1.12.0"
    rows = re.findall(
        r"^\| `(\w+)`(.*?)\| (.*) \|$", find("D7").path.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [row[0] for row in rows] == ["learning_rate", "beta", "max_length", "bf16"]
    for first, others, cells in rows:
        names = [first, *re.findall(r"`(\w+)`", others)]
        said = [cell.strip() for cell in cells.split("|")]
        assert len(said) == len(CONFIGS)
        for (trainer, file), cell in zip(CONFIGS.items(), said):
            has = defaults(file)
            if first == "bf16":
                assert cell == "yes"
                assert has["bf16"] is None, "None: 16 bits unless fp16 is asked for"
                continue
            given = [has[name] for name in reversed(names) if name in has]
            assert cell == (str(given[0]) if given else ""), (trainer, names)


def test_what_is_left_is_as_the_text_says():
    group = defaults(CONFIGS["grpo"])
    assert (group["scale_rewards"], group["loss_type"]) == ("group", "dapo")
    assert group["use_bias_correction_kl"] is True
    assert defaults(CONFIGS["rloo"])["normalize_advantages"] is False
    assert defaults(CONFIGS["sft"])["completion_only_loss"] is None
    policy = defaults(CONFIGS["ppo"])
    assert (policy["stop_token"], policy["temperature"], policy["cliprange_value"]) == (None, 0.7, 0.2)
    assert "sequence_lengths_p1 = sequence_lengths + 1" in source("trl/experimental/ppo/ppo_trainer.py")
    assert not re.search("clip_grad|max_grad_norm", source("trl/experimental/ppo/ppo_trainer.py"))
    assert [defaults(CONFIGS[name])["disable_dropout"] for name in ("grpo", "rloo")] == [False, False]


def test_ours_stand_where_trls_four_stood():
    for name in TRAINERS:
        ours_, theirs = lesson.settings(name, lesson.Config()), defaults(CONFIGS[name])
        changed = {what for what, value in ours_.items() if what in theirs and theirs[what] != value}
        assert "learning_rate" in changed
        assert "bf16" in changed
        assert changed & {"max_length", "max_completion_length", "response_length"}
        assert bool(changed & {"beta", "kl_coef"}) == (name in ("dpo", "grpo", "rloo", "ppo"))


# What goes in


def test_texts_come_back_as_columns_and_as_the_same_tokens(lm, written):
    judged, pairs = written
    assert len(judged.prompt) == len(pairs["labels"]) > 0
    for row, prompt in enumerate(judged.prompt):
        for side, texts in enumerate((judged.chosen, judged.rejected)):
            assert texts[row].endswith(f" {EOS}")
            assert texts[row].startswith(" ")
            ids = pairs["prompt_ids"][row][pairs["prompt_mask"][row].bool()].tolist()
            ids += pairs["completion_ids"][row, side][pairs["completion_mask"][row, side]].tolist()
            assert lm.tokenizer(prompt + texts[row]).input_ids == ids
    chosen, rejected = (lesson.rule(judged.prompt, side) for side in judged[1:])
    assert all(a > b for a, b in zip(chosen, rejected))


def test_whole_texts_begin_with_their_prompt():
    judged = trainers.Judged(["a", "b"], [" c", " d"], [" e", " f"])
    assert judged.whole("chosen") == ["a c", "b d"]
    assert judged.whole("rejected") == ["a e", "b f"]


def test_pairs_pick_prompts_once_and_completions_twice():
    batch = {
        "prompt_ids": torch.arange(4)[:, None],
        "prompt_mask": torch.ones(4, 1),
        "completion_ids": 10 * torch.arange(4)[:, None],
        "completion_mask": torch.ones(4, 1).bool(),
    }
    found = trainers.Written(batch, list("abab"), list("wxyz"))
    judged, pairs = found.pairs(torch.tensor([[2, 0], [1, 3]]))
    assert judged == (["a", "b"], ["y", "x"], ["w", "z"])
    assert pairs["prompt_ids"].flatten().tolist() == [2, 1]
    assert pairs["completion_ids"][..., 0].tolist() == [[20, 0], [10, 30]]
    assert pairs["labels"].tolist() == [1.0, 1.0]


# The trainers


@pytest.fixture(scope="module")
def folder(lm):
    with trainers.saved(lm) as place:
        yield place


def test_a_saved_model_has_its_tokenizer_beside_it(lm, folder):
    from transformers import AutoTokenizer

    texts = ["the food was good", "never again"]
    assert AutoTokenizer.from_pretrained(folder)(texts)["input_ids"] == lm.tokenizer(texts)["input_ids"]


def make(module, name, lm, judged, cfg, folder):
    with silence():
        if name in ("grpo", "rloo"):
            return module.groups(name, lm, module.rule, cfg, folder)
        if name == "ppo":
            return module.ppo(lm, module.reward(lm, judged, cfg, folder).model, cfg, folder)
        return getattr(module, name)(lm, judged, cfg, folder)


def test_each_trainer_is_given_its_own_model_and_its_reference(lm, written, folder):
    before = [weight.clone() for weight in lm.model.parameters()]
    for name in TRAINERS:
        trainer = make(lesson, name, lm, written[0], SMOKE, folder)
        trained = getattr(trainer, "policy_model", trainer.model)
        assert trained is not lm.model
        assert all(weight.requires_grad for weight in trained.parameters())
        if name in ("dpo", "grpo", "rloo", "ppo"):
            reference = dict(trainer.ref_model.named_parameters())
            for key, weight in lm.model.named_parameters():
                assert torch.equal(reference[key], weight), name
    assert all(torch.equal(a, b) for a, b in zip(before, lm.model.parameters()))


def test_sft_learns_the_chosen_completions_alone(lm, written, folder):
    judged, _ = written
    trainer = make(lesson, "sft", lm, judged, SMOKE, folder)
    for row, prompt, text in zip(trainer.train_dataset, judged.prompt, judged.chosen):
        ids = lm.tokenizer(prompt + text).input_ids
        start = len(lm.tokenizer(prompt).input_ids)
        assert row["input_ids"] == ids
        assert row["labels"] == [-100] * start + ids[start:]


def test_grpo_asks_about_each_prompt_in_turn(lm, written, folder):
    for name in ("grpo", "rloo"):
        trainer = make(lesson, name, lm, written[0], SMOKE, folder)
        assert trainer.train_dataset["prompt"][:] == trainers.repeated(2 * 28 // SMOKE.group_size)
        assert trainer.beta == SMOKE.beta


def test_a_rule_counts_what_it_is_asked():
    counted = trainers.counting(lesson.rule)
    assert counted.__name__ == "rule"
    assert counted(prompts=["i", "we"], completions=["loved it", "saw it"], step=1) == [1.0, 0.0]
    counted(["i"], ["saw it"])
    assert counted.asked == 3


def test_texts_that_are_all_alike_are_refused_in_one_line():
    """Before anything trains; of those that only measure, nothing is said."""
    written = trainers.Written({}, ["a"], ["b"])
    none, _ = written.pairs(torch.zeros(0, 2, dtype=torch.long))
    with pytest.raises(UsageError, match="--num-batches"):
        trainers.table(**none._asdict())
    assert np.isnan(trainers.accuracy(Alike(1.0), BASE, none))


def test_the_reward_model_of_ppo_stands_still_and_its_critic_is_a_copy(lm, written, folder):
    trainer = make(lesson, "ppo", lm, written[0], SMOKE, folder)
    assert trainer.value_model is not trainer.reward_model
    assert all(weight.requires_grad for weight in trainer.value_model.parameters())
    held = {id(weight) for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert not held & {id(weight) for weight in trainer.reward_model.parameters()}


def test_a_group_of_another_size_is_refused_in_one_line(tmp_path):
    log = RunLog(tmp_path, "D7")
    with pytest.raises(UsageError, match="--group-size 5") as refused:
        lesson.main(dataclasses.replace(SMOKE, group_size=5), log)
    assert "\n" not in str(refused.value)
    log.close()


def test_without_peft_one_line_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)
    log = RunLog(tmp_path, "D7")
    with pytest.raises(UsageError, match=r"--lora 4 .*--extra smollm") as refused:
        lesson.main(dataclasses.replace(SMOKE, lora=4), log)
    assert "\n" not in str(refused.value)
    log.close()
    assert trainers.adapters(0) is None


def test_adapters_are_what_peft_merges():
    peft = pytest.importorskip("peft")
    layer = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False))
    start = layer[0].weight.detach().clone()
    config = trainers.adapters(2)
    config.target_modules = {"0"}
    model = peft.get_peft_model(layer, config)
    parts = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    left = next(weight for key, weight in parts.items() if "lora_B" in key)
    right = next(weight for key, weight in parts.items() if "lora_A" in key)
    assert len(parts) == 2
    assert not left.any(), "nothing changes at first"
    torch.nn.init.normal_(left)
    expected = lesson.adapted(start, left.detach(), right.detach(), alpha=4.0)
    merged = model.merge_and_unload()[0].weight
    torch.testing.assert_close(merged.detach(), expected)


def test_with_adapters_few_weights_learn_and_all_trainers_run(lm, written, folder, tmp_path):
    pytest.importorskip("peft")
    log = RunLog(tmp_path, "D7")
    cfg = dataclasses.replace(SMOKE, lora=2)
    for name in ("sft", "dpo", "grpo", "rloo", "ppo"):
        trainer = make(lesson, name, lm, written[0], cfg, folder)
        policy = getattr(trainer, "policy_model", trainer.model)
        learning = [key for key, weight in policy.named_parameters() if weight.requires_grad]
        assert learning
        assert all("lora" in key for key in learning), name
        trainers.run(trainer, name, log)
    log.close()


# A run that goes on


class Stop(KeyboardInterrupt):
    """What ends a run in the middle of it."""


def go(out, lm, judged, resume=None, stop=""):
    """(weights of each, texts asked, metrics, who trained) of a run; (folder, who trained) of one stopped.

    stop: a trainer that is stopped after its first step, or "measured" for what comes when all have ended.
    """
    trained, cfg = [], dataclasses.replace(SMOKE, num_tokens=2)

    def stopped_at_its_first_step(trainer, name, train):
        trained.append(name)
        if name != stop:
            return train()
        trainer.add_callback(type("AtOnce", (TrainerCallback,), {"on_step_end": raises})())
        return train()

    def raises(*_, **__):
        raise Stop

    def run(trainer, name, *given):
        trainer.train = functools.partial(stopped_at_its_first_step, trainer, name, trainer.train)
        return trainers.run(trainer, name, *given)

    def main(cfg, log):
        made, asked = lesson.train_all(lm, judged, cfg, log)
        if stop == "measured":
            raise Stop
        log.write(1, drawn=torch.rand(()), drawn_too=np.random.rand())  # noqa: NPY002
        log.keep(asked=asked, weights={name: one.state_dict() for name, one in made.items()})

    options = RunOptions(out=out, resume=resume, save_every=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesson, "run", run)
        try:
            log = execute(main, cfg, find("D7").path, options, print_claims=False)
        except Stop:
            return next((out / "D7").iterdir()), trained
    metrics = {name: rows for name, rows in log.metrics.items() if not is_timing(name)}
    assert metrics.keys() <= read_metrics(log.folder).keys()
    return log.kept["weights"], log.kept["asked"], metrics, trained


def test_a_run_that_is_stopped_goes_on_and_ends_as_if_it_had_been_left_alone(lm, written, tmp_path):
    """By every trainer's weights, to the bit, what was asked, what was measured, and what is drawn next."""
    few = trainers.Judged(*(column[:8] for column in written[0]))
    weights, *rest, trained = go(tmp_path / "alone", lm, few)
    assert trained == list(TRAINERS)
    folder, trained = go(tmp_path / "stopped", lm, few, stop="rloo")
    assert trained == ["sft", "reward", "dpo", "grpo", "rloo"]
    folder, trained = go(tmp_path / "stopped", lm, few, folder, stop="measured")
    assert trained == ["rloo", "ppo"], "what had ended does not train again, what was stopped begins anew"
    found, *same, trained = go(tmp_path / "stopped", lm, few, folder)
    assert trained == [], "all had ended"
    assert same == rest
    assert found.keys() == weights.keys() == set(TRAINERS)
    for name, ours_ in weights.items():
        assert found[name].keys() == ours_.keys()
        assert all(torch.equal(one, found[name][key]) for key, one in ours_.items()), name


def test_of_a_model_with_adapters_these_alone_are_saved(lm, written, folder, tmp_path):
    pytest.importorskip("peft")
    few = trainers.Judged(*(column[:8] for column in written[0]))

    def main(cfg, log):
        torch.manual_seed(0)  # as the lesson does: an adapter's first weights are drawn
        trainer = make(lesson, "sft", lm, few, cfg, folder)
        found.append((trainers.run(trainer, "sft", log).state_dict(), trainer.state.global_step))
        if not resume:
            raise Stop

    found, resume, cfg = [], None, dataclasses.replace(SMOKE, lora=2)
    for _ in range(2):
        options = RunOptions(out=tmp_path, resume=resume, save_every=0.0)
        with contextlib.suppress(Stop):
            execute(main, cfg, find("D7").path, options, print_claims=False)
        (path,) = tmp_path.glob("D7/*/checkpoint-*")
        resume = path.parent
    kept = {name for name in read(path)[1] if name.startswith("0.")}
    assert kept
    assert all("lora" in name for name in kept)
    (learnt, steps), (restored, none) = found
    assert (steps > 0, none) == (True, 0)
    assert any(bool(learnt[name[2:]].any()) for name in kept if "lora_B" in name), "it has learnt"
    assert all(torch.equal(learnt[name], restored[name]) for name in learnt)


# What is measured


class Alike(torch.nn.Module):
    """A reward model that gives a text the number of its tokens, times a sign."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, input_ids, attention_mask, **_):
        return type("Out", (), {"logits": self.sign * attention_mask.sum(dim=1, keepdim=True).double()})


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 0.75), (-1.0, 0.25)])
def test_accuracy_counts_chosen_above_rejected(lm, sign, expected):
    long, short = " was long and loud .", " was long ."
    judged = trainers.Judged(["the film"] * 4, [long, long, long, short], [short, short, short, long])
    assert trainers.accuracy(Alike(sign), lm, judged) == expected


def test_prompts_are_repeated_in_turn():
    assert trainers.repeated(3) == list(lesson.PROMPTS[:3])
    assert trainers.repeated(30)[14:28] == list(lesson.PROMPTS)


def test_rloo_has_one_ratio_for_a_text_and_clips_it():
    mask = torch.tensor([[True, True], [True, False]])
    old = torch.zeros(2, 2, dtype=torch.float64)
    new = torch.tensor([[0.3, 0.4], [-0.1, 5.0]], dtype=torch.float64, requires_grad=True)
    batch = {"completion_mask": mask, "old_log_probs": old, "advantages": torch.tensor([1.0, -2.0]).double()}
    loss = ours.rloo_loss(new, batch)
    assert loss.item() == pytest.approx(-(1.2 * 1.0 - 2.0 * np.exp(-0.1)) / 2)
    (slope,) = torch.autograd.grad(loss, new)
    assert slope[0].tolist() == [0.0, 0.0], "outside of the clip nothing pulls"
    assert slope[1].tolist() == pytest.approx([np.exp(-0.1), 0.0])


def test_rloo_takes_the_penalty_from_the_reward_and_leaves_one_out():
    cfg = dataclasses.replace(SMOKE, group_size=2, beta=0.5)
    mask = torch.tensor([[True, True], [True, False]])
    batch = {
        "completion_mask": mask,
        "old_log_probs": torch.tensor([[-1.0, -1.0], [-2.0, 9.0]]),
        "ref_log_probs": torch.tensor([[-2.0, -2.0], [-1.0, -9.0]]),
        "rewards": torch.tensor([1.0, 3.0]),
    }
    # penalised: 1 - 0.5 * 2 = 0, and 3 - 0.5 * (-1) = 3.5
    assert ours.rloo_advantages(batch, cfg).tolist() == pytest.approx([-3.5, 3.5])


def test_steps_fall_to_zero_in_a_line():
    optimizer = Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    seen = [optimizer.lr for _ in ours.steps(optimizer, 4, 0.8)]
    assert seen == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_every_pair_is_learnt_from_once_a_pass():
    model = torch.nn.Linear(1, 1)
    seen = []

    def loss_of(rows):
        seen.extend(rows.tolist())
        return model.weight.sum()

    ours.learn_pairs(model, loss_of, 31, dataclasses.replace(SMOKE, num_epochs=3))
    assert sorted(seen) == sorted(list(range(31)) * 3)


@pytest.mark.parametrize("name", ["sixteen_bits", "default_rate"])
def test_edits_leave_a_default(name):
    wrong = edited(lesson, edits_of(find("D7"))[name])
    for trainer in TRAINERS:
        left = set(lesson.settings(trainer, SMOKE)) - set(wrong.settings(trainer, SMOKE))
        assert left == {{"sixteen_bits": "bf16", "default_rate": "learning_rate"}[name]}


def test_the_table_shows_a_dot_for_each_seed(tmp_path):
    columns = ("sentiment", "kl", "win_rate", "cpu_seconds", "megabytes")
    runs = [
        {
            "metrics": {
                f"{prefix}{name}_{what}": [[0, seed + 1.0]]
                for prefix in ("", "ours_")
                for name in (*trainers.LABELS, "reward")
                for what in (*columns, "accuracy")
            }
        }
        for seed in range(3)
    ]
    log = RunLog(tmp_path, "D7")
    evidence.summarise(runs, log)
    log.close()
    assert [path.name for path in tmp_path.glob("*.png")]


# What the lesson claims


BASE, NOTHING = trainers.LoadedModel("the base", None), trainers.Judged([], [], [])


class Named(torch.nn.Module):
    """What a trainer made."""

    def __init__(self, name):
        super().__init__()
        self.name = name


def values_of(log):
    log.close()
    return {claim.name: claim.value for claim in log.claims}


def test_main_measures_with_texts_that_nothing_learnt_from(tmp_path, monkeypatch):
    asked, shown = [], []
    outcome = {  # win rate, reward, KL
        "base": (0.5, 0.2, 0.0),
        "sft": (0.7, 0.9, 5.0),
        "dpo": (0.8, 1.9, 9.0),
        "grpo": (0.6, 0.8, 2.0),
        "rloo": (0.65, 0.7, 0.5),
        "ppo": (0.4, 0.1, 3.0),
    }
    found = {name: dict(zip(("win_rate", "sentiment", "kl"), one)) for name, one in outcome.items()}
    made = {name: f"made {name}" for name in (*TRAINERS, "reward")}

    def train_all(lm, judged, cfg, log):
        assert judged == "judged 3"
        log.write(0, sft_loss_gap=2e-7)
        return made, 500

    def measure(policies, lm, cfg, seed, log):
        assert policies == {"base": "the base", **made}
        asked.append(("measured", seed))
        return found

    def write(lm, cfg, seed):
        asked.append(("written", seed))
        return f"judged {seed}", f"pairs {seed}"

    monkeypatch.setattr(lesson, "load_model", lambda *_: BASE)
    monkeypatch.setattr(lesson, "write_and_judge", write)
    monkeypatch.setattr(lesson, "train_all", train_all)
    monkeypatch.setattr(trainers, "accuracy", lambda *given: asked.append(("accuracy", *given)) or 0.55)
    monkeypatch.setattr(trainers, "measure", measure)
    monkeypatch.setattr(trainers, "show", lambda found, ends, log: shown.append(ends))
    log = RunLog(tmp_path, "D7")
    lesson.main(dataclasses.replace(SMOKE, seed=3, beta=0.1, num_eval_texts=100), log)
    values = values_of(log)
    far = asked[1][1]
    assert far > 1000, "seeds of training are small numbers"
    assert asked == [
        ("written", 3),
        ("written", far),
        ("accuracy", "made reward", BASE, f"judged {far}"),
        ("measured", far),
    ]
    assert log.last("reward_accuracy") == 0.55
    assert log.kept["unseen"] == f"judged {far}"
    assert (log.kept["judged"], log.kept["pairs"]) == ("judged 3", "pairs 3")
    assert values == {
        "sft_loss_gap": 2e-7,
        "texts_asked": 250.0,
        "win_rate": 0.6,  # PPO learns from a reward model
        "penalty_paid": pytest.approx(min(0.8 - 0.2 - 0.1 * 2.0, 0.7 - 0.2 - 0.1 * 0.5)),
    }
    assert log.claims[1].near == (56.0, 0.0)
    half = 1.96 * (0.7 * 0.3 / 100) ** 0.5
    assert shown[0]["sft"] == pytest.approx((0.7 - half, 0.7 + half))


def test_each_trainer_is_run_and_what_it_made_has_its_name(tmp_path, monkeypatch):
    events = []

    @contextlib.contextmanager
    def saved(lm):
        yield "folder"

    def trainer(name, place=1):
        def make(*given):
            events.append(f"make {name}" if place else f"make {given[0]}")
            assert "folder" in given
            if name == "ppo":
                assert given[1].name == "reward"
            if not place:
                given[2](["i"], ["saw it"])
            return given[0] if not place else name

        return make

    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, 2, 3]])
    loss = 1.01 * lesson.sft_loss(logits, labels).item()
    for name in ("sft", "reward", "dpo", "ppo"):
        monkeypatch.setattr(lesson, name, trainer(name))
    monkeypatch.setattr(lesson, "groups", trainer("groups", 0))
    monkeypatch.setattr(lesson, "run", lambda made, name, log: events.append(f"run {name}") or Named(made))
    monkeypatch.setattr(trainers, "saved", saved)
    monkeypatch.setattr(trainers, "loss_of", lambda made: events.append("loss") or (loss, logits, labels))
    log = RunLog(tmp_path, "D7")
    made, asked = lesson.train_all(BASE, NOTHING, SMOKE, log)
    log.close()
    assert events[:3] == ["make sft", "loss", "run sft"], "the loss before the first step"
    assert {name: one.name for name, one in made.items()} == {name: name for name in TRAINERS}
    assert asked == 2, "GRPO and RLOO have one rule that counts"
    assert log.last("sft_loss_gap") == pytest.approx(0.01, rel=1e-4)


def test_what_is_judged_hangs_on_the_seed(monkeypatch):
    """Else texts to learn from would be those to measure by, and all seeds' the same."""
    asked = []

    def write(lm, num, num_tokens, seed):
        asked.append((num, num_tokens, seed))
        return trainers.Written({}, ["the film was"] * 56, ["great"] * 28 + ["dull"] * 28)

    monkeypatch.setattr(trainers, "write", write)
    monkeypatch.setattr(trainers.Written, "pairs", lambda self, rows: (NOTHING, {}))
    monkeypatch.setattr(lesson, "rule", lambda prompts, texts: [float(text == "great") for text in texts])
    for seed in (3, 4):
        lesson.write_and_judge(BASE, SMOKE, seed)
    assert asked == [(56, SMOKE.num_tokens, 3), (56, SMOKE.num_tokens, 4)]


def test_policies_are_judged_alike_with_the_seed_that_is_asked(tmp_path, monkeypatch):
    asked = []

    def judge(policy, lm, num, num_tokens, seed):
        asked.append((policy.name, num, num_tokens, seed))
        return {"win_rate": 0.1 * len(asked)}, []

    monkeypatch.setattr(trainers, "judge", judge)
    log = RunLog(tmp_path, "D7")
    log.write(0, sft_cpu_seconds=3.0, sft_megabytes=7.0)
    policies = {name: Named(name) for name in ("base", "sft", "reward")}
    found = trainers.measure(policies, BASE, SMOKE, 9, log)
    log.close()
    assert asked == [(name, SMOKE.num_eval_texts, SMOKE.num_tokens, 9) for name in ("base", "sft")]
    assert found["sft"] == {"win_rate": pytest.approx(0.2), "cpu_seconds": 3.0, "megabytes": 7.0}
    assert log.last("sft_win_rate") == pytest.approx(0.2)


# What the evidence measures


def test_ours_are_measured_as_the_librarys_are(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def saved(lm):
        yield "folder"

    asked = []
    wins = {"sft": 0.7, "dpo": 0.66, "grpo": 0.62, "rloo": 0.64, "ppo": 0.3}

    def train_all(lm, judged, pairs, reward_model, cfg, timed):
        assert (lm, judged, pairs, reward_model) == (BASE, NOTHING, "pairs", "scorer")
        assert cfg.num_batches == SMOKE.num_batches, "on the lesson's own budget"
        return {
            f"ours_{name}": timed(f"ours_{name}", lambda name=name: Named(name)) for name in (*wins, "reward")
        }

    def measure(policies, lm, cfg, seed, log):
        assert {name: one.name for name, one in policies.items()} == {
            f"ours_{name}": name for name in (*wins, "reward")
        }
        asked.append(seed)
        return {f"ours_{name}": {"win_rate": win} for name, win in wins.items()}

    monkeypatch.setattr(evidence, "saved", saved)
    for name in ("claim_losses", "claim_precision", "claim_step_size", "draw_table"):
        monkeypatch.setattr(evidence, name, lambda *_: None)
    monkeypatch.setattr(ours, "train_all", train_all)
    monkeypatch.setattr(ours, "Logits", lambda scorer: f"{scorer.name}, called as a classifier")
    monkeypatch.setattr(trainers, "accuracy", lambda *given: asked.append(given) or 0.6)
    monkeypatch.setattr(evidence, "measure_policies", measure)
    log = RunLog(tmp_path, "D7")
    log.keep(lm=BASE, judged=NOTHING, pairs="pairs", unseen="unseen", made={"reward": "scorer"})
    evidence.measure(dataclasses.replace(SMOKE, seed=2), evidence.Config(), log)
    assert values_of(log) == {"our_win_rate": 0.62}
    assert asked == [("reward, called as a classifier", BASE, "unseen"), 2 + lesson.FAR]
    assert log.last("ours_reward_accuracy") == 0.6
    assert log.last("ours_sft_cpu_seconds") >= 0.0


def test_the_largest_gap_of_five_is_claimed(tmp_path, monkeypatch):
    gaps = {"grpo": 2e-6, "rloo": 3e-6}
    monkeypatch.setattr(evidence, "reward_gap", lambda lm, few, cfg, folder: 1e-6 * len(few.prompt))
    monkeypatch.setattr(evidence, "dpo_gap", lambda lm, few, tensors, *_: 1e-3 * len(tensors["labels"]))
    monkeypatch.setattr(evidence, "group_gap", lambda name, *_: gaps[name])
    monkeypatch.setattr(evidence, "ppo_gap", lambda lm, scorer, tensors: 1e-7)
    log = RunLog(tmp_path, "D7")
    judged = trainers.Judged(*(list("abcdefghijk") for _ in range(3)))
    evidence.claim_losses(BASE, judged, {"labels": torch.ones(11)}, Named("reward"), SMOKE, "folder", log)
    assert values_of(log) == {"trl_loss_gap": pytest.approx(8e-3)}
    assert log.last("trl_gap_reward") == pytest.approx(8e-6)
    assert log.last("trl_gap_rloo") == 3e-6


def wrong_reward(monkeypatch):
    right = evidence.bradley_terry_loss
    monkeypatch.setattr(evidence, "bradley_terry_loss", lambda chosen, rejected: right(rejected, chosen))
    return lambda lm, few, tensors, *how: evidence.reward_gap(lm, few, *how)


def wrong_dpo(monkeypatch):
    right = evidence.dpo_lesson.pair_loss

    def pair_loss(*given):
        loss, ratios = right(*given)
        return 1.01 * loss, ratios

    monkeypatch.setattr(evidence.dpo_lesson, "pair_loss", pair_loss)
    return evidence.dpo_gap


def policy_gap(lm, few, tensors, *how):
    return evidence.ppo_gap(lm, lesson.reward(lm, few, *how).model.eval(), tensors)


def wrong_score(monkeypatch):
    right = ours.scores
    monkeypatch.setattr(ours, "scores", lambda *given: right(*given) + 0.01 * (torch.arange(8) == 7))
    return policy_gap


def wrong_whitening(monkeypatch):
    right = evidence.whiten
    monkeypatch.setattr(evidence, "whiten", lambda numbers, mask: 1.01 * right(numbers, mask))
    return policy_gap


@pytest.mark.parametrize("wrong", [wrong_reward, wrong_dpo, wrong_score, wrong_whitening])
def test_a_loss_of_ours_that_is_another_is_noticed(wrong, lm, written, folder, monkeypatch):
    judged, pairs = written
    few = trainers.Judged(*(column[:8] for column in judged))
    tensors = {name: values[:8] for name, values in pairs.items()}
    gap = wrong(monkeypatch)
    with silence():
        assert gap(lm, few, tensors, dataclasses.replace(SMOKE, **evidence.SMALL), folder) > 1e-3


def test_how_far_a_weight_moved_and_how_far_adam_can_carry_it(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    made = SimpleNamespace(
        model=model, args=SimpleNamespace(learning_rate=1e-3), state=SimpleNamespace(global_step=5)
    )

    def run(trainer, name, log):
        trainer.model.weight.data[1, 0] -= 0.02  # in place, as an optimiser does
        trainer.model.bias.data += 0.005
        return trainer.model

    dpo = SimpleNamespace(dpo=lambda *_: made)
    monkeypatch.setattr(evidence, "edited", lambda _, edit: dpo if edit.says == says else None)
    says = edits_of(find("D7"))["default_rate"].says
    monkeypatch.setattr(evidence, "run", run)
    log = RunLog(tmp_path, "D7")
    evidence.claim_step_size(BASE, NOTHING, SMOKE, "folder", log)
    assert values_of(log) == {"default_step_size": pytest.approx(0.02)}
    assert log.claims[0].at_most == pytest.approx(5e-3 * 0.1 / 0.001**0.5 + 1e-7)


def test_sixteen_bits_are_measured_against_the_loss_of_the_same_logits(tmp_path, monkeypatch):
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, 2, 3], [-100, 1, -100]])
    loss = 0.98 * lesson.sft_loss(logits, labels).item()
    says = edits_of(find("D7"))["sixteen_bits"].says
    sft = SimpleNamespace(sft=lambda *_: "in sixteen")
    monkeypatch.setattr(evidence, "edited", lambda _, edit: sft if edit.says == says else None)
    monkeypatch.setattr(
        evidence, "loss_of", lambda made: (loss, logits, labels) if made == "in sixteen" else None
    )
    log = RunLog(tmp_path, "D7")
    evidence.claim_precision(BASE, NOTHING, SMOKE, "folder", log)
    assert values_of(log) == {"sixteen_bits": pytest.approx(0.02, rel=1e-4)}


# Our own trainers


@pytest.fixture
def lowered(monkeypatch):
    """What `learn_pairs` is asked to lower: (model, loss of rows, number of pairs)."""
    asked = []

    def learn_pairs(model, loss_of, num, cfg):
        asked.append((model, loss_of, num))
        return model

    monkeypatch.setattr(ours, "learn_pairs", learn_pairs)
    return asked


def log_prob(model, tokenizer, prompt, text):
    """Of a text behind its prompt, alone: (sum, number of tokens)."""
    ids, start = torch.tensor([tokenizer(prompt + text).input_ids]), len(tokenizer(prompt).input_ids)
    logs = model(input_ids=ids).logits[0].log_softmax(-1)
    chosen = [logs[t - 1, ids[0, t]] for t in range(start, ids.shape[1])]
    return sum(chosen), len(chosen)


def test_our_sft_and_dpo_lower_what_the_lessons_say(lm, written, lowered):
    judged, pairs = written
    cfg, rows = dataclasses.replace(SMOKE, beta=0.7), torch.tensor([2, 0, 5])
    ours.sft(lm, pairs, cfg)
    ours.dpo(lm, pairs, cfg)
    generator = torch.Generator().manual_seed(0)
    (imitates, of_texts, num), (prefers, of_pairs, same) = lowered
    assert num == same == len(judged.prompt)
    for model in (imitates, prefers):
        assert model is not lm.model
        assert all(weight.requires_grad for weight in model.parameters())
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
    with torch.no_grad():
        texts = [log_prob(imitates, lm.tokenizer, judged.prompt[i], judged.chosen[i]) for i in rows.tolist()]
        expected = -sum(one for one, _ in texts) / sum(num for _, num in texts)
        assert of_texts(rows).item() == pytest.approx(expected.item(), abs=1e-4)
        losses = []
        for i in rows.tolist():
            sides = judged.chosen[i], judged.rejected[i]
            ratios = [
                log_prob(prefers, lm.tokenizer, judged.prompt[i], side)[0]
                - log_prob(lm.model, lm.tokenizer, judged.prompt[i], side)[0]
                for side in sides
            ]
            losses.append(-torch.nn.functional.logsigmoid(0.7 * (ratios[0] - ratios[1])))
        assert of_pairs(rows).item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)


def test_our_reward_model_lowers_bradley_and_terrys_loss(lm, written, lowered):
    judged, _ = written
    ours.reward(lm, judged, SMOKE)
    ((scorer, loss_of, num),) = lowered
    assert num == len(judged.prompt)
    rows = torch.tensor([1, 4])

    def score(text):
        batch = lm.tokenizer(text, return_tensors="pt")
        return scorer(batch["input_ids"], batch["attention_mask"])[0]

    with torch.no_grad():
        gaps = [score(judged.whole("chosen")[i]) - score(judged.whole("rejected")[i]) for i in rows.tolist()]
        expected = -torch.stack(gaps).sigmoid().log().mean().item()
        assert loss_of(rows).item() == pytest.approx(expected, abs=1e-5)


def test_our_group_methods_learn_from_each_batch_as_often_as_asked(lm, monkeypatch):
    cfg = dataclasses.replace(SMOKE, num_batches=3, num_epochs=2, beta=0.5)
    seen, stepped = [], []

    def collect(policy, reference, task, rng, generator, settings):
        assert reference is lm.model
        assert policy is not lm.model
        assert (settings.num_prompts * settings.group_size, settings.group_size) == (56, 4)
        assert settings.beta == 0.5
        seen.append({"place": len(seen)})
        return seen[-1]

    def rloo_loss(log_probs, batch):
        assert batch["advantages"] == f"of {batch['place']}"
        stepped.append(batch["place"])
        return log_probs.sum()

    monkeypatch.setattr(ours.grpo_lesson, "collect", collect)
    monkeypatch.setattr(
        ours.grpo_lesson, "update", lambda policy, optimizer, batch, settings: stepped.append(batch["place"])
    )
    monkeypatch.setattr(ours, "rloo_advantages", lambda batch, cfg: f"of {batch['place']}")
    monkeypatch.setattr(ours, "rloo_loss", rloo_loss)
    monkeypatch.setattr(ours.tasks, "log_probs_of", lambda policy, batch: next(policy.parameters()))
    ours.groups("grpo", lm, cfg)
    assert stepped == [0, 1, 2], "its update passes over the batch itself"
    seen.clear(), stepped.clear()
    ours.groups("rloo", lm, cfg)
    assert stepped == [0, 0, 1, 1, 2, 2]


def test_our_ppo_is_paid_by_the_reward_model_for_whole_texts(lm, written, monkeypatch):
    batches, updated = [], []

    def collect(policy, reference, task, generator, settings):
        assert reference is lm.model
        assert (settings.num_prompts, settings.num_epochs, settings.beta) == (56, 1, 0.2)
        batches.append(task)
        return len(batches)

    monkeypatch.setattr(ours.ppo_lesson, "collect", collect)
    monkeypatch.setattr(ours, "update", lambda policy, optimizer, batch, *_: updated.append(batch))
    ours.ppo(lm, Alike(-1.0), dataclasses.replace(SMOKE, num_batches=2))
    assert updated == [1, 2]
    _, pairs = written
    task, rows = batches[0], torch.tensor([3, 1])
    ids = torch.where(pairs["completion_mask"][:2, 0], pairs["completion_ids"][:2, 0], task.pad_id)
    lengths = task.prompt_mask[rows].sum(dim=1) + pairs["completion_mask"][:2, 0].sum(dim=1)
    assert task.score(rows, ids).tolist() == (-lengths).tolist()


def test_ours_have_the_names_of_what_they_learnt_by(monkeypatch):
    for name in ("sft", "dpo"):
        monkeypatch.setattr(ours, name, lambda lm, pairs, cfg, name=name: Named((name, *pairs)))
    monkeypatch.setattr(ours, "reward", lambda lm, judged, cfg: Named(("reward", *judged.prompt)))
    monkeypatch.setattr(ours, "groups", lambda name, lm, cfg: Named((name,)))
    monkeypatch.setattr(ours, "ppo", lambda lm, scorer, cfg: Named(("ppo", scorer)))
    judged, pairs = trainers.Judged(["asked"], [""], [""]), {"of pairs": torch.zeros(1)}
    found = ours.train_all(BASE, judged, pairs, "scorer", SMOKE, lambda name, work: work())
    assert {name: made.name for name, made in found.items()} == {
        "ours_sft": ("sft", "of pairs"),
        "ours_reward": ("reward", "asked"),
        "ours_dpo": ("dpo", "of pairs"),
        "ours_grpo": ("grpo",),
        "ours_rloo": ("rloo",),
        "ours_ppo": ("ppo", "scorer"),
    }


def test_the_text_says_of_our_trainers_beside_the_librarys_what_was_recorded():
    """SFT and DPO end alike; GRPO and RLOO gain more with ours; PPO gains nothing."""
    runs = [run["metrics"] for run in ledger.load(find("D7"))["runs"]]
    gained = {
        name: np.array([run[f"ours_{name}_sentiment"] - run[f"{name}_sentiment"] for run in runs])
        for name in ("sft", "dpo", "grpo", "rloo")
    }
    assert max(np.abs(gained[name]).max() for name in ("sft", "dpo")) < 0.06, '"end as the library\'s do"'
    assert min(gained[name].min() for name in ("grpo", "rloo")) > 0.0, '"gain more"'
    reward, kl = (
        {
            name: np.median([run[f"{name}_{what}"] for run in runs])
            for name in ("sft", "dpo", "grpo", "rloo", "ppo")
        }
        for what in ("sentiment", "kl")
    )
    assert max(reward, key=reward.get) == max(kl, key=kl.get) == "dpo", '"most reward", "goes farthest"'
    assert max(reward, key=lambda name: reward[name] / kl[name]) == "grpo", '"most for its divergence"'
    assert kl["grpo"] < kl["sft"] / 4, '"a fraction of the divergence"'


def test_rloo_weighs_a_whole_text_by_one_clipped_ratio():
    """Two texts, 0.5 and 1.5 times as likely as when they were written; the last token does not count."""
    old = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -1.0, -9.0]])
    now = old + torch.tensor([[math.log(0.5), 0.0, 7.0], [math.log(1.2), math.log(1.25), 7.0]])
    batch = {
        "completion_mask": torch.tensor([[True, True, False]] * 2),
        "old_log_probs": old,
        "advantages": torch.tensor([1.0, 2.0]),
    }
    assert ours.rloo_loss(now, batch).item() == pytest.approx(-(0.5 * 1.0 + 1.2 * 2.0) / 2)
    batch["advantages"] = torch.tensor([-1.0, -2.0])
    assert ours.rloo_loss(now, batch).item() == pytest.approx((0.8 * 1.0 + 1.5 * 2.0) / 2)
