"""`erne generate` and piped `erne chat` on the default model: the reference's own greedy answers, and what a user would try. Needs
ERNE_DEFAULT_MODEL (a folder); skipped without it."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "goldens", "default-model", "shared.json")
MODEL = os.environ.get("ERNE_DEFAULT_MODEL")


def generate(*flags, stdin=subprocess.DEVNULL, text=None):
    source = {"input": text} if text is not None else {"stdin": stdin}
    return subprocess.run([ERNE, "generate", "-m", MODEL, *flags], capture_output=True, text=True, timeout=300, **source)


def json_lines(run):
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@unittest.skipUnless(MODEL, "ERNE_DEFAULT_MODEL is not set")
class Generate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(GOLDEN) as file:
            cls.golden = json.load(file)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def check_golden(self, lines):
        self.assertEqual(len(lines), len(self.golden))
        for line, golden in zip(lines, self.golden):
            self.assertEqual(line["prompt_ids"], golden["prompt_ids"])
            self.assertEqual(line["output_ids"], golden["completion_ids"])
            self.assertEqual(line["text"], golden["text"])
            ended = golden["completion_ids"][-1] == 2
            self.assertEqual(line["finish_reason"], "stop" if ended else "length")
            self.assertEqual(line["matched_stop"], 2 if ended else None)

    def test_golden_messages_in_one_batch(self):
        self.check_golden(json_lines(generate("--messages", GOLDEN, "--temperature", "0", "--dtype", "float32",
                                              "--max-new-tokens", "64", "--json")))

    def test_golden_ids_one_at_a_time_in_small_chunks(self):
        path = self.write("ids.jsonl", "".join(json.dumps({"input_ids": g["prompt_ids"]}) + "\n" for g in self.golden))
        self.check_golden(json_lines(generate("--input-ids", path, "--temperature", "0", "--dtype", "float32",
                                              "--max-new-tokens", "64", "--json", "--max-running-requests", "1",
                                              "--chunked-prefill-size", "16", "--disable-radix-cache")))

    def test_prompt_streams_plain_text(self):
        run = generate("--prompt", "The capital of France is", "--temperature", "0", "--max-new-tokens", "2")
        self.assertEqual((run.returncode, run.stdout), (0, " Paris.\n"))
        self.assertEqual(run.stderr.strip().count("\n"), 0, run.stderr)  # at most the line of the progress bar

    def test_stdin_is_the_prompt(self):
        run = generate("--temperature", "0", "--max-new-tokens", "1", text="The capital of France is")
        self.assertEqual((run.returncode, run.stdout), (0, " Paris\n"))

    def test_seed_repeats_and_choices_differ(self):
        flags = ("--prompt", "Once upon a time", "--temperature", "1.5", "--seed", "7", "--n", "2", "--json",
                 "--max-new-tokens", "12")
        first, second = json_lines(generate(*flags)), json_lines(generate(*flags))
        self.assertEqual([line["output_ids"] for line in first], [line["output_ids"] for line in second])
        self.assertNotEqual(first[0]["output_ids"], first[1]["output_ids"])
        self.assertEqual([line["choice"] for line in first], [0, 1])

    def test_stop_string_is_cut_off(self):
        line = json_lines(generate("--prompt", "The capital of France is", "--temperature", "0", "--stop", "ris",
                                   "--json"))[0]
        self.assertEqual((line["text"], line["finish_reason"], line["matched_stop"]), (" Pa", "stop", "ris"))

    def test_many_prompts_keep_their_order(self):
        prompts = ["One, two, three,", "The capital of France is", "A, B, C,"]
        flags = [part for prompt in prompts for part in ("--prompt", prompt)]
        lines = json_lines(generate(*flags, "--temperature", "0", "--max-new-tokens", "4", "--json"))
        self.assertEqual([line["index"] for line in lines], [0, 1, 2])
        self.assertTrue(lines[1]["text"].startswith(" Paris"))
        text = generate(*flags, "--temperature", "0", "--max-new-tokens", "4").stdout
        self.assertEqual([line for line in text.split("\n") if line.startswith("---")],
                         ["--- prompt 1 ---", "--- prompt 2 ---", "--- prompt 3 ---"])

    def test_piped_chat_prints_the_answer_alone(self):
        golden = self.golden[0]
        run = subprocess.run([ERNE, "chat", "-m", MODEL, "--temperature", "0", "--dtype", "float32"],
                             input=golden["messages"][-1]["content"] + "\n", capture_output=True, text=True, timeout=300)
        self.assertEqual((run.returncode, run.stdout), (0, golden["text"] + "\n"))

    def test_mistakes(self):
        cases = [
            (["--prompt", "x", "--input-ids", "1"], 2, "only one of"),
            (["--input-ids", "1,x"], 3, "1,x"),
            (["--input-ids", "1,,2"], 2, "1,,2"),
            (["--input-ids", "999999"], 2, "999999"),
            (["--messages", "/nowhere.json"], 3, "/nowhere.json"),
            (["--messages", self.write("m.json", '{"messages": 3}')], 2, "messages"),
            (["--messages", self.write("b.json", '[{"role": "user",\n')], 2, "b.json"),
            (["--prompt", "x", "--temperature", "-1"], 2, "temperature"),
            (["--prompt", "x", "--n", "0"], 2, "--n"),
            (["--prompt", "x", "--max-new-tokens", "100000"], 2, "maximum context length"),
            (["--prompt", ""], 2, "empty"),
            (["--prompt", "x", "--dtype", "int3"], 2, "int3"),
        ]
        for flags, code, text in cases:
            with self.subTest(flags=flags):
                run = generate(*flags)
                self.assertEqual(run.returncode, code, run.stderr)
                self.assertIn(text, run.stderr)
                self.assertEqual(run.stdout, "")


if __name__ == "__main__":
    unittest.main()
