# SPDX-License-Identifier: Apache-2.0
"""foldback-pubsub.so by its contract (connector.h), without a foldback around it: for what must be held up, failed or
repeated at an exact point."""
import ctypes as c
import re

from conftest import BUILD, ROOT

UNSENT, DELIVERED, RETRY, TOO_LARGE, POISON = range(5)
DEFAULTS = {"topic": "", "subscription": "", "project": "", "endpoint": "", "key_file": "", "ca_file": "",
            "metadata_host": "metadata.google.internal", "ordering": "true", "ack_deadline": "60000", "pull_max": "1000"}


class Span(c.Structure):
    _fields_ = [("at", c.c_char_p), ("len", c.c_size_t)]


class Header(c.Structure):
    _fields_ = [("name", c.c_char_p), ("value", Span)]


class Record(c.Structure):
    _fields_ = [("key", Span), ("value", Span), ("headers", c.POINTER(Header)), ("header_count", c.c_uint32),
                ("wall_ms", c.c_uint64), ("result", c.c_int)]


class Batch(c.Structure):
    _fields_ = [("at", c.POINTER(Record)), ("count", c.c_uint32), ("timeout_ms", c.c_uint32),
                ("mark", c.c_void_p)]


class Message(c.Structure):
    _fields_ = [("topic", c.c_char_p), ("partition", c.c_uint32), ("position", c.c_char * 64), ("key", Span),
                ("value", Span), ("wall_ms", c.c_uint64), ("token", c.c_void_p)]


class Done(c.Structure):
    _fields_ = [("topic", c.c_char_p), ("partition", c.c_uint32), ("position", c.c_char * 64), ("token", c.c_void_p)]


class Err(c.Structure):
    _fields_ = [("code", c.c_int), ("text", c.c_char * 480)]


VALUE = c.CFUNCTYPE(c.c_void_p, c.c_void_p, c.c_char_p)
POSITION = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_char_p, c.c_uint32, c.c_void_p)
STOPPING = c.CFUNCTYPE(c.c_bool, c.c_void_p)
SAY = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_char_p)
EACH = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.POINTER(Message))
STEP = c.CFUNCTYPE(None, c.c_void_p, c.c_bool, c.c_char_p)


def setup_fields():
    """struct connector_setup as connector.h has it: fields that this file does not know are texts."""
    header = (ROOT / "src/stream/connectors/connector.h").read_text()
    body = re.sub(r"/\*.*?\*/", "", header.split("struct connector_setup {")[1].split("\n};")[0], flags=re.S)
    known = {"is_source": c.c_bool, "was_fenced": c.c_bool, "trouble": c.c_void_p, "give_back": c.c_void_p, "value": VALUE, "conf": c.c_void_p, "position": POSITION, "is_stopping": STOPPING,
             "say": SAY, "ctx": c.c_void_p}
    for line in filter(str.strip, body.split(";")):
        name = (re.search(r"\(\*(\w+)\)", line) or re.search(r"(\w+)\s*$", line)).group(1)
        assert name in known or "const char *" in line, "pubsub_library.py does not know %s of connector.h" % name
        yield name, known.get(name, c.c_char_p)


class Setup(c.Structure):
    _fields_ = list(setup_fields())


class Type(c.Structure):
    _fields_ = [("abi", c.c_uint32), ("bytes", c.c_uint32), ("name", c.c_char_p), ("can", c.c_uint32),
                ("send_max", c.c_uint32), ("record_bytes_max", c.c_uint64), ("send_bytes_max", c.c_uint64),
                ("open", c.CFUNCTYPE(c.c_int, c.POINTER(c.c_void_p), c.POINTER(Setup), c.POINTER(Err))),
                ("close", c.CFUNCTYPE(None, c.c_void_p)),
                ("check", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint32, STEP, c.c_void_p, c.POINTER(Err))),
                ("send", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Batch), c.POINTER(Err))),
                ("receive", c.CFUNCTYPE(c.c_int, c.c_void_p, EACH, c.c_void_p, c.c_uint32, c.POINTER(Err))),
                ("commit", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Done), c.c_uint32, c.POINTER(Err))),
                ("behind", c.CFUNCTYPE(c.c_uint64, c.c_void_p)), ("mark", c.c_void_p), ("waits_us", c.c_void_p),
                ("place", c.c_void_p)]


class Library:
    def __init__(self, is_source=False, **values):
        self.values = {k: c.create_string_buffer(v.encode()) for k, v in {**DEFAULTS, **values}.items()}
        self.said, self.is_stopping = [], False
        self.keep = (VALUE(lambda _, key: c.addressof(self.values[key.decode()])), POSITION(lambda *_: False),
                     STOPPING(lambda _: self.is_stopping), SAY(lambda _, level, text: self.said.append(text.decode())))
        texts = {name: b"" for name, kind in Setup._fields_ if kind is c.c_char_p}
        self.setup = Setup(**{**texts, "name": b"test", "node": b"node", "is_source": is_source, "value": self.keep[0],
                              "position": self.keep[1], "is_stopping": self.keep[2], "say": self.keep[3]})
        path = str(BUILD / "src/stream/connectors/foldback-pubsub.so")
        self.type = Type.in_dll(c.CDLL(path), "foldback_connector")
        assert self.type.bytes == c.sizeof(Type)
        self.it, self.err = c.c_void_p(), Err()
        self.code = self.type.open(c.byref(self.it), c.byref(self.setup), c.byref(self.err))

    @property
    def text(self):
        return self.err.text.decode()

    def send(self, records, timeout_ms=20000):
        """(key, value) pairs -> results; the code is in self.code."""
        at = (Record * len(records))()
        header = Header(b"foldback-node", Span(b"n1", 2))
        for i, (key, value) in enumerate(records):
            at[i].key, at[i].value = Span(key, len(key)), Span(value, len(value))
            at[i].headers, at[i].header_count = c.pointer(header), 1
        batch = Batch(at, len(records), timeout_ms)
        self.code = self.type.send(self.it, c.byref(batch), c.byref(self.err))
        return [r.result for r in at]

    def receive(self, room=1 << 30, timeout_ms=300):
        """[(id, value, token)]; takes <room> messages, then says that there is none."""
        got = []

        def each(_, m):
            if len(got) >= room:
                return False
            got.append((m.contents.position.decode(), c.string_at(m.contents.value.at, m.contents.value.len)
                        if m.contents.value.len else b"", m.contents.token))
            return True
        self.code = self.type.receive(self.it, EACH(each), None, timeout_ms, c.byref(self.err))
        return got

    def commit(self, messages):
        done = (Done * len(messages))()
        for d, (position, _, token) in zip(done, messages):
            d.topic, d.position, d.token = b"t", position.encode(), token
        self.code = self.type.commit(self.it, done, len(messages), c.byref(self.err))

    def check(self):
        steps = []
        self.code = self.type.check(self.it, 10000, STEP(lambda _, good, text: steps.append((good, text.decode()))), None,
                                    c.byref(self.err))
        return steps

    def behind(self):
        return self.type.behind(self.it)

    def close(self):
        if self.it:
            self.type.close(self.it)
        self.it = None
