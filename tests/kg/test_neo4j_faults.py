"""kill -9 of the server during a load; of client and server at many moments: tests/benchmarks/faults.py."""

import random

import pytest

import kg
from tests.benchmarks import faults
from tests.benchmarks.synthetic_umls import generate
from tests.conftest import Neo4jHome


@pytest.mark.neo4j
@pytest.mark.slow
def test_a_load_goes_on_after_a_kill_of_the_server(tmp_path, monkeypatch):
    folders = []
    for name, concepts in (("earlier", 100), ("new", 1_500)):
        generate(tmp_path / name, concepts, seed=1)
        folders.append(tmp_path / f"{name}-graph")
        kg.build(tmp_path / name, folders[-1])
    (tmp_path / "home").mkdir()
    home = Neo4jHome(tmp_path / "home")
    monkeypatch.setenv("NEO4J_USERNAME", "neo4j")
    monkeypatch.setenv("NEO4J_PASSWORD", home.password)
    assert faults.kill_servers(home, *folders, 1, random.Random(0))["kills"] == 1
