"""Measures the reference implementation's own bfloat16 error on the text goldens: the yardstick of `erne verify --dtype
bfloat16` (mean error at most 1.2 times this one, spec text.md section 8).

    python make_bf16.py            writes text/CASE/bf16.json

Made with transformers 5.x and torch on the CPU, eager attention and experts; versions are recorded in the file.
"""
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent


def measure(case):
    golden = load_file(case / "golden.safetensors")
    model = AutoModelForCausalLM.from_pretrained(case, dtype=torch.bfloat16, attn_implementation="eager",
                                                 experts_implementation="eager")
    result = {}
    for k in sorted(name.split(".")[1] for name in golden if name.startswith("ids.")):
        with torch.no_grad():
            logits = model(golden[f"ids.{k}"][None]).logits[0].float()
        ref = golden[f"logits.{k}"]
        error = (logits - ref).abs()
        kl = torch.nn.functional.kl_div(logits.log_softmax(-1), ref.log_softmax(-1), log_target=True,
                                        reduction="none").sum(-1).mean()
        result[k] = {"mean_abs_error": error.mean().item(), "max_abs_error": error.max().item(),
                     "kl": kl.item(), "top1_agreement": (logits.argmax(-1) == ref.argmax(-1)).float().mean().item()}
    return result


def main():
    for case in sorted(p.parent for p in HERE.glob("text/*/golden.safetensors")):
        out = {"transformers": transformers.__version__, "torch": torch.__version__, "sequences": measure(case)}
        (case / "bf16.json").write_text(json.dumps(out, indent=1) + "\n")
        print(case.name, out["sequences"])


if __name__ == "__main__":
    main()
