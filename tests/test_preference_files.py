"""Preferences of one's own: the first fault in one clear line, tokens that fit, and lessons that learn."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from chapters.course import cli
from chapters.D_rlhf import D3_reward_model as D3
from chapters.D_rlhf import D4_direct_preference_optimization as D4
from chapters.D_rlhf import D6_text_rewriter as D6
from chapters.D_rlhf.checks.D6 import small_model
from chapters.envs import rewriter as office
from chapters.envs.reviews import PROMPTS
from chapters.rating import Pair, RatingStore, ScriptedRater, Session
from chapters.rating.__main__ import write
from chapters.text import own_pairs
from chapters.text.models import LoadedModel, make_model, make_tokenizer
from chapters.text.preference_files import Preference, check, prompt_of, read, split
from chapters.text.recipes import review_recipe
from chapters.utils import RunLog, UsageError
from chapters.utils.lesson import RunOptions, execute

CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} <eos> {% endfor %}"
CHAT += "{% if add_generation_prompt %}<assistant> {% endif %}"


def rows(num=14, chat=False):
    """Pairs after the reviews' prompts, in words that the tiny model knows: the warm one is preferred."""
    found = []
    for i in range(num):
        prompt = PROMPTS[i % len(PROMPTS)]
        chosen, rejected = f"{'rather ' * (i // len(PROMPTS))}brilliant .", f"{'rather ' * (i % 3)}dull ."
        row = {"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}
        if chat:
            who = {"prompt": "user"}
            row = {k: [{"role": who.get(k, "assistant"), "content": v.strip()}] for k, v in row.items()}
        found.append(row)
    return found


def save(path, lines):
    """A file of lines: objects, or what a careless hand wrote."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def one_line(path) -> str:
    with pytest.raises(UsageError) as refused:
        read(path)
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith(f"--pairs {path}")
    return said


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


GOOD = {"prompt": "the film was", "chosen": " good", "rejected": " bad"}
TALK = {"prompt": [user("hi")], "chosen": [bot("hello")], "rejected": [bot("no")]}
FAULTS = {
    "not JSON": (b"prompt: the film", "no JSON: expecting value at letter 1"),
    "single quotes": (b"{'prompt': 'a'}", "no JSON: .*double quotes.* at letter 2"),
    "a list": ([GOOD], "a list, no object"),
    "a number": (7, "a number, no object"),
    "no column": ({"prompt": "a", "chosen": "b"}, r"no column 'rejected' \(allowed: prompt, chosen, rej"),
    "a strange column": ({**GOOD, "score": 1}, "unknown column 'score'"),
    "a column twice": (b'{"chosen": "a", "chosen": "b", "rejected": "c"}', "'chosen' stands twice"),
    "a number for a text": ({**GOOD, "chosen": 3}, r"chosen is a number \(allowed: a text or a list"),
    "null": ({**GOOD, "rejected": None}, "rejected is null"),
    "an object": ({**GOOD, "prompt": {"role": "user"}}, "prompt is an object"),
    "an empty text": ({**GOOD, "chosen": "  "}, "chosen is empty"),
    "the same": ({**GOOD, "rejected": " good "}, "chosen and rejected are the same"),
    "no shared prompt": ({"chosen": "a b", "rejected": "c d"}, "do not begin alike"),
    "one word torn": ({"chosen": "good", "rejected": "great"}, "do not begin alike"),
    "a goes on": ({"chosen": "the film ", "rejected": "the film was"}, "empty behind what they share"),
    "not UTF-8": (b'{"prompt": "\xe9t\xe9"}', r"no UTF-8 \(byte 13 is 0xe9\)"),
    "a NUL byte": (b'{"prompt": "a\0"}', "a NUL byte"),
    "a NUL escaped": ({**GOOD, "prompt": "a\0b"}, "prompt has a NUL in it"),
    "half a letter": ({**GOOD, "prompt": "\ud800"}, r"half a letter in it, '\\ud800'"),
    "NaN": (b'{"prompt": NaN, "chosen": "a", "rejected": "b"}', "NaN, which is no JSON"),
    "an empty line": (b"", "an empty line"),
    "brackets without end": (b"[" * 100_000, "JSON that nobody can read"),
    "a duplicate": (rows()[0], "the same as line 1"),
    "texts and messages": ({**GOOD, "prompt": [user("hi")]}, "texts and messages in one line"),
    "another form": (TALK, "messages, though line 1 has texts"),
    "no message": ({**TALK, "chosen": []}, "chosen is empty"),
    "a message of text": ({**TALK, "chosen": ["hello"]}, "message 1 of chosen is a text"),
    "a message too rich": ({**TALK, "prompt": [{**user("a"), "name": "x"}]}, "'role', 'content', 'name'"),
    "a strange role": ({**TALK, "prompt": [{"role": "human", "content": "a"}]}, "the role 'human'"),
    "a picture": ({**TALK, "prompt": [{"role": "user", "content": [1]}]}, "message 1 of prompt holds a list"),
    "a silent message": ({**TALK, "chosen": [bot("")]}, "message 1 of chosen is empty"),
    "the answer first": ({**TALK, "prompt": [bot("hi")]}, "end of chosen: assistant, assistant"),
    "the user twice": ({**TALK, "prompt": [user("a"), user("b")]}, "end of chosen: user, user"),
    "the user last": ({**TALK, "chosen": [bot("a"), user("b")]}, "roles up to the end of chosen"),
    "no question": ({"chosen": [bot("a")], "rejected": [bot("b")]}, "roles up to the end of chosen: assis"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "says"), FAULTS.values(), ids=FAULTS)
def test_the_first_faulty_line_is_named_in_one_line(line, says, tmp_path):
    lines = rows()
    lines[4:4] = [line, b"worse still"]
    said = one_line(save(tmp_path / "own.jsonl", lines))
    assert said.startswith(f"--pairs {tmp_path / 'own.jsonl'}, line 5: ")
    assert re.search(says, said), said


def test_a_file_that_was_cut_off_is_known_by_its_last_line(tmp_path):
    path = save(tmp_path / "own.jsonl", rows())
    path.write_bytes(path.read_bytes()[:-9])
    assert "line 14: no JSON" in (said := one_line(path))
    assert "the last and not closed: was the file cut off?" in said


def test_what_is_no_file_to_learn_from_is_told(tmp_path, monkeypatch):
    path = tmp_path / "own.jsonl"
    assert "there is no such file" in one_line(path)
    assert "is a folder" in one_line(tmp_path)
    path.write_bytes(b"\n \n")
    assert "is empty" in one_line(path)
    save(path, rows(9))
    assert "9 pairs are too few (allowed: at least 10)" in one_line(path)
    save(path, [{**row, "prompt": PROMPTS[i % 4]} for i, row in enumerate(rows(12))])
    assert "4 different prompts are too few" in one_line(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "line 1: begins with a byte order mark" in one_line(path)
    path.write_bytes(json.dumps(rows()).encode("utf-16"))
    assert "line 1: no UTF-8" in one_line(path)
    monkeypatch.setattr("chapters.text.preference_files.MOST_BYTES", 100)
    assert "MiB (allowed: at most" in one_line(path)


def test_what_is_right_is_read(tmp_path):
    """Closed or not, with Windows' line ends, letters of all kinds, a system's message, several turns."""
    lines = [{**row, "prompt": f"{row['prompt']} \u2028 é 猫"} for row in rows()]
    path = save(tmp_path / "own.jsonl", lines)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    assert [row.prompt for row in read(path)] == [line["prompt"] for line in lines]
    talk = [{"role": "system", "content": "be brief"}, user("hi"), bot("hello"), user("and?")]
    lines = [{**row, "prompt": [*talk[:-1], user(f"what of {i}?")]} for i, row in enumerate(rows(chat=True))]
    assert read(save(path, lines))[3].prompt[-1] == user("what of 3?")


def test_a_prompt_that_both_begin_with_is_taken_off(tmp_path):
    lines = [{key: f"{row['prompt']}{row[key]}" for key in ("chosen", "rejected")} for row in rows()]
    found = read(save(tmp_path / "own.jsonl", lines))
    assert found == [Preference(i, *row.values()) for i, row in enumerate(rows(), 1)]
    lines = [{key: row["prompt"] + row[key] for key in ("chosen", "rejected")} for row in rows(chat=True)]
    found = read(save(tmp_path / "own.jsonl", lines))
    assert found == [Preference(i, *row.values()) for i, row in enumerate(rows(chat=True), 1)]


def test_no_prompt_is_on_both_sides_of_the_split(tmp_path):
    found = read(save(tmp_path / "own.jsonl", rows(28)))
    learn, test = split(found, seed=0)
    assert sorted(learn + test) == found
    assert not {prompt_of(row) for row in learn} & {prompt_of(row) for row in test}
    assert len({prompt_of(row) for row in test}) == 3  # of 14
    assert [row.line for row in learn] != sorted(row.line for row in learn)
    assert split(found, seed=0) == (learn, test)
    assert split(found, seed=1) != (learn, test)


def bpe(**special):
    """A tokenizer in which `x y` and `xy` are one token, whatever lies between their letters."""
    ids = {"<eos>": 0, "<unk>": 1, "x": 2, "y": 3, "z": 4, "xy": 5, " ": 6}
    tokenizer = Tokenizer(models.BPE(ids, [("x", "y")], unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>", **special
    )


def test_a_word_across_the_border_is_not_cut():
    """Made apart, `z x` and `y` would be tokens 4 2 | 3, which no text `zxy` is ever made of."""
    tokenizer = bpe()
    assert tokenizer("zx")["input_ids"] + tokenizer("y")["input_ids"] == [4, 2, 3]
    found = own_pairs.token_ids(tokenizer, Preference(1, "zx", "yz", "zz"))
    assert found == ([4], [5, 4, 0], [2, 4, 4, 0])  # zxyz is z xy z: the x of zxzz goes to its completion
    found = own_pairs.token_ids(tokenizer, Preference(1, "zx", "z", "x"))
    assert found == ([4, 2], [4, 0], [2, 0])  # nothing lies across: as if they had been made apart
    found = own_pairs.token_ids(tokenizer, Preference(1, "x", "y", "z"))
    assert found == ([0], [5, 0], [2, 4, 0])  # no token is left to the prompt: as at the beginning of a text
    found = own_pairs.token_ids(tokenizer, Preference(1, "z", "x<eos>", "y"))
    assert found == ([4], [2, 0], [3, 0])  # who closed his text has closed it


def small(chat=""):
    """A model of 16 units with the tiny one's words, and a chat template if that is given."""
    recipe = dataclasses.replace(review_recipe(2), width=16, num_layers=1, num_heads=2)
    recipe = dataclasses.replace(recipe, vocabulary=(*recipe.vocabulary, "<user>", "<assistant>", "<system>"))
    tokenizer = make_tokenizer(recipe)
    tokenizer.chat_template = chat or None
    torch.manual_seed(0)
    return LoadedModel(make_model(recipe, len(tokenizer)).eval(), tokenizer)


def test_messages_go_through_the_models_own_template():
    _, tokenizer = small(CHAT)
    row = Preference(1, [user("the film was")], [bot("dull .")], [bot("brilliant .")])
    found = own_pairs.token_ids(tokenizer, row)
    said = [" ".join(tokenizer.convert_ids_to_tokens(part)) for part in found]
    assert said == ["<user> the film was <eos> <assistant>", "dull . <eos>", "brilliant . <eos>"]


def test_words_that_the_model_does_not_know_and_texts_too_long_are_told(tmp_path):
    lm, lines = small(), rows()
    cfg = D4.Config(pairs=save(tmp_path / "own.jsonl", lines))
    lines[6] = {**lines[6], "chosen": " zig", "rejected": " zag"}
    save(cfg.pairs, lines)
    with pytest.raises(UsageError, match="line 7: chosen and rejected are the same tokens for this model"):
        own_pairs.batches(cfg, lm, RunLog(tmp_path / "run", "D4"))
    lines[6] = {**lines[6], "chosen": " dull" * 70, "rejected": " funny"}
    save(cfg.pairs, lines)
    says = r"line 7: 72 tokens are too long for the model \(prompt 1, chosen 71, rejected 2\) .*at most 48"
    with pytest.raises(UsageError, match=says):
        own_pairs.batches(cfg, lm, RunLog(tmp_path / "run", "D4"))
    save(cfg.pairs, rows(chat=True))
    with pytest.raises(UsageError, match="line 1: messages, and the model has no chat template"):
        own_pairs.batches(dataclasses.replace(cfg, model="folder"), lm, RunLog(tmp_path / "run", "D4"))
    lm.tokenizer.chat_template = "{{ raise_exception('only pairs') }}"
    with pytest.raises(UsageError, match="line 1: the model's chat template refuses it"):
        own_pairs.batches(dataclasses.replace(cfg, model="folder"), lm, RunLog(tmp_path / "run", "D4"))


def test_padding_stands_where_the_lessons_want_it():
    pairs = [own_pairs.Tokens([5], [6, 0], [7, 8, 0]), own_pairs.Tokens([3, 4], [6, 0], [9, 0])]
    batch = own_pairs.as_batch(pairs, pad_id=1)
    assert batch["prompt_ids"].tolist() == [[1, 5], [3, 4]]
    assert batch["prompt_mask"].tolist() == [[0, 1], [1, 1]]
    assert batch["completion_ids"].tolist() == [[[6, 0, 1], [7, 8, 0]], [[6, 0, 1], [9, 0, 1]]]
    assert batch["completion_mask"].sum(-1).tolist() == [[2, 3], [2, 2]]
    assert batch["labels"].tolist() == [1.0, 1.0]
    texts = own_pairs.as_texts(pairs, pad_id=1)
    assert texts["ids"].tolist() == [[[5, 6, 0, 1], [3, 4, 6, 0]], [[5, 7, 8, 0], [3, 4, 9, 0]]]
    assert texts["mask"].sum(-1).tolist() == [[3, 4], [4, 4]]


def test_held_out_accuracy_is_a_share_of_pairs(tmp_path, capsys):
    log = RunLog(tmp_path, "D4")
    own_pairs.claim(torch.tensor([1.0, 2.0, -1.0, 0.0]), log, "win_rate")
    assert log.claims[0].value == log.last("own_accuracy") == 0.625
    assert "62.5% of 4 held-out pairs" in (said := capsys.readouterr().out)
    assert "Left out" in said
    assert "win_rate" in said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a small model with a chat template."""
    place = tmp_path_factory.mktemp("model")
    for part in small(CHAT):
        part.save_pretrained(place)
    return place


@pytest.mark.parametrize("chat", [False, True], ids=["texts", "messages"])
@pytest.mark.parametrize("own", [False, True], ids=["tiny", "a folder"])
def test_d4_learns_them(own, chat, folder, tmp_path):
    path = save(tmp_path / "own.jsonl", rows(28, chat))
    cfg = D4.Config(
        **D4.SMOKE | {"pretrain_steps": 20, "num_epochs": 4, "batch_size": 8, "learning_rate": 3e-3}
    )
    cfg = dataclasses.replace(cfg, pairs=path, model=str(folder) if own else "tiny")
    log = RunLog(tmp_path / "run", "D4", smoke=True)
    D4.main(cfg, log)
    assert [claim.name for claim in log.claims] == ["first_margin", "own_accuracy"]
    assert all(claim.holds for claim in log.claims)
    assert log.last("own_accuracy") == 1.0  # of prompts that it never saw
    assert log.last("dpo_margin") > 0.1


def test_d3_learns_them(folder, tmp_path):
    for lines, model in ((rows(28), "tiny"), (rows(28, chat=True), str(folder))):
        path = save(tmp_path / "own.jsonl", lines)
        cfg = D3.Config(
            **D3.SMOKE | {"num_epochs": 15, "batch_size": 8, "learning_rate": 3e-3}, pairs=path, model=model
        )
        log = RunLog(tmp_path / model.replace("/", ""), "D3", smoke=True)
        D3.main(cfg, log)
        assert [claim.name for claim in log.claims] == ["padding_gap", "own_accuracy"]
        assert all(claim.holds for claim in log.claims)
        assert log.last("own_accuracy") == 1.0
    with pytest.raises(UsageError, match="are fewer than --batch-size 64"):
        D3.main(dataclasses.replace(cfg, batch_size=64), log)


def exported(tmp_path, chat):
    """What a script prefers of D6's pairs, rated, and exported as `rl rate export` does."""
    asked = office.draw_requests(np.random.default_rng(0), 20)
    pairs = [
        Pair(str(i), one.text, f"please {one.core} , thank you .", f"{one.core} now .")
        for i, one in enumerate(asked)
    ]
    with RatingStore(tmp_path / "ratings.sqlite") as store:
        ScriptedRater(office.prefers).rate(Session(pairs, store))
    said = write(tmp_path / "ratings.sqlite", tmp_path / "own.jsonl", chat)
    assert said.startswith("20 exported, 0 contradictory")
    return pairs, tmp_path / "own.jsonl"


@pytest.mark.parametrize("chat", [False, True], ids=["texts", "messages"])
def test_exported_ratings_are_read(chat, tmp_path):
    """As messages they are, for D6, the same columns of texts."""
    pairs, path = exported(tmp_path, chat)
    found = {row.prompt if not chat else row.prompt[0]["content"]: row for row in read(path)}
    assert found.keys() == {pair.prompt for pair in pairs}
    check(cfg := D6.Config(pairs=path))
    log = RunLog(tmp_path / "run", "D6")
    columns = own_pairs.columns(cfg, small_model()[0], log)
    log.close()
    assert len(columns[0]) == 20
    assert {*zip(*columns)} == {(pair.prompt, pair.first, pair.second) for pair in pairs}, "polite ones"


def test_exported_ratings_teach_d6(tmp_path):
    _, path = exported(tmp_path, chat=False)
    cfg = D6.Config(**D6.SMOKE | {"rm_epochs": 12}, pairs=path, human_share=1.0)
    log = RunLog(tmp_path / "run", "D6", smoke=True)
    D6.main(cfg, log)
    assert [claim.name for claim in log.claims] == ["own_accuracy", "first_ratio_gap"]
    assert log.last("own_held_out") == 4
    assert log.last("own_accuracy") >= 0.75


def test_d6_takes_one_question_one_answer_and_one_source(tmp_path):
    path = save(tmp_path / "own.jsonl", rows())
    with pytest.raises(UsageError, match="two sources"):
        check(D6.Config(pairs=path, rate=True))
    lines = [
        {**row, "prompt": [user("a"), bot("b"), *row["prompt"]]} if i == 2 else row
        for i, row in enumerate(rows(chat=True))
    ]
    with pytest.raises(UsageError, match="line 3: prompt has 3 messages"):
        check(D6.Config(pairs=save(path, lines)))


def test_evidence_and_pairs_do_not_go_together(tmp_path):
    cfg = D4.Config(**D4.SMOKE, pairs=save(tmp_path / "own.jsonl", rows()))
    options = RunOptions(smoke=True, evidence=True, out=tmp_path)
    with pytest.raises(UsageError, match="--pairs and --evidence"):
        execute(D4.main, cfg, cli.find("D4").path, options)


def test_a_fault_is_told_before_torch_is_imported(tmp_path, capsys):
    path = save(tmp_path / "own.jsonl", [b"nothing"])
    for item in ("D3", "D4", "D6"):
        with pytest.raises(UsageError, match="line 1: no JSON"):
            cli._look_at_files(cli.find(item), ["--smoke", f"--pairs={path}"])
    cli._look_at_files(cli.find("D5"), ["--pairs", str(path)])  # which has no such flag: it says so itself
    code = "import sys, chapters.text.preference_files; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
