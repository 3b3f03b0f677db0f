"""Nothing in the product runs code that came as data, read off the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import PACKAGES, ROOT, sources

MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "imp",
    "code",
    "codeop",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    ("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("asyncio", "create_subprocess_shell"), ("torch", "load"), ("runpy", "run_path"), ("runpy", "run_module"),
    ("yaml", "load"), ("yaml", "load_all"), ("yaml", "full_load"), ("yaml", "unsafe_load"), ("yaml", "unsafe_load_all"),
}  # fmt: skip
FLAGS = {"trust_remote_code", "shell", "allow_pickle"}


def offences(tree: ast.AST) -> Iterator[str]:
    """What in a file runs code, or reads a format that can hold some."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] in MODULES:
                    yield module
                yield from (f"{module}.{name.name}" for name in names if (module, name.name) in METHODS)
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"{name}()"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="importlib"), attr="import_module"), args=[module, *_]):
                if not isinstance(module, ast.Constant):
                    yield "importlib.import_module of a variable"
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in METHODS:
                yield f"{owner}.{name}"
            case ast.keyword(arg=str(flag), value=value) if flag in FLAGS:
                if not (isinstance(value, ast.Constant) and value.value in (False, None)):
                    yield f"{flag}="
            case _:
                pass


def test_no_file_of_the_product_does() -> None:
    found = {
        str(path.relative_to(ROOT)): what
        for package in PACKAGES
        for path in sources(package)
        if (what := [*offences(ast.parse(path.read_text()))])
    }
    # Names of modules of our own, from a table in that file.
    assert found == {"rootstream/__init__.py": ["importlib.import_module of a variable"]}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "import marshal as m", "from pickle import loads", "eval('1')", "exec(x)", "torch.load(f)",
        "from torch import load", "os.system('x')", "yaml.load(f)", "f(trust_remote_code=True)", "run(x, shell=True)",
        "np.load(f, allow_pickle=flag)", "__import__('x')",
        "importlib.import_module(name)",
    ],
)  # fmt: skip
def test_the_test_would_notice(source: str) -> None:
    assert [*offences(ast.parse(source))]


@pytest.mark.parametrize(
    "source",
    ["re.compile('x')", "json.load(f)", "yaml.safe_load(f)", "run(x, shell=False)", "np.load(f, allow_pickle=False)"],
)
def test_and_nothing_else(source: str) -> None:
    assert not [*offences(ast.parse(source))]


def test_weights_come_from_formats_without_code() -> None:
    """Files of weights are named in two places only; both take safetensors and GGUF."""
    readers = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id in {"safe_open", "memmap"}
    }
    assert all(Path(reader).parent == Path("gpu_worker") for reader in readers), readers
