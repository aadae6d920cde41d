# SPDX-License-Identifier: Apache-2.0
"""Request shapes that parsers are known to understand differently, and requests that nobody may refuse.

Each shape is (name, bytes).  A request that would be smuggled asks for /smuggled."""

G = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def post(fields, body, path=b"/p"):
    return b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def get(fields=(), line=b"GET /g HTTP/1.1", host=b"Host: a"):
    return line + b"\r\n" + (host + b"\r\n" if host is not None else b"") + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def transfer_encodings():
    values = [b"chunked", b" chunked", b"chunked ", b"\tchunked", b"chunked\t", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked",
              b"Chunked", b"CHUNKED", b"chunKed", b"xchunked", b"chunkedx", b"chunked, identity", b"identity, chunked", b"identity",
              b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"chunked;q=1", b"\"chunked\"", b"'chunked'", b"chunked,",
              b",chunked", b", chunked", b"chunked\x00", b"\x00chunked", b"cow", b"", b"chu\x00nked", b"chunked\xff", b"\xa0chunked",
              b"chunked\x1f", b"deflate, chunked", b"trailers", b"chun\xc3\xa7ked", b"chunked\x85", b"chunked/x", b"compress;x, chunked"]
    names = [b"Transfer-Encoding: ", b"Transfer-Encoding : ", b" Transfer-Encoding: ", b"Transfer-Encoding:", b"Transfer_Encoding: ",
             b"Transfer Encoding: ", b"transfer-encoding: ", b"TRANSFER-ENCODING: ", b"Transfer-Encoding\t: ", b"Transfer-Encoding:\x0b",
             b"Transfer-Encoding\x00: ", b"X: y\nTransfer-Encoding: ", b"X: y\rTransfer-Encoding: ", b"Foo\r\n Transfer-Encoding: ",
             b"\x00Transfer-Encoding: ", b"Transfer-\x00Encoding: ", b"Transfer-Encoding\xa0: ", b"\tTransfer-Encoding: "]
    for v in values:
        yield "TE value %r with CL" % v, post([b"Content-Length: 5", b"Transfer-Encoding: " + v], b"0\r\n\r\n" + G)
        yield "TE value %r alone" % v, post([b"Transfer-Encoding: " + v], b"0\r\n\r\n" + G)
    for n in names:
        yield "TE name %r with CL" % n, post([b"Content-Length: %d" % (5 + len(G)), n + b"chunked"], b"0\r\n\r\n" + G)
        yield "TE name %r alone" % n, post([n + b"chunked"], b"0\r\n\r\n" + G)
    yield "two TE", post([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], b"0\r\n\r\n" + G)
    yield "two TE turned", post([b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"], b"0\r\n\r\n" + G)
    yield "two TE same", post([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], b"0\r\n\r\n" + G)
    yield "TE in 1.0", post([b"Transfer-Encoding: chunked"], b"0\r\n\r\n" + G).replace(b"HTTP/1.1\r\nHost: a", b"HTTP/1.0\r\nHost: a", 1)
    yield "TE on GET", get([b"Transfer-Encoding: chunked"]) + b"0\r\n\r\n" + G
    yield "TE nominated", post([b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", b"Content-Length: 5"], b"0\r\n\r\n" + G)
    yield "TE folded", post([b"Transfer-Encoding:\r\n chunked"], b"0\r\n\r\n" + G)
    yield "TE folded with CL", post([b"Content-Length: 5", b"Transfer-Encoding:\r\n chunked"], b"0\r\n\r\n" + G)


def content_lengths():
    for v in [b"0", b"5", b"+5", b"-1", b" 5", b"5 ", b"05", b"0x5", b"5,5", b"5, 5", b"5,6", b"5 5", b"5\x00", b"5\x0b", b"5.0", b"5e0", b"",
              b"\xd9\xa5", b"5;", b"\"5\"", b"18446744073709551621", b"4294967301", b"99999999999999999999999", b"5\t", b"\t5", b"5a", b"a5",
              b"00000000000000000000005", b"5\x85", b"1_0", b"5\r", b"5\n6"]:
        yield "CL value %r" % v, post([b"Content-Length: " + v], b"hello" + G)
    for n in [b"Content-Length : 5", b" Content-Length: 5", b"Content_Length: 5", b"Content-Length\t: 5", b"Content-Length:5", b"content-length: 5",
              b"Content-Length\x00: 5", b"Content Length: 5", b"X: y\nContent-Length: 5", b"X: y\rContent-Length: 5", b"Content-Length:\r\n 5",
              b"Content-Length: 5\r\n 6", b"\x0bContent-Length: 5", b"Content-Length\xff: 5"]:
        yield "CL name %r" % n, post([n], b"hello" + G)
    yield "two CL same", post([b"Content-Length: 5", b"Content-Length: 5"], b"hello" + G)
    yield "two CL differ", post([b"Content-Length: 5", b"Content-Length: 0"], b"hello" + G)
    yield "two CL turned", post([b"Content-Length: 0", b"Content-Length: 5"], b"hello" + G)
    yield "CL on GET", get([b"Content-Length: 5"]) + b"hello" + G
    yield "CL on HEAD", get([b"Content-Length: 5"], b"HEAD /g HTTP/1.1") + b"hello" + G
    yield "CL on OPTIONS", get([b"Content-Length: 5"], b"OPTIONS /g HTTP/1.1") + b"hello" + G
    yield "CL on DELETE", get([b"Content-Length: 5"], b"DELETE /g HTTP/1.1") + b"hello" + G
    yield "CL nominated", post([b"Connection: content-length", b"Content-Length: 5"], b"hello" + G)
    yield "CL nominated and closed", post([b"Connection: close, content-length", b"Content-Length: 5"], b"hello" + G)


def chunks():
    bodies = [b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
              b" 5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
              b"05\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;\r\nhello\r\n0\r\n\r\n", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
              b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5\x00\r\nhello\r\n0\r\n\r\n", b"5\rX\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n",
              b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"100000005\r\nhello\r\n0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
              b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
              b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n", b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
              b"5\r\nhello\r\n0\r\n X: y\r\n\r\n", b"5\r\nhello\r\n0\r\nX\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\n\n", b"5\r\nhello\r\n0\r\n\n",
              b"5\r\nhello\r\n0\n\r\n", b"g\r\nhello\r\n0\r\n\r\n", b"5_\r\nhello\r\n0\r\n\r\n", b"5,\r\nhello\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n",
              b"a\r\n0123456789\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"6\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n",
              b"5\t\r\nhello\r\n0\r\n\r\n", b"5;a=\"x;y\"\r\nhello\r\n0\r\n\r\n", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", b"5\x0b\r\nhello\r\n0\r\n\r\n",
              b"0;a\r\n\r\n", b"000000000000000000000000000005\r\nhello\r\n0\r\n\r\n", b"0\r\nGET: /smuggled HTTP/1.1\r\n\r\n", b"1\r\nZ\r\nQ\r\n\r\n"]
    for b in bodies:
        yield "chunks %r" % b[:40], post([b"Transfer-Encoding: chunked"], b + G)
    for b in [b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5;\nhello\r\n0\r\n\r\n"]:
        yield "chunks nominated te %r" % b[:20], post([b"Transfer-Encoding: chunked", b"Connection: te", b"TE: trailers"], b + G)


def lines():
    for line in [b"GET /g HTTP/1.1", b"GET  /g HTTP/1.1", b"GET /g  HTTP/1.1", b"GET\t/g\tHTTP/1.1", b"GET /g", b"GET /g HTTP/1.2", b"GET /g HTTP/2.0",
                 b"GET /g HTTP/0.9", b"GET /g http/1.1", b"GET /g HTTP/1.10", b"GET /g HTTP/01.1", b"GET /g HTTP/1,1", b"GET /g HTTP /1.1",
                 b" GET /g HTTP/1.1", b"GET /g HTTP/1.1 ", b"get /g HTTP/1.1", b"G\x00T /g HTTP/1.1", b"GE(T /g HTTP/1.1", b"GET g HTTP/1.1",
                 b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://a/g HTTP/1.1", b"GET http://b/g HTTP/1.1", b"GET HTTP://a/g HTTP/1.1",
                 b"GET http://u@a/g HTTP/1.1", b"GET http:///g HTTP/1.1", b"GET //b/g HTTP/1.1", b"GET /g#x HTTP/1.1", b"GET /g\x00x HTTP/1.1",
                 b"GET /g\xff HTTP/1.1", b"GET /g\x7f HTTP/1.1", b"GET /g x HTTP/1.1", b"GET /%00 HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET /%2 HTTP/1.1",
                 b"GET /a/../smuggled HTTP/1.1", b"GET /a/%2e%2e/smuggled HTTP/1.1", b"GET /a/..%2fsmuggled HTTP/1.1", b"GET /a\\..\\smuggled HTTP/1.1",
                 b"GET /a/./b HTTP/1.1", b"GET /../../x HTTP/1.1", b"GET /g?a=b\x0bc HTTP/1.1", b"GET ftp://a/g HTTP/1.1", b"GET a:80 HTTP/1.1",
                 b"CONNECT a:80 HTTP/1.1", b"CONNECT /g HTTP/1.1", b"TRACE /g HTTP/1.1", b"PRI * HTTP/2.0", b"GET /g?x HTTP/1.1\rX: y", b"GET /;a=b HTTP/1.1"]:
        yield "line %r" % line, get(line=line) + G
    yield "line ends in LF", b"GET /g HTTP/1.1\nHost: a\n\n" + G
    yield "line ends in CR", b"GET /g HTTP/1.1\rHost: a\r\r" + G
    yield "empty lines before", b"\r\n\r\n" + get() + G
    yield "LF before", b"\n" + get() + G
    yield "CR before", b"\r" + get() + G
    yield "blank first line", b" \r\n" + get() + G


def hosts():
    for h in [b"Host: a", b"Host:a", b"Host : a", b"Host: a b", b"Host: a,b", b"Host: a/b", b"Host: a@b", b"Host: u:p@a", b"Host: a:80", b"Host: a:x",
              b"Host: a:99999", b"Host: ", b"Host: a\x00", b"Host: a\xff", b"Host: a#b", b"Host: a?b", b"Host: [::1]", b"Host: [::1", b"Host: a\tb",
              b"Host: a\r\nHost: b", b"Host: a\r\nHost: a", b"host: a\r\nHOST: b", b"Host: a\r\n b", b"Host: A.", b"Host: a:", b"Host: a:80:80",
              b"Host: a\\b", b"Host: <a>", b"Host: %61", b" Host: a", b"Host\t: a", b"Host\x00: a", b"H\xc3\xb6st: a"]:
        yield "host %r" % h, get(host=h) + G
    yield "no host", get(host=None) + G
    yield "no host in 1.0", get(host=None, line=b"GET /g HTTP/1.0") + G
    yield "absolute against host", get(line=b"GET http://a/g HTTP/1.1", host=b"Host: b") + G


def fields():
    for f in [b"X: y", b"X:y", b"X:", b"X : y", b"X\t: y", b": y", b"X", b"X y", b" X: y", b"X: y\r\n z", b"X: y\r\n\tz", b"X: y\x00z", b"X: y\rz", b"X: y\nz",
              b"X: \x01", b"X: \x7f", b"X: \xff", b"X(: y", b"X@: y", b"X\xff: y", b"X\"y: z", b"Connection: close", b"Connection: keep-alive, x\r\nX: y",
              b"Connection: host", b"Connection: cookie\r\nCookie: a=b", b"Connection: authorization\r\nAuthorization: x", b"Keep-Alive: timeout=1",
              b"Proxy-Connection: close", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
              b"Upgrade: websocket", b"Upgrade: websocket\r\nConnection: upgrade", b"Expect: 100-continue", b"Expect: 200-ok", b"TE: trailers", b"TE: chunked",
              b"Trailer: X", b"Max-Forwards: 0", b"X-Forwarded-For: 1.2.3.4", b"Content-Encoding: gzip", b"Range: bytes=0-1", b"Cookie: a=b; c=d",
              b"X-Long: " + b"a" * 7000, b"\r\nX: y", b"X: y\r\nX: z", b"__X: y", b"X.y: z", b"Content-Type: text/plain\x0b", b"X: \xe2\x80\xa8"]:
        yield "field %r" % f[:50], get([f]) + G


LEGAL = [
    ("plain GET", get()), ("query", get(line=b"GET /g?a=b&c=d%20e HTTP/1.1")), ("HEAD", get(line=b"HEAD /g HTTP/1.1")),
    ("POST with length", post([b"Content-Length: 5"], b"hello")), ("POST without body", post([b"Content-Length: 0"], b"")),
    ("POST in chunks", post([b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")),
    ("chunks with a trailer", post([b"Transfer-Encoding: chunked", b"Trailer: X-T"], b"5\r\nhello\r\n0\r\nX-T: v\r\n\r\n")),
    ("chunks with extensions", post([b"Transfer-Encoding: chunked"], b"5;a=b\r\nhello\r\n0\r\n\r\n")),
    ("PUT", get([b"Content-Length: 3"], b"PUT /g HTTP/1.1") + b"abc"), ("DELETE", get(line=b"DELETE /g HTTP/1.1")),
    ("PATCH", get([b"Content-Length: 3"], b"PATCH /g HTTP/1.1") + b"abc"), ("OPTIONS", get(line=b"OPTIONS /g HTTP/1.1")),
    ("unknown method", get(line=b"PURGEALL /g HTTP/1.1")), ("absolute form", get(line=b"GET http://a/g HTTP/1.1")),
    ("port in host", get(host=b"Host: a:8080")), ("no blank after colon", get([b"X:y"])), ("empty value", get([b"X:"])),
    ("tab around value", get([b"X:\ty\t"])), ("high bytes in a value", get([b"X: \xc3\xa4"])), ("many fields", get([b"X-%d: y" % i for i in range(60)])),
    ("escapes in the path", get(line=b"GET /a%20b/%C3%A4 HTTP/1.1")), ("semicolon in the path", get(line=b"GET /a;b=c HTTP/1.1")),
    ("two cookies", get([b"Cookie: a=b", b"Cookie: c=d"])), ("range", get([b"Range: bytes=0-0"])), ("quoted comma", get([b"If-None-Match: \"a,b\""])),
]


def hostile():
    for make in (transfer_encodings, content_lengths, chunks, lines, hosts, fields):
        yield from make()
