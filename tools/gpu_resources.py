#!/usr/bin/env python3
"""What the CUDA kernels take of the machine, and whether it is within the budget: tools/gpu_resources.py build/cuda.

Reads what ptxas said while liberne_cuda.so was built (one log a kernel file) and the PTX beside it. Fails on a spill, on
a stack frame (local memory), on registers or shared memory over tools/gpu_resources.json, on a kernel or an architecture
that the budget does not know, and on a streaming kernel without 128-bit loads of global memory. Needs no GPU.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "tools" / "gpu_resources.json"

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
WIDE = re.compile(r"\bld\.global(?:\.nc)?(?:\.\w+)*\.v4\.\w*32\b|\bld\.global(?:\.nc)?(?:\.\w+)*\.v2\.\w*64\b")


def demangle(names):
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, out.splitlines()))


def read_log(path):
    """(mangled name, arch) -> resources."""
    found = {}
    entry = None
    for line in path.read_text().splitlines():
        if match := ENTRY.search(line):
            entry = (match[1], match[2])
            found[entry] = {"frame": 0, "spill": 0, "registers": 0, "shared": 0}
        elif entry and (match := FRAME.search(line)):
            found[entry]["frame"] = int(match[1])
            found[entry]["spill"] = int(match[2]) + int(match[3])
        elif entry and (match := USED.search(line)):
            found[entry]["registers"] = int(match[1])
            found[entry]["shared"] = int(match[2] or 0)
            entry = None
    return found


def wide_loads(folder):
    """mangled name -> the least number of 128-bit loads of global memory over the PTX files."""
    counts = {}
    for path in folder.glob("*.ptx"):
        for part in re.split(r"\.entry\s+", path.read_text())[1:]:
            name = re.match(r"\w+", part)[0]
            counts[name] = min(counts.get(name, 1 << 30), len(WIDE.findall(part)))
    return counts


def short(name):
    """erne::gpu::(anonymous namespace)::linear_kernel<...> -> linear_kernel."""
    return re.sub(r"<.*", "", name).split("::")[-1]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1])
    budget = json.loads(BUDGET.read_text())
    logs = sorted(build.glob("src/gpu/cuda_*.log"))
    if not logs:
        sys.exit(f"gpu_resources: no logs of nvcc under {build}/src/gpu: build erne_cuda there")
    breaches = []
    table = collections.defaultdict(lambda: {"registers": 0, "shared": 0, "kernels": 0, "wide": 1 << 30})
    seen = set()
    for log in logs:
        resources = read_log(log)
        wide = wide_loads(log.with_suffix(".keep"))
        names = demangle(sorted({name for name, _ in resources}))
        for (mangled, arch), r in sorted(resources.items()):
            name = short(names[mangled])
            seen.add((name, arch))
            limit = budget["kernels"].get(name)
            where = f"{names[mangled]} for {arch}"
            if limit is None:
                breaches.append(f"{where}: {BUDGET.name} has no '{name}'")
                continue
            if r["spill"] or r["frame"]:
                breaches.append(f"{where}: {r['spill']} bytes spilled, {r['frame']} bytes of local memory")
            for what in ("registers", "shared"):
                if r[what] > limit[what]:
                    breaches.append(f"{where}: {what} {r[what]}, the budget is {limit[what]}")
            if wide.get(mangled, 0) < limit.get("wide_loads", 0):
                breaches.append(f"{where}: {wide.get(mangled, 0)} loads of 128 bits, at least {limit['wide_loads']} wanted")
            row = table[name]
            row["kernels"] += 1
            row["wide"] = min(row["wide"], wide.get(mangled, 0))
            for what in ("registers", "shared"):
                row[what] = max(row[what], r[what])
    for name in budget["kernels"]:
        for arch in budget["architectures"]:
            if (name, arch) not in seen:
                breaches.append(f"{name}: not compiled for {arch}")
    print(f"{'kernel':<20} {'built':>5} {'registers':>9} {'shared':>7} {'wide loads':>10}")
    for name, row in sorted(table.items()):
        print(f"{name:<20} {row['kernels']:>5} {row['registers']:>9} {row['shared']:>7} {row['wide']:>10}")
    for breach in breaches:
        print(f"gpu_resources: {breach}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
