"""Packed folders (`erne convert --pack`) in every verb that runs a model, on a golden's tiny model with a tokenizer of single bytes:
each gives what the folder gives that it was packed from.

usage: packed_test.py ERNE
"""
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ERNE = sys.argv.pop(1)
TESTS = pathlib.Path(__file__).resolve().parent.parent
CASE = TESTS / "goldens" / "text" / "moe"
FLAGS = ["--dtype", "float32", "--quantization", "wint8", "--mixed", "lm_head=wint8"]
WAIT_S = 60
PROMPT = [5, 6, 7, 8]


def byte_tokenizer():
    """A byte-level BPE tokenizer.json without merges: a token a byte, and names for the rest of the model's vocabulary."""
    size = json.loads((CASE / "config.json").read_text())["vocab_size"]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = [chr(byte) for byte in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    names += [f"filler{i}" for i in range(256, size)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "decoder": level,
            "post_processor": None,
            "model": {"type": "BPE", "vocab": {name: i for i, name in enumerate(names)}, "merges": []}}


def run(*arguments, stdin=""):
    return subprocess.run([ERNE, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=300)


class Packed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.model = cls.folder / "model"
        shutil.copytree(CASE, cls.model)
        (cls.model / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        (cls.model / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}))
        cls.packed = cls.pack("packed", *FLAGS)

    @classmethod
    def pack(cls, name, *flags):
        done = run("convert", "--pack", cls.model, cls.folder / name, *flags)
        assert done.returncode == 0, done.stderr
        return cls.folder / name

    def both(self, *arguments, stdin=""):
        """What a verb prints for the model with FLAGS, and for the packed folder."""
        runs = [run(*arguments, "-m", self.model, *FLAGS, stdin=stdin), run(*arguments, "-m", self.packed, stdin=stdin)]
        for done in runs:
            self.assertEqual(done.returncode, 0, done.stderr)
        return [done.stdout for done in runs]

    def test_chat(self):
        expected, answer = self.both("chat", "--max-tokens", "8", "--temperature", "0", stdin="hello\n")
        self.assertEqual(answer, expected)

    def test_bench_offline(self):
        expected, report = map(json.loads, self.both("bench", "offline", "--json", "--input-len", "8", "--output-len", "4",
                                                     "--batch", "2"))
        for key in ("successful_requests", "total_input_tokens", "total_output_tokens", "dtype"):
            self.assertEqual(report[key], expected[key])

    def test_verify(self):
        """Numbers of float32 that were packed meet the bounds of the golden."""
        packed = self.pack("exact", "--dtype", "float32")
        done = run("verify", "-m", packed, "--golden", CASE / "golden.safetensors")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        text = self.folder / "text.txt"
        text.write_text("It was a bright cold day in April.\n" * 4)
        done = run("verify", "-m", packed, "--baseline", self.model, "--baseline-dtype", "float32", "--text", text, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(json.loads(done.stdout)["kl_divergence"], 1e-9)

    def served(self, *flags):
        """Ids that a server answers PROMPT with."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen([ERNE, "serve", "--port", str(port), *map(str, flags)], stderr=subprocess.PIPE, text=True)
        try:
            body = json.dumps({"input_ids": PROMPT, "sampling_params": {"max_new_tokens": 6, "temperature": 0}}).encode()
            until = time.monotonic() + WAIT_S
            while True:
                try:
                    request = urllib.request.Request(f"http://127.0.0.1:{port}/generate", body,
                                                     {"Content-Type": "application/json"})
                    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                        return json.load(answer)["text"]
                except urllib.error.URLError:  # not up yet
                    if time.monotonic() > until or server.poll() is not None:
                        raise
                    time.sleep(0.1)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=WAIT_S)

    def test_serve(self):
        self.assertEqual(self.served("-m", self.packed), self.served("-m", self.model, *FLAGS))

    def test_truncated(self):
        broken = self.folder / "broken"
        shutil.copytree(self.packed, broken)
        weights = broken / "packed.safetensors"
        with open(weights, "r+b") as file:
            file.truncate(weights.stat().st_size - 4096)
        for verb in (["inspect"], ["generate", "--prompt", "a"], ["serve", "--port", "0"]):
            done = run(*verb, "-m", broken)
            self.assertNotEqual(done.returncode, 0, verb)
            self.assertIn("packed.safetensors", done.stderr)


if __name__ == "__main__":
    unittest.main()
