"""Checks that folders written by `erne convert` are what transformers reads: weights, configuration and tokenizer.

    ERNE_BINARY=build/release/erne [ERNE_DEFAULT_MODEL=models/default] python transformers_load.py

1. Every case of goldens/text goes PT -> LAYOUT -> PT through `erne convert`; AutoModelForCausalLM loads the result and gives the
   golden logits in float32.
2. The stacked layout loads as it is.
3. The default model folder loads, AutoTokenizer renders and encodes the chats of goldens/default-model/shared.json to their
   prompt_ids, and greedy decoding gives their completion_ids.

Skips (exit 77 with a message) where transformers or torch is not installed.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

GOLDENS = Path(__file__).resolve().parent.parent / "goldens"
# goldens/README.md: largest error as a share of the largest logit.
MAX_RELATIVE_ERROR = 5e-6


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], f"{folder}: {key}: {sorted(info[key])[:5]}"
    return model.eval()


def check_logits(folder, golden_path):
    model = load(folder)
    golden = load_file(golden_path)
    worst = 0.0
    for k in range(4):
        with torch.no_grad():
            logits = model(golden[f"ids.{k}"][None].long()).logits[0]
        want = golden[f"logits.{k}"]
        worst = max(worst, ((logits - want).abs().max() / want.abs().max()).item())
    assert worst <= MAX_RELATIVE_ERROR, f"{folder}: logits differ by {worst:.2e} of the largest"
    return worst


def check_layouts(erne):
    for case in sorted((GOLDENS / "text").iterdir()):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = Path(scratch)
            for layout in ("early-pt", "paddle", "stacked"):
                there, back = scratch / layout, scratch / f"{layout}-back"
                subprocess.run([erne, "convert", case, there, "--layout", layout], check=True, capture_output=True)
                subprocess.run([erne, "convert", there, back, "--max-shard-size", "400KB"], check=True,
                               capture_output=True)
                error = check_logits(back, case / "golden.safetensors")
                print(f"{case.name}: pt -> {layout} -> pt loads, logits within {error:.1e}")
            error = check_logits(scratch / "stacked", case / "golden.safetensors")
            print(f"{case.name}: stacked loads, logits within {error:.1e}")


def check_default_model(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(folder)
    for number, case in enumerate(json.loads((GOLDENS / "default-model/shared.json").read_text())):
        prompt = tokenizer.apply_chat_template(case["messages"], add_generation_prompt=True, return_dict=True,
                                               return_tensors="pt")
        assert prompt["input_ids"][0].tolist() == case["prompt_ids"], f"prompt {number}: other token ids"
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=64)[0, len(case["prompt_ids"]):].tolist()
        assert ids == case["completion_ids"], f"prompt {number}: {ids} instead of {case['completion_ids']}"
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert text == case["text"], f"prompt {number}: {text!r}"
    print(f"{folder}: tokenizer and greedy answers as the goldens say")


def main():
    torch.set_num_threads(2)
    logging.disable_progress_bar()
    check_layouts(os.environ["ERNE_BINARY"])
    if folder := os.environ.get("ERNE_DEFAULT_MODEL"):
        check_default_model(folder)


if __name__ == "__main__":
    main()
