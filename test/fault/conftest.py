# SPDX-License-Identifier: Apache-2.0
"""One origin, and one foldback before it."""
import pytest
from fb import Foldback, Origin, config


@pytest.fixture
def origin():
    o = Origin()
    yield o
    o.stop()


@pytest.fixture
def fold(tmp_path, origin):
    f = Foldback(tmp_path, config(origin)).start()
    yield f
    f.stop()
