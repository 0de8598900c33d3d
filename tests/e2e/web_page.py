"""Drives the chat page at GET / as a user would, in headless Chromium.

Usage: python tests/e2e/web_page.py [URL | --fake] [--shots DIR]

Drives the server at URL; with --fake a small stand-in that serves web/index.html and answers on command, which also allows
to check request bodies, errors and the API key; with neither, `erne serve` (ERNE_BINARY) with the default model
(ERNE_DEFAULT_MODEL), started on a free port. Exits non-zero at the first thing that is not as a user expects, and 77 where
selenium, chromium, the binary or the model is missing.
"""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

PAGE = pathlib.Path(__file__).resolve().parents[2] / "web" / "index.html"
RICH = """Here is **bold**, *italic*, `code` and [a link](https://example.com/x).

## A heading

1. first
2. second
   - nested *item*

> a quote

```python
def f(x):
    return x < 1  # <b>not bold</b>
```

| a | b |
|---|---|
| 1 | `2` |

<img src=x onerror="document.title='hacked'"> & <script>document.title='hacked'</script>
"""


class Fake(http.server.BaseHTTPRequestHandler):
    """An OpenAI-like server: the last message commands it ("long", "rich", "fail", "break", else an echo)."""

    protocol_version = "HTTP/1.1"
    bodies = []
    key = None
    stopped = threading.Event()

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if Fake.key is None or self.headers.get("Authorization") == f"Bearer {Fake.key}":
            return True
        self.reply(401, {"error": {"message": "Invalid API key", "type": "authentication_error"}})
        return False

    def do_GET(self):
        if self.path == "/":
            self.reply(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/v1/models" and self.allowed():
            self.reply(200, {"data": [{"id": "SmolLM2-135M-Instruct", "max_model_len": 8192}]})
        elif self.path != "/v1/models":
            self.reply(404, {"error": {"message": "not found"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        Fake.bodies.append(body)
        text = body["messages"][-1]["content"]
        if text == "fail":
            self.reply(400, {"error": {"message": "the prompt exceeds the maximum context length of 8192 tokens"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.stream(text)
        except OSError:
            Fake.stopped.set()
        self.close_connection = True

    def event(self, value):
        self.wfile.write(b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n")
        self.wfile.flush()

    def chunk(self, delta, finish=None):
        self.event({"id": "c", "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    def stream(self, text):
        answer = {"long": " ".join(f"word{i}" for i in range(400)), "rich": RICH}.get(text, f"You said: {text}. 你好 🙂")
        self.chunk({"role": "assistant", "content": ""})
        pieces = [answer[i : i + 6] for i in range(0, len(answer), 6)]
        for number, piece in enumerate(pieces):
            self.chunk({"content": piece})
            time.sleep(0.02 if text == "long" else 0.005)
            if text == "break" and number == 1:
                return
        self.chunk({}, "stop")
        self.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces),
                                             "total_tokens": 9 + len(pieces)}})
        self.event(b"[DONE]")


class User:
    def __init__(self, url, shots):
        options = webdriver.ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium") or "chromium"
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
        self.driver = webdriver.Chrome(options=options, service=service)
        self.url, self.shots = url, shots
        self.size(1280, 860)

    def size(self, width, height, phone=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone})

    def open(self):
        self.driver.get(self.url)
        self.wait(lambda: self.find("#model").text not in ("", "…"), "the model's name")

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, what, seconds=30):
        WebDriverWait(self.driver, seconds, 0.03, ignored_exceptions=[Exception]).until(
            lambda _: condition(), f"waited in vain for {what}")

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def ask(self, text, finish=True):
        before = len(self.all(".message"))
        self.find("#input").send_keys(text, Keys.ENTER)
        self.wait(lambda: len(self.all(".message")) == before + 2, "question and answer to appear")
        if finish:
            self.finished()

    def finished(self):
        self.wait(lambda: self.find("#stop").get_attribute("hidden") is not None, "the end of the answer", 120)

    def answers(self):
        return [node.text for node in self.all(".message.assistant .markdown")]

    def shot(self, name):
        if self.shots:
            self.driver.save_screenshot(str(self.shots / f"{name}.png"))


def check(condition, what):
    if not condition:
        raise AssertionError(what)
    print("ok:", what, flush=True)


def talk_and_stop(user, long_question):
    check(user.find("#welcome").is_displayed(), "a newcomer is greeted")
    check(user.js("return document.activeElement.id") == "input", "the cursor is in the message field")
    check(not user.find("#send").is_enabled(), "nothing to send yet")
    user.shot("1-welcome")
    user.ask(long_question, finish=False)
    user.wait(lambda: len(user.answers()[-1]) > 10, "streamed text")
    first = user.answers()[-1]
    user.wait(lambda: len(user.answers()[-1]) > len(first) + 10, "more streamed text")
    user.wait(lambda: "tokens/s" in user.find("#live").text, "a live rate")
    user.shot("2-streaming")
    user.keys(Keys.ESCAPE)
    user.finished()
    stopped = user.answers()[-1]
    time.sleep(0.4)
    check(user.answers()[-1] == stopped, "Escape stops the answer")
    check("stopped" in user.find(".message.assistant .stats").text, "a stopped answer says so")


def edit_and_regenerate(user, question):
    user.ask(question)
    check("tokens" in user.all(".stats")[-1].text and "first after" in user.all(".stats")[-1].text, "statistics stand below")
    count = len(user.all(".message"))
    user.js("arguments[0].click()", user.all("[aria-label='Regenerate answer']")[-1])
    user.finished()
    check(len(user.all(".message")) == count, "an answer is regenerated in its place")
    user.keys(Keys.ARROW_UP)
    area = user.find(".editing textarea")
    check(area.get_attribute("value") == question, "arrow up edits the last question")
    area.send_keys(Keys.CONTROL, "a")
    area.send_keys("Say hello", Keys.ENTER)
    user.finished()
    questions = [node.text for node in user.all(".message.user .body")]
    check(questions[-1] == "Say hello" and len(user.all(".message")) == count, "an edited question is asked again")


def begin_again_while_streaming(user, long_question):
    user.ask(long_question, finish=False)
    count = len(user.all(".message"))
    user.wait(lambda: len(user.answers()) * 2 == count and len(user.answers()[-1]) > 10, "streamed text")
    user.js("arguments[0].click()", user.all("[aria-label='Edit message']")[-1])
    area = user.find(".editing textarea")
    area.send_keys(" and more")
    time.sleep(0.3)
    check(user.find(".editing textarea").get_attribute("value").endswith("and more"), "editing goes on while text streams")
    area.send_keys(Keys.CONTROL, "a")
    area.send_keys("Say yes", Keys.ENTER)
    user.finished()
    check(len(user.all(".message")) == count and user.all(".message.user .body")[-1].text == "Say yes"
          and "stopped" not in user.all(".stats")[-1].text, "a question edited meanwhile replaces the running answer")


def settings(user):
    user.find("#open-panel").click()
    check(user.find("#panel").is_displayed(), "the settings open")
    user.find("#system").send_keys("Answer in French.")
    for name, value in {"temperature": "0.5", "top_p": "0.9", "top_k": "40", "max_tokens": "24", "seed": "7",
                        "presence_penalty": "0.1", "frequency_penalty": "-0.2"}.items():
        user.find(f"#s-{name}").send_keys(Keys.CONTROL, "a")
        user.find(f"#s-{name}").send_keys(value)
    user.find("#s-temperature").send_keys(Keys.CONTROL, "a")
    user.find("#s-temperature").send_keys("9")
    check(user.find("#s-temperature").get_attribute("aria-invalid") == "true", "a value out of range is marked")
    user.find("#s-temperature").send_keys(Keys.CONTROL, "a")
    user.find("#s-temperature").send_keys("0.5")
    user.shot("3-settings")
    user.keys(Keys.ESCAPE)
    check(not user.find("#panel").is_displayed(), "Escape closes the settings")
    user.ask("Who are you?")


def conversations(user):
    messages = len(user.all(".message"))
    user.open()
    check(len(user.all(".message")) == messages, "a reload finds the conversation")
    user.find("#new-chat").click()
    check(user.find("#welcome").is_displayed() and user.find("#input") == user.driver.switch_to.active_element,
          "a new conversation is empty and ready")
    user.ask("Second conversation")
    check(len(user.all("#list li")) == 2, "two conversations are listed")
    user.find("#list li.current [title=Rename]").click()
    field = user.find("#list input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("Renamed", Keys.ENTER)
    check(user.find("#list li.current .open").text == "Renamed", "a conversation is renamed")
    remove = user.find("#list li.current [title=Delete]")
    remove.click()
    check(len(user.all("#list li")) == 2 and remove.text == "Delete?", "deleting asks first")
    remove.click()
    check(len(user.all("#list li")) == 1 and len(user.all(".message")) == messages, "a conversation is deleted")


def theme(user):
    before = user.js("return getComputedStyle(document.body).backgroundColor")
    user.find("#theme").click()
    check(user.js("return getComputedStyle(document.body).backgroundColor") != before, "the theme changes")
    user.open()
    check(user.js("return getComputedStyle(document.body).backgroundColor") != before, "the theme is remembered")
    user.shot("4-dark")
    user.find("#theme").click()


def keyboard_only(user):
    user.open()
    seen = []
    for _ in range(40):
        user.keys(Keys.TAB)
        node = user.driver.switch_to.active_element
        seen.append(node.get_attribute("id") or node.get_attribute("aria-label") or node.text)
        named = node.accessible_name or node.text
        check_quietly(named or node.tag_name == "body", f"focused {node.get_attribute('outerHTML')[:80]} has no name")
        if seen[-1] == "input":
            break
    check({"theme", "new-chat", "open-panel", "input"} <= set(seen), "Tab reaches every part, each with a name")
    user.keys("line one")
    ActionChains(user.driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).send_keys("line two").perform()
    check(user.find("#input").get_attribute("value") == "line one\nline two", "Shift+Enter starts a line")
    user.keys(Keys.ENTER)
    user.finished()
    check(user.all(".message.user .body")[-1].text == "line one\nline two", "Enter sends")


def check_quietly(condition, what):
    if not condition:
        raise AssertionError(what)


def phone(user):
    user.size(390, 844, phone=True)
    user.open()
    check(user.js("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out on a phone")
    check(not user.find("#new-chat").is_displayed(), "the conversations are out of the way")
    user.shot("5-phone")
    user.find("#open-sidebar").click()
    user.wait(lambda: user.find("#new-chat").is_displayed(), "the conversations")
    time.sleep(0.4)
    user.shot("6-phone-conversations")
    user.keys(Keys.ESCAPE)
    user.wait(lambda: not user.find("#new-chat").is_displayed(), "the conversations to close")
    user.ask("From a phone")
    check("From a phone" in user.all(".message.user .body")[-1].text, "a phone can ask")
    user.find("#open-panel").click()
    user.shot("7-phone-settings")
    user.find("#close-panel").click()
    user.size(1280, 860)


def markdown(user):
    user.find("#new-chat").click()
    user.ask("rich")
    root = ".message.assistant .markdown "
    for css in ("strong", "em", "p code", "h2", "ol li ul li em", "blockquote", "pre code", "table td code", "a[rel~=noopener]"):
        check(user.all(root + css), f"Markdown shows {css}")
    check(not user.all(root + "img") and not user.all(root + "script") and "hacked" not in user.driver.title,
          "markup in an answer stays text")
    user.find(".code button").click()
    check(user.find(".code button").text == "Copied", "code can be copied")
    user.shot("8-markdown")


def request_bodies():
    body = Fake.bodies[-1]
    check(body["messages"][0] == {"role": "system", "content": "Answer in French."}, "the system prompt is sent")
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 24, "seed": 7, "presence_penalty": 0.1,
              "frequency_penalty": -0.2, "stream": True, "model": "SmolLM2-135M-Instruct",
              "stream_options": {"include_usage": True}}
    check(all(body.get(name) == value for name, value in wanted.items()), "the sampling settings are sent")
    check("temperature" not in Fake.bodies[0], "untouched settings are left to the server")
    roles = [message["role"] for message in body["messages"]]
    check(roles[1:] == ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"], "the history alternates")


def failures(user):
    check(Fake.stopped.wait(5), "the server saw that the user stopped")
    user.find("#new-chat").click()
    user.ask("fail")
    check("maximum context length" in user.find(".error").text, "a refused request says why")
    user.shot("9-error")
    user.ask("break")
    user.ask("after the failures")
    check("after the failures" in user.answers()[-1], "the next question works")
    asked = [message["content"] for message in Fake.bodies[-1]["messages"] if message["role"] == "user"]
    check(asked[-2:] == ["break", "after the failures"] and "fail" not in asked, "an unanswered question is not sent again")
    Fake.key = "secret"
    user.open()
    user.wait(lambda: user.find("#api-key").is_displayed(), "the field for the key")
    check(user.find("#api-key") == user.driver.switch_to.active_element, "the page asks for the key")
    user.shot("10-key")
    user.find("#api-key").send_keys("secret", Keys.TAB)
    user.wait(lambda: user.find("#model").text == "SmolLM2-135M-Instruct", "the model's name")
    user.ask("With the key")
    check("With the key" in user.answers()[-1], "the key opens the server")
    Fake.key = None


def no_storage(user):
    script = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('blocked'); }});"
    handle = user.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    user.open()
    user.ask("Without storage", finish=False)
    user.wait(lambda: user.answers()[-1], "streamed text")
    user.keys(Keys.ESCAPE)
    user.finished()
    check(user.find("#notice").is_displayed(), "works without storage, and says so")
    user.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", handle)


def follows_unless_scrolled(user, long_question):
    user.open()
    user.find("#new-chat").click()
    user.size(900, 420)
    user.ask(long_question, finish=False)
    scroller = "document.querySelector('#scroller')"
    user.wait(lambda: user.js(f"return {scroller}.scrollHeight > {scroller}.clientHeight + 160"), "a long answer", 60)
    check(user.js(f"return {scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight < 60"), "the view follows")
    user.js(f"{scroller}.scrollTop = 0")
    time.sleep(0.5)
    check(user.js(f"return {scroller}.scrollTop") < 60, "a reader who scrolls up is left alone")
    user.find("#to-end").click()
    check(user.js(f"return {scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight < 60"), "and can return")
    user.keys(Keys.ESCAPE)
    user.finished()
    user.size(1280, 860)


def bound_answers(user):
    """Greedy answers of a few seconds: a real model may otherwise talk for minutes."""
    user.js("localStorage.setItem('erne.sampling', arguments[0])", json.dumps({"temperature": 0, "max_tokens": 600}))
    user.open()


def run(user, fake):
    long_question = "long" if fake else "Write a long story about a ship that crosses the ocean."
    user.open()
    if not fake:
        bound_answers(user)
    talk_and_stop(user, long_question)
    edit_and_regenerate(user, "What is the capital of France?")
    begin_again_while_streaming(user, long_question)
    settings(user)
    if fake:
        request_bodies()
    conversations(user)
    theme(user)
    keyboard_only(user)
    phone(user)
    bound_answers(user)
    follows_unless_scrolled(user, long_question)
    if fake:
        markdown(user)
        failures(user)
    no_storage(user)
    errors = [entry["message"] for entry in user.driver.get_log("browser")
              if entry["level"] == "SEVERE" and " 400 " not in entry["message"] and " 401 " not in entry["message"]]
    check(not errors, f"no errors in the console {errors}")


@contextlib.contextmanager
def fake_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@contextlib.contextmanager
def erne_server():
    binary, model = os.environ.get("ERNE_BINARY"), os.environ.get("ERNE_DEFAULT_MODEL")
    if not binary or not model or not pathlib.Path(model).exists():
        print("skipped: ERNE_BINARY and ERNE_DEFAULT_MODEL must name the binary and a model")
        sys.exit(77)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([binary, "serve", "--model-path", model, "--port", str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(600):
            check_quietly(process.poll() is None, "erne serve ended before it was ready")
            with contextlib.suppress(OSError), urllib.request.urlopen(url + "health", timeout=5) as response:
                if response.status == 200:
                    break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--fake", action="store_true", help="serve the page and a stand-in for the model here")
    parser.add_argument("--shots", type=pathlib.Path, help="folder for screenshots")
    arguments = parser.parse_args()
    if arguments.url and arguments.fake:
        parser.error("give the URL of a server or --fake, not both")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        print("skipped: chromium or chromedriver is not installed")
        return 77
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    server = contextlib.nullcontext(arguments.url) if arguments.url else fake_server() if arguments.fake else erne_server()
    with server as url:
        user = User(url, arguments.shots)
        try:
            run(user, arguments.fake)
        except BaseException:
            user.shot("failure")
            raise
        finally:
            user.driver.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
