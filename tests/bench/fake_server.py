"""A tiny server with known delays and token counts, for the load client: /generate, /v1/completions, /v1/chat/completions,
/v1/models, /health, /flush_cache, /get_server_info. Python's standard library only.

  fake_server.py [--first-ms N] [--gap-ms N] [--per-event N] [--fail FRACTION] [--model NAME] [--unready N]
prints "listening on PORT" and serves until its stdin closes. A prompt with the word STREAMERROR ends in an error event,
CUT breaks the connection, REFUSE gives HTTP 400.
"""
import argparse
import asyncio
import json
import sys

WORD = " tok"


class FakeServer:
    def __init__(self, options):
        self.options = options
        self.requests = 0
        self.running = 0
        self.most_running = 0
        self.flushes = 0
        self.bodies = []
        self.headers = []
        self.unready = options.unready

    async def serve(self, reader, writer):
        try:
            while await self.one_request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def one_request(self, reader, writer):
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        headers = {}
        while (header := await reader.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = header.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path in ("/generate", "/v1/completions", "/v1/chat/completions"):
            self.headers.append(headers)
            return await self.answer(path, json.loads(body), writer)
        return await self.other(method, path, writer)

    async def other(self, method, path, writer):
        if path == "/health" and self.unready > 0:
            self.unready -= 1
            await send(writer, 503, {"error": {"message": "loading"}})
        elif path == "/flush_cache":
            self.flushes += 1
            await send(writer, 200, {})
        elif path == "/v1/models":
            await send(writer, 200, {"data": [{"id": self.options.model}]})
        elif path == "/get_server_info":
            await send(writer, 200, {"requests": self.requests, "most_running": self.most_running,
                                     "flushes": self.flushes, "first_body": self.bodies[0] if self.bodies else None,
                                     "first_headers": self.headers[0] if self.headers else None,
                                     "internal_states": [{"avg_spec_accept_length": self.options.accept_length}]})
        else:
            await send(writer, 200 if path == "/health" else 404, {})
        return True

    async def answer(self, path, body, writer):
        self.requests += 1
        self.bodies.append(body)
        prompt = body.get("text") or body.get("prompt") or json.dumps(body.get("messages", ""))
        if "REFUSE" in prompt or self.requests * self.options.fail % 1 + self.options.fail >= 1:
            await send(writer, 400, {"error": {"message": "refused by the fake server"}})
            return True
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.generate(path, body, prompt, writer)
        finally:
            self.running -= 1

    async def generate(self, path, body, prompt, writer):
        sampling = body.get("sampling_params", {})
        total = sampling.get("max_new_tokens") or body.get("max_tokens") or body.get("max_completion_tokens")
        await asyncio.sleep(self.options.first_ms / 1000)
        if not body.get("stream"):
            await asyncio.sleep(self.options.gap_ms / 1000 * (total - 1))
            await send(writer, 200, event(path, WORD * total, WORD * total, total, total))
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        done = 0
        while done < total:
            if done:
                await asyncio.sleep(self.options.gap_ms / 1000)
            new = min(1 if done == 0 else self.options.per_event, total - done)
            done += new
            await chunk(writer, event(path, WORD * done, WORD * new, done, total))
            if "CUT" in prompt and done > 1:
                return False
            if "STREAMERROR" in prompt and done > 1:
                await chunk(writer, {"error": {"message": "broken in the stream"}})
                break
        await raw_chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def event(path, text, new_text, done, total):
    reason = "length" if done == total else None
    if path == "/generate":
        meta = {"completion_tokens": done, "finish_reason": {"type": "length", "length": total} if reason else None}
        return {"text": text, "meta_info": meta}
    usage = {"completion_tokens": done} if reason else None
    if path == "/v1/completions":
        return {"choices": [{"index": 0, "text": new_text, "finish_reason": reason}], "usage": usage}
    part = {"content": new_text}
    return {"choices": [{"index": 0, "delta": part, "message": part, "finish_reason": reason}], "usage": usage}


async def raw_chunk(writer, data):
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def chunk(writer, value):
    await raw_chunk(writer, b"data: " + json.dumps(value).encode() + b"\n\n")


async def send(writer, status, value):
    data = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                 % (status, len(data), data))
    await writer.drain()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--first-ms", type=float, default=20)
    parser.add_argument("--gap-ms", type=float, default=5)
    parser.add_argument("--per-event", type=int, default=1)
    parser.add_argument("--fail", type=float, default=0)
    parser.add_argument("--unready", type=int, default=0)
    parser.add_argument("--accept-length", type=float, default=None)
    parser.add_argument("--model", default="fake-model")
    fake = FakeServer(parser.parse_args())
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, backlog=4096)
    print("listening on %d" % server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
