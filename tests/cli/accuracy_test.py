"""`erne eval ppl` and `erne verify --baseline`: on the goldens' tiny models with a tokenizer of single bytes, and on the default model
where ERNE_DEFAULT_MODEL names it.

usage: accuracy_test.py ERNE
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)
TESTS = pathlib.Path(__file__).resolve().parent.parent
CASES = TESTS / "goldens" / "text"
MODEL = os.environ.get("ERNE_DEFAULT_MODEL")
TEXT = "It was a bright cold day in April, and the clocks were striking thirteen.\n" * 4


def byte_tokenizer():
    """A byte-level BPE tokenizer.json without merges: a token a byte, ids in the order of GPT-2's alphabet."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    names = [chr(byte) for byte in visible] + [chr(256 + i) for i in range(len(hidden))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "decoder": level,
            "post_processor": None,
            "model": {"type": "BPE", "vocab": {name: i for i, name in enumerate(names)}, "merges": []}}


def run(*arguments):
    return subprocess.run([ERNE, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class Accuracy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.text = self.write("text.txt", TEXT.encode())

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def case(self, name, tokenizer=None):
        """A golden's model with a tokenizer."""
        folder = self.folder / name
        shutil.copytree(CASES / name, folder)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer or byte_tokenizer()))
        return folder

    def ppl(self, model, *flags):
        done = run("eval", "ppl", "-m", model, "--text", self.text, "--json", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def compare(self, model, baseline, *flags, code=0):
        done = run("verify", "-m", model, "--baseline", baseline, "--text", self.text, "--json", *flags)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def refused(self, arguments, code, *words):
        done = run(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word, done.stderr)

    def test_sliding(self):
        model = self.case("moe")
        report = self.ppl(model, "--dtype", "float32", "--window", "64")
        self.assertEqual((report["text_tokens"], report["scored_tokens"]), (len(TEXT), len(TEXT) - 1))
        self.assertEqual((report["window"], report["stride"], report["method"]), (64, 32, "sliding"))
        self.assertGreater(report["perplexity"], 100)  # random weights know nothing of a text
        for flags in (["--chunk", "5"], ["--batch", "7", "--chunk", "3"], ["--threads", "1"], ["--page-size", "32"]):
            other = self.ppl(model, "--dtype", "float32", "--window", "64", *flags)
            self.assertEqual([other[key] for key in ("perplexity", "nll", "nll_stderr")],
                             [report[key] for key in ("perplexity", "nll", "nll_stderr")], flags)

    def test_second_halves(self):
        report = self.ppl(self.case("moe"), "--method", "llama.cpp", "--window", "64")
        self.assertEqual((report["windows"], report["scored_tokens"]), (len(TEXT) // 64, len(TEXT) // 64 * 31))
        self.assertNotIn("stride", report)

    def test_max_tokens(self):
        model = self.case("dense-tied")
        head = self.ppl(model, "--max-tokens", "50")
        self.text = self.write("head.txt", TEXT[:50].encode())
        self.assertEqual(head["nll"], self.ppl(model)["nll"])
        self.assertEqual(head["scored_tokens"], 49)

    def test_names_of_special_tokens_are_plain_text(self):
        tokenizer = byte_tokenizer()
        tokenizer["added_tokens"] = [{"id": 256, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False,
                                      "normalized": False, "special": True}]
        self.text = self.write("special.txt", b"a<s>b")
        self.assertEqual(self.ppl(self.case("moe", tokenizer))["text_tokens"], 5)

    def test_text_report(self):
        done = run("eval", "ppl", "-m", self.case("moe"), "--text", self.text)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("perplexity", "±", "nats per token", "scored tokens", "tokens/s"):
            self.assertIn(word, done.stdout)

    def test_bad_texts(self):
        model = self.case("dense-tied")
        texts = [(b"", 2, "empty"), (b"a", 2, "1 tokens"), (b"abc\xff\xfe", 2, "byte 3 is not UTF-8"),
                 (b"\x7fELF\x02\x01\x00\x00", 2, "byte 6 is zero")]
        for content, code, words in texts:
            text = self.write("bad", content)
            with self.subTest(content=content):
                self.refused(["eval", "ppl", "-m", model, "--text", text], code, words)
                self.refused(["verify", "-m", model, "--baseline", model, "--text", text], code, words)
        self.refused(["eval", "ppl", "-m", model, "--text", self.folder / "nowhere"], 3, "nowhere")
        self.refused(["eval", "ppl", "-m", model, "--text", self.folder], 2, "not a regular file")

    def test_bad_flags(self):
        model = self.case("dense-tied")
        ppl = ["eval", "ppl", "-m", model, "--text", self.text]
        self.refused(["eval", "ppl", "-m", model], 2, "--text is required")
        self.refused(["eval", "ppl", "--text", self.text], 2, "--model-path is required")
        self.refused([*ppl, "--window", "1"], 2, "--window must be 2 to 4096")
        self.refused([*ppl, "--window", "5000"], 2, "--window must be 2 to 4096")
        self.refused([*ppl, "--window", "8", "--stride", "8"], 2, "--stride must be 1 to 7")
        self.refused([*ppl, "--method", "llama.cpp", "--stride", "8"], 2, "--stride")
        self.refused([*ppl, "--method", "llama.cpp"], 2, "whole window of 512")
        self.refused([*ppl, "--max-tokens", "1"], 2, "--max-tokens must be at least 2")
        self.refused([*ppl, "--chunk", "0"], 2, "chunk must be at least 1")
        self.refused([*ppl, "--batch", "-1"], 2, "batch must be 1 to 1024")
        self.refused([*ppl, "--page-size", "0"], 2, "page")
        self.refused([*ppl, "--threads", "-1"], 2, "--threads must be at least 0")
        self.refused([*ppl, "--dtype", "int3"], 2, "int3")
        self.refused(["verify", "-m", model], 2, "--golden", "--baseline")
        golden = ["--golden", CASES / "dense-tied" / "golden.safetensors"]
        self.refused(["verify", "-m", model, "--baseline", model, *golden], 2, "only one of")
        self.refused(["verify", "-m", model, *golden, "--max-kl", "1"], 2, "--max-kl belongs to --baseline")
        self.refused(["verify", "-m", model, *golden, "--text", self.text], 2, "--text belongs to --baseline")
        self.refused(["verify", "-m", model, "--baseline", model], 2, "--baseline needs --text")
        self.refused(["verify", "-m", model, *golden, "--page-size", "0"], 2, "page")
        self.refused(["verify", "-m", model, "--baseline", self.folder / "no", "--text", self.text], 3, "no")

    def test_a_model_and_itself(self):
        model = self.case("moe")
        report = self.compare(model, model, "--dtype", "float32", "--window", "64", "--batch", "3", "--max-kl", "0",
                              "--min-top1", "1")
        self.assertEqual((report["kl_divergence"], report["kl_max"], report["top1_agreement"]), (0, 0, 1))
        self.assertEqual((report["mean_abs_logit_error"], report["perplexity_ratio"]), (0, 1))
        self.assertEqual(report["perplexity"], self.ppl(model, "--dtype", "float32", "--window", "64")["perplexity"])
        self.assertTrue(report["passed"])

    def test_broken_bounds(self):
        model = self.case("moe")
        self.assertEqual(self.compare(model, model, "--dtype", "bfloat16")["broken"], [])  # no bound was asked for
        report = self.compare(model, model, "--dtype", "bfloat16", "--max-kl", "0", "--min-top1", "1.1", code=1)
        self.assertFalse(report["passed"])
        self.assertEqual([line.split()[0] for line in report["broken"]], ["mean", "top-1"])
        done = run("verify", "-m", model, "--baseline", model, "--text", self.text, "--max-kl", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("passed", done.stdout)

    def test_broken_golden(self):
        for dtype in ("float32", "bfloat16"):
            done = run("verify", "-m", CASES / "moe", "--golden", CASES / "moe" / "golden.safetensors", "--dtype", dtype)
            self.assertEqual(done.returncode, 0, done.stdout)
        wrong = self.write("wrong.json", b'[{"prompt_ids": [1, 2, 3], "completion_ids": [4, 4, 4]}]')
        done = run("verify", "-m", CASES / "moe", "--golden", wrong)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("BROKEN", done.stdout)

    def test_models_that_cannot_be_compared(self):
        model = self.case("dense-tied")
        self.refused(["verify", "-m", model, "--baseline", self.case("dense-bias"), "--text", self.text], 2, "512", "640")
        tokenizer = byte_tokenizer()
        vocab = tokenizer["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
        other = self.case("moe", tokenizer)
        self.refused(["verify", "-m", model, "--baseline", other, "--text", self.text], 2, "differently from token 4")

    def test_a_broken_model(self):
        model = self.case("dense-tied")
        weights = model / "model.safetensors"
        content = bytearray(weights.read_bytes())
        size = int.from_bytes(content[:8], "little")
        begin = json.loads(content[8:8 + size])["model.embed_tokens.weight"]["data_offsets"][0] + 8 + size
        content[begin:begin + 4] = b"\xff" * 4
        weights.write_bytes(content)
        self.refused(["eval", "ppl", "-m", model, "--text", self.text], 3, "not a number")
        self.refused(["verify", "-m", model, "--baseline", model, "--text", self.text], 3, "not a number")

    def test_kv_cache_dtype(self):
        model = self.case("dense-tied")
        same = self.compare(model, model, "--dtype", "float32")
        self.assertLess(same["kl_divergence"], 1e-9)
        for dtype in ("int8", "fp8"):
            report = self.compare(model, model, "--dtype", "float32", "--kv-cache-dtype", dtype)
            self.assertGreater(report["kl_divergence"], same["kl_divergence"])
            self.assertEqual(report["kv_cache_dtype"], dtype)
        golden = CASES / "dense-tied" / "golden.safetensors"
        done = run("verify", "-m", model, "--golden", golden, "--kv-cache-dtype", "int8", "--json")
        self.assertEqual(done.returncode, 1, done.stderr)  # the bounds are those of float32
        report = json.loads(done.stdout)
        self.assertEqual(report["kv_cache_dtype"], "int8")
        self.assertGreater(report["sequences"][0]["max_abs_error"], 0)
        self.refused(["verify", "-m", model, "--golden", golden, "--kv-cache-dtype", "int4"], 2, "--kv-cache-dtype")
        self.refused(["verify", "-m", model, "--golden", golden, "--dtype", "bfloat16", "--kv-cache-dtype", "float32"], 2,
                     "KV cache of float32")

    def test_packed_folders(self):
        model, packed = self.case("moe"), self.folder / "packed"
        flags = ["--dtype", "bfloat16", "--quantization", "wint4:g32", "--mixed", "lm_head=wint8"]
        done = run("convert", "--pack", model, packed, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--quantization wint4:g32 --mixed lm_head=wint8", done.stdout)
        expected = self.ppl(model, *flags)
        for mapping in ("auto", "on", "off"):
            report = self.ppl(packed, "--mmap", mapping)
            self.assertEqual((report["nll"], report["dtype"]), (expected["nll"], "bfloat16"))
        info = run("inspect", "-m", packed)
        self.assertIn("packed        ", info.stdout)
        info = json.loads(run("inspect", "-m", packed, "--json").stdout)
        self.assertEqual(info["packed"]["flags"], " ".join(flags))
        self.assertEqual(info["packed"]["source"], str(model))
        ids = self.write("ids.jsonl", b"[5, 6, 7, 8]")
        answers = [run("generate", "-m", m, "--input-ids", ids, "--max-new-tokens", "4", "--temperature", "0", "--json", *f)
                   for m, f in ((model, flags), (packed, []))]
        self.assertEqual(answers[0].returncode, 0, answers[0].stderr)
        self.assertEqual(answers[0].stdout, answers[1].stdout)
        self.refused(["eval", "ppl", "-m", packed, "--text", self.text, "--dtype", "float32"], 2, "--pack")
        self.refused(["eval", "ppl", "-m", model, "--text", self.text, "--mmap", "on"], 2, "--mmap is about packed folders")
        self.refused(["convert", packed, self.folder / "back"], 2, "packed for a processor", str(model))
        self.refused(["convert", "--pack", model, packed], 1, "is not empty")
        self.refused(["convert", "--pack", model, self.folder / "new", "--layout", "pt"], 2, "--layout does not go with")
        self.refused(["convert", model, self.folder / "new", "--quantization", "wint8"], 2, "belongs to --pack")
        self.refused(["convert", model, self.folder / "new", "--dtype", "w4a16"], 2, "--dtype must be bfloat16")

    def test_numa(self):
        model = self.case("dense-tied")
        expected = self.ppl(model, "--numa", "off")["nll"]
        self.assertEqual(self.ppl(model, "--numa", "bind")["nll"], expected)
        self.refused(["eval", "ppl", "-m", model, "--text", self.text, "--numa", "maybe"], 2, "--numa must be auto")
        if len(list(pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))) < 2:
            self.refused(["eval", "ppl", "-m", model, "--text", self.text, "--numa", "interleave"], 2, "one memory node")

    @unittest.skipUnless(MODEL, "ERNE_DEFAULT_MODEL is not set")
    def test_default_model(self):
        report = self.ppl(MODEL, "--max-tokens", "48")
        self.assertEqual(report["dtype"], "bfloat16")
        self.assertLess(report["perplexity"], 20)  # English, repeated
        report = self.compare(MODEL, MODEL, "--max-tokens", "48", "--max-kl", "0.02", "--min-top1", "0.9")
        self.assertEqual((report["dtype"], report["baseline_dtype"]), ("bfloat16", "float32"))
        self.assertGreater(report["kl_divergence"], 0)
        self.assertAlmostEqual(report["perplexity_ratio"], 1, delta=0.05)


if __name__ == "__main__":
    unittest.main()
