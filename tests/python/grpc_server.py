"""A gRPC server of grpcio: each kind of call once, over raw bytes, so that no generated code is needed.

usage: grpc_server.py ADDRESS
"""

import sys
from concurrent import futures

import grpc


def finish(context):
    """What came with the call goes back in the trailers."""
    sent = dict(context.invocation_metadata())
    context.set_trailing_metadata([
        ("x-seen", sent.get("x-sent", "")),
        ("x-bytes-bin", bytes([0, 1, 254, 255])),
    ])


def unary(request, context):
    context.send_initial_metadata([("x-first", "unary")])
    finish(context)
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100% über")
    return b"unary:" + request


def server_stream(request, context):
    finish(context)
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, context):
    finish(context)
    return b"+".join(requests)


def both_streams(requests, context):
    """Answers each message before it takes the next."""
    finish(context)
    for request in requests:
        yield b"re:" + request


def main(address):
    handlers = grpc.method_handlers_generic_handler("outrider.test.Calls", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    })
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((handlers,))
    if server.add_insecure_port(address) == 0:
        sys.exit("cannot bind " + address)
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


main(sys.argv[1])
