"""The rules of the house, as tests: who may import whom, who is the door to what, and that the README is true."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("loaders", "kg", "lm", "fusion")
MAY_IMPORT = {"loaders": (), "kg": ("loaders",), "lm": ("loaders",), "fusion": ("loaders", "kg", "lm")}
DOORS = {
    "accelerate": "lm/training.py",
    "faiss": "kg/nearest.py",
    "ladybug": "kg/store_embedded.py",
    "neo4j": "kg/neo4j_server.py",
    "networkx": "kg/networks.py",
    "numba": "kg/alias_search.py",
    "onnx": "lm/exporting.py",
    "onnxruntime": "lm/exporting.py",
    "optuna": "fusion/searching.py",
    "peft": "lm/adapters.py",
    "pykeen": "kg/training_loop.py",
    "scispacy": "kg/linking_pipe.py",
    "spacy": "kg/linking_pipe.py",
    "tokenizers": "lm/encoder.py",
    "transformers": "lm/encoder.py",
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere, in functions too."""
    found = set()
    for part in ast.walk(ast.parse(path.read_text())):
        if isinstance(part, ast.Import):
            found |= {alias.name.split(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0, f"{path}: relative import; write the package's name"
            found.add((part.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_form_a_diamond_with_one_door_a_library(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    package = name.split("/")[0]
    for imported in imports(path):
        if imported in PACKAGES and imported != package:
            assert imported in MAY_IMPORT[package], f"{name} imports {imported}; {package} may not"
        if imported in DOORS:
            assert name == DOORS[imported], f"{name} imports {imported}; its only door is {DOORS[imported]}"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_sorted_and_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert getattr(module, name).__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    heavy = "torch transformers accelerate pykeen spacy scispacy sklearn ladybug neo4j networkx numba faiss "
    heavy += "pandas scipy"
    code = f"import sys, {package}; print([n for n in {heavy.split()!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def readme() -> str:
    return (ROOT / "README.md").read_text()


def test_the_readme_tree_lists_exactly_the_modules_that_exist() -> None:
    tree = re.search(r"<!-- tree -->\n```text\n(.*?)```\n<!-- /tree -->", readme(), re.S)
    assert tree, "README.md has no tree between <!-- tree --> and <!-- /tree -->"
    listed, folder = set(), ""
    for line in tree[1].splitlines():
        name = line.strip().split()[0] if line.strip() else ""
        if name.endswith("/"):
            folder = name
        elif name.endswith((".py", ".ipynb")):
            listed.add(folder + name)
    there = {str(p.relative_to(ROOT)) for p in MODULES if p.name != "__init__.py"}
    there |= {str(p.relative_to(ROOT)) for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == there


def test_every_command_is_in_the_readme_and_has_an_example() -> None:
    import typer

    from fusion.cli import app

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert f"medgraft {name}" in readme(), f"README.md does not mention 'medgraft {name}'"
        for leaf in getattr(command, "commands", {"": command}).values():
            assert "medgraft" in (leaf.help or ""), f"the help of '{name} {leaf.name}' shows no example"


def test_every_dependency_earns_its_place_in_contributing() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = [*project["dependencies"], *(d for group in project["optional-dependencies"].values() for d in group)]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for requirement in everything:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]  # type: ignore[index]
        assert f"`{name}`" in text, f"CONTRIBUTING.md does not say why we depend on {name}"


def test_help_answers_at_once() -> None:
    """The command line must not load torch and the like to print its help; the best of three runs counts."""
    import time

    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fusion", "--help"], capture_output=True, check=True, cwd=ROOT)
        times.append(time.perf_counter() - start)
    assert min(times) < 2, "a loaded machine may take a second or two, never more"
    code = "import sys, fusion.cli; print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False False"


def test_no_machine_paths_and_no_pickles() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    paths = re.compile(r"(^|[^\w./-])/(work|root|tmp/dev)/\w")
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".ipynb", ".toml", ".lock", ".yaml", ".xml"} and path.exists():
            text = path.read_text()
            assert not paths.search(text), f"{name} holds a path of somebody's machine"
            if name.startswith(PACKAGES) and path.suffix == ".py":
                assert not re.search(r"\bpickle\b|joblib|torch\.load\(|(?<![.\w])eval\(", text), name
