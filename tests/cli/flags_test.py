"""The command line of `erne serve` as users meet it: flags, --config and exit codes, without a model.

usage: flags_test.py ERNE
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)


def serve(*flags):
    """(exit code, stderr) of a start that ends at the latest when it finds no model."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([ERNE, "serve", "--port", "0", "--model-path", empty, *flags],
                              capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def arguments(stderr):
    return json.loads(re.search(r"arguments: (\{.*\})", stderr).group(1))


class Flags(unittest.TestCase):
    def refused(self, flags, *words):
        code, stderr = serve(*flags)
        self.assertEqual(code, 2, stderr)
        for word in words:
            self.assertIn(word, stderr)

    def accepted(self, *flags):
        code, stderr = serve(*flags)
        self.assertEqual(code, 3, stderr)  # it came as far as the empty folder
        return arguments(stderr)

    def config(self, text):
        file = tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            file.write(text)
        return file.name

    def test_mistyped_flag_names_the_nearest(self):
        self.refused(["--stream-intervall", "2"], "--stream-intervall", "did you mean --stream-interval?")
        self.refused(["--qwertyuiopasdf"], "unknown flag", "--help")

    def test_prefix(self):
        self.assertEqual(self.accepted("--stream-int", "3")["stream_interval"], 3)
        self.refused(["--log-requests-", "x"], "--log-requests-level", "--log-requests-format")

    def test_equals(self):
        self.assertEqual(self.accepted("--stream-interval=4")["stream_interval"], 4)
        self.assertEqual(self.accepted("--stream-int=5")["stream_interval"], 5)
        self.assertEqual(self.accepted("--stream-interval", "1", "--stream-interval=6")["stream_interval"], 6)

    def test_values_out_of_range(self):
        self.refused(["--stream-interval", "0"], "--stream-interval must be at least 1, got 0")
        self.refused(["--stream-interval", "many"], "--stream-interval")
        self.refused(["--port", "70000"], "--port")
        self.refused(["--decode-log-interval", "-1"], "--decode-log-interval")
        self.refused(["--sampling-defaults", "mine"], "model or openai", "mine")

    def test_config_file(self):
        path = self.config("stream_interval: 7\nweight-version: v2\nenable_metrics: true\nstream_output: false\n")
        read = self.accepted("--config", path)
        self.assertEqual(read["stream_interval"], 7)
        self.assertEqual(read["weight_version"], "v2")
        self.assertEqual(read["enable_metrics"], True)
        self.assertEqual(read["stream_output"], False)

    def test_command_line_wins_over_the_file(self):
        path = self.config("stream-interval: 7\n")
        self.assertEqual(self.accepted("--config", path, "--stream-interval", "8")["stream_interval"], 8)
        self.assertEqual(self.accepted("--stream-interval", "8", f"--config={path}")["stream_interval"], 8)

    def test_bad_config_files(self):
        self.refused(["--config", self.config("stream_intervall: 1\n")], "--config", "did you mean --stream-interval?")
        self.refused(["--config", self.config("- a\n- b\n")], "map")
        self.refused(["--config", self.config("a: [\n")], "--config")
        self.refused(["--config", self.config("stream_interval: {a: 1}\n")], "must be a value or a list")
        self.assertEqual(serve("--config", "/nowhere/serve.yaml")[0], 2)

    def test_unbuilt_flags_are_refused_by_name(self):
        self.refused(["--tp-size", "2"], "--tp-size", "not available in this version", "only 1 is")
        self.refused(["--enable-lora"], "--enable-lora", "LoRA")
        self.refused(["--speculative-algorithm", "EAGLE"], "speculative decoding")
        self.refused(["--config", self.config("tensor-parallel-size: 4\n")], "--tp-size")

    def test_unbuilt_flags_that_ask_for_what_happens_anyway(self):
        self.accepted("--tp-size", "1", "--trust-remote-code", "--disable-cuda-graph")

    def test_kv_cache_types(self):
        for word in ("auto", "bf16", "bfloat16", "float32", "int8", "fp8", "fp8_e4m3"):
            self.accepted("--kv-cache-dtype", word)
        self.refused(["--kv-cache-dtype", "int3"], "--kv-cache-dtype", "int8", "int3")
        self.refused(["--kv-cache-dtype", "fp8_e5m2"], "not available in this version", "fp8_e4m3")

    def test_keys_are_not_logged(self):
        code, stderr = serve("--api-key", "s3cret-value", "--admin-api-key=0ther-secret")
        self.assertEqual(code, 3)
        self.assertNotIn("s3cret-value", stderr)
        self.assertNotIn("0ther-secret", stderr)

    def test_missing_model(self):
        code, stderr = serve("--model-path", str(pathlib.Path("no") / "such" / "folder.gguf"))
        self.assertEqual(code, 3, stderr)
        self.assertIn("folder.gguf", stderr)


if __name__ == "__main__":
    unittest.main()
