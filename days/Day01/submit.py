"""Submit a fine-tuning job to Microsoft Foundry, or show what would be submitted.

    python days/Day01/submit.py                 dry run: check everything, print the request, send nothing
    python days/Day01/submit.py --submit        upload the files, create the job, follow it, fetch its results
    python days/Day01/submit.py --resume        follow a job that was created earlier (after Ctrl-C, or a lost line)

The address and the key come from the environment (AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_KEY; if you wish
AZURE_OPENAI_API_VERSION) and are never printed or stored. A real job costs money: the dry run is the default.
"""

from __future__ import annotations

import base64
import errno
import html
import json
import os
import re
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, quote_plus, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

import rft
import typer

from chapters.utils import stopping
from chapters.utils.files import write_atomic, write_json

if TYPE_CHECKING:
    from openai import AzureOpenAI

HERE = Path(__file__).resolve().parent
API_VERSION = "2025-04-01-preview"
FINISHED = ("succeeded", "failed", "cancelled", "paused")
"""States in which following ends. The service pauses a job that has reached its limit of cost."""
UNDER_WAY = ("validating_files", "pending", "queued", "running", "pausing", "resuming", "cancelling")
PATIENCE = 10
"""How often in a row a job may be found in a state that is in neither list before following ends."""
PAGES = 20
"""Of a list that are read: a service that always has one more is not read for ever."""
WRONG_ANSWERS = ("", "0", "999", "the sum is 42")
DONE, JOB_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class Refused(Exception):
    """Wrong input or set-up, or the service said no; one line."""


class Strange(Exception):
    """The service answered with something that this script does not know; one line."""


# What is to be sent


def check_files(folder: Path, grader: dict) -> tuple[int, int]:
    """(lines of training, lines of validation) after every check that needs no service.

    Both files pass the schema, share no prompt, and the grader gives the reference answer its highest grade
    and wrong answers less. Raises FormatError or Refused.
    """
    training, validation = (rft.read_lines(folder / f"{name}.jsonl") for name in ("training", "validation"))
    prompts = [{json.dumps(item["messages"]) for item in items} for items in (training, validation)]
    if both := prompts[0] & prompts[1]:
        raise Refused(f"{len(both)} prompts are in both files; validation must be new to the model")
    if uses_model(grader):
        return len(training), len(validation)  # such a grade is for the service to give
    for item in (*training, *validation):
        best = rft.grade(grader, item, item["reference_answer"])
        worst = max(rft.grade(grader, item, wrong) for wrong in WRONG_ANSWERS if wrong != item["reference_answer"])
        if best <= worst:
            raise Refused(f"the grader gives {item['reference_answer']!r} {best:g} and a wrong answer {worst:g}")
    return len(training), len(validation)


def uses_model(grader: dict) -> bool:
    """Whether some part of the grader is a score model, or a metric that only the service has."""
    parts = grader["graders"].values() if grader["type"] == "multi" else [grader]
    return any(part["type"] == "score_model" or part.get("evaluation_metric", "fuzzy_match") != "fuzzy_match" for part in parts)


def request(grader: dict, model: str, suffix: str, training_file: str, validation_file: str, submission: str) -> dict:
    """The body of the request that creates the job; it passes schemas/job.schema.json.

    `submission` is stored with the job, so that a request whose answer was lost can be found again.
    """
    body = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "suffix": suffix,
        "seed": 0,
        "metadata": {"submission": submission},
        "method": {
            "type": "reinforcement",
            "reinforcement": {
                "grader": grader,
                "hyperparameters": {
                    "n_epochs": 1,
                    "batch_size": 16,
                    "eval_interval": 5,
                    "eval_samples": 4,
                    "reasoning_effort": "low",
                },
            },
        },
    }
    rft.check(body, "job", "the request")
    return body


# The service


def redacted(text: object) -> str:
    """What the service said, on one line, fit to be shown, and without the key."""
    said = " ".join(without_key(str(text)).split())
    return "".join(letter if letter.isprintable() else "?" for letter in said)


def without_key(text: str) -> str:
    """A service may echo what it was sent: as it was or encoded, in letters of either case, with breaks in it."""
    key = os.environ.get("AZURE_OPENAI_API_KEY", "").strip()
    plain = {key, quote(key), quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], repr(key)[1:-1], html.escape(key)}
    for form in sorted((plain | {base64.b64encode(key.encode()).decode().rstrip("=")}) - {""}, key=len, reverse=True):
        letters = map(re.escape, "".join(form.split()))
        text = re.sub(r"\s*".join(letters), "<key>", text, flags=re.IGNORECASE)
    return text


def check_address(address: str) -> None:
    """Raises Refused for an address to which a key must not go. Its value is not shown: some hold secrets."""
    name = "AZURE_OPENAI_ENDPOINT"
    try:
        parts = urlsplit(address)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise Refused(f"{name} is no address ({error}; allowed: https://NAME.openai.azure.com)") from None
    if not address.isprintable() or set(address) & set(" ?#"):
        raise Refused(f"{name} holds spaces, ? or #: only the first part of a longer address is wanted, https://NAME.openai.azure.com")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.netloc.endswith(":") or port == 0:
        raise Refused(f"{name} is no address (allowed: https://NAME.openai.azure.com, with a number if with a port)")
    if parts.username or parts.password:
        raise Refused(f"{name} holds a name or a password: only the key in AZURE_OPENAI_API_KEY is sent")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Refused(f"{name} is plain http, which shows the key to everyone on the way (allowed: https)")


def make_client() -> AzureOpenAI:
    """A client from the environment. Raises Refused if something is missing or wrong; never shows a value."""
    missing = [name for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY") if not os.environ.get(name)]
    if missing:
        raise Refused(f"{' and '.join(missing)} must be set in the environment to submit (a dry run needs neither)")
    check_address(os.environ["AZURE_OPENAI_ENDPOINT"])
    key = os.environ["AZURE_OPENAI_API_KEY"]
    if not (key.isascii() and key.isprintable()) or key != key.strip() or len(key) > 1000:
        raise Refused("AZURE_OPENAI_API_KEY holds spaces at an end or characters that no key has: copy it again")
    try:
        from openai import AzureOpenAI, DefaultHttpxClient
    except ImportError:
        raise Refused("the openai package is missing: uv sync --extra azure") from None
    return AzureOpenAI(
        azure_endpoint=os.environ["AZURE_OPENAI_ENDPOINT"],
        api_key=key,
        api_version=os.environ.get("AZURE_OPENAI_API_VERSION", API_VERSION),
        max_retries=5,  # rate limits and lost lines, with the waiting time that the service asks for
        timeout=60.0,
        http_client=DefaultHttpxClient(follow_redirects=False),  # neither key nor files go where nobody said
    )


def known(answer: Any, *fields: str) -> Any:
    """The answer, if it has these fields. Raises Strange for a page of HTML or another service's words."""
    if missing := [field for field in fields if not has(answer, field)]:
        kind = "a page or text" if isinstance(answer, str) else f"something without {' and '.join(missing)}"
        raise Strange(f"the service answered with {kind}: is AZURE_OPENAI_ENDPOINT the address of a Foundry resource?")
    return answer


def has(answer: Any, field: str) -> bool:
    """Whether a field holds text; an id also has to be one that can stand in an address."""
    value = getattr(answer, field, None)
    return isinstance(value, str) and (field != "id" or is_id(value))


def is_id(value: Any) -> bool:
    """Whether the service can have given this as the id of a job, a file or an event."""
    return isinstance(value, str) and re.fullmatch(r"[\w.:=~+-]{1,256}", value, re.ASCII) is not None


def listed(ask: Callable[[], Any], *fields: str) -> list:
    """What the service lists, each entry with these fields. Raises Strange as `known` does."""
    try:
        pages = islice(ask().iter_pages(), PAGES)
        return [known(entry, *fields) for page in pages for entry in page.data or ()]
    except AttributeError:  # the client's own, where the answer is a page
        return known("", *fields)


def upload(client: AzureOpenAI, path: Path, wait: Callable[[float], None]) -> str:
    """Upload a file and wait until the service has read it. Returns its id. Raises Refused."""
    with path.open("rb") as file:
        uploaded = known(client.files.create(file=(path.name, file, "application/jsonl"), purpose="fine-tune"), "id", "status")
    for _ in range(120):
        if uploaded.status in ("processed", "error"):
            break
        wait(2.0)
        uploaded = known(client.files.retrieve(uploaded.id), "id", "status")
    if uploaded.status != "processed":
        raise Refused(f"{path.name}: the service did not accept it (status {redacted(uploaded.status)})")
    return uploaded.id


def create_once(client: AzureOpenAI, body: dict) -> Any:
    """Create the job, at most once: if the answer is lost, look for the job before asking again."""
    from openai import APIConnectionError, APITimeoutError

    careful = client.with_options(max_retries=0)
    for attempt in range(3):
        try:
            return known(careful.fine_tuning.jobs.create(**body), "id")
        except (APIConnectionError, APITimeoutError):
            jobs = listed(lambda: client.fine_tuning.jobs.list(limit=20), "id")
            mine = [job for job in jobs if (job.metadata or {}) == body["metadata"]]
            if mine:
                return mine[0]
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def follow(client: AzureOpenAI, job_id: str, wait: Callable[[float], None], every: float, say=print) -> Any:
    """Poll the job until it has finished, saying what is new. A lost line is waited out, ten times in a row at most.

    Raises Strange if it stays in a state that is unknown here.
    """
    from openai import APIConnectionError, RateLimitError

    status, seen, lost, strange = "", set(), 0, 0
    while True:
        try:
            job = known(client.fine_tuning.jobs.retrieve(job_id), "id", "status")
            events = listed(lambda: client.fine_tuning.jobs.list_events(job_id, limit=50), "id", "message")
            lost = 0
        except (APIConnectionError, RateLimitError) as error:
            lost += 1
            if lost > 10:
                raise
            say(f"  no answer ({type(error).__name__}), asking again")
            wait(min(every * 2**lost, 300.0))
            continue
        for event in reversed(events):
            if event.id not in seen:
                seen.add(event.id)
                say(f"  {redacted(event.message)}")
        if job.status != status:
            status, strange = job.status, 0
            say(f"{job_id}: {redacted(status)}")
        if status in FINISHED:
            return job
        strange += status not in UNDER_WAY
        if strange >= PATIENCE:
            raise Strange(f"the job stays in a state that this script does not know, {redacted(status)!r}: --resume asks again")
        wait(every)


def fetch_results(client: AzureOpenAI, job: Any, folder: Path) -> list[Path]:
    """Save the job's result files. Returns their paths."""
    paths = []
    name = re.sub(r"[^\w-]", "_", redacted(job.id))  # the service's word: it leads to no other folder
    files = job.result_files or []
    if not isinstance(files, list) or not all(map(is_id, files)):
        raise Strange("the job succeeded, but what the service names as its result files are no ids of files")
    for number, file_id in enumerate(files):
        path = folder / f"{name}-results{number or ''}.csv"
        content = client.files.content(file_id).read().decode("utf-8", errors="surrogateescape")
        write_atomic(path, without_key(content).encode("utf-8", errors="surrogateescape"))
        paths.append(path)
    return paths


# The command


def submit_job(client: AzureOpenAI, grader: dict, model: str, suffix: str, files: Path, state: Path, wait) -> str:
    """Upload, create, and put the job's id on disk before anything else happens. Returns the id."""
    if state.exists() and read_state(state).get("finished") in (None, "paused"):
        raise Refused(f"{state} holds a job that has not finished: --resume follows it; delete the file to forget it")
    check_place(state)
    ids = [upload(client, files / f"{name}.jsonl", wait) for name in ("training", "validation")]
    body = request(grader, model, suffix, *ids, submission=uuid.uuid4().hex)
    job = create_once(client, body)
    try:
        write_json(state, {"job": redacted(job.id), "model": model, "finished": None})
    except OSError as error:
        raise Refused(f"{state}: {error.strerror}; the job {redacted(job.id)} was created and goes on: note its id") from None
    print(f"created {redacted(job.id)} (kept in {state})", flush=True)
    return job.id


def check_place(state: Path) -> None:
    """Raises Refused if nothing can be kept at `state`: a job whose id is lost costs money all the same."""
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=state.parent, prefix=f".{state.name}.") as file:
            file.write(b" " * 4096)
    except OSError as error:
        raise Refused(f"--state {state}: cannot be written there ({error.strerror}), so nothing was sent") from None


def finish(client: AzureOpenAI, job_id: str, state: Path, wait, every: float) -> int:
    """Follow the job, record how it ended, fetch its results. Returns the exit code."""
    job = follow(client, job_id, wait, every)
    model = job.fine_tuned_model and redacted(job.fine_tuned_model)
    write_json(state, {**read_state(state), "finished": job.status, "fine_tuned_model": model})
    if job.status != "succeeded":
        said = getattr(job.error, "message", job.error)
        reason = f": {redacted(said)}" if said else ""
        print(f"error: the job {job.status}{reason}", file=sys.stderr)
        return JOB_FAILED
    print(f"fine-tuned model: {model}")
    for path in fetch_results(client, job, state.parent):
        print(f"results: {path}")
    return DONE


def read_state(state: Path) -> dict:
    """What is known of the last job: its id, and how it ended. Raises Refused."""
    try:
        known = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        known = None
    if not isinstance(known, dict) or not is_id(known.get("job")):
        raise Refused(f"{state}: no job is kept there (--submit creates one)")
    return known


def run(
    submit: Annotated[bool, typer.Option("--submit", help="Send it. Costs money.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Follow the job that --state remembers.")] = False,
    grader: Annotated[str, typer.Option(help="A file of graders/, without its ending.")] = "multi",
    model: Annotated[str, typer.Option(help="Base model with its version: one that the service trains now.")] = "o4-mini-2025-04-16",
    suffix: Annotated[str, typer.Option(help="Last part of the fine-tuned model's name.")] = "reversed-sums",
    files: Annotated[Path, typer.Option(help="Folder with training.jsonl and validation.jsonl.")] = rft.DATA,
    state: Annotated[Path, typer.Option(help="Where the job's id and end are kept.")] = HERE / "job.json",
    every: Annotated[float, typer.Option(min=0.01, max=86_400, help="Seconds between questions about the job.")] = 30.0,
) -> int:
    """Check the files and the grader and print the request; with --submit, send it."""
    if submit and resume:
        raise Refused("--submit and --resume exclude each other")
    if resume:
        read_state(state)  # before asking for a key: is there anything to resume?
        return finish(make_client(), read_state(state)["job"], state, time.sleep, every)
    graders = {path.stem: path for path in sorted(rft.GRADERS.glob("*.json"))}
    if grader not in graders:
        raise Refused(f"--grader {grader[:60]}: not there (there are: {', '.join(graders)})")
    chosen = rft.read_grader(graders[grader])
    counts = check_files(files, chosen)
    body = request(chosen, model, suffix, "<id of training.jsonl>", "<id of validation.jsonl>", "<new at each submission>")
    if not submit:
        print(json.dumps(body, indent=1))
        print(f"dry run: {counts[0]} training and {counts[1]} validation lines, all checks passed, nothing sent", file=sys.stderr)
        return DONE
    client = make_client()
    return finish(client, submit_job(client, chosen, model, suffix, files, state, time.sleep), state, time.sleep, every)


def main() -> None:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(run)
    try:
        code = app(standalone_mode=False)
    except (Refused, rft.FormatError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = WRONG_USAGE
    except KeyboardInterrupt:
        code = INTERRUPTED  # SIGTERM and a closed terminal come as Ctrl-C does
    except Exception as error:
        if isinstance(error, Strange):
            print(f"error: {error}", file=sys.stderr)
            code = JOB_FAILED
        elif hasattr(error, "format_message"):  # wrong usage, found by the command-line parser
            print(f"error: {error.format_message()} (see --help)", file=sys.stderr)
            code = WRONG_USAGE
        elif isinstance(error, OSError):
            where = f"{error.filename}:" if error.filename else "the output cannot be written:"
            print(f"error: {where} {error.strerror or error}", file=sys.stderr)
            code = WRONG_USAGE
        elif isinstance(error, (ValueError, RecursionError)):  # of whoever reads JSON, or what it holds
            print("error: the service's answer cannot be read: is AZURE_OPENAI_ENDPOINT the address of a Foundry resource?", file=sys.stderr)
            code = JOB_FAILED
        elif type(error).__module__ == "builtins":  # a mistake of this script's own
            raise
        else:  # of the client, or of one of the libraries under it
            print(f"error: the service: {redacted(error)[:300]}", file=sys.stderr)
            code = JOB_FAILED
    try:
        sys.stdout.flush()
    except OSError as error:  # a disk that is full; a reader that has seen enough is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        if error.errno != errno.EPIPE:
            print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
            code = WRONG_USAGE
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code too
        print("interrupted: the job, if there is one, goes on; --resume follows it", file=sys.stderr)
        code = 128 + (stopping.asked or signal.SIGINT)
    sys.exit(code or 0)


if __name__ == "__main__":
    stopping.start()
    stopping.then("raise")
    main()
