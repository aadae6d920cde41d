# SPDX-License-Identifier: Apache-2.0
"""A Kinesis that is as strict as the real one where emulators are not: it checks SigV4, throttles each shard (1 MB/s,
1,000 records/s, 5 reads/s), fails single records of a request, ends shards and makes children, lets iterators expire,
and goes away.  Also the two places of credentials: a container's endpoint and an instance's metadata (IMDSv2)."""
import base64
import calendar
import hashlib
import hmac
import http.server
import json
import random
import socketserver
import ssl
import threading
import time

HASHES = 1 << 128
MAGIC = b"\xf3\x89\x9a\xc2"


def varint(data, at):
    value = shift = 0
    while True:
        c = data[at]
        at += 1
        value |= (c & 127) << shift
        shift += 7
        if c < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            at += value
            value = data[at - value:at]
        yield tag >> 3, value


def unpack(data):
    """The values of a record in the form of the Kinesis Producer Library; of any other: itself."""
    if data[:4] != MAGIC:
        return [data]
    assert hashlib.md5(data[4:-16]).digest() == data[-16:]
    return [dict(fields(v))[3] for n, v in fields(data[4:-16]) if n == 3]


def field(number, value):
    def number_bytes(v):
        out = b""
        while v > 127:
            out += bytes([v & 127 | 128])
            v >>= 7
        return out + bytes([v])
    if isinstance(value, int):
        return number_bytes(number << 3) + number_bytes(value)
    return number_bytes(number << 3 | 2) + number_bytes(len(value)) + value


def pack(pairs):
    keys = sorted({k for k, _ in pairs})
    body = b"".join(field(1, k.encode()) for k in keys)
    body += b"".join(field(3, field(1, keys.index(k)) + field(3, v)) for k, v in pairs)
    return MAGIC + body + hashlib.md5(body).digest()


class Shard:
    def __init__(self, number, low, high, parents=()):
        self.id, self.low, self.high, self.parents = "shardId-%012d" % number, low, high, parents
        self.records, self.is_closed, self.read_at = [], False, []
        self.room_bytes, self.room_records, self.filled = 1e6, 1000.0, time.monotonic()


class Refused(Exception):
    def __init__(self, kind, message, status=400):
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status


class Shim:
    """<rate>: share of the real limits of a shard.  <fail>: of single records."""

    def __init__(self, shards=2, rate=1.0, fail=0.0, tls=None):
        self.keys = {"AKIATEST": "test-secret-of-the-shim"}
        self.tokens = {}  # access key id -> session token that must come with it
        self.rate, self.fail, self.random = rate, fail, random.Random(1)
        self.lock, self.is_away, self.sequence = threading.Lock(), False, 49600000000000000000000000000000000000000000
        self.refused, self.throttled, self.requests, self.early_reads, self.most_records = 0, 0, 0, 0, 0
        self.iterators, self.made, self.iterator_reads = {}, 0, 10**9  # reads until an iterator is too old
        self.role_life_s, self.roles, self.ended = 3600, 0, set()
        self.page, self.reads_per_s = 7, 5  # small answers: many of them
        self.lies = []  # (status, body) of the next answers
        self.shards = []
        self.reset(shards)
        shim = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if shim.is_away:
                    self.close_connection = True
                    return
                try:
                    status, out = shim.lies.pop() if shim.lies else shim.handle(self, body)
                except Refused as e:
                    status, out = e.status, json.dumps({"__type": e.kind, "message": e.message}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        if tls:  # certificate and key, PEM
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = "https://localhost:%d" % self.port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # ---- the stream ----
    def reset(self, count):
        self.shards = [Shard(i, HASHES * i // count, HASHES * (i + 1) // count - 1) for i in range(count)]

    def shard_of(self, key):
        at = int(hashlib.md5(key.encode()).hexdigest(), 16)
        return next(s for s in self.shards if not s.is_closed and s.low <= at <= s.high)

    def put(self, key, data):
        with self.lock:
            self.store(self.shard_of(key), key, data)

    def store(self, shard, key, data):
        self.sequence += self.random.randrange(1, 1000)
        shard.records.append((str(self.sequence), key, data, time.time()))
        return str(self.sequence)

    def split(self, index):
        with self.lock:
            s = self.shards[index]
            s.is_closed = True
            middle = (s.low + s.high) // 2
            self.shards.append(Shard(len(self.shards), s.low, middle, (s.id,)))
            self.shards.append(Shard(len(self.shards), middle + 1, s.high, (s.id,)))

    def merge(self, a, b):
        with self.lock:
            a, b = sorted((self.shards[a], self.shards[b]), key=lambda s: s.low)
            assert a.high + 1 == b.low
            a.is_closed = b.is_closed = True
            self.shards.append(Shard(len(self.shards), a.low, b.high, (a.id, b.id)))

    def stored(self):
        """(key, value) of every event, shard after shard, each in the order of the shard."""
        with self.lock:
            rows = [(s, r) for s in self.shards for r in list(s.records)]
        out = []
        for s, (_, key, data, _) in rows:
            for value in unpack(data):
                out += [(s.id, key, line) for line in value.split(b"\n") if line.strip()]
        return out

    # ---- requests ----
    def handle(self, h, body):
        if h.command != "POST":
            return self.metadata(h)
        self.check_signature(h, body)
        with self.lock:
            self.requests += 1
            action = h.headers["X-Amz-Target"].split(".")[1]
            return 200, json.dumps(getattr(self, action)(json.loads(body))).encode()

    def check_signature(self, h, body):
        given = dict(p.strip().split("=", 1) for p in h.headers["Authorization"].split(" ", 1)[1].split(","))
        key_id, day, region, service, _ = given["Credential"].split("/")
        names = given["SignedHeaders"].split(";")
        assert names == sorted(names) and "host" in names and "x-amz-date" in names
        if key_id in self.ended:
            raise Refused("ExpiredTokenException", "The security token included in the request is expired")
        if key_id not in self.keys:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        token = self.tokens.get(key_id)
        if token and (h.headers.get("X-Amz-Security-Token") != token or "x-amz-security-token" not in names):
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        lines = "".join("%s:%s\n" % (n, " ".join(h.headers[n].split())) for n in names)
        canonical = "\n".join((h.command, h.path, "", lines, given["SignedHeaders"], hashlib.sha256(body).hexdigest()))
        text = "\n".join(("AWS4-HMAC-SHA256", h.headers["X-Amz-Date"], "/".join((day, region, service, "aws4_request")),
                          hashlib.sha256(canonical.encode()).hexdigest()))
        key = ("AWS4" + self.keys[key_id]).encode()
        for part in (day, region, service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        if hmac.new(key, text.encode(), hashlib.sha256).hexdigest() != given["Signature"]:
            raise Refused("InvalidSignatureException", "The request signature we calculated does not match.")
        sent = calendar.timegm(time.strptime(h.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
        if abs(time.time() - sent) > 900:
            raise Refused("InvalidSignatureException", "Signature expired")

    def metadata(self, h):
        with self.lock:
            if h.path == "/latest/api/token" and h.command == "PUT":
                return 200, b"imds-token"
            if h.path.startswith("/latest/") and h.headers.get("X-aws-ec2-metadata-token") != "imds-token":
                return 401, b""
            if h.path == "/latest/meta-data/iam/security-credentials/":
                return 200, b"shop-role"
            if h.path == "/container" and h.headers.get("Authorization") != "container-token":
                return 403, b""
            if h.path not in ("/container", "/latest/meta-data/iam/security-credentials/shop-role"):
                return 404, b""
            # the keys of before stop to work when their time is over
            self.roles += 1
            name = "ASIA%d" % self.roles
            self.keys[name], self.tokens[name] = "role-secret-%d" % self.roles, "role-token-%d/+=" % self.roles
            end = time.time() + self.role_life_s
            timer = threading.Timer(self.role_life_s, self.ended.add, (name,))
            timer.daemon = True
            timer.start()
            return 200, json.dumps({"Code": "Success", "AccessKeyId": name, "SecretAccessKey": self.keys[name],
                                    "Token": self.tokens[name],
                                    "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))}).encode()

    def PutRecords(self, q):
        self.named(q)
        if not 1 <= len(q["Records"]) <= 500:
            raise Refused("ValidationException", "Member must have length less than or equal to 500")
        self.most_records = max(self.most_records, len(q["Records"]))
        rows = [(r["PartitionKey"], base64.b64decode(r["Data"], validate=True)) for r in q["Records"]]
        if sum(len(d) + len(k) for k, d in rows) > 5 << 20 or any(len(d) + len(k) > 1 << 20 for k, d in rows):
            raise Refused("ValidationException", "Member must have length less than or equal to 1048576")
        out = [self.put_one(key, data) for key, data in rows]
        return {"FailedRecordCount": sum("ErrorCode" in r for r in out), "Records": out}

    def put_one(self, key, data):
        s, now = self.shard_of(key), time.monotonic()
        s.room_bytes = min(1e6 * self.rate, s.room_bytes + (now - s.filled) * 1e6 * self.rate)
        s.room_records = min(1000 * self.rate, s.room_records + (now - s.filled) * 1000 * self.rate)
        s.filled = now
        # A burst may be as large as one record, or no record of 256 KiB would ever pass a slow shard.
        if s.room_records < 1 or s.room_bytes < min(len(data), 1e6 * self.rate):
            self.throttled += 1
            return {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard " + s.id}
        if self.random.random() < self.fail:
            self.refused += 1
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal service failure."}
        s.room_records -= 1
        s.room_bytes -= len(data)
        return {"SequenceNumber": self.store(s, key, data), "ShardId": s.id}

    def named(self, q):
        if q.get("StreamName") != "shop":
            raise Refused("ResourceNotFoundException", "Stream %s under account 1 not found." % q.get("StreamName"))

    def ListShards(self, q):
        from_index = int(q["NextToken"]) if "NextToken" in q else self.named(q) or 0
        out = []
        for s in self.shards[from_index:from_index + 2]:  # pages of two
            row = {"ShardId": s.id, "HashKeyRange": {"StartingHashKey": str(s.low), "EndingHashKey": str(s.high)},
                   "SequenceNumberRange": {"StartingSequenceNumber": "1"}}
            if s.is_closed:
                row["SequenceNumberRange"]["EndingSequenceNumber"] = str(self.sequence)
            row.update(zip(("ParentShardId", "AdjacentParentShardId"), s.parents))
            out.append(row)
        more = {"NextToken": str(from_index + 2)} if from_index + 2 < len(self.shards) else {}
        return {"Shards": out, **more}

    def iterator(self, shard, index):
        self.made += 1
        name = "iterator-%d" % self.made
        self.iterators[name] = (shard, index, self.made)
        return name

    def GetShardIterator(self, q):
        self.named(q)
        s = next((s for s in self.shards if s.id == q["ShardId"]), None)
        if not s:
            raise Refused("ResourceNotFoundException", "Shard %s not found" % q["ShardId"])
        kind, at = q["ShardIteratorType"], int(q.get("StartingSequenceNumber", "0"))
        index = {"TRIM_HORIZON": 0, "LATEST": len(s.records)}.get(kind)
        if index is None:
            index = sum(int(r[0]) < at + (kind == "AFTER_SEQUENCE_NUMBER") for r in s.records)
        return {"ShardIterator": self.iterator(s, index)}

    def GetRecords(self, q):
        s, index, age = self.iterators.get(q["ShardIterator"], (None, 0, 0))
        if not s:
            raise Refused("InvalidArgumentException", "Invalid ShardIterator.")
        if self.made - age > self.iterator_reads or (self.iterator_reads < 10**9 and age % self.iterator_reads == 0):
            raise Refused("ExpiredIteratorException", "Iterator expired.")
        now = time.monotonic()
        s.read_at = [t for t in s.read_at if now - t < 1] + [now]
        if len(s.read_at) > self.reads_per_s:
            self.early_reads += 1
            raise Refused("ProvisionedThroughputExceededException", "Rate exceeded for shard " + s.id)
        rows = s.records[index:index + self.page]
        end = index + len(rows)
        out = {"Records": [{"SequenceNumber": n, "PartitionKey": k, "Data": base64.b64encode(d).decode(),
                            "ApproximateArrivalTimestamp": t} for n, k, d, t in rows],
               "MillisBehindLatest": 0 if end == len(s.records) else 1000}
        if not (s.is_closed and end == len(s.records)):
            out["NextShardIterator"] = self.iterator(s, end)
        return out
