# SPDX-License-Identifier: Apache-2.0
"""Google Pub/Sub for tests: a server of our own on the official messages (google-cloud-pubsub) that can be told to
fail, an OAuth server that verifies signatures, and a client that speaks with this server and with pstest alike."""
import base64
import concurrent.futures
import http.server
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.parse

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1.types import pubsub as types
from google.rpc import error_details_pb2, status_pb2

PROJECT = "test-project"
PUBLISHER, SUBSCRIBER = "google.pubsub.v1.Publisher", "google.pubsub.v1.Subscriber"
METHODS = {  # name: (service, request, answer)
    "CreateTopic": (PUBLISHER, types.Topic.pb(), types.Topic.pb()),
    "GetTopic": (PUBLISHER, types.GetTopicRequest.pb(), types.Topic.pb()),
    "Publish": (PUBLISHER, types.PublishRequest.pb(), types.PublishResponse.pb()),
    "CreateSubscription": (SUBSCRIBER, types.Subscription.pb(), types.Subscription.pb()),
    "GetSubscription": (SUBSCRIBER, types.GetSubscriptionRequest.pb(), types.Subscription.pb()),
    "Pull": (SUBSCRIBER, types.PullRequest.pb(), types.PullResponse.pb()),
    "Acknowledge": (SUBSCRIBER, types.AcknowledgeRequest.pb(), empty_pb2.Empty),
    "ModifyAckDeadline": (SUBSCRIBER, types.ModifyAckDeadlineRequest.pb(), empty_pb2.Empty),
}
Message = types.PubsubMessage.pb()
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 64 << 20)]


def topic_path(name):
    return "projects/%s/topics/%s" % (PROJECT, name)


def sub_path(name):
    return "projects/%s/subscriptions/%s" % (PROJECT, name)


class Client:
    """The official messages over raw stubs, for any server."""

    def __init__(self, address, credentials=None, token=None):
        self.channel = (grpc.secure_channel(address, credentials, options=OPTIONS) if credentials
                        else grpc.insecure_channel(address, options=OPTIONS))
        self.metadata = [("authorization", "Bearer " + token)] if token else []

    def call(self, method, **fields):
        service, request, answer = METHODS[method]
        stub = self.channel.unary_unary("/%s/%s" % (service, method), request_serializer=request.SerializeToString,
                                        response_deserializer=answer.FromString)
        return stub(request(**fields), timeout=60, metadata=self.metadata, wait_for_ready=True)

    def make(self, name, ordered=True, deadline_s=10, exactly_once=False):
        """A topic and its subscription of the same name."""
        self.call("CreateTopic", name=topic_path(name))
        self.call("CreateSubscription", name=sub_path(name), topic=topic_path(name), ack_deadline_seconds=deadline_s,
                  enable_message_ordering=ordered, enable_exactly_once_delivery=exactly_once)

    def publish(self, topic, datas, key=""):
        return list(self.call("Publish", topic=topic_path(topic),
                              messages=[Message(data=d, ordering_key=key) for d in datas]).message_ids)

    def take(self, sub):
        """All that is there now, acknowledged."""
        got = self.call("Pull", subscription=sub_path(sub), max_messages=1000).received_messages
        if got:
            self.call("Acknowledge", subscription=sub_path(sub), ack_ids=[m.ack_id for m in got])
        return [m.message for m in got]

    def close(self):
        self.channel.close()


class Refusal(Exception):
    def __init__(self, code, text, details=None):
        super().__init__(text)
        self.code, self.text, self.details = code, text, details


class Subscription:
    def __init__(self, proto):
        self.proto = proto
        self.waiting = []  # messages, in order
        self.out = {}  # ack id: [message, deadline]
        self.acked = []  # message ids
        self.modacks = []  # (ack id, seconds)
        self.delivered = []  # message ids, with repeats
        self.expired = set()  # ack ids that fail for good when they come
        self.count = 0


class Server:
    """Pub/Sub in this process.  `fail` holds (method, code, text, how often, key or None); `tokens` a function that
    says whether a bearer is good; `denied` methods without permission."""

    def __init__(self, cert=None, key=None):
        self.lock = threading.Condition()
        self.topics, self.subs, self.calls = {}, {}, []
        self.fail, self.denied = [], set()
        self.tokens = None
        self.lost_answers = 0  # so many publishes are stored, and then answered UNAVAILABLE
        self.next_id = 1
        self.cert, self.key = cert, key
        self.port = 0
        self.server = None
        self.start()

    def start(self):
        service = {}
        for name, (where, request, answer) in METHODS.items():
            service.setdefault(where, {})[name] = grpc.unary_unary_rpc_method_handler(
                self.handler(name), request_deserializer=request.FromString,
                response_serializer=answer.SerializeToString)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16),
                                  options=OPTIONS + [("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(where, methods)
                                              for where, methods in service.items()])
        address = "127.0.0.1:%d" % self.port
        end = time.monotonic() + 30
        while True:  # after a stop the port may be busy for a moment
            try:
                if self.cert:
                    with open(self.cert, "rb") as c, open(self.key, "rb") as k:
                        pair = (k.read(), c.read())
                    port = self.server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
                else:
                    port = self.server.add_insecure_port(address)
                if port:
                    break
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)
        self.port = port
        self.server.start()

    def stop(self):
        """Away, with its state kept: start() brings it back at the same port."""
        if self.server:
            self.server.stop(0).wait(10)
        self.server = None

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def handler(self, name):
        def answer(request, context):
            self.calls.append(name)
            try:
                self.let_in(name, request, context)
                return getattr(self, "on_" + name)(request, context)
            except Refusal as r:
                if r.details is not None:
                    context.set_trailing_metadata([("grpc-status-details-bin", r.details)])
                context.abort(r.code, r.text)
        return answer

    def let_in(self, name, request, context):
        if self.tokens:
            given = dict(context.invocation_metadata()).get("authorization", "")
            if not given.startswith("Bearer ") or not self.tokens(given[7:]):
                raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials.")
        if name in self.denied:
            raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        with self.lock:
            for f in self.fail:
                if f[0] != name or f[3] <= 0:
                    continue
                if f[4] is not None and all(m.ordering_key != f[4] for m in request.messages):
                    continue
                f[3] -= 1
                raise Refusal(f[1], f[2])

    # ---- topics ----
    def on_CreateTopic(self, request, _):
        self.topics[request.name] = []
        return request

    def on_GetTopic(self, request, _):
        if request.topic not in self.topics:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "Resource not found (resource=%s)." % request.topic)
        return METHODS["GetTopic"][2](name=request.topic)

    def on_Publish(self, request, context):
        if request.topic not in self.topics:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "Resource not found (resource=%s)." % request.topic)
        if len({m.ordering_key for m in request.messages}) > 1:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "All messages must have the same ordering key.")
        if len(request.messages) > 1000 or request.ByteSize() > 10_000_000:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Request payload size exceeds the limit: 10000000 bytes.")
        for m in request.messages:
            if len(m.data) > 10_000_000 or b"poison" in m.data:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Invalid data in message.")
        ids = []
        with self.lock:
            for m in request.messages:
                m.message_id = str(10**15 + self.next_id)
                self.next_id += 1
                m.publish_time.GetCurrentTime()
                ids.append(m.message_id)
                self.topics[request.topic].append(m)
                for s in self.subs.values():
                    if s.proto.topic == request.topic:
                        s.waiting.append(m)
            self.lock.notify_all()
            if self.lost_answers > 0:
                self.lost_answers -= 1
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        return METHODS["Publish"][2](message_ids=ids)

    # ---- subscriptions ----
    def sub(self, name):
        if name not in self.subs:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "Resource not found (resource=%s)." % name)
        return self.subs[name]

    def on_CreateSubscription(self, request, _):
        self.subs[request.name] = Subscription(request)
        return request

    def on_GetSubscription(self, request, _):
        return self.sub(request.subscription).proto

    def expire(self, s):
        now = time.monotonic()
        for ack_id, (m, deadline) in list(s.out.items()):
            if deadline <= now:
                del s.out[ack_id]
                s.waiting.insert(0, m)

    def redeliver(self, name):
        """What is delivered and not acknowledged comes again now."""
        with self.lock:
            for entry in self.subs[sub_path(name)].out.values():
                entry[1] = 0
            self.lock.notify_all()

    def on_Pull(self, request, context):
        s = self.sub(request.subscription)
        end = time.monotonic() + min(1.0, context.time_remaining() or 1.0)
        with self.lock:
            while True:
                self.expire(s)
                if s.waiting or time.monotonic() >= end:
                    break
                self.lock.wait(0.05)
            answer = METHODS["Pull"][2]()
            while s.waiting and len(answer.received_messages) < request.max_messages:
                m = s.waiting.pop(0)
                s.count += 1
                ack_id = "ack-%d-%s" % (s.count, "x" * 150)
                s.out[ack_id] = [m, time.monotonic() + s.proto.ack_deadline_seconds]
                s.delivered.append(m.message_id)
                answer.received_messages.add(ack_id=ack_id).message.CopyFrom(m)
        return answer

    def on_Acknowledge(self, request, _):
        s = self.sub(request.subscription)
        with self.lock:
            bad = {a: "PERMANENT_FAILURE_INVALID_ACK_ID" for a in request.ack_ids if a in s.expired}
            for a in request.ack_ids:
                if a in s.out and a not in bad:
                    s.acked.append(s.out.pop(a)[0].message_id)
        if bad and s.proto.enable_exactly_once_delivery:
            info = any_pb2.Any()
            info.Pack(error_details_pb2.ErrorInfo(reason="PERMANENT_FAILURE_INVALID_ACK_ID", domain="pubsub.googleapis.com",
                                                  metadata=bad))
            status = status_pb2.Status(code=9, message="Some acknowledgement ids are invalid.", details=[info])
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, status.message, status.SerializeToString())
        return empty_pb2.Empty()

    def on_ModifyAckDeadline(self, request, _):
        s = self.sub(request.subscription)
        with self.lock:
            for a in request.ack_ids:
                s.modacks.append((a, request.ack_deadline_seconds))
                if a in s.out:
                    s.out[a][1] = time.monotonic() + request.ack_deadline_seconds
        return empty_pb2.Empty()


def un64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    """An OAuth token server that verifies the assertion with the public key, and a metadata server."""

    def __init__(self, public_key, life_s=3600):
        tokens = self
        self.public_key, self.life_s = public_key, life_s
        self.given, self.claims, self.refusals, self.status = {}, [], [], None

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                why = tokens.judge(form)
                if tokens.status:
                    self.send(tokens.status, {"error": "temporarily_unavailable"})
                elif why:
                    tokens.refusals.append(why)
                    self.send(400, {"error": "invalid_grant", "error_description": why})
                else:
                    self.send(200, tokens.give())

            def do_GET(self):
                if self.headers.get("Metadata-Flavor") != "Google":
                    self.send(403, {})
                elif self.path != "/computeMetadata/v1/instance/service-accounts/default/token":
                    self.send(404, {})
                else:
                    self.send(200, tokens.give())

            def send(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.uri = "http://127.0.0.1:%d/token" % self.port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def give(self):
        token = "ya29.secret-%d" % len(self.given)
        self.given[token] = time.monotonic() + self.life_s
        return {"access_token": token, "expires_in": self.life_s, "token_type": "Bearer"}

    def is_good(self, token):
        return self.given.get(token, 0) > time.monotonic()

    def judge(self, form):
        if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return "Invalid grant_type."
        head, claims, signature = form["assertion"][0].split(".")
        says = json.loads(un64(claims))
        self.claims.append(says)
        if json.loads(un64(head))["alg"] != "RS256":
            return "Invalid JWT algorithm."
        with tempfile.TemporaryDirectory() as d:
            with open(d + "/sig", "wb") as f:
                f.write(un64(signature))
            done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", self.public_key, "-signature", d + "/sig"],
                                  input=("%s.%s" % (head, claims)).encode(), capture_output=True, timeout=30)
        if done.returncode != 0:
            return "Invalid JWT Signature."
        if says["aud"] != self.uri or not says["iss"].endswith(".iam.gserviceaccount.com"):
            return "Invalid JWT: wrong audience or issuer."
        if not says["iat"] - 60 <= time.time() <= says["exp"] <= says["iat"] + 3600:
            return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        return None if "pubsub" in says["scope"] else "Invalid scope."

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def make_key(folder, name, uri):
    """A key pair and the key file of a service account: (key file, public key)."""
    key, public, path = (os.path.join(str(folder), name + x) for x in (".key", ".pub", ".json"))
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key],
                   check=True, capture_output=True, timeout=60)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True, timeout=30)
    with open(key) as f, open(path, "w") as out:
        json.dump({"type": "service_account", "project_id": PROJECT, "private_key_id": "kid-1", "private_key": f.read(),
                   "client_email": "%s@%s.iam.gserviceaccount.com" % (name, PROJECT), "token_uri": uri}, out)
    os.chmod(path, 0o600)
    return path, public
