"""`erne bench serving` as a user runs it, against fake_server.py. Counts and lower bounds only: never an upper time."""
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import unittest

ERNE = sys.argv.pop(1)
HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZER = os.path.join(HERE, "..", "goldens", "tokenizer")


class Fake:
    """The fake server as a context; closing its stdin ends it."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "fake_server.py"), *self.flags],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().split()[-1]
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)


class ServingBench(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.output = os.path.join(self.folder.name, "out.jsonl")

    def bench(self, fake, *flags, env=None, defaults=True):
        usual = ["--tokenizer", TOKENIZER, "--dataset-name", "random-ids", "--num-prompts", "8", "--random-input-len", "16",
                 "--random-output-len", "6", "--random-range-ratio", "1", "--output-file", self.output]
        return subprocess.run([ERNE, "bench", "serving", "--port", fake.port if fake else "1", *(usual if defaults else []),
                               *flags], capture_output=True, text=True, timeout=120, cwd=self.folder.name,
                              env={**os.environ, **(env or {})})

    def lines(self):
        with open(self.output) as file:
            return [json.loads(line) for line in file]

    def test_every_backend_family_counts_tokens(self):
        for backend in ("sglang", "erne-oai", "vllm-chat"):
            for stream in (True, False):
                with self.subTest(backend=backend, stream=stream), Fake() as fake:
                    flags = [] if stream else ["--disable-stream"]
                    run = self.bench(fake, "--backend", backend, "--output-details", *flags)
                    self.assertEqual(run.returncode, 0, run.stderr)
                    self.assertIn("#Input tokens: 128\n#Output tokens: 48\n", run.stdout)
                    self.assertIn("Starting warmup with 1 sequences...", run.stdout)
                    line = self.lines()[-1]
                    self.assertEqual((line["completed"], line["total_input_tokens"], line["total_output_tokens"]),
                                     (8, 128, 48))
                    self.assertEqual(line["request_rate"], "inf")
                    self.assertTrue(all(len(itl) == (5 if stream else 0) for itl in line["itls"]))
                    self.assertTrue(all(text == " tok" * 6 for text in line["generated_texts"]))
                    self.assertGreaterEqual(line["mean_ttft_ms"], 20)
                    if stream:  # a first token that is late makes the gaps behind it shorter, never the whole
                        self.assertGreaterEqual(line["mean_e2e_latency_ms"], 44)
                        self.assertAlmostEqual(line["mean_ttft_ms"] + 5 * line["mean_tpot_ms"], line["mean_e2e_latency_ms"],
                                               places=3)
                    self.assertAlmostEqual(line["total_throughput"], line["input_throughput"] + line["output_throughput"])
                    self.assertAlmostEqual(line["concurrency"],
                                           line["completed"] * line["mean_e2e_latency_ms"] / 1000 / line["duration"])

    def test_several_tokens_an_event_share_their_gap(self):
        with Fake("--per-event", "5") as fake:
            run = self.bench(fake, "--output-details")
            self.assertEqual(run.returncode, 0, run.stderr)
            itls = self.lines()[0]["itls"]
            self.assertTrue(all(len(itl) == 5 and len(set(itl)) == 1 for itl in itls), itls)

    def test_accept_length_splits_openai_chunks(self):
        with Fake("--per-event", "5", "--accept-length", "2.5") as fake:
            run = self.bench(fake, "--backend", "sglang-oai", "--output-details")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("Accept length:                           2.50      \n", run.stdout)
            self.assertTrue(all(len(itl) > 1 for itl in self.lines()[0]["itls"]))

    def test_semaphore_warmup_and_flush(self):
        with Fake() as fake:
            run = self.bench(fake, "--max-concurrency", "3", "--flush-cache", "--warmup-requests", "2")
            self.assertEqual(run.returncode, 0, run.stderr)
            info = self.lines()[0]["server_info"]
            self.assertEqual(info["requests"], 8 + 2)
            self.assertEqual(info["most_running"], 3)
            self.assertEqual(info["flushes"], 1)
            self.assertIn("Max request concurrency:                 3         \n", run.stdout)

    def test_request_rate_spreads_the_arrivals(self):
        # Seed 1: the eight intervals at 10/s add up to far more than all requests take at once.
        with Fake("--first-ms", "1", "--gap-ms", "0") as fake:
            run = self.bench(fake, "--request-rate", "10")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertGreater(self.lines()[0]["duration"], 0.3)
            self.assertIn("Traffic request rate:                    10.0      \n", run.stdout)

    def test_what_is_sent(self):
        with Fake() as fake:
            run = self.bench(fake, "--backend", "erne", "--tokenize-prompt", "--extra-request-body", '{"rid":"x"}',
                             "--header", "X-Test=a=b", "--temperature", "0.5", env={"OPENAI_API_KEY": "secret"})
            self.assertEqual(run.returncode, 0, run.stderr)
            info = self.lines()[0]["server_info"]
            self.assertEqual(len(info["first_body"]["input_ids"]), 16)
            self.assertEqual(info["first_body"]["rid"], "x")
            self.assertEqual(info["first_body"]["sampling_params"]["temperature"], 0.5)
            self.assertEqual(info["first_headers"]["authorization"], "Bearer secret")
            self.assertEqual(info["first_headers"]["x-test"], "a=b")

    def test_model_from_the_server(self):
        with Fake("--model", "served") as fake:
            run = self.bench(fake, "--backend", "erne-chat")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(self.lines()[0]["server_info"]["first_body"]["model"], "served")

    def test_waits_for_a_server_that_is_loading(self):
        with Fake("--unready", "2") as fake:
            self.assertEqual(self.bench(fake).returncode, 0)

    def custom(self, *prompts):
        path = os.path.join(self.folder.name, "custom.jsonl")
        with open(path, "w") as file:
            for prompt in prompts:
                turns = [{"content": prompt}, {"content": "an answer of some tokens"}]
                file.write(json.dumps({"conversations": turns}) + "\n")
        return ["--dataset-name", "custom", "--dataset-path", path, "--sharegpt-output-len", "8"]

    def test_failures_are_counted_and_the_run_goes_on(self):
        with Fake() as fake:
            flags = self.custom("fine one", "please STREAMERROR here", "please CUT here", "please REFUSE this", "fine two")
            run = self.bench(fake, *flags, "--num-prompts", "5", "--output-details", "--warmup-requests", "0")
            self.assertEqual(run.returncode, 0, run.stderr)
            line = self.lines()[0]
            self.assertEqual(line["completed"], 2)
            errors = " ".join(line["errors"])
            self.assertIn("broken in the stream", errors)
            self.assertIn("HTTP 400: refused by the fake server", errors)
            self.assertEqual(sorted(line["output_lens"]), [0, 0, 0, 8, 8])
            self.assertIn("3 of 5 requests failed", run.stderr)

    def test_all_failed_is_exit_1(self):
        with Fake() as fake:
            run = self.bench(fake, *self.custom("please REFUSE this"), "--warmup-requests", "0")
            self.assertEqual(run.returncode, 1)
            self.assertIn("refused by the fake server", run.stderr)
            self.assertIn("Successful requests:                     0 ", run.stdout)

    def test_failed_warmup_quotes_the_server(self):
        with Fake() as fake:
            run = self.bench(fake, *self.custom("please REFUSE this"))
            self.assertEqual(run.returncode, 1)
            self.assertIn("warmup failed, the server answered: HTTP 400: refused by the fake server", run.stderr)

    def test_no_server(self):
        run = self.bench(None, "--ready-check-timeout-sec", "0")
        self.assertEqual(run.returncode, 1)
        self.assertIn("is not ready", run.stderr)

    def test_refusals_name_the_flag(self):
        for flags, text in ((["--profile"], "--profile"), (["--lora-name", "a", "b"], "--lora-name"),
                            (["--gsp-num-groups=3"], "--gsp-num-groups"),
                            (["--dataset-name", "mooncake"], "mooncake"),
                            (["--backend", "vllm", "--tokenize-prompt"], "--tokenize-prompt"),
                            (["--goodput", "speed:1"], "speed:1"), (["--header", "novalue"], "novalue"),
                            (["--request-rate", "0"], "--request-rate")):
            with self.subTest(flags=flags), Fake() as fake:
                run = self.bench(fake, *flags)
                self.assertEqual(run.returncode, 2, run.stderr)
                self.assertIn(text, run.stderr)

    def test_default_file_name(self):
        with Fake() as fake:
            run = self.bench(fake, "--tokenizer", TOKENIZER, "--dataset-name", "random-ids", "--num-prompts", "2",
                             "--random-input-len", "5", "--random-output-len", "3", defaults=False)
            self.assertEqual(run.returncode, 0, run.stderr)
            names = [name for name in os.listdir(self.folder.name) if name.endswith(".jsonl")]
            self.assertRegex(" ".join(names), r"^sglang_\d{4}_2_5_3\.jsonl$")

    def test_extended_report_and_goodput(self):
        with Fake() as fake:
            run = self.bench(fake, "--report", "extended", "--goodput", "ttft:1,e2el:600000")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("Goodput (req/s):                         0.00 ", run.stdout)
            self.assertIn("P90 TTFT (ms):", run.stdout)

    def test_many_streams_at_once(self):
        with Fake("--first-ms", "200") as fake:
            run = self.bench(fake, "--num-prompts", "400", "--warmup-requests", "0")
            self.assertEqual(run.returncode, 0, run.stderr)
            line = self.lines()[0]
            self.assertEqual((line["completed"], line["total_output_tokens"]), (400, 2400))


def run_alone(test):
    result = unittest.TestResult()
    test.run(result)
    return result


def main():
    """Every run waits a second by contract, so the cases run side by side."""
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run_alone, unittest.defaultTestLoader.loadTestsFromTestCase(ServingBench)))
    bad = [pair for result in results for pair in result.failures + result.errors]
    for test, trace in bad:
        print(test, trace, sep="\n")
    print("%d tests, %d failures" % (sum(result.testsRun for result in results), len(bad)))
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
