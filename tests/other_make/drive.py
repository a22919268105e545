"""A controller of another make: gRPC's own C implementation, which knows nothing of this project.

It sends the bytes of the golden file as they are, and reads what comes back with a decoder of its
own. The test that runs it tells it in JSON lines where the agent is; it answers in JSON lines.
"""

import json
import queue
import sys
from concurrent import futures

import grpc

PATIENCE = 30


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """Field numbers to values: a number for a varint, bytes for what has a length."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            assert len(value) == length
        else:
            raise ValueError(f"wire type {key & 7}")
        found.setdefault(key >> 3, []).append(value)
    return found


def encode(number, value):
    def digits(value):
        out = bytearray()
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes(out) + bytes([value])

    if isinstance(value, int):
        return digits(number << 3) + digits(value)
    return digits(number << 3 | 2) + digits(len(value)) + value


class Controller(grpc.GenericRpcHandler):
    """Takes every call of ControllerGrpc, and writes down its bytes."""

    def __init__(self):
        self.calls = queue.Queue()

    def service(self, details):
        service, method = details.method.lstrip("/").split("/")
        if service != "arroyo_rpc.ControllerGrpc":
            return None

        def answer(request, context):
            if method != "HeartbeatNode":
                self.calls.put((method, request))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer, lambda b: b, lambda b: b)

    def next(self, wanted):
        while True:
            method, request = self.calls.get(timeout=PATIENCE)
            if method == wanted:
                return fields(request)


def text(values):
    return values[0].decode()


def one(message, number, absent=0):
    return message.get(number, [absent])[0]


def read_finished(message, dialect):
    """WorkerFinished as that version reads it: nothing is taken in another place."""
    who = fields(message[1][0])
    if dialect == "0.15":
        assert set(message) == {1, 3}, message
        return {
            "worker": who[1][0], "job": text(who[2]), "generation": one(who, 3),
            "machine": text(who[4]), "slots": message[3][0],
        }
    assert set(message) == {1, 2, 3}, message
    assert message[2][0] > 1_600_000_000_000_000, message
    return {
        "worker": who[2][0], "job": text(who[3]), "generation": one(who, 4),
        "machine": text(who[1]), "slots": message[3][0],
    }


class Agent:
    def __init__(self, address, credentials):
        if credentials:
            self.channel = grpc.secure_channel(address, credentials)
        else:
            self.channel = grpc.insecure_channel(address)

    def call(self, method, request):
        call = self.channel.unary_unary(
            f"/arroyo_rpc.NodeGrpc/{method}", lambda b: b, lambda b: b
        )
        return call(request, timeout=PATIENCE, wait_for_ready=True)

    def not_found(self, method, request):
        """How a forced stop that is done is answered, to a stock controller."""
        try:
            self.call(method, request)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            return error.details()
        raise AssertionError("a stock controller would not go on to the next worker")


def drive(task, controller, credentials):
    node = controller.next("RegisterNode")
    assert text(node[1]) == task["machine"] and node[2] == [16], node
    assert text(node[3]) == task["address"], node
    agent = Agent(task["address"], credentials)
    start, fields_of_start = bytes.fromhex(task["start"]), task["fields"]

    answer = fields(agent.call("StartWorker", start))
    worker = answer[1][0]
    assert set(answer) == {1} and 0 < worker < 1 << 64, answer
    [listed] = fields(agent.call("GetWorkers", b""))[1]
    listed = fields(listed)
    assert text(listed[1]) == fields_of_start["name"] and listed[4] == [1], listed
    assert listed[3] == [fields_of_start["slots"]], listed

    job = fields_of_start["job_id"].encode()
    stop = encode(1, worker) + encode(2, 1) + encode(3, job)
    assert "has ended" in agent.not_found("StopWorker", stop)
    ended = read_finished(controller.next("WorkerFinished"), task["report"])
    assert ended == {
        "worker": worker, "job": fields_of_start["job_id"], "machine": task["machine"],
        "generation": fields_of_start["generation"], "slots": fields_of_start["slots"],
    }, ended
    assert "not known" in agent.not_found("StopWorker", encode(1, 5) + encode(2, 1))
    # To a caller that understands a status.
    wants_status = encode(5, 1)
    assert fields(agent.call("StopWorker", stop + wants_status)) == {1: [1]}, "STOPPED"

    try:
        wrong = encode(2, job) + encode(6, 1) + encode(7, b"somebody else") + encode(8, 1)
        agent.call("StartWorker", wrong)
        raise AssertionError("a StartWorker for another machine is taken")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert "somebody else" in error.details(), error
    return {"worker": str(worker)}


def main():
    tls = json.loads(sys.argv[1])
    controller = Controller()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[controller])
    credentials = None
    if tls:
        read = lambda name: open(tls[name], "rb").read()
        pair = (read("key"), read("cert"))
        server_credentials = grpc.ssl_server_credentials(
            [pair], root_certificates=read("ca"), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", server_credentials)
        credentials = grpc.ssl_channel_credentials(read("ca"), *pair)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    task = json.loads(sys.stdin.readline())
    print(json.dumps(drive(task, controller, credentials)), flush=True)
    server.stop(None)


main()
