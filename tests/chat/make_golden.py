"""Writes goldens/chat/*.json: templates and snippets as jinja2 renders them in transformers' sandbox.

Usage: python tests/chat/make_golden.py        (needs transformers, for its template environment; versions are recorded)

snippets.json holds one-liners over fixed variables; templates.json a matrix of templates in the styles of published
models, written for this test, and conversations. A case with "error": true is one that jinja2 refuses, at parse or at
run time.
"""

import json
import pathlib
import re

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from snippets import SNIPPETS, VARIABLES
from templates import CONVERSATIONS, TEMPLATES

OUT = pathlib.Path(__file__).resolve().parent.parent / "goldens" / "chat"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def without_nulls(messages):
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def parsed_arguments(messages):
    """erne parses tool call arguments that are JSON text before a template sees them, as vLLM and SGLang do."""
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for call in message.get("tool_calls", []):
            arguments = call["function"]["arguments"]
            if isinstance(arguments, str):
                call["function"]["arguments"] = json.loads(arguments)
    return messages


def joined_parts(messages, template):
    """Content given as parts becomes one string where the template does not loop over it."""
    if re.search(r"for \w+ in (message|m)(\.content|\['content'\])", template):
        return messages
    for message in messages:
        if isinstance(message.get("content"), list):
            message["content"] = "\n".join(part["text"] for part in message["content"])
    return messages


def render(template, conversation, options):
    messages = joined_parts(parsed_arguments(without_nulls(conversation["messages"])), template)
    try:
        return render_messages(template, messages, conversation, options)
    except jinja2.UndefinedError:
        # erne's second attempt: templates that add strings fail on an assistant message without content.
        return render_messages(template, [{**m, "content": m.get("content", "")} for m in messages], conversation, options)


def render_messages(template, messages, conversation, options):
    rendered, _ = render_jinja_template(
        [messages],
        tools=conversation.get("tools"),
        chat_template=template,
        add_generation_prompt=options.get("add_generation_prompt", False),
        continue_final_message=options.get("continue", False),
        **options.get("kwargs", {}),
    )
    return rendered[0]


def attempt(case, call):
    """Adds what the reference makes of it."""
    try:
        case["text"] = call()
    except Exception:  # whatever jinja2 or Python raises, erne must refuse it too
        case["error"] = True
    return case


def snippet_case(source):
    def call():
        template = _compile_jinja_template(source)
        messages = [{"role": "user", "content": "hello"}]
        return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=False, **VARIABLES)

    return attempt({"source": source}, call)


def template_cases():
    for template_name, template in TEMPLATES.items():
        for conversation_name, conversation in CONVERSATIONS.items():
            variants = [{"add_generation_prompt": True}, {}]
            if conversation["messages"][-1]["role"] == "assistant" and conversation["messages"][-1].get("content"):
                variants.append({"continue": True})
            if "enable_thinking" in template:
                variants.append({"add_generation_prompt": True, "kwargs": {"enable_thinking": False}})
            for options in variants:
                options = {**options, "kwargs": {**SPECIAL, **options.get("kwargs", {})}}
                case = {"template": template_name, "conversation": conversation_name, **options}
                yield attempt(case, lambda: render(template, conversation, options))


def write(name, content):
    about = {"made_by": "tests/chat/make_golden.py", "jinja2": jinja2.__version__,
             "transformers": transformers.__version__}
    lines = json.dumps({**about, **content}, ensure_ascii=False, indent=1)
    (OUT / name).write_text(lines + "\n", encoding="utf-8")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    snippets = [snippet_case(source) for source in SNIPPETS]
    write("snippets.json", {"variables": VARIABLES, "cases": snippets})
    cases = list(template_cases())
    write("templates.json", {"templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases})
    failed = sum("error" in case for case in snippets), sum("error" in case for case in cases)
    print(f"{len(snippets)} snippets ({failed[0]} refused), {len(cases)} template cases ({failed[1]} refused)")


if __name__ == "__main__":
    main()
