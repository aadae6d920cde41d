#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed: turns files into C at build time.

  embed.py schemas IN.json OUT.inc      one {"Name", "json"} row per schema
  embed.py assets  DIST_DIR OUT.c       the bundle of web/ as arrays (see assets.h)
"""
import gzip
import hashlib
import json
import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


def c_string(text):
    parts = [text[i:i + 400] for i in range(0, len(text), 400)]  # C17 promises 4095 per literal piece
    return "\n".join('"' + p.replace("\\", "\\\\").replace('"', '\\"') + '"' for p in parts)


def schemas(source, target):
    rows = json.loads(pathlib.Path(source).read_text())
    out = [f'{{"{name}", {c_string(json.dumps(body, separators=(",", ":")))}}},'
           for name, body in rows.items()]
    pathlib.Path(target).write_text("\n".join(out) + "\n")


def c_array(name, data):
    lines = ",\n".join(",".join(str(b) for b in data[i:i + 1000]) for i in range(0, len(data), 1000))
    return f"static const unsigned char {name}[] = {{{lines}}};\n"


def assets(dist, target):
    root = pathlib.Path(dist)
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in TYPES)
    is_fallback = (root / "FALLBACK").exists()
    arrays, rows = [], []
    for i, path in enumerate(files):
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0)
        has_gzip = len(packed) < len(data) * 9 // 10
        name = "/" + path.relative_to(root).as_posix()
        is_immutable = name.startswith("/assets/")
        name = "/" if name == "/index.html" else name
        etag = hashlib.sha256(data).hexdigest()[:16]
        arrays.append(c_array(f"bytes_{i}", data))
        if has_gzip:
            arrays.append(c_array(f"gzip_{i}", packed))
        rows.append(f'    {{"{name}", "{TYPES[path.suffix]}", "\\"{etag}\\"", bytes_{i}, '
                    f'{f"gzip_{i}" if has_gzip else "0"}, {len(data)}, '
                    f'{len(packed) if has_gzip else 0}, {str(is_immutable).lower()}}},')
    text = ('/* Made by embed.py: do not edit. */\n#include "output/assets.h"\n'
            + "".join(arrays) + "const struct asset assets[] = {\n" + "\n".join(rows)
            + "\n};\nconst uint32_t assets_count = " + str(len(rows)) + ";\n"
            + f"const bool assets_are_fallback = {str(is_fallback).lower()};\n")
    pathlib.Path(target).write_text(text)


if __name__ == "__main__":
    {"schemas": schemas, "assets": assets}[sys.argv[1]](sys.argv[2], sys.argv[3])
