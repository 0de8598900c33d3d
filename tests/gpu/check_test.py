"""tools/gpu_check.sh without a card and with stand-ins for one, and the formulas behind its predictions.

    python3 check_test.py
"""
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import gpu_models  # noqa: E402

# What the programs of a slot print, from a stand-in for each.
SMI = """#!/bin/sh
echo 'NVIDIA H200, 580.1, 143771 MiB, 143000 MiB, 1980 MHz, 3201 MHz, Disabled'
"""
ERNE = """#!/bin/sh
case "$*" in
*wint8*) echo "erne: no such kernel" >&2; exit 1;;
*"bench roofline"*) cat <<'JSON'
{"device": "cuda", "steps": [{"step": "decode, batch 1", "operations": [
 {"operation": "qkv", "calls": 2, "seconds": 4e-5, "gb_per_s": 2000.0, "gflops": 2000.0, "share_of_limit": 0.5},
 {"operation": "embed", "calls": 1, "seconds": 1e-5, "gb_per_s": 1.0, "gflops": 0.0, "share_of_limit": null}]}]}
JSON
;;
*) echo '{"batch_size": 1, "median_decode_latency": 0.004, "prefill_throughput": 1000.5}';;
esac
"""
CARD_TEST = """#!/bin/sh
for word in "$@"; do case "$word" in --gtest_output=json:*) out=${word#*json:};; esac; done
echo '{"tests": 3, "failures": 1, "testsuites": [{"name": "A", "testsuite": [{"name": "x", "failures": [{}]}, {"name": "y"}]}]}' > "$out"
exit 1
"""


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def check(self, *flags, path=""):
        environment = {**os.environ, "PATH": f"{path}:/usr/bin:/bin"}
        run = subprocess.run([ROOT / "tools" / "gpu_check.sh", "--out", self.folder / "out", *flags], capture_output=True, text=True,
                             timeout=60, env=environment)
        return run, json.loads((self.folder / "out" / "report.json").read_text()) if run.returncode != 2 else None

    def stand_ins(self):
        places = self.folder / "bin"
        places.mkdir()
        program(places / "nvidia-smi", SMI)
        program(places / "erne", ERNE)
        program(places / "gpu_card_test", CARD_TEST)
        (places / "liberne_cuda.so").touch()
        return places

    @unittest.skipIf(any(os.path.exists(f"{place}/nvidia-smi") for place in ("/usr/bin", "/bin")), "a driver is installed")
    def test_without_a_card_every_phase_says_so(self):
        run, report = self.check("--phases", "env,build,test,op,model,train,ncu")
        self.assertEqual(run.returncode, 77, run.stdout + run.stderr)
        self.assertEqual([state["status"] for state in report["phases"].values()], ["no device"] * 7)
        self.assertEqual(report["ops"], [])
        self.assertIn("no device", run.stdout)

    def test_a_slot_leaves_a_report_though_parts_fail(self):
        places = self.stand_ins()
        run, report = self.check("--prebuilt", str(places), path=str(places))
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        states = {name: phase["status"] for name, phase in report["phases"].items()}
        self.assertEqual(states, {"env": "passed", "build": "passed", "test": "failed", "op": "passed", "model": "failed",
                                  "train": "skipped"})
        self.assertEqual(report["tests"], {"pass": 2, "fail": 1, "failed": ["A.x"]})
        self.assertEqual(report["env"]["name"], "NVIDIA H200")
        self.assertIn("no such kernel", report["phases"]["model"]["why"])
        op = report["ops"][0]
        self.assertEqual((op["name"], op["ms"], op["tbps"], op["floor_ratio"]), ("qkv", 0.02, 2.0, 0.5))
        model = {m["cfg"]: m for m in report["model"]}["21B-A3B bfloat16"]
        self.assertEqual(model["ms"], 4.0)
        self.assertAlmostEqual(model["floor_ratio"], model["floor_ms"] / 4, places=3)
        self.assertIn("the ten widest gaps", run.stdout)
        self.assertIn("qkv", (self.folder / "out" / "report.txt").read_text())

    def test_time_that_is_up_is_said(self):
        places = self.stand_ins()
        run, report = self.check("--prebuilt", str(places), "--budget", "0", path=str(places))
        self.assertEqual({phase["status"] for phase in report["phases"].values()}, {"no time left"})
        self.assertEqual(run.returncode, 1)

    def test_unknown_phases_are_refused(self):
        run, _ = self.check("--phases", "env,opp")
        self.assertEqual(run.returncode, 2)
        self.assertIn("opp", run.stderr)

    def test_formulas_give_the_figures_of_the_design(self):
        s = gpu_models.sizes(gpu_models.MODELS["21B-A3B"])
        self.assertAlmostEqual((s["dense_bytes"] + s["head_bytes"] + s["router_bytes"]) / 1e9, 2.88, delta=0.02)
        self.assertAlmostEqual(s["expert_bytes"] / 1e9, 0.637, delta=0.001)
        self.assertEqual(s["kv_bytes"], 57344)
        self.assertAlmostEqual(s["active"] / 1e9, 3.35, delta=0.03)
        for batch, floor in (1, 1.57), (16, 8.2), (64, 10.1):
            cost = gpu_models.decode(gpu_models.MODELS["21B-A3B"], "bfloat16", batch, 0, gpu_models.CARDS["H200"])
            self.assertAlmostEqual(cost["floor_ms"], floor, delta=0.05)

    def test_predictions_are_those_of_the_formulas(self):
        self.assertEqual(json.loads((ROOT / "bench" / "gpu" / "predictions.json").read_text()), gpu_models.predictions())


if __name__ == "__main__":
    unittest.main()
