"""`erne completion bash`, as bash itself uses it: source the script, fill COMP_WORDS, look at COMPREPLY."""
import os
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)


def complete(line, cwd=None):
    """Replies for `line`; its last word (maybe empty) is the one being typed. '=' splits words as bash does."""
    words = []
    for word in line.split(" "):
        head, equals, tail = word.partition("=")
        words += [head, "=", tail] if equals and tail else [head, "="] if equals else [head]
    array = " ".join("'%s'" % w for w in words)
    script = (
        'source <("$ERNE" completion bash) || exit 9\n'
        "COMP_WORDS=(%s); COMP_CWORD=%d\n_erne\nprintf '%%s\\n' \"${COMPREPLY[@]}\"\n" % (array, len(words) - 1)
    )
    run = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=cwd,
                         env={**os.environ, "ERNE": ERNE})
    assert run.returncode == 0, run.stderr
    return [reply for reply in run.stdout.split("\n") if reply]


class Completion(unittest.TestCase):
    def test_verbs(self):
        self.assertEqual(complete("erne ge"), ["generate"])
        for verb in ("bench", "chat", "completion", "generate"):
            self.assertIn(verb, complete("erne "))
        self.assertFalse([word for word in complete("erne ") if word.startswith("-")])

    def test_verbs_below_verbs(self):
        self.assertIn("serving", complete("erne bench "))
        self.assertEqual(complete("erne completion b"), ["bash"])
        self.assertEqual(complete("erne eval "), ["ppl"])

    def test_flags(self):
        self.assertIn("--max-new-tokens", complete("erne generate --max-"))
        self.assertIn("--request-rate", complete("erne bench serving --req"))
        self.assertEqual(complete("erne generate --request-r"), [])
        self.assertIn("--help", complete("erne --"))

    def test_refused_flags_are_not_offered(self):
        self.assertEqual(complete("erne bench serving --gsp"), [])

    def test_choices(self):
        self.assertIn("sglang-oai", complete("erne bench serving --backend sgl"))
        self.assertEqual(complete("erne bench serving --report ex"), ["extended"])
        self.assertEqual(complete("erne bench serving --report=ex"), ["extended"])
        self.assertEqual(sorted(complete("erne bench serving --report=")), ["extended", "standard"])
        self.assertEqual(sorted(complete("erne eval ppl --method ")), ["llama.cpp", "sliding"])

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            open(os.path.join(folder, "mine and yours.jsonl"), "w").close()
            self.assertEqual(complete("erne bench serving --dataset-path mi", cwd=folder), ["mine and yours.jsonl"])
            self.assertEqual(complete("erne generate --model-path mi", cwd=folder), ["mine and yours.jsonl"])
            self.assertEqual(complete("erne verify --baseline mi", cwd=folder), ["mine and yours.jsonl"])
            self.assertEqual(complete("erne eval ppl --text mi", cwd=folder), ["mine and yours.jsonl"])

    def test_free_values_offer_nothing(self):
        self.assertEqual(complete("erne generate --prompt ch"), [])

    def test_a_value_that_looks_like_a_verb(self):
        self.assertIn("--max-new-tokens", complete("erne generate --prompt chat --max-"))


if __name__ == "__main__":
    unittest.main()
