#!/usr/bin/env python3
"""Holds erne's tokenizer against Hugging Face's `tokenizers` on random and nasty strings and id sequences.

Usage: compare_tokenizers.py PROBE FOLDER [--count N] [--seed S] [--variants]
PROBE is the token_probe binary, FOLDER holds a tokenizer.json. With --variants the pipeline of the folder's file is
also rewritten in many ways (splits, behaviours, Metaspace, Strip, added-token flags) and each variant compared.
Exits with 1 if anything differs, with 77 where tokenizers is not installed. Reference: tokenizers 0.23.3.
"""
import argparse
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    import tokenizers
except ImportError:
    print("skipped: Python's tokenizers is not installed")
    sys.exit(77)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORDS = ("the of and don't I'LL we've '' 's 'd 12 3.14 x² ½ Ⅷ १२३ été naïve ﬃ Straße 你好 世界 日本語 한국어 ру́сский "
         "עברית العربية ไทย 👩‍👩‍👧 🇩🇪 🩸 𝒳 𐍈 \u200b \ufeff \u00a0 \u3000 \u2028 \u0085 \x00 \x1f \x7f ▁ ▁▁ Ġ Ċ <0x41> "
         "� e\u0301 <| |> < > </ <s> </s> <unk> <think> <|im_end|> <|im_start|> <|LOC_7|> <|LOC_77|> <mask:1> "
         "<|endoftext|> <repo_name>").split(" ")
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\n  ", "        ", "\u2003 "]
# PCRE2 10.42 knows Unicode 14 and so does Python 3.11: newer code points are classed differently by the reference.
ASSIGNED = [c for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cs", "Cn") and c != 0x180E]


def random_text(rng, contents):
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randrange(30)))
    if kind == 1:
        return "".join(rng.choice("ab c1'\n \t,.<|>_▁é中") for _ in range(rng.randrange(60)))
    pieces = []
    for _ in range(rng.randrange(25)):
        roll = rng.random()
        if roll < 0.45:
            pieces.append(rng.choice(WORDS))
        elif roll < 0.75:
            pieces.append(rng.choice(SPACES))
        elif roll < 0.85:
            pieces.append(rng.choice(contents))
        elif roll < 0.9:
            pieces.append(rng.choice(contents)[:-1])
        else:
            pieces.append(chr(rng.choice(ASSIGNED)))
    return "".join(pieces)


def probe(binary, folder, questions):
    stdin = "".join(json.dumps(q) + "\n" for q in questions)
    done = subprocess.run([binary, str(folder)], input=stdin.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"probe failed: {done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def characters(run):
    """A run of byte tokens as the stream tells it: whole characters, U+FFFD for every other byte."""
    text, at = "", 0
    while at < len(run):
        for size in (1, 2, 3, 4):
            try:
                text += run[at:at + size].decode()
                at += size
                break
            except UnicodeDecodeError:
                continue
        else:
            text += "\ufffd"
            at += 1
    return text


def streamed(decoded, ids, byte_of, skipped):
    """What a stream of `ids` says: `decoded`, but for runs of byte tokens that are not valid UTF-8 (tokenizer.h)."""
    runs = [b""]
    for i in ids:
        if i in byte_of:
            runs[-1] += byte_of[i]
        elif i not in skipped:
            runs.append(b"")
    at = 0
    for run in runs:
        if run == run.decode(errors="ignore").encode():
            continue
        found = decoded.find("\ufffd" * len(run), at)
        if found >= 0:
            told = characters(run)
            decoded = decoded[:found] + told + decoded[found + len(run):]
            at = found + len(told)
    return decoded


def compare(binary, folder, name, count, seed):
    rng = random.Random(seed)
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    contents = [t.content for t in reference.get_added_tokens_decoder().values()] or [""]
    vocab = reference.get_vocab(with_added_tokens=True)
    ids = sorted(vocab.values())
    byte_ids = [i for t, i in vocab.items() if len(t) == 6 and t.startswith("<0x")] or ids
    byte_of = {i: bytes([int(t[3:5], 16)]) for t, i in vocab.items() if len(t) == 6 and t.startswith("<0x")}
    special = {i for i, t in reference.get_added_tokens_decoder().items() if t.special}
    questions = [{"text": random_text(rng, contents)} for _ in range(count)]
    questions += [{"ids": rng.choices(rng.choice([ids, byte_ids, ids[:64]]), k=rng.randrange(24))} for _ in range(count)]
    mismatches = 0
    for question, got in zip(questions, probe(binary, folder, questions), strict=True):
        want_ids = question.get("ids")
        if want_ids is None:
            want_ids = reference.encode(question["text"], add_special_tokens=False).ids
        want = {"ids": want_ids, "decoded": reference.decode(want_ids, skip_special_tokens=False),
                "decoded_skip": reference.decode(want_ids, skip_special_tokens=True)}
        want["stream"] = streamed(want["decoded"], want_ids, byte_of, set())
        want["stream_skip"] = streamed(want["decoded_skip"], want_ids, byte_of, special)
        for key, value in want.items():
            if got[key] != value:
                mismatches += 1
                if mismatches <= 5:
                    print(f"{name}: {question!r}\n  {key}: got  {got[key]!r}\n  {' ' * len(key)}  want {value!r}")
                break
    print(f"{name}: {len(questions)} compared, {mismatches} mismatches")
    return mismatches


def variants(base):
    """Names and files: the pipeline rewritten."""
    byte_level = base["decoder"].get("type") == "ByteLevel"
    split = lambda pattern, behavior, invert=False: {
        "type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
    last = ([{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]
            if byte_level else [])
    pre = {"none": last, "digits-runs": [{"type": "Digits", "individual_digits": False}] + last}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            pre[f"split-space-{behavior}-{invert}"] = [split({"String": " "}, behavior, invert)] + last
            pre[f"split-regex-{behavior}-{invert}"] = [split({"Regex": r"\s+|\p{P}"}, behavior, invert)] + last
    pre["split-gpt2"] = [split({"Regex": GPT2}, "Isolated")] + last
    pre["split-llama3"] = [split({"Regex": LLAMA3}, "Isolated")] + last
    pre["split-empty-match"] = [split({"Regex": r"(?=[a-c\n])"}, "Isolated")] + last
    for prefix in (False, True):
        pre[f"byte-level-{prefix}"] = [{"type": "Digits", "individual_digits": True}, {
            "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}]
    if not byte_level:
        del pre["byte-level-False"], pre["byte-level-True"]
        for scheme in ("always", "first", "never"):
            for do_split in (False, True):
                pre[f"metaspace-{scheme}-{do_split}"] = [
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": do_split}]
    for name, steps in pre.items():
        file = copy.deepcopy(base)
        file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        if name.startswith("metaspace"):
            file["normalizer"] = None
            file["decoder"] = dict(steps[0])
        yield name, file
    for flag in ("lstrip", "rstrip", "single_word", "normalized"):
        file = copy.deepcopy(base)
        for token in file["added_tokens"]:
            token[flag] = True
        yield "added-" + flag, file
    file = copy.deepcopy(base)
    file["model"]["ignore_merges"] = True
    yield "ignore-merges", file
    if not byte_level:
        file = copy.deepcopy(base)
        file["normalizer"]["normalizers"].insert(0, {"type": "Prepend", "prepend": "▁"})
        file["decoder"]["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        yield "prepend-strip", file
        for fuse in (False, True):
            file = copy.deepcopy(base)
            file["model"]["byte_fallback"] = False
            file["model"]["fuse_unk"] = fuse
            yield f"unk-fuse-{fuse}", file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variants", action="store_true")
    args = parser.parse_args()
    mismatches = compare(args.probe, args.folder, "as it is", args.count, args.seed)
    if args.variants:
        base = json.loads((args.folder / "tokenizer.json").read_text())
        for name, file in variants(base):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder)
                (path / "tokenizer.json").write_text(json.dumps(file))
                mismatches += compare(args.probe, path, name, max(args.count // 10, 100), args.seed)
    sys.exit(1 if mismatches else 0)


if __name__ == "__main__":
    main()
