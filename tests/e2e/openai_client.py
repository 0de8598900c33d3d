"""Drives `erne serve` with the openai package: plain, streaming, n, stop, logprobs, errors, 50 clients at once. Answers must
equal those of `erne generate --json` for the same prompts and seeds.

    python openai_client.py --erne build/release/erne --model models/default
"""
import concurrent.futures
import json
import subprocess
import tempfile

import serving

try:
    import openai
except ImportError:
    print("skipped: needs the openai package")
    raise SystemExit(77)

PROMPTS = ["The capital of France is", "Once upon a time", "Water boils at", "def add(a, b):"]
MESSAGES = [{"role": "user", "content": "Name three colours."}]
TOKENS = 12


def generate(args, *flags):
    command = [args.erne, "generate", "--model-path", args.model, "--json", "--max-new-tokens", str(TOKENS), *flags]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line]


def same_as_generate(args, client):
    flags = [flag for prompt in PROMPTS for flag in ("--prompt", prompt)]
    for sampling in ({"temperature": 0.0, "seed": 1}, {"temperature": 1.0, "seed": 1234}):
        wanted = generate(args, "--temperature", str(sampling["temperature"]), "--seed", str(sampling["seed"]), *flags)
        answer = client.completions.create(model="m", prompt=PROMPTS, max_tokens=TOKENS, **sampling)
        assert len(wanted) == len(PROMPTS)
        for want, choice in zip(wanted, answer.choices):
            assert choice.text == want["text"], (sampling, want["text"], choice.text)
            assert choice.finish_reason == want["finish_reason"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(MESSAGES, file)
        file.flush()
        want = generate(args, "--temperature", "0", "--messages", file.name)[0]
    answer = client.chat.completions.create(model="m", messages=MESSAGES, temperature=0, max_tokens=TOKENS)
    assert answer.choices[0].message.content == want["text"]
    assert answer.usage.prompt_tokens == len(want["prompt_ids"])


def chat(client):
    options = dict(model="m", messages=MESSAGES, temperature=0.8, seed=5, max_tokens=TOKENS, n=3)
    whole = client.chat.completions.create(**options)
    assert whole.model == "m" and len(whole.choices) == 3
    texts, roles, ends, usage = {}, {}, {}, None
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.delta.role:
                assert choice.index not in roles, "one role chunk per choice"
                roles[choice.index] = choice.delta.role
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    for choice in whole.choices:
        assert texts[choice.index] == choice.message.content
        assert ends[choice.index] == choice.finish_reason
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens


def stop_and_logprobs(client):
    free = client.completions.create(model="m", prompt=PROMPTS[0], temperature=0, max_tokens=TOKENS, logprobs=2, echo=True)
    lists = free.choices[0].logprobs
    assert "".join(lists.tokens) == free.choices[0].text and lists.token_logprobs[0] is None
    for token, offset in zip(lists.tokens, lists.text_offset):
        assert free.choices[0].text[offset:offset + len(token)] == token
    continuation = free.choices[0].text[len(PROMPTS[0]):]
    word = continuation.split()[-1]
    stopped = client.completions.create(model="m", prompt=PROMPTS[0], temperature=0, max_tokens=TOKENS, stop=word)
    assert stopped.choices[0].text == continuation[:continuation.index(word)]
    assert stopped.choices[0].finish_reason == "stop" and stopped.choices[0].matched_stop == word
    answer = client.chat.completions.create(
        model="m", messages=MESSAGES, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    for entry in entries:
        assert len(entry.top_logprobs) == 3 and entry.logprob <= 0
        assert entry.token == entry.top_logprobs[0].token  # greedy


def errors(client):
    cases = [
        (dict(messages=[]), openai.BadRequestError, "messages"),
        (dict(messages=MESSAGES, temperature=-1), openai.BadRequestError, "temperature"),
        (dict(messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}]), openai.BadRequestError, "tools"),
        (dict(messages=MESSAGES, max_tokens=10**6), openai.BadRequestError, "maximum context length"),
    ]
    for fields, kind, word in cases:
        try:
            client.chat.completions.create(model="m", **fields)
        except kind as error:
            assert word in str(error), error
        else:
            raise AssertionError(f"not refused: {fields}")
    try:
        client.models.retrieve("nothing")
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("a model that does not exist was found")


def many_clients(client):
    """50 at once get what one alone gets: a request's tokens do not depend on its neighbours."""
    def ask(i):
        answer = client.completions.create(
            model="m", prompt=PROMPTS[i % len(PROMPTS)], temperature=1.0, seed=i, max_tokens=TOKENS)
        return answer.choices[0].text
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        together = list(pool.map(ask, range(50)))
    for i in range(0, 50, 7):
        assert ask(i) == together[i], i


def main():
    args = serving.arguments(__doc__)
    with serving.serve(args, "--max-total-tokens", "32768", "--enable-metrics") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="EMPTY", max_retries=0, timeout=300)
        assert client.models.list().data[0].owned_by == "erne"
        same_as_generate(args, client)
        chat(client)
        stop_and_logprobs(client)
        errors(client)
        many_clients(client)
        assert server.stop() == 0
    print("openai_client: ok")


if __name__ == "__main__":
    main()
