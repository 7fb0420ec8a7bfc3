"""D7 beside TRL: the defaults that the text names, small trainings, and what is optional missing."""

import ast
import dataclasses
import importlib.metadata
import re
import sys

import numpy as np
import pytest
import torch

from chapters.course.catalog import find
from chapters.course.parts import edits_of
from chapters.D_rlhf import D7_trl_trainers as lesson
from chapters.D_rlhf.evidence import D7 as evidence
from chapters.D_rlhf.evidence import D7_ours as ours
from chapters.text import trainers
from chapters.text.models import EOS, load_model
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.lesson import UsageError
from chapters.utils.optim import Adam
from chapters.utils.peers import silence

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
    written = trainers.Written({}, ["a"], ["b"])
    with pytest.raises(UsageError, match="--num-batches"):
        written.pairs(torch.zeros(0, 2, dtype=torch.long))


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
