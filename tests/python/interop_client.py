"""gRPC's interop client by grpcio: interop_client.py ADDRESS CASE... prints each case's name and `ok`, or what went wrong.

The cases are those of the gRPC authors' interop-test-descriptions.md under their names, and two more of the same kind.
"""

import queue
import sys
import traceback

import grpc

messages, services = grpc.protos_and_services("interop.proto")

SECONDS = 15
REQUESTS = (27182, 8, 1828, 45904)
ANSWERS = (31415, 9, 2653, 58979)
LARGE_REQUEST, LARGE_ANSWER = 271828, 314159
METADATA = (
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\x0a\x0b\x0a\x0b\x0a\x0b"),
)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")


def payload(size):
    return messages.Payload(body=bytes(size))


def simple(request_size, answer_size, **more):
    return messages.SimpleRequest(payload=payload(request_size), response_size=answer_size, **more)


def output(*sizes, request_size=0, **more):
    wanted = [messages.ResponseParameters(size=size) for size in sizes]
    return messages.StreamingOutputCallRequest(payload=payload(request_size), response_parameters=wanted, **more)


def failure(call):
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"no error, but {answer!r}")


def empty_unary(stub):
    same(stub.EmptyCall(messages.Empty(), timeout=SECONDS), messages.Empty())


def large_unary(stub, **how):
    answer = stub.UnaryCall(simple(LARGE_REQUEST, LARGE_ANSWER), timeout=SECONDS, **how)
    same(answer.payload.body, bytes(LARGE_ANSWER))


def client_compressed_unary(stub):
    large_unary(stub, compression=grpc.Compression.Gzip)


def server_compressed_unary(stub):
    for compressed in (True, False):
        asked = simple(LARGE_REQUEST, LARGE_ANSWER, response_compressed=messages.BoolValue(value=compressed))
        same(stub.UnaryCall(asked, timeout=SECONDS).payload.body, bytes(LARGE_ANSWER))


def client_streaming(stub, **how):
    parts = (messages.StreamingInputCallRequest(payload=payload(size)) for size in REQUESTS)
    same(stub.StreamingInputCall(parts, timeout=SECONDS, **how).aggregated_payload_size, sum(REQUESTS))


def client_compressed_streaming(stub):
    client_streaming(stub, compression=grpc.Compression.Gzip)


def server_streaming(stub):
    answers = stub.StreamingOutputCall(output(*ANSWERS), timeout=SECONDS)
    same([len(answer.payload.body) for answer in answers], list(ANSWERS))


def server_compressed_streaming(stub):
    asked = output(31415, 92653)
    asked.response_parameters[0].compressed.value = True
    answers = stub.StreamingOutputCall(asked, timeout=SECONDS)
    same([len(answer.payload.body) for answer in answers], [31415, 92653])


def duplex(stub, **how):
    """A call of both streams, and what to put its requests into; `None` ends them."""
    asked = queue.Queue()
    return stub.FullDuplexCall(iter(asked.get, None), timeout=SECONDS, **how), asked


def ping_pong(stub):
    call, asked = duplex(stub)
    for request_size, answer_size in zip(REQUESTS, ANSWERS):
        # Each is sent only when the one before was answered: whatever holds back a message hangs here.
        asked.put(output(answer_size, request_size=request_size))
        same(len(next(call).payload.body), answer_size)
    asked.put(None)
    same(next(call, None), None)


def empty_stream(stub):
    call, asked = duplex(stub)
    asked.put(None)
    same(list(call), [])


def cancel_after_begin(stub):
    never = queue.Queue()
    call = stub.StreamingInputCall.future(iter(never.get, None), timeout=SECONDS)
    call.cancel()
    same(call.cancelled(), True)
    same(call.code(), grpc.StatusCode.CANCELLED)
    never.put(None)


def cancel_after_first_response(stub):
    call, asked = duplex(stub)
    asked.put(output(ANSWERS[0], request_size=REQUESTS[0]))
    same(len(next(call).payload.body), ANSWERS[0])
    call.cancel()
    same(failure(lambda: next(call)).code(), grpc.StatusCode.CANCELLED)
    asked.put(None)


def timeout_on_sleeping_server(stub):
    asked = queue.Queue()
    asked.put(output(request_size=27182))
    call = stub.FullDuplexCall(iter(asked.get, None), timeout=0.001)
    same(failure(lambda: next(call)).code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    asked.put(None)


def check_metadata(call, sent):
    for where, (name, value) in zip((call.initial_metadata(), call.trailing_metadata()), sent):
        same([got for key, got in where if key == name], [value])


def custom_metadata(stub, sent=METADATA):
    answer, call = stub.UnaryCall.with_call(simple(1, 1), metadata=sent, timeout=SECONDS)
    same(len(answer.payload.body), 1)
    check_metadata(call, sent)
    call, asked = duplex(stub, metadata=sent)
    asked.put(output(1, request_size=1))
    same(len(next(call).payload.body), 1)
    asked.put(None)
    same(next(call, None), None)
    check_metadata(call, sent)


def large_metadata(stub):
    """Of our own: 12 KiB of each kind, beyond a frame of 16 KiB together and below what a sidecar bounds."""
    custom_metadata(stub, tuple((name, value[:1] * (12 << 10)) for name, value in METADATA))


def check_status(stub, message):
    wanted = messages.EchoStatus(code=2, message=message)
    errors = [failure(lambda: stub.UnaryCall(simple(0, 0, response_status=wanted), timeout=SECONDS))]
    call, asked = duplex(stub)
    asked.put(output(response_status=wanted))
    asked.put(None)
    errors.append(failure(lambda: next(call)))
    for error in errors:
        same((error.code(), error.details()), (grpc.StatusCode.UNKNOWN, message))


def status_code_and_message(stub):
    check_status(stub, "test status message")


def special_status_message(stub):
    check_status(stub, SPECIAL)


def status_after_messages(stub):
    """Of our own: an error in the trailers of an answer that had begun."""
    call, asked = duplex(stub)
    asked.put(output(ANSWERS[0]))
    same(len(next(call).payload.body), ANSWERS[0])
    asked.put(output(response_status=messages.EchoStatus(code=9, message=SPECIAL)))
    error = failure(lambda: next(call))
    same((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, SPECIAL))
    asked.put(None)


def unimplemented_method(stub):
    error = failure(lambda: stub.UnimplementedCall(messages.Empty(), timeout=SECONDS))
    same(error.code(), grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(stub):
    error = failure(lambda: stub.other.UnimplementedCall(messages.Empty(), timeout=SECONDS))
    same(error.code(), grpc.StatusCode.UNIMPLEMENTED)


def main(address, *cases):
    options = [("grpc.max_metadata_size", 64 << 10), ("grpc.absolute_max_metadata_size", 64 << 10)]
    channel = grpc.insecure_channel(address, options=options)
    stub = services.TestServiceStub(channel)
    stub.other = services.UnimplementedServiceStub(channel)
    for case in cases:
        try:
            globals()[case](stub)
            print(case, "ok", sep="\t", flush=True)
        except Exception:
            print(case, traceback.format_exc().replace("\n", " | "), sep="\t", flush=True)


main(*sys.argv[1:])
