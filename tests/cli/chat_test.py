"""`erne chat` on a pseudo-terminal and in pipes, in front of the fake server of tests/bench: no model needed."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ERNE = sys.argv.pop(1)
HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = os.path.join(HERE, "..", "bench", "fake_server.py")
WAIT_S = 30


class Fake:
    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, FAKE, *self.flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        return "http://127.0.0.1:" + self.process.stdout.readline().split()[-1]

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)


class Terminal:
    """A program on a pseudo-terminal of 80 columns; what it shows is kept in `seen`."""

    def __init__(self, state_home, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # Before the program starts: a size set later is a resize, which draws the prompt a second time.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            os.environ.update(TERM="xterm", XDG_STATE_HOME=state_home, LC_ALL="C.UTF-8")
            os.execv(command[0], command)
        self.seen = ""
        self.mark = 0

    def at_prompt(self, text):
        """Types only once the prompt stands: what is typed earlier meets another terminal mode."""
        self.expect(">>> ")
        self.send(text)

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern):
        """Waits until `pattern` shows after the last match."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            match = re.search(pattern, self.seen[self.mark:])
            if match:
                self.mark += match.end()
                return match
            if not self.read(0.2):
                break
        raise AssertionError("no %r in %r" % (pattern, self.seen[self.mark:]))

    def read(self, timeout):
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.seen += data.decode(errors="replace")
        return bool(data)

    def wait(self):
        """Exit status; an AssertionError where the program does not end."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("the program goes on: %r" % self.seen[self.mark:])

    def kill(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


class Chat(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def start(self, url, *flags):
        terminal = Terminal(self.folder.name, ERNE, "chat", "--base-url", url, *flags)
        self.addCleanup(terminal.kill)
        terminal.expect(r"fake-model at http.*\n")
        return terminal

    def piped(self, url, text, *flags):
        return subprocess.run([ERNE, "chat", "--base-url", url, *flags], input=text, capture_output=True, text=True,
                              timeout=WAIT_S)

    def test_pipe_gives_the_answer_alone(self):
        with Fake() as url:
            run = self.piped(url, "two\nlines\n", "--max-tokens", "3")
            self.assertEqual((run.returncode, run.stdout, run.stderr), (0, " tok tok tok\n", ""))
            run = self.piped(url, "", "--max-tokens", "2", "hello", "there")
            self.assertEqual((run.returncode, run.stdout), (0, " tok tok\n"))

    def test_pipe_mistakes(self):
        with Fake() as url:
            run = self.piped(url, "")
            self.assertEqual(run.returncode, 2)
            self.assertIn("standard input is empty", run.stderr)
            run = self.piped(url, "REFUSE me", "--max-tokens", "2")
            self.assertEqual((run.returncode, run.stdout), (1, ""))
            self.assertIn("HTTP 400: refused by the fake server", run.stderr)
            run = self.piped(url, "STREAMERROR", "--max-tokens", "9")
            self.assertEqual(run.returncode, 1)
            self.assertIn("broken in the stream", run.stderr)
        run = self.piped("http://127.0.0.1:1", "hello")
        self.assertEqual(run.returncode, 1)
        self.assertIn("erne serve", run.stderr)

    def test_dialogue(self):
        with Fake() as url:
            chat = self.start(url, "--max-tokens", "3")
            chat.at_prompt("hello\r")
            chat.expect(r" tok tok tok\r\n")
            chat.expect(r"3 tokens, [\d.]+ tokens/s")
            chat.at_prompt("REFUSE this\r")
            chat.expect("error: .*refused by the fake server")
            chat.at_prompt("/stats\r")
            chat.expect(r"messages +2\r\n")  # the refused question is not kept
            chat.at_prompt("/quit\r")
            self.assertEqual(chat.wait(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        with Fake("--gap-ms", "20") as url:
            chat = self.start(url, "--max-tokens", "100000")
            chat.at_prompt("go on for ever\r")
            chat.expect("tok tok tok")
            chat.send("\x03")
            chat.expect("interrupted")
            chat.at_prompt("/set max_tokens 2\r")
            chat.expect(r"max_tokens +2")
            chat.at_prompt("again\r")
            chat.expect(r" tok tok\r\n")
            chat.at_prompt("half a line")
            chat.expect("line")
            chat.send("\x03")
            chat.at_prompt("\x03")
            chat.expect("press Ctrl-C again")
            chat.at_prompt("\x03")
            self.assertEqual(chat.wait(), 0)

    def test_commands(self):
        path = os.path.join(self.folder.name, "chat.json")
        with Fake() as url:
            chat = self.start(url, "--max-tokens", "1", "--system", "Be brief.")
            chat.at_prompt("hello\r")
            chat.expect("1 tokens")
            for line, shown in (("/help", "/system"), ("/hepl", r"unknown command /hepl, did you mean /help\?"),
                                ("/system", "Be brief."), ("/params", r"temperature +the server's \(default\)"),
                                ("/set temperature hot", "temperature must be a number"),
                                ("/set top_p 2", "top_p must be above 0, at most 1"),
                                ("/set colour red", "unknown parameter"), ("/set seed 5", r"seed +5"),
                                ("/save " + path, "saved 2 messages"), ("/reset", "cleared"),
                                ("/load " + path, "loaded 2 messages"), ("/load /nowhere", "/nowhere"),
                                ("/save", "needs a file name")):
                chat.at_prompt(line + "\r")
                chat.expect(shown)
            chat.at_prompt("\x04")
            self.assertEqual(chat.wait(), 0)
        with open(path) as file:
            self.assertEqual([m["role"] for m in json.load(file)], ["system", "user", "assistant"])

    def test_history_is_private_and_comes_back(self):
        with Fake() as url:
            chat = self.start(url, "--max-tokens", "1")
            chat.at_prompt("你好，世界\r")
            chat.expect("1 tokens")
            chat.at_prompt("/quit\r")
            self.assertEqual(chat.wait(), 0)
            path = os.path.join(self.folder.name, "erne", "chat_history")
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            chat = self.start(url, "--max-tokens", "1")
            chat.at_prompt("\x1b[A\x1b[A")  # past /quit
            chat.expect("你好，世界")
            chat.send("\r")
            chat.expect("1 tokens")
            chat.at_prompt("\x04")
            self.assertEqual(chat.wait(), 0)

    def test_wide_characters_are_deleted_whole(self):
        path = os.path.join(self.folder.name, "chat.json")
        with Fake() as url:
            chat = self.start(url, "--max-tokens", "1")
            chat.at_prompt("你好世x\x1b[D\x7f\x7f界\r")  # left, two backspaces, one more character
            chat.expect("1 tokens")
            chat.at_prompt("/save %s\r" % path)
            chat.expect("saved")
            chat.at_prompt("\x04")
            chat.wait()
        with open(path) as file:
            self.assertEqual(json.load(file)[0]["content"], "你界x")

    def test_several_lines(self):
        path = os.path.join(self.folder.name, "chat.json")
        with Fake() as url:
            chat = self.start(url, "--max-tokens", "1")
            chat.at_prompt("one\\\r")
            chat.expect(r"\.\.\. ")
            chat.send("two\r")
            chat.expect("1 tokens")
            chat.at_prompt('"""three\r')
            chat.expect(r"\.\.\. ")
            chat.send('four"""\r')
            chat.expect("1 tokens")
            chat.at_prompt("/save %s\r" % path)
            chat.expect("saved")
            chat.at_prompt("\x04")
            chat.wait()
        with open(path) as file:
            self.assertEqual([m["content"] for m in json.load(file)][::2], ["one\ntwo", "three\nfour"])


if __name__ == "__main__":
    unittest.main()
