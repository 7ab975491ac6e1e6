"""A gRPC client of grpcio: makes each kind of call once, and says what it saw as one line of JSON.

usage: grpc_client.py ADDRESS AUTHORITY
"""

import json
import queue
import sys

import grpc

SECONDS = 15


def trailers(call):
    return {key: value if isinstance(value, str) else value.hex() for key, value in call.trailing_metadata() or ()}


def main(address, authority):
    channel = grpc.insecure_channel(address, options=[("grpc.default_authority", authority)])
    service = "/outrider.test.Calls/"
    sent = (("x-sent", "from the client"),)
    seen = {}

    answer, call = channel.unary_unary(service + "Unary").with_call(b"one", metadata=sent, timeout=SECONDS)
    first = {key: value for key, value in call.initial_metadata() if key == "x-first"}
    seen["unary"] = {"answer": answer.decode(), "first": first, "trailers": trailers(call)}

    call = channel.unary_stream(service + "ServerStream")(b"1000", metadata=sent, timeout=SECONDS)
    answers = [int(answer) for answer in call]
    seen["server_stream"] = {"in_order": answers == list(range(1000)), "trailers": trailers(call)}

    parts = (b"part%d" % number for number in range(3))
    answer, call = channel.stream_unary(service + "ClientStream").with_call(parts, metadata=sent, timeout=SECONDS)
    seen["client_stream"] = {"answer": answer.decode(), "trailers": trailers(call)}

    # Each message is sent only when the one before was answered: whatever holds back a message hangs here.
    messages = queue.Queue()
    call = channel.stream_stream(service + "BothStreams")(iter(messages.get, None), metadata=sent, timeout=SECONDS)
    answers = []
    for number in range(20):
        messages.put(b"%d" % number)
        answers.append(next(call).decode())
    messages.put(None)
    ended = next(call, None) is None
    seen["both_streams"] = {"answers": answers, "ended": ended, "trailers": trailers(call)}

    try:
        channel.unary_unary(service + "Unary")(b"fail", metadata=sent, timeout=SECONDS)
        seen["failure"] = None
    except grpc.RpcError as error:
        seen["failure"] = {"code": error.code().name, "details": error.details(), "trailers": trailers(error)}

    try:
        channel.unary_unary("/outrider.test.Calls/Missing")(b"", timeout=SECONDS)
        seen["missing"] = None
    except grpc.RpcError as error:
        seen["missing"] = error.code().name

    print(json.dumps(seen))


main(*sys.argv[1:])
