"""Preference pairs in the service's own format, and the request of a DPO job.

    python days/Day02/preferences.py            write data/training.jsonl and data/validation.jsonl from the review model
    python days/Day02/preferences.py --request  print the request that would create the job (nothing is sent)

The pairs are reviews that the small model wrote after the same beginning; the one with more warm words is preferred. To
send such files, see Day01's submit.py: upload, create, follow and fetch are the same, only the method differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema

from chapters.utils.files import write_atomic

HERE = Path(__file__).resolve().parent
DATA, SCHEMAS = HERE / "data", HERE / "schemas"
INSTRUCTION = "Continue this film review. Write at most three short sentences."
COUNTS = {"training": 160, "validation": 40}


def make_line(prompt: str, preferred: str, other: str) -> dict:
    """One line: the input, and the two outputs."""

    def output(text: str) -> list[dict]:
        return [{"role": "assistant", "content": text}]

    messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
    return {
        "input": {"messages": messages},
        "preferred_output": output(preferred),
        "non_preferred_output": output(other),
    }


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / "preference.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def write_pairs(seed: int = 0) -> list[dict]:
    """Lines from pairs of the small model's own reviews; the beginnings of training and validation overlap, the pairs do not."""
    import torch

    from chapters.text.models import load_model
    from chapters.text.pairs import review_pairs
    from chapters.text.recipes import review_recipe
    from chapters.utils.seeding import seed_everything

    seed_everything(seed)
    lm = load_model("tiny", review_recipe())
    wanted = sum(COUNTS.values())
    pairs = review_pairs(lm, num_pairs=2 * wanted, num_tokens=36, seed=seed)

    def texts(ids: torch.Tensor) -> list[str]:
        return [" ".join(text.split()) for text in lm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    prompts = texts(pairs["prompt_ids"])
    preferred, other = (texts(pairs["completion_ids"][:, side]) for side in (0, 1))
    # the model may end at once, and the service takes no empty output
    lines = [make_line(*texts) for texts in zip(prompts, preferred, other) if all(texts)]
    return lines[:wanted]


def write_files(lines: list[dict], folder: Path = DATA) -> None:
    folder.mkdir(exist_ok=True)
    start = 0
    for name, count in COUNTS.items():
        part = lines[start : start + count]
        start += count
        write_atomic(folder / f"{name}.jsonl", "\n".join(map(json.dumps, part)) + "\n")


def request(beta: float = 0.1) -> dict:
    """The body that creates the job, as Day01's schema wants it."""
    return {
        "model": "gpt-4.1-mini-2025-04-14",
        "training_file": "<id of training.jsonl>",
        "validation_file": "<id of validation.jsonl>",
        "suffix": "warm-reviews",
        "seed": 0,
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "batch_size": 16, "beta": beta}}},
    }


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    from experiment import heed_signals, script

    if __name__ == "__main__":
        heed_signals()

    def write() -> str:
        write_files(write_pairs())
        return f"wrote {DATA / 'training.jsonl'} and validation.jsonl"

    script({"--request": lambda: json.dumps(request(), indent=1), "": write})


if __name__ == "__main__":
    main()
