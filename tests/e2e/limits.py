"""What must be refused is refused with the right 4xx, and the next request works.

    python limits.py --erne build/release/erne --model models/default
"""
import http.client
import socket

import serving

POOL = 1024


def works(server):
    status, body = server.post("/v1/completions", {"prompt": "One two", "max_tokens": 2, "temperature": 0})
    assert status == 200, body


def refused(server, body, status, word, path="/v1/completions"):
    got, answer = server.post(path, body)
    assert got == status, (got, answer)
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert word in answer["error"]["message"], answer
    works(server)
    return answer["error"]


def raw(server, data):
    """The status of the answer to bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(data)
        received = b""
        while b"\r\n" not in received and (piece := client.recv(65536)):
            received += piece
        return int(received.split()[1]) if received else 0


def main():
    args = serving.arguments(__doc__)
    flags = ("--max-total-tokens", str(POOL), "--http-header-timeout", "1", "--max-payload-size", "104857600")
    with serving.serve(args, *flags) as server:
        context = server.get("/v1/models")["data"][0]["max_model_len"]
        assert context > POOL, "the test needs a pool smaller than the context"
        refused(server, {"prompt": [5] * (POOL + 100), "max_tokens": 1}, 400, str(POOL))
        error = refused(server, {"prompt": [5] * (context + 1)}, 400, "maximum context length")
        assert error["code"] == "context_length_exceeded"
        error = refused(server, {"prompt": [5], "max_tokens": context}, 400, "maximum context length")
        assert error["code"] == "context_length_exceeded"
        refused(server, b'{"prompt": "a"', 400, "byte")
        refused(server, b'{"prompt": "\xff"}', 400, "JSON")
        refused(server, {"prompt": {"a": 1}}, 400, "prompt")
        refused(server, {"prompt": "a", "max_tokens": "many"}, 400, "max_tokens")
        refused(server, {"prompt": "a", "temperature": [1]}, 400, "temperature")
        refused(server, b'{"prompt": "a", "temperature": NaN}', 400, "JSON")
        refused(server, {"messages": "hi"}, 400, "messages", "/v1/chat/completions")
        refused(server, b"[" * 100_000, 400, "nested")
        # 100 MB: within the limit and far too long; then over the limit, refused before it is read.
        refused(server, b'{"prompt": "' + b"word " * 20_000_000 + b'"}', 400, "maximum context length")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Content-Length", "104857601")
        connection.endheaders()
        assert connection.getresponse().status == 413  # no byte of the body was sent
        connection.close()
        works(server)
        # Slow clients: half a header, and a body that never comes.
        assert raw(server, b"POST /v1/comp") == 408
        assert raw(server, b"POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{") == 408
        works(server)
        assert raw(server, b"\x16\x03\x01 not http\r\n\r\n") == 400
        assert raw(server, b"DELETE /v1/models HTTP/1.1\r\n\r\n") == 405
        assert raw(server, b"GET /nowhere HTTP/1.1\r\n\r\n") == 404
        works(server)
        assert server.stop() == 0
    print("limits: ok")


if __name__ == "__main__":
    main()
