"""`--load-format dummy` and `inspect --config`: verbs on a config.json alone.

usage: dummy_test.py ERNE
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)
GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens" / "text"


def erne(*arguments):
    return subprocess.run([ERNE, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class Dummy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.model = pathlib.Path(folder.name)
        shutil.copy(GOLDENS / "moe" / "config.json", self.model)

    def done(self, *arguments):
        run = erne(*arguments)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def dummy(self, *verb):
        return (*verb, "-m", self.model, "--load-format", "dummy", "--threads", "1")

    def test_generate_is_the_same_at_every_start(self):
        flags = ("--input-ids", "3,4,5", "--max-new-tokens", "8", "--ignore-eos", "--temperature", "0", "--max-total-tokens", "256", "--json")
        for scheme in "none", "wint8", "wint4", "fp8_block":
            lines = [json.loads(self.done(*self.dummy("generate"), *flags, "--quantization", scheme)) for _ in range(2)]
            self.assertEqual(lines[0]["output_ids"], lines[1]["output_ids"])
            self.assertEqual(len(lines[0]["output_ids"]), 8)

    def test_benches(self):
        shape = ("--input-len", "8", "--output-len", "4", "--max-total-tokens", "512")
        self.done(*self.dummy("bench", "offline"), *shape, "--batch", "2", "--skip-roofline")
        out = self.done(*self.dummy("bench", "one-batch"), *shape, "--batch-size", "2", "--result-filename", "", "--json")
        self.assertEqual(json.loads(out)["batch_size"], 2)
        steps = json.loads(self.done(*self.dummy("bench", "roofline"), "--json"))["steps"]
        self.assertIn("experts", [op["operation"] for op in steps[0]["operations"]])

    def test_what_needs_text_says_so(self):
        for verb in ("serve", "--port", "0"), ("generate", "--input-ids", "3"), ("generate", "--prompt", "a", "--json"):
            run = erne(*self.dummy(*verb), "--max-total-tokens", "256")
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("tokenizer", run.stderr)

    def test_bad_words_are_refused(self):
        run = erne("generate", "-m", self.model, "--load-format", "dumb", "--input-ids", "3")
        self.assertEqual(run.returncode, 2)
        self.assertIn("dummy", run.stderr)
        run = erne("generate", "-m", self.model, "--input-ids", "3")
        self.assertEqual(run.returncode, 3)
        self.assertIn("model.safetensors", run.stderr)

    def test_inspect_plans_from_the_config(self):
        for path in self.model, self.model / "config.json":
            plan = json.loads(self.done("inspect", "--config", path, "--gpu-memory", "1GiB", "--json"))
            self.assertEqual(plan["card_bytes"], 1 << 30)
            for line in plan["plans"]:
                left = (1 << 30) - line["weight_bytes"]
                self.assertEqual(line["kv_tokens"], int((left * 0.88 - line["workspace_bytes"]) / line["kv_bytes_per_token"]))
        text = self.done("inspect", "--config", self.model, "--gpu-memory", "1MiB")
        self.assertIn("too large", text)
        self.assertNotIn("KV tokens", self.done("inspect", "--config", self.model))
        for flags in (("--config", self.model, "-m", self.model), ("-m", self.model, "--gpu-memory", "1GiB"),
                      ("--config", self.model, "--gpu-memory", "lots")):
            self.assertEqual(erne("inspect", *flags).returncode, 2)


if __name__ == "__main__":
    unittest.main()
