"""The rating page: who may ask, what is refused, what a kill leaves, and a real browser."""

import contextlib
import http.client
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from chapters.course.catalog import ROOT
from chapters.rating import Pair, RatingStore, Session, rate_in_browser, web
from chapters.utils.lesson import UsageError

EVIL = """<script>document.title = "ran"</script><img src=x onerror='document.title="ran"'>"""
RTL = "\u202eيمين\u2066 over"


class Visitor:
    """What the page's own script would send, with everything open to change."""

    def __init__(self, address):
        self.port, self.query = urlsplit(address).port, urlsplit(address).query
        self.host = f"127.0.0.1:{self.port}"
        self.address = address
        self.cookie = self.ask("GET", f"/?{self.query}", cookie="").getheader("set-cookie").split(";")[0]

    def ask(
        self,
        method,
        path,
        body=None,
        *,
        cookie=None,
        host=None,
        origin=None,
        content="application/json",
        **more,
    ):
        """The response, whole; `origin=""` or `cookie=""` leaves the header out."""
        headers = {"Host": host or self.host, "Origin": f"http://{host or self.host}", **more}
        headers["Cookie"] = self.cookie if cookie is None else cookie
        if body is not None:
            headers["Content-Type"] = content
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if origin is not None:
            headers["Origin"] = origin
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {name: value for name, value in headers.items() if value})
        response = connection.getresponse()
        response.text = response.read().decode()
        connection.close()
        return response

    def state(self):
        return json.loads(self.ask("GET", "/state").text)

    def answer(self, choice, token=None):
        token = self.state()["token"] if token is None else token
        return self.ask("POST", "/answer", {"token": token, "choice": choice})


@pytest.fixture
def store(tmp_path):
    with RatingStore(tmp_path / "ratings.sqlite") as store:
        yield store


@pytest.fixture
def serve(store, monkeypatch, capsys):
    """serve(pairs): a visitor of a running server; it is told to finish at the end."""
    addresses, threads, visitors = [], [], []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(web.webbrowser, "open", addresses.append)

    def start(pairs, **options):
        session = Session(pairs, store, **options)
        threads.append(threading.Thread(target=rate_in_browser, args=[session]))
        threads[-1].start()
        while not addresses:
            time.sleep(0.01)
        visitors.append(Visitor(addresses.pop()))
        return visitors[-1]

    yield start
    for visitor, thread in zip(visitors, threads):
        with contextlib.suppress(OSError):  # it has ended already
            visitor.ask("POST", "/finish", {"token": 0})
        thread.join(10)
        assert not thread.is_alive()


def make_pairs(count):
    return [Pair(f"p{i}", f"text {i}", f"one {i}", f"two {i}") for i in range(count)]


# ---------------------------------------------------------------------------------------------------------
# Requests


def test_rating_undoing_and_finishing(serve, store, capsys):
    visitor = serve(make_pairs(2), repeat_share=0)
    state = visitor.state()
    assert (state["token"], state["done"], state["total"]) == (0, 0, 2)
    assert visitor.state() == state  # looking again changes nothing
    after = json.loads(visitor.answer("left").text)
    assert (after["token"], after["done"]) == (1, 1)
    undone = json.loads(visitor.ask("POST", "/undo", {"token": 1}).text)
    assert {**undone, "token": 0} == state
    visitor.answer("right")
    end = json.loads(visitor.answer("skip").text)
    assert end["summary"][0] == "2 of 2 answered: 1 preference, 0 ties, 1 skipped."
    assert "Export: python -m chapters.rating" in end["summary"][-1]
    assert visitor.answer("left").status == 409  # there is nothing left to answer
    choices = [event.choice for event in store.events("me")]
    left = store.events("me")[0].left
    assert choices == [left, "undo", {"first": "second", "second": "first"}[left], "skip"]
    assert {event.source for event in store.events("me")} == {"web"}
    assert visitor.ask("POST", "/finish", {"token": 4}).status == 200
    deadline = time.monotonic() + 10
    while "2 of 2 answered" not in capsys.readouterr().out:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ConnectionRefusedError):
        visitor.state()


def test_a_stale_answer_rates_nothing_and_learns_what_is_current(serve, store):
    visitor = serve(make_pairs(4))
    assert visitor.answer("left", 0).status == 200
    for path, body in (("/answer", {"token": 0, "choice": "left"}), ("/undo", {"token": 0})):
        refused = visitor.ask("POST", path, body)
        assert refused.status == 409
        assert json.loads(refused.text) == visitor.state()
    assert visitor.answer("left", 7).status == 409
    assert len(store.events("me")) == 1
    # the same rater in another process, say in a terminal
    with RatingStore(store.path) as other:
        session = Session(make_pairs(4), other)
        session.next()
        session.answer("tie")
    assert visitor.answer("left", 1).status == 409
    assert visitor.state()["token"] == 2


def test_only_this_page_is_answered(serve, store):
    visitor = serve(make_pairs(3))
    body = {"token": 0, "choice": "left"}
    # a name that was made to resolve to 127.0.0.1, another port's page, no host worth the name
    for host in (
        "evil.example",
        f"evil.example:{visitor.port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1:{visitor.port}.evil.example",
    ):
        for method, path in (
            ("GET", "/"),
            ("GET", f"/?{visitor.query}"),
            ("GET", "/state"),
            ("POST", "/answer"),
        ):
            response = visitor.ask(method, path, body if method == "POST" else None, host=host)
            assert response.status == 403, (host, path)
            assert "one" not in response.text
    for origin in (
        "",
        "null",
        "http://evil.example",
        "http://127.0.0.1:1",
        f"https://{visitor.host}",
        f"http://localhost:{visitor.port}",
    ):
        for path in ("/answer", "/undo", "/finish"):
            assert visitor.ask("POST", path, body, origin=origin).status == 403, (origin, path)
    for cookie in ("", "rating=1", visitor.cookie[:-1], visitor.cookie.replace("=", "=ü")):
        for method, path in (("GET", "/"), ("GET", "/state"), ("POST", "/answer"), ("POST", "/finish")):
            assert visitor.ask(method, path, body if method == "POST" else None, cookie=cookie).status == 403
    assert visitor.ask("GET", "/?key=wrong").status == 403
    assert store.events("me") == []

    response = visitor.ask("GET", "/state", host=f"localhost:{visitor.port}")
    assert response.status == 200
    allowed = [name.lower() for name, _ in response.getheaders()]
    assert not [name for name in allowed if name.startswith("access-control")]
    assert visitor.ask("OPTIONS", "/answer").status == 405


def test_wrong_requests_are_one_line(serve, store, capsys):
    visitor = serve(make_pairs(3))
    wrong = {
        400: [b"", b"{", b"\xff\xfe\xfa", b"[" * 1000, b"null", b"[]", {}, {"token": "0"},
              {"token": 0}, {"token": 0, "choice": "first"}, {"token": 0, "choice": []},
              {"token": False, "choice": "left"}, {"token": 0.0, "choice": "left"}],
        413: [b" " * 1025],
    }  # fmt: skip
    for status, bodies in wrong.items():
        for body in bodies:
            response = visitor.ask("POST", "/answer", body)
            assert response.status == status, body
            assert response.getheader("content-type").startswith("text/plain")
            assert 0 < len(response.text) < 100
            assert "\n" not in response.text
    assert visitor.ask("POST", "/answer", {"token": 0, "choice": "left"}, content="text/plain").status == 415
    for method in ("GET", "PUT", "DELETE"):
        assert visitor.ask(method, "/answer").status == 405
    assert visitor.ask("POST", "/state", {}).status == 405
    assert visitor.ask("GET", "/../../etc/passwd").status == 404
    assert store.events("me") == []
    assert visitor.state()["done"] == 0  # it still serves

    with contextlib.suppress(OSError):  # the server may hang up while we are still sending
        assert visitor.ask("POST", "/answer", b"x" * 3_000_000).status == 413
    head = ["POST /answer HTTP/1.1", f"Host: {visitor.host}", f"Origin: http://{visitor.host}"]
    head += [f"Cookie: {visitor.cookie}", "Content-Type: application/json", "Content-Length: 31"]
    with socket.create_connection(("127.0.0.1", visitor.port)) as half:  # hangs up in mid-body
        half.sendall("\r\n".join([*head, "", "{"]).encode())
    time.sleep(0.1)
    assert visitor.state()["done"] == 0
    assert capsys.readouterr().err == ""  # none of this is worth a line in the terminal


def test_a_store_in_trouble_acknowledges_nothing(serve, store):
    visitor = serve(make_pairs(3))
    visitor.state()
    store._db.execute("PRAGMA query_only = 1")  # as a full disk would
    response = visitor.answer("left")
    assert response.status == 503
    assert "\n" not in response.text
    store._db.execute("PRAGMA query_only = 0")
    assert visitor.answer("left").status == 200


def test_texts_leave_as_json_only_and_the_page_allows_no_foreign_script(serve):
    visitor = serve([Pair("0", EVIL, f"one {RTL}", "two" * 10_000)])
    page = visitor.ask("GET", "/")
    policy = page.getheader("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in policy
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert page.text.count(f'nonce="{nonce}"') == 2  # the style and the script
    assert nonce not in visitor.ask("GET", "/").text
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "document.title" not in page.text
    for path in ("/", "/state", "/nothing"):
        response = visitor.ask("GET", path)
        assert response.getheader("x-content-type-options") == "nosniff"
        assert response.getheader("referrer-policy") == "no-referrer"
        assert response.getheader("cache-control") == "no-store"
        assert "frame-ancestors 'none'" in response.getheader("content-security-policy")
    state = visitor.ask("GET", "/state")
    assert state.getheader("content-type") == "application/json"
    assert json.loads(state.text)["prompt"] == EVIL
    assert "httponly" in visitor.ask("GET", f"/?{visitor.query}").getheader("set-cookie").lower()


def test_the_page_says_by_what_to_judge(serve):
    visitor = serve(make_pairs(2), criterion="Which is shorter?")
    assert visitor.state()["criterion"] == "Which is shorter?"
    assert 'id="criterion"' in web.PAGE.read_text()


HANGING = """
import sys
from chapters.rating import *
from chapters.utils import stopping
stopping.start()
stopping.then("raise")
pairs = [Pair(f"p{i}", "text", "one", "two") for i in range(4)]
try:
    with RatingStore(sys.argv[1]) as store:
        rate_in_browser(Session(pairs, store), open_browser=False)
except stopping.Stopped:
    stopping.leave()
print("went on", flush=True)
"""


@pytest.mark.parametrize("how", ["finish", "SIGTERM", "SIGHUP"])
def test_clients_that_hang_hold_nothing_up_and_say_nothing(tmp_path, how):
    """Each has begun a body and sends no more of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, tmp_path / "ratings.sqlite"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    visitor = Visitor(process.stdout.readline().split()[-1])
    visitor.answer("left")
    host = f"127.0.0.1:{visitor.port}"
    head = [
        "POST /answer HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", f"Cookie: {visitor.cookie}",
        "Content-Type: application/json", "Content-Length: 100", "", "{",
    ]  # fmt: skip
    clients = [socket.create_connection(("127.0.0.1", visitor.port), timeout=10) for _ in range(200)]
    for client in clients:
        client.sendall("\r\n".join(head).encode())
    try:
        if how == "finish":
            assert visitor.ask("POST", "/finish", {"token": 1}).status == 200
        else:
            process.send_signal(getattr(signal, how))
        out, error = process.communicate(timeout=30)
    finally:
        process.kill()
        for client in clients:
            client.close()
    assert error == ""
    assert "1 of 5 answered: 1 preference" in out
    assert process.returncode == (0 if how == "finish" else 128 + getattr(signal, how))
    assert ("went on" in out) == (how == "finish")


def test_a_port_that_cannot_be_had_is_one_line(store):
    session = Session(make_pairs(1), store)
    with web.listen_on(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"  # this machine only
        with pytest.raises(UsageError, match="in use"):
            rate_in_browser(session, port=taken.getsockname()[1], open_browser=False)
    with pytest.raises(UsageError, match="0 to 65535"):
        rate_in_browser(session, port=65536, open_browser=False)


# ---------------------------------------------------------------------------------------------------------
# A server of its own process

SERVER = """
import sys
from chapters.rating import Pair, RatingStore, Session, rate_in_browser
pairs = [Pair(f"p{i}", f"text {i}", f"one {i}", f"two {i}") for i in range(1000)]
with RatingStore(sys.argv[1]) as store:
    rate_in_browser(Session(pairs, store), open_browser=False)
"""


def start_server(path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, Visitor(process.stdout.readline().split()[-1])


def test_no_acknowledged_answer_is_lost_when_the_server_is_killed(tmp_path):
    path, rng, acknowledged = tmp_path / "ratings.sqlite", random.Random(0), 0
    for round in range(3):
        process, visitor = start_server(path)
        token = visitor.state()["token"]
        assert token in (acknowledged, acknowledged + 1)  # resumes; one answer may have been on its way
        if round == 2:
            break
        killer = threading.Timer(rng.uniform(0.05, 0.3), process.kill)
        killer.start()
        try:
            while True:
                response = visitor.answer("tie", token)
                assert response.status == 200
                token = json.loads(response.text)["token"]
        except (OSError, http.client.HTTPException):
            pass
        killer.join()
        process.communicate()
        acknowledged = token
        with RatingStore(path) as store:
            assert len(store.events("me")) - acknowledged in (0, 1)
    # and Ctrl-C, rather than a kill, ends in good order
    visitor.answer("tie")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=10)
    assert f"{token + 1} of 1100 answered" in out
    assert error.splitlines()[-1] == "KeyboardInterrupt"  # run_lesson turns it into exit code 130
    with RatingStore(path) as store:
        assert len(store.events("me")) == token + 1 > 3


# ---------------------------------------------------------------------------------------------------------
# A real browser


@pytest.fixture
def open_page(chromium):
    """open_page(visitor): its page. An error in it, or a request to anywhere else, fails the test."""
    contexts, errors, foreign = [], [], []

    def open_(visitor, width=1000):
        context = chromium.new_context(viewport={"width": width, "height": 700})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Security" in line.text else None)
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if visitor.host not in request.url and not request.url.startswith("data:")
                else None
            ),
        )
        page.clock.install()  # so that the guard against double clicks costs the test no time
        page.goto(visitor.address)
        page.wait_for_selector("#rating:not([hidden])")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not errors
    assert not foreign


def after_guard(page):
    page.clock.run_for(400)


def wait_for_place(page, text):
    page.wait_for_function("text => document.getElementById('count').textContent === text", arg=text)


def test_rating_in_a_browser(serve, store, open_page):
    visitor = serve(make_pairs(4), repeat_share=0.3)
    page = open_page(visitor)
    assert "key=" not in page.url
    wait_for_place(page, "1 of 5")
    shown = {side: page.inner_text(f"#{side}") for side in ("prompt", "left", "right")}

    after_guard(page)
    box = page.locator("text=B is better").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    for clicks in (
        1,
        2,
    ):  # the second click of a double click must not rate the next pair, however slow it is
        page.mouse.down(click_count=clicks)
        page.mouse.up(click_count=clicks)
        wait_for_place(page, "2 of 5")
        if clicks == 1:
            page.keyboard.press("a")  # nor a key that comes at once
        after_guard(page)
    for key in ("x", "Control+a", "ArrowUp", "Shift"):
        page.keyboard.press(key)
    assert len(store.events("me")) == 1
    page.keyboard.down("a")
    wait_for_place(page, "3 of 5")
    after_guard(page)
    page.keyboard.down("a")  # a second `down` is what a key that is held down repeats
    page.keyboard.up("a")
    page.wait_for_timeout(50)
    wait_for_place(page, "3 of 5")
    page.keyboard.press("u")
    wait_for_place(page, "2 of 5")
    page.reload()
    wait_for_place(page, "2 of 5")
    after_guard(page)
    page.click("#undo")
    wait_for_place(page, "1 of 5")
    assert {side: page.inner_text(f"#{side}") for side in shown} == shown

    stale = page.context.new_page()
    stale.goto(page.url)
    wait_for_place(stale, "1 of 5")
    for place, key in enumerate(("ArrowLeft", "ArrowRight", "t", "s"), start=2):
        after_guard(page)
        page.keyboard.press(key)
        wait_for_place(page, f"{place} of 5")
    stale.keyboard.press("a")
    wait_for_place(stale, "5 of 5")
    assert "This page was behind" in stale.inner_text("#note")

    after_guard(page)
    page.focus("text=A is better")
    page.keyboard.press("Enter")
    page.wait_for_selector("#end:not([hidden])")
    assert "5 of 5 answered: 3 preferences, 1 tie, 1 skipped." in page.inner_text("#summary")
    choices = [event.choice for event in store.events("me")]
    sides = [event.choice == event.left for event in store.events("me")]
    assert choices[2:4] == ["undo", "undo"]
    assert sides[4:6] == [True, False]
    assert choices[6:8] == ["tie", "skip"]
    assert sides[8]
    page.click("#finish")
    page.wait_for_selector("text=Finished.")


def test_texts_are_shown_as_text_and_fit_a_narrow_screen(serve, open_page):
    pair = Pair("0", EVIL, f"{EVIL}</p></section> &amp; {RTL}", "unbroken" * 500)
    visitor = serve([pair])
    page = open_page(visitor, width=360)
    texts = {page.text_content(f"#{side}") for side in ("left", "right")}
    assert texts == {pair.first, pair.second}
    assert page.text_content("#prompt") == EVIL
    assert page.title() == "Which is better?"
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("A is better", "B is better", "Tie", "Skip"):  # in view though the text is long
        box = page.locator(f"button:has-text('{name}')").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["y"] + box["height"] <= 700
        assert box["height"] >= 44
    assert (
        page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch { return 'refused'; } }")
        == "refused"
    )


def test_a_page_whose_server_is_gone_says_so(serve, store, open_page):
    visitor = serve(make_pairs(3))
    page = open_page(visitor)
    after_guard(page)
    page.click("#finish")
    assert page.inner_text("#finish") == "Finish with 0 of 4?"
    visitor.ask("POST", "/finish", {"token": 0})
    deadline = time.monotonic() + 10
    while True:
        try:
            visitor.state()
        except OSError:
            break
        assert time.monotonic() < deadline
    page.keyboard.press("a")
    page.wait_for_selector("text=No answer from the lesson")
    assert store.events("me") == []


# ---------------------------------------------------------------------------------------------------------
# Continuous integration


@pytest.mark.parametrize(
    ("user", "apt_fails", "there", "asks"),
    [(0, "", "", True), (0, "1", "", True), (1000, "", "", False), (0, "", "google-chrome", False)],
)
def test_ci_gets_a_browser_where_it_may_and_never_fails_for_it(tmp_path, user, apt_fails, there, asks):
    calls = tmp_path / "calls"
    stand_ins = {
        "bin/apt-get": f'echo "$*" >>"{calls}"; echo noise; exit ${{APT_FAILS:-0}}',
        "bin/id": f"echo {user}",
        "setup.sh": 'echo "setup $*"',
        ".venv/bin/python": "exit 0",
    } | ({f"bin/{there}": ""} if there else {})
    for name, script in stand_ins.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    for tool in ("bash", "dirname", "rm", "env"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    run = subprocess.run(
        [tmp_path / ".ci/run"],
        env={"PATH": str(tmp_path / "bin"), "APT_FAILS": apt_fails},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "setup --test\n")
    assert len(run.stderr.splitlines()) == bool(apt_fails)
    assert calls.exists() == asks
