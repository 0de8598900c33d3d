"""The program with `--device cuda` on the emulated GPU: a backend library of the tests (ERNE_BACKEND_DIR) whose kernels run as C++.
Goldens, the CPU's own ids, and what becomes of requests and process when the device is lost or full.

    python process_test.py build/release/erne build/release/tests/gpu/backend
"""
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
BACKEND = sys.argv.pop()
ERNE = sys.argv.pop()
GOLDENS = TESTS / "goldens" / "text"
FLAGS = ("--device", "cuda", "--dtype", "float32", "--threads", "1")


def environment(**settings):
    return {**os.environ, "ERNE_BACKEND_DIR": BACKEND, **settings}


def erne(*args, **settings):
    return subprocess.run([ERNE, *map(str, args)], capture_output=True, text=True, timeout=300, env=environment(**settings))


def single_bytes():
    """A tokenizer.json of 512 tokens, as the goldens have: a byte each, in the order of GPT-2's alphabet, and words that no text makes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    vocabulary = {c: i for i, c in enumerate([*alphabet, *(f"word{i}" for i in range(256, 512))])}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "decoder": level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, model, **settings):
        self.port = free_port()
        self.process = subprocess.Popen(
            [ERNE, "serve", "-m", model, *FLAGS, "--port", str(self.port), "--max-total-tokens", "1024"],
            stderr=subprocess.PIPE, text=True, env=environment(**settings))
        deadline = time.monotonic() + 120
        while self.status("/ready") != 200:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    def status(self, path):
        """None where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def complete(self, **fields):
        """(status, text) of a completion that runs until something ends it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        body = {"prompt": "abc", "max_tokens": 400, "ignore_eos": True, **fields}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def kill(self):
        self.process.kill()
        self.process.communicate()


class EmulatedProcess(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.model = pathlib.Path(cls.folder.name) / "model"
        shutil.copytree(GOLDENS / "dense-tied", cls.model)
        (cls.model / "tokenizer.json").write_text(json.dumps(single_bytes()))

    def test_goldens_hold(self):
        for name in "dense-tied", "moe":
            run = erne("verify", "-m", GOLDENS / name, "--golden", GOLDENS / name / "golden.safetensors", *FLAGS)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_ids_are_the_cpus(self):
        ids = pathlib.Path(self.folder.name) / "ids.jsonl"
        ids.write_text(json.dumps({"input_ids": [7, 30, 41, 5]}) + "\n")
        lines = []
        for flags in (), FLAGS:
            run = erne("generate", "-m", self.model, "--input-ids", ids, "--temperature", "0", "--json", "--dtype", "float32",
                       "--max-new-tokens", "12", "--ignore-eos", "--max-total-tokens", "256", *flags)
            self.assertEqual(run.returncode, 0, run.stderr)
            lines.append(json.loads(run.stdout)["output_ids"])
        self.assertEqual(len(lines[0]), 12)
        self.assertEqual(*lines)

    def test_made_up_weights_give_the_cpus_ids_and_are_measured(self):
        folder = pathlib.Path(self.folder.name) / "shape"
        folder.mkdir()
        shutil.copy(GOLDENS / "moe" / "config.json", folder)
        dummy = ("-m", folder, "--load-format", "dummy", "--dtype", "float32", "--threads", "1")
        lines = []
        for device in "cpu", "cuda":
            run = erne("generate", *dummy, "--device", device, "--input-ids", "7,30,41,5", "--temperature", "0", "--json",
                       "--max-new-tokens", "6", "--ignore-eos", "--max-total-tokens", "256")
            self.assertEqual(run.returncode, 0, run.stderr)
            lines.append(json.loads(run.stdout)["output_ids"])
        self.assertEqual(*lines)
        run = erne("bench", "one-batch", *dummy, "--device", "cuda", "--batch-size", "1", "3", "--input-len", "5", "--output-len", "3",
                   "--max-total-tokens", "256", "--result-filename", "", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual([json.loads(line)["batch_size"] for line in run.stdout.splitlines()], [1, 3])

    def test_a_lost_device_ends_requests_and_process(self):
        server = Server(self.model, ERNE_EMULATED_FAULT="900")
        self.addCleanup(server.kill)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            streamed = pool.submit(server.complete, stream=True)
            whole = pool.submit(server.complete)
            status, body = whole.result()
            events = [line[len("data: "):] for line in streamed.result()[1].splitlines() if line.startswith("data: ")]
        self.assertEqual(status, 500)
        self.assertIn("the GPU failed (a kernel: ERNE_EMULATED_FAULT)", json.loads(body)["error"]["message"])
        self.assertEqual(events[-1], "[DONE]")
        self.assertIn("the GPU failed", json.loads(events[-2])["error"]["message"])
        self.assertIn("choices", json.loads(events[0]))  # it had worked before
        self.assertIn(server.status("/health"), (503, None))
        _, errors = server.process.communicate(timeout=60)
        self.assertEqual(server.process.returncode, 1)
        self.assertIn("stopping, exit status 1: the GPU failed", errors)

    def test_a_device_lost_while_starting(self):
        for kernels in 1, 10:
            run = erne("serve", "-m", self.model, *FLAGS, "--port", free_port(), "--max-total-tokens", "256",
                       ERNE_EMULATED_FAULT=str(kernels))
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertIn("the GPU failed", run.stderr)

    def test_generate_says_why(self):
        run = erne("generate", "-m", self.model, "--prompt", "a", "--max-total-tokens", "256", *FLAGS, ERNE_EMULATED_FAULT="99")
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("the GPU failed", run.stderr)

    def test_out_of_memory_names_budget_and_flag(self):
        for megabytes, flags, words in [
                (32, (), ("32.0 MiB of the GPU are free", "--quantization")),
                (96, ("--max-total-tokens", "4000000"), ("MiB are free", "--max-total-tokens")),
                (96, ("--mem-fraction-static", "0.001"), ("may be used", "--mem-fraction-static"))]:
            run = erne("serve", "-m", self.model, *FLAGS, "--port", free_port(), *flags,
                       ERNE_EMULATED_MEMORY=str(megabytes << 20))
            self.assertEqual(run.returncode, 4, run.stderr)
            for word in words:
                self.assertIn(word, run.stderr)

    def test_no_such_device(self):
        run = erne("generate", "-m", self.model, "--prompt", "a", "--device", "cuda:1")
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertIn("cuda:1", run.stderr)


if __name__ == "__main__":
    unittest.main()
