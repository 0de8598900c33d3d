"""200 concurrent streams, most of which hang up at a random moment: no page, slot or descriptor may stay behind.

    python disconnects.py --erne build/release/erne --model models/default
"""
import json
import random
import socket
import threading
import time

import serving

STREAMS = 200
TOKENS = 40


def one(server, index, results):
    rng = random.Random(index)
    body = json.dumps({"prompt": f"Story number {index}: once upon a time", "stream": rng.random() < 0.7,
                       "max_tokens": TOKENS, "ignore_eos": True, "temperature": 1.0, "seed": index,
                       "n": rng.choice([1, 1, 2])})
    stays = index % 10 == 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=300) as client:
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        if not stays:
            client.settimeout(rng.uniform(0.0, 3.0) + 0.001)
        received = b""
        try:
            while piece := client.recv(65536):
                received += piece
                if not stays and rng.random() < 0.05:
                    break
        except TimeoutError:
            pass
        results[index] = received if stays else None


def main():
    args = serving.arguments(__doc__)
    with serving.serve(args, "--max-total-tokens", "16384", "--max-running-requests", "64") as server:
        server.get("/v1/models")
        before = server.descriptors()
        results = [None] * STREAMS
        threads = [threading.Thread(target=one, args=(server, i, results)) for i in range(STREAMS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index in range(0, STREAMS, 10):
            assert results[index].startswith(b"HTTP/1.1 200"), results[index][:200]
            assert b"[DONE]" in results[index] or b'"usage"' in results[index], f"stream {index} was cut"

        def idle():
            info, state = server.state()
            return state["num_running_reqs"] == state["num_queue_reqs"] == info["live_requests"] == 0
        serving.eventually(idle, "requests stay behind")
        info, state = server.state()
        assert info["client_disconnects_total"] > STREAMS // 4, info["client_disconnects_total"]
        assert state["aborted_total"] > 0
        assert state["locked_nodes"] == 0, state
        assert state["used_tokens"] == 0, state
        assert state["free_tokens"] + state["cached_tokens"] == state["memory_usage"]["token_capacity"], state
        serving.eventually(lambda: server.descriptors() <= before + 1, f"{server.descriptors()} descriptors, {before} before")
        status, _ = server.post("/v1/completions", {"prompt": "And now", "max_tokens": 2})
        assert status == 200
        print(f"disconnects: ok ({info['client_disconnects_total']} clients hung up)")
        # Detected at once, also while nothing is written: the engine drops the request within 100 ms and a step.
        client = socket.create_connection(("127.0.0.1", server.port))
        body = json.dumps({"prompt": "Once", "max_tokens": 4000, "ignore_eos": True})
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        serving.eventually(lambda: server.state()[1]["num_running_reqs"] == 1, "never ran")
        client.close()
        gone = time.monotonic()
        serving.eventually(idle, "a hung-up request still runs", 10)
        print(f"disconnects: a plain request ended {1000 * (time.monotonic() - gone):.0f} ms after its client")
        assert server.stop() == 0


if __name__ == "__main__":
    main()
