"""A user's callable is identified by its source and by everything of the user's own it reads."""

from __future__ import annotations

import hashlib
import importlib
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.configuration.trial import source_digest
from harness.errors import RequestError
from harness.networks.activations import build_activation

Digest = Callable[..., str | None]


@pytest.fixture
def digest(tmp_path, monkeypatch) -> Digest:
    """The digest of `f` in a module `read_shapes` of these lines, beside other modules."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def of(source: str, **other_modules: str) -> str | None:
        texts = {"read_shapes": source, **other_modules}
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return source_digest("read_shapes:f")

    return of


# Sources whose `VALUE` stands for a number that the function reads in one of many ways.
READ = {
    "module constant": """
        A = VALUE
        def f(x): return A * x.tanh()
        """,
    "helper": """
        def scale(x): return VALUE * x
        def f(x): return scale(x.tanh())
        """,
    "helper's constant": """
        A = VALUE
        def scale(x): return A * x
        def f(x): return scale(x.tanh())
        """,
    "partial": """
        from functools import partial
        def g(x, a): return a * x.tanh()
        f = partial(g, a=VALUE)
        """,
    "partial of a library's function": """
        from functools import partial
        from torch.nn.functional import elu
        f = partial(elu, alpha=VALUE)
        """,
    "closure": """
        def make(a):
            def f(x): return a * x.tanh()
            return f
        f = make(VALUE)
        """,
    "closure of a lambda": """
        def make(a): return lambda x: a * x.tanh()
        f = make(VALUE)
        """,
    "default": """
        A = VALUE
        def f(x, a=A): return a * x.tanh()
        """,
    "keyword default": """
        A = VALUE
        def f(x, *, a=A): return a * x.tanh()
        """,
    "wrapping decorator": """
        from functools import wraps
        def scaled(a):
            def decorate(g):
                @wraps(g)
                def h(x): return a * g(x)
                return h
            return decorate
        @scaled(VALUE)
        def f(x): return x.tanh()
        """,
    "library's decorator": """
        import torch
        A = VALUE
        @torch.no_grad()
        def f(x): return A * x.tanh()
        """,
    "cached function": """
        from functools import lru_cache
        @lru_cache
        def scale(): return VALUE
        def f(x): return scale() * x.tanh()
        """,
    "function within": """
        A = VALUE
        def f(x):
            def scale(y): return A * y
            return scale(x.tanh())
        """,
    "comprehension": """
        A = VALUE
        def f(x): return sum([A * y for y in (x, x)])
        """,
    "list": """
        A = [1.0, (2.0, {"a": VALUE})]
        def f(x): return A[1][1]["a"] * x.tanh()
        """,
    "set": """
        A = {1.0, VALUE}
        def f(x): return sum(A) * x.tanh()
        """,
    "array": """
        import numpy as np
        A = np.full(3, VALUE)
        def f(x): return float(A[0]) * x.tanh()
        """,
    "tensor": """
        import torch
        A = torch.full((3,), VALUE)
        def f(x): return A[0] * x.tanh()
        """,
    "dataclass": """
        from dataclasses import dataclass
        @dataclass
        class Settings:
            a: float = 1.0
        SETTINGS = Settings(VALUE)
        def f(x): return SETTINGS.a * x.tanh()
        """,
    "instance": """
        class Scaled:
            def __init__(self, a): self.a = a
            def __call__(self, x): return self.a * x.tanh()
        f = Scaled(VALUE)
        """,
    "bound method": """
        class Scaled:
            def __init__(self, a): self.a = a
            def value(self, x): return self.a * x.tanh()
        f = Scaled(VALUE).value
        """,
    "class attribute": """
        A = VALUE
        class f:
            a = A
            def __new__(cls, x): return cls.a * x.tanh()
        """,
    "module class": """
        from torch import nn
        A = VALUE
        class f(nn.Module):
            def forward(self, x): return A * x.tanh()
        """,
    "parent class": """
        from torch import nn
        class Base(nn.Module):
            def forward(self, x): return VALUE * x.tanh()
        class f(Base):
            pass
        """,
    "module instance": """
        from torch import nn
        f = nn.Sequential(nn.Tanh(), nn.ELU(VALUE))
        """,
    "autograd function": """
        import torch
        A = VALUE
        class Scaled(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return A * x
            @staticmethod
            def backward(ctx, g): return A * g
        def f(x): return Scaled.apply(x)
        """,
    "property": """
        A = VALUE
        class Settings:
            @property
            def a(self): return A
        SETTINGS = Settings()
        def f(x): return SETTINGS.a * x.tanh()
        """,
    "recursion": """
        A = VALUE
        def f(x, again=True): return f(A * x, False) if again else x.tanh()
        """,
    "no source": """
        text = "A = VALUE\\ndef f(x): return A * x.tanh()"
        exec(text)
        """,
    "constant of a function without source": """
        exec("def f(x): return VALUE * x.tanh()")
        """,
}


@pytest.mark.parametrize("way", READ)
def test_what_a_function_reads_is_part_of_its_identity(digest, way):
    one, three, again = (digest(READ[way].replace("VALUE", text)) for text in ("1.5", "3.5", "1.5"))
    assert one is not None
    assert len(one) == 16
    assert one != three
    assert one == again


@pytest.mark.parametrize(
    "source",
    [
        "from read_helper import A\ndef f(x): return A * x.tanh()",
        "import read_helper\ndef f(x): return read_helper.A * x.tanh()",
        "import read_helper as h\ndef f(x): return h.scale(x.tanh())",
        "def f(x):\n    from read_helper import scale\n    return scale(x.tanh())",
        "def f(x):\n    import read_helper\n    return read_helper.scale(x.tanh())",
    ],
    ids=["constant", "attribute", "alias", "import within", "module within"],
)
def test_what_a_function_reads_from_another_module_is_part_of_its_identity(digest, source):
    helper = "A = {}\ndef scale(x): return A * x\n"
    one = digest(source, read_helper=helper.format(1.0))
    three = digest(source, read_helper=helper.format(3.0))
    assert one != three
    # What it does not read is not.
    assert digest(source, read_helper=helper.format(1.0) + "B = 2\n") == one


def test_another_function_under_the_same_name_is_another_identity(digest):
    source = "from torch.nn.functional import {} as g\ndef f(x): return g(x)\n"
    assert digest(source.format("elu")) != digest(source.format("gelu"))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return x / (1 + x.abs())\n",
        "import torch\nimport numpy as np\ndef f(x, a=1.0):\n    return a * torch.tanh(x)\n",
    ],
    ids=["methods", "library"],
)
def test_a_function_that_reads_nothing_else_keeps_the_digest_of_its_source(digest, source):
    text = source[source.index("def f") :]
    assert digest(source) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_comments_and_constants_elsewhere_in_the_file_change_nothing(digest):
    source = "A = 1.0\ndef f(x): return A * x.tanh()\n"
    assert digest(f"# A comment.\nB = 2.0\n{source}C = 3.0\n") == digest(source)


@pytest.mark.parametrize("path", ["torch:tanh", "numpy:tanh", "math:tanh"])
def test_a_librarys_function_in_c_has_no_digest(path):
    assert source_digest(path) is None


@pytest.mark.parametrize("path", ["torch.nn.functional:elu", "torch.nn:PReLU"])
def test_a_librarys_function_has_the_digest_of_its_source_alone(path):
    import inspect

    from harness.registry import load_callable

    text = inspect.getsource(load_callable(path, "activation"))
    assert source_digest(path) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_file_edited_while_it_is_in_use_keeps_the_identity_of_what_runs(digest, tmp_path):
    before = digest("def f(x): return x.tanh()\n")
    Path(tmp_path / "read_shapes.py").write_text("def f(x): return 2 * x.tanh()\n")
    assert source_digest("read_shapes:f") == before


def test_a_constant_changed_in_memory_is_another_identity(digest):
    before = digest("A = 1.0\ndef f(x): return A * x.tanh()\n")
    sys.modules["read_shapes"].A = 3.0
    assert source_digest("read_shapes:f") != before


def test_a_value_that_cannot_be_recorded_is_refused(digest):
    with pytest.raises(RequestError, match="reads an object of type _thread.lock"):
        digest("import threading\nLOCK = threading.Lock()\ndef f(x):\n    with LOCK: return x\n")


def test_a_function_that_counts_its_calls_is_refused(digest):
    digest("calls = []\ndef f(x):\n    calls.append(1)\n    return len(calls) * x\n")
    with pytest.raises(RequestError, match="changes a value that it reads itself"):
        build_activation({"name": "read_shapes:f"})


def test_a_functions_identity_is_the_same_in_another_process(digest, tmp_path):
    import subprocess

    source = "A = {'c', 'b', 'a'}\nB = {'x': (1.0, 'y')}\ndef f(x): return len(A) * x + B['x'][0]\n"
    here = digest(source)
    line = "from harness.configuration.trial import source_digest as s; print(s('read_shapes:f'))"
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PYTHONHASHSEED": "7"}
    answer = subprocess.run(
        [sys.executable, "-c", line], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == here
