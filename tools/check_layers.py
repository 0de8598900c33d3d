#!/usr/bin/env python3
"""Checks that src/ keeps its layers: what each room includes and links, and where third-party headers may appear.

The order of the rooms is the list in src/CMakeLists.txt, lowest first; docs/architecture.md says why. Prints one line a
breach and exits 1 if there are any.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# Lower rooms that a room must not see although the order would let it.
FORBIDDEN = {
    "server": {"tensor", "device", "cpu", "ops", "model"},  # never sees a tensor
    "token": {"device", "cpu", "ops", "model", "tensor"},
    "chat": {"device", "cpu", "ops", "model", "tensor"},
    "engine": {"hub", "chat"},
    "model": {"cpu"},  # devices are chosen by whoever loads the model
    "ops": {"cpu"},
}
ALLOWED_FILES = {("server", "model/config.h")}  # sampling defaults and sizes, no tensors
FORBIDDEN_FILES = {("engine", "base/json.h"): "engine never sees JSON"}

# Third-party headers by prefix: the rooms whose .cc files may include them.
LIBRARIES = {
    "boost/": {"server", "bench"},
    "CLI/": {"cli"},
    "curl/": {"hub", "bench"},
    "openssl/": {"base", "hub", "server"},
    "nlohmann/": {"base"},
    "spdlog/": {"base"},
    "xxhash.h": {"base"},
    "sentencepiece": {"token"},
    "pcre2.h": {"token"},
    "histedit.h": {"cli"},
    "editline/": {"cli"},
    "prometheus/": {"base", "engine", "server"},
    "hwloc": {"base", "cpu"},
    "yaml-cpp/": {"cli"},
}
# What headers may include besides the standard library and our own: all of it is light.
LIGHT = ("fmt/", "nlohmann/json_fwd.hpp")
JSON_HEADER = "base/json.h"  # carries json.hpp


def room_order():
    text = (SRC / "CMakeLists.txt").read_text()
    match = re.search(r"foreach\(room ([a-z_ ]+)\)", text)
    if not match:
        sys.exit("check_layers: src/CMakeLists.txt has no 'foreach(room ...)' list")
    return match.group(1).split()


def linked_rooms(order):
    """room -> all rooms that its CMakeLists.txt links, also through others."""
    direct = {}
    for room in order:
        path = SRC / room / "CMakeLists.txt"
        text = path.read_text() if path.exists() else ""
        words = set()
        for listed in re.findall(r"(?:\bDEPS|foreach\(room)\s+([a-z_\s]+)", text):
            words |= set(listed.split())
        words |= set(re.findall(r"\berne_([a-z]+)", text)) - {"room"}
        direct[room] = (words & set(order)) - {room}
    full = {}
    for room in order:  # lowest first, so what a room links is already known
        full[room] = set(direct[room])
        for lower in direct[room]:
            full[room] |= full.get(lower, set())
    return direct, full


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if match:
            yield number, match.group(2)


def heavy_headers():
    """Headers that carry json.hpp, directly or through another: allowed, but private to their room."""
    seen_by = {}
    for path in SRC.rglob("*.h"):
        seen_by[str(path.relative_to(SRC))] = {target for _, target in includes(path)}
    heavy = {JSON_HEADER}
    while True:
        more = {name for name, targets in seen_by.items() if targets & heavy} - heavy
        if not more:
            return heavy - {JSON_HEADER}
        heavy |= more


def check_file(path, room, order, linked, heavy):
    rank = {name: i for i, name in enumerate(order)}
    is_header = path.suffix in (".h", ".inc")
    for number, target in includes(path):
        where = f"{path.relative_to(ROOT)}:{number}"
        first = target.split("/")[0]
        if "/" in target and first in rank:
            if rank[first] > rank[room]:
                yield f"{where}: {room} includes {target}, which lies above it"
            elif (room, target) in ALLOWED_FILES:
                pass
            elif first in FORBIDDEN.get(room, ()):
                yield f"{where}: {room} must not see {first} ({target})"
            elif first != room and room != "cli" and first not in linked[room]:
                yield f"{where}: includes {target}, but src/{room}/CMakeLists.txt does not link {first}"
            if (room, target) in FORBIDDEN_FILES:
                yield f"{where}: {FORBIDDEN_FILES[room, target]}"
            if target in heavy and first != room:
                yield f"{where}: {target} carries json.hpp and is private to {first}"
            continue
        for prefix, rooms in LIBRARIES.items():
            if not target.startswith(prefix) or target.startswith(LIGHT):
                continue
            if room not in rooms:
                yield f"{where}: {target} may be included only in {', '.join(sorted(rooms))}"
            elif is_header and str(path.relative_to(SRC)) != JSON_HEADER:
                yield f"{where}: {target} is too heavy for a header"


def main():
    order = room_order()
    direct, linked = linked_rooms(order)
    rank = {name: i for i, name in enumerate(order)}
    heavy = heavy_headers()
    breaches = []
    for room in order:
        for lower in sorted(direct[room]):
            if rank[lower] >= rank[room]:
                breaches.append(f"src/{room}/CMakeLists.txt links {lower}, which does not lie below it")
    for folder in sorted(p for p in SRC.iterdir() if p.is_dir()):
        if folder.name not in rank:
            breaches.append(f"src/{folder.name} is not in the list of src/CMakeLists.txt")
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".h", ".cc", ".inc"):
                breaches.extend(check_file(path, folder.name, order, linked, heavy))
    for breach in breaches:
        print(breach)
    print(f"check_layers: {len(order)} rooms, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
