#!/usr/bin/env python3
"""Turns a short slot on a card into a report: tools/gpu_check.sh --out DIR [--phases env,build,test,op,model] [--budget 540].

The phases run in this order, and DIR/report.json is complete after each of them, so that being cut off still leaves
results. Nothing outside the source tree is needed but cmake, ninja, nvcc and the Debian packages of the build; or, with
--prebuilt DIR, a folder with erne, liberne_cuda.so and gpu_card_test that were built elsewhere (at most 64 MiB). Never touches clocks,
power or persistence settings. Exit status: 0 all passed, 1 something failed, 77 there is no device.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import gpu_models

ROOT = pathlib.Path(__file__).resolve().parent.parent
PHASES = ("env", "build", "test", "op", "model", "train", "ncu")
LIMIT_S = {"env": 20, "build": 240, "test": 120, "op": 120, "model": 150, "ncu": 90}
OP_RUNS = (("0.3B", "bfloat16"), ("21B-A3B", "bfloat16"))
MODEL_RUNS = (("0.3B", "bfloat16"), ("21B-A3B", "bfloat16"), ("21B-A3B", "wint4"), ("21B-A3B", "fp8_block"), ("21B-A3B", "wint8"))
BATCHES = (1, 16, 64, 100)
INPUT_LEN, OUTPUT_LEN = 128, 16


class NoDevice(Exception):
    pass


class Skipped(Exception):
    pass


class Check:
    def __init__(self, args):
        self.args = args
        self.out = pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.end = time.monotonic() + args.budget
        self.programs = pathlib.Path(args.prebuilt).resolve() if args.prebuilt else ROOT / "build" / "cuda"
        self.card = None
        self.report = {"commit": self.git("rev-parse", "HEAD"), "changed": bool(self.git("status", "--porcelain", "-uno")),
                       "env": {}, "phases": {}, "tests": {}, "ops": [], "model": [], "train": [], "log_tail": ""}

    @staticmethod
    def git(*words):
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def left(self, limit=None):
        left = self.end - time.monotonic()
        return max(1.0, left if limit is None else min(left, limit))

    def run(self, command, limit, **options):
        """stdout; raises RuntimeError with the last words of a program that failed or took too long."""
        words = [str(word) for word in command]
        environment = {**os.environ, "ERNE_BACKEND_DIR": str(self.programs)}
        try:
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=self.left(limit), env=environment, **options)
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"{words[0]}: cut off after {late.timeout:.0f} s") from late
        except OSError as absent:
            raise RuntimeError(str(absent)) from absent
        self.report["log_tail"] = (done.stdout + done.stderr)[-4000:]
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words[:3])} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        return done.stdout

    def write(self):
        path = self.out / "report.json"
        text = json.dumps(self.report, indent=1) + "\n"
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(path)

    def phase(self, name):
        begin = time.monotonic()
        state = {"status": "passed"}
        try:
            if self.left() <= 1:
                state = {"status": "no time left"}
            else:
                getattr(self, name)()
        except NoDevice as why:
            state = {"status": "no device", "why": str(why)}
        except Skipped as why:
            state = {"status": "skipped", "why": str(why)}
        except (RuntimeError, ValueError, KeyError) as error:
            state = {"status": "failed", "why": str(error)}
        state["seconds"] = round(time.monotonic() - begin, 1)
        self.report["phases"][name] = state
        self.write()
        print(f"{name:<6} {state['status']:<12} {state['seconds']:>6} s  {state.get('why', '')}", flush=True)

    def need_device(self):
        if self.card is None:
            raise NoDevice(self.report["env"].get("no_device", "the phase env has not run"))

    # --- phases
    def env(self):
        env = self.report["env"]
        env["cores"] = os.cpu_count()
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        if os.path.exists(nvcc):
            env["toolkit"] = self.run([nvcc, "--version"], 10).strip().splitlines()[-1]
        if shutil.which("nvidia-smi") is None:
            env["no_device"] = "there is no nvidia-smi"
            raise NoDevice(env["no_device"])
        fields = "name,driver_version,memory.total,memory.free,clocks.max.sm,clocks.max.memory,mig.mode.current"
        try:
            line = self.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], 15).strip().splitlines()
        except RuntimeError as error:
            env["no_device"] = str(error)
            raise NoDevice(env["no_device"]) from error
        if not line:
            env["no_device"] = "nvidia-smi lists no device"
            raise NoDevice(env["no_device"])
        env.update(zip(fields.split(","), (value.strip() for value in line[0].split(","))))
        known = [name for name in gpu_models.CARDS if name in env["name"]]
        self.card = known[0] if known else ""
        if not known:
            env["ceilings"] = "unknown card: no floors and no predictions"

    def build(self):
        self.need_device()
        if self.args.prebuilt:
            for name in "erne", "liberne_cuda.so":
                if not (self.programs / name).exists():
                    raise RuntimeError(f"--prebuilt {self.args.prebuilt} has no {name}")
            return
        self.run(["cmake", "--preset", "cuda"], 60)
        self.run(["ninja", "-C", "build/cuda", "erne", "erne_cuda", "gpu_card_test"], LIMIT_S["build"])

    def test(self):
        self.need_device()
        places = [self.programs / "gpu_card_test", self.programs / "tests" / "gpu" / "gpu_card_test"]
        program = next((place for place in places if place.exists()), None)
        if program is None:
            raise RuntimeError("gpu_card_test was not built and is not among the prebuilt programs")
        result = self.out / "tests.json"
        failure = None
        try:
            self.run([program, f"--gtest_output=json:{result.resolve()}"], LIMIT_S["test"])
        except RuntimeError as error:
            failure = error
        if result.exists():
            suites = json.loads(result.read_text())
            self.report["tests"] = {"pass": suites["tests"] - suites["failures"], "fail": suites["failures"],
                                    "failed": [f"{suite['name']}.{case['name']}" for suite in suites["testsuites"]
                                               for case in suite["testsuite"] if case.get("failures")]}
        if failure:
            raise failure

    def config(self, model):
        folder = self.out / "configs" / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(gpu_models.MODELS[model], indent=1))
        return folder

    def dummy(self, model, precision):
        return ["--model-path", self.config(model), "--device", "cuda", "--load-format", "dummy", "--dtype", "bfloat16",
                "--quantization", "none" if precision == "bfloat16" else precision]

    def runs(self, wanted):
        """Those of the pairs of model and precision that this card holds; all where it is unknown."""
        card = gpu_models.CARDS.get(self.card)
        return [(m, p) for m, p in wanted if card is None or gpu_models.fits(gpu_models.MODELS[m], p, card)]

    def each(self, wanted, limit, body):
        """All runs, though one fails: what is wrong with the first may not be with the others."""
        errors = []
        for model, precision in self.runs(wanted):
            try:
                body(model, precision, limit)
            except (RuntimeError, ValueError, KeyError) as error:
                errors.append(f"{model} {precision}: {error}")
            self.write()
        if errors:
            raise RuntimeError("; ".join(errors))

    def op(self):
        self.need_device()
        self.each(OP_RUNS, LIMIT_S["op"], self.op_run)

    def op_run(self, model, precision, limit):
        card = gpu_models.CARDS.get(self.card)
        limits = ["--limit-gbps", card["tb_per_s"] * 1e3, "--limit-tflops", card["bf16_tflops"]] if card else []
        out = self.run([self.programs / "erne", "bench", "roofline", *self.dummy(model, precision), *limits, "--json"], limit)
        for step in json.loads(out)["steps"]:
            for op in step["operations"]:
                calls = op["calls"]
                self.report["ops"].append({
                    "name": op["operation"], "variant": "tier0", "shape": f"{model} {precision}, {step['step']}",
                    "calls": calls, "ms": round(op["seconds"] / calls * 1e3, 4), "tbps": round(op["gb_per_s"] / 1e3, 3),
                    "tflops": round(op["gflops"] / 1e3, 3), "floor_ratio": op["share_of_limit"]})

    def model(self):
        self.need_device()
        self.each(MODEL_RUNS, LIMIT_S["model"], self.model_run)

    def model_run(self, model, precision, limit):
        out = self.run([self.programs / "erne", "bench", "one-batch", *self.dummy(model, precision),
                        "--max-total-tokens", max(BATCHES) * (INPUT_LEN + OUTPUT_LEN + 16),
                        "--batch-size", *BATCHES, "--input-len", INPUT_LEN, "--output-len", OUTPUT_LEN,
                        "--result-filename", "", "--json"], limit)
        c, card = gpu_models.MODELS[model], gpu_models.CARDS.get(self.card)
        for line in out.splitlines():
            measured = json.loads(line)
            batch, ms = measured["batch_size"], measured["median_decode_latency"] * 1e3
            entry = {"cfg": f"{model} {precision}", "B": batch, "context": INPUT_LEN, "ms": round(ms, 3),
                     "prefill_tokens_per_s": round(measured["prefill_throughput"])}
            if card:
                cost = gpu_models.decode(c, precision, batch, INPUT_LEN + OUTPUT_LEN // 2, card)
                entry.update(floor_ms=cost["floor_ms"], predicted_ms=cost["predicted_ms"], distinct_experts=cost["distinct_experts"],
                             floor_ratio=round(cost["floor_ms"] / ms, 3), of_prediction=round(ms / cost["predicted_ms"], 2))
            self.report["model"].append(entry)

    def train(self):
        self.need_device()
        raise Skipped("nothing trains on a GPU yet")

    def ncu(self):
        self.need_device()
        text = self.run(["ncu", "--clock-control", "none", "--kernel-name", "regex:linear|attention", "--launch-skip", "60",
                         "--launch-count", "3", "--section", "SpeedOfLight", "--section", "Occupancy",
                         self.programs / "erne", "generate", *self.dummy("0.3B", "bfloat16"), "--input-ids", "1,2,3",
                         "--max-new-tokens", "2", "--max-total-tokens", "4096", "--json"], LIMIT_S["ncu"])
        (self.out / "ncu.txt").write_text(text)

    # --- what a person reads
    def table(self):
        lines = []
        if self.report["model"]:
            lines.append(f"{'decode step':<22} {'B':>4} {'ms':>9} {'floor':>9} {'share':>7} {'predicted':>10}")
            for m in self.report["model"]:
                share = f"{100 * m['floor_ratio']:.0f} %" if "floor_ratio" in m else "-"
                lines.append(f"{m['cfg']:<22} {m['B']:>4} {m['ms']:>9.3f} {m.get('floor_ms', '-'):>9} {share:>7} "
                             f"{m.get('predicted_ms', '-'):>10}")
        worst = sorted((op for op in self.report["ops"] if op["floor_ratio"] is not None), key=lambda op: op["floor_ratio"])[:10]
        if worst:
            lines.append(f"{'the ten widest gaps':<12} {'shape':<40} {'ms':>9} {'TB/s':>7} {'TFLOP/s':>8} {'share':>7}")
            for op in worst:
                lines.append(f"{op['name']:<19} {op['shape']:<40} {op['ms']:>9.3f} {op['tbps']:>7.2f} {op['tflops']:>8.2f} "
                             f"{100 * op['floor_ratio']:>5.0f} %")
        return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="report.json and what the phases leave")
    parser.add_argument("--phases", default="env,build,test,op,model,train",
                        help="of env,build,test,op,model,train,ncu; run in this order (default: all but ncu)")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="of all phases (540)")
    parser.add_argument("--prebuilt", metavar="DIR", help="erne, liberne_cuda.so, gpu_card_test from another machine")
    args = parser.parse_args()
    wanted = args.phases.split(",")
    for name in wanted:
        if name not in PHASES:
            parser.error(f"there is no phase '{name}'; the phases are: {', '.join(PHASES)}")
    check = Check(args)
    check.write()
    for name in PHASES:
        if name in wanted or name == "env":  # the others ask it for the card
            check.phase(name)
    table = check.table()
    (check.out / "report.txt").write_text(table + "\n")
    print(table)
    print(f"report: {check.out / 'report.json'}")
    states = [state["status"] for state in check.report["phases"].values()]
    if "failed" in states or "no time left" in states:
        return 1
    return 77 if check.card is None else 0


if __name__ == "__main__":
    sys.exit(main())
