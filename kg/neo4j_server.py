"""A Neo4j server (5.x, Community is enough) that answers: queries, transactions, one writer at a time.

The only module that imports neo4j. Whatever the driver raises leaves here as one line that says what to do.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError

from loaders.errors import MedgraftError

logging.getLogger("neo4j").addHandler(logging.NullHandler())

Row = dict[str, Any]
T = TypeVar("T")

_CONNECT_SECONDS = 15
_WRITER_SECONDS = 5  # that a writer waits for another one to go
_PURPOSE = "medgraft writes"
_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
# The constraint makes the second MERGE wait for the transaction of the first.
_WRITER_KEY = "CREATE CONSTRAINT medgraft_graph IF NOT EXISTS FOR (n:MedgraftGraph) REQUIRE n.key IS UNIQUE"
_WRITERS = "SHOW TRANSACTIONS YIELD metaData WHERE metaData.purpose = $purpose RETURN metaData.purpose AS purpose"
_WRITER = "MERGE (w:MedgraftGraph {key: 'writer'})"


class Run(Protocol):
    """Runs a query of a transaction; gives its rows."""

    def __call__(self, query: str, **parameters: Any) -> list[Row]: ...


class Server:
    """One database of a server, by its address; credentials come from NEO4J_USERNAME and NEO4J_PASSWORD.

    Raises:
        MedgraftError: no server there, or no access; so do all methods.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._driver, self._database = _open(uri)

    def read(self, query: str, **parameters: Any) -> list[Row]:
        """The rows of a query that reads."""
        return self._execute(query, parameters, neo4j.RoutingControl.READ)

    def write(self, query: str, **parameters: Any) -> list[Row]:
        """The rows of a query that writes, in a transaction of its own."""
        return self._execute(query, parameters, neo4j.RoutingControl.WRITE)

    def stream(self, query: str) -> Iterator[Row]:
        """The rows of a query that reads, as they come."""
        with _plain_errors(), self._session(neo4j.READ_ACCESS) as session:
            for record in session.run(query):
                yield record.data()

    def alone(self, statement: str) -> None:
        """Run a statement that brings its own transactions (`CALL { } IN TRANSACTIONS`)."""
        with _plain_errors(), self._session(neo4j.WRITE_ACCESS) as session:
            session.run(statement).consume()

    def transaction(self, work: Callable[[Run], T]) -> T:
        """Several queries in one transaction. When an answer is lost, all of `work` is done once more."""

        def done(transaction: neo4j.ManagedTransaction) -> T:
            return work(lambda query, **parameters: [row.data() for row in transaction.run(query, parameters)])

        with _plain_errors(), self._session(neo4j.WRITE_ACCESS) as session:
            return session.execute_write(done)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Keep other writers of medgraft out of the database, by the lock of a transaction that is never committed.

        The server lets the lock go when the process that holds it dies.

        Raises:
            MedgraftError: another process is writing.
        """
        self.write(_WRITER_KEY)
        session = self._session(neo4j.WRITE_ACCESS)
        with _plain_errors():
            held = self._take_lock(session)
        try:
            yield
        finally:
            with suppress(DriverError, Neo4jError):  # of a server that is gone, and the lock with it
                held.close()
                session.close()

    def close(self) -> None:
        self._driver.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _execute(self, query: str, parameters: dict[str, Any], routing: neo4j.RoutingControl) -> list[Row]:
        with _plain_errors():
            records, _, _ = self._driver.execute_query(
                query, parameters_=parameters, database_=self._database, routing_=routing
            )
        return [record.data() for record in records]

    def _take_lock(self, session: neo4j.Session) -> neo4j.Transaction:
        """A transaction that has the lock; the server needs a moment to see that an earlier holder has died."""
        deadline = time.monotonic() + _WRITER_SECONDS
        while self.write(_WRITERS, purpose=_PURPOSE):
            if time.monotonic() > deadline:
                raise MedgraftError(
                    f"another process is writing to {self.uri}; wait until it is done, or choose another database"
                )
            time.sleep(0.2)
        held = session.begin_transaction(metadata={"purpose": _PURPOSE})
        held.run(_WRITER).consume()  # where two come at once, the second waits here
        return held

    def _session(self, access: str) -> neo4j.Session:
        """A session that sees what was written before."""
        return self._driver.session(
            database=self._database,
            default_access_mode=access,
            bookmark_manager=self._driver.execute_query_bookmark_manager,
        )


def _open(uri: str) -> tuple[neo4j.Driver, str | None]:
    """A driver whose server has answered, and the name of the database if the address has one."""
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        raise MedgraftError(
            f"{parts.scheme}:// is no address of a graph; use a folder or one of {'://, '.join(_SCHEMES)}://"
        )
    if parts.username or parts.password:
        raise MedgraftError("credentials do not belong into the address; set NEO4J_USERNAME and NEO4J_PASSWORD")
    database = parts.path.strip("/") or None
    password = os.environ.get("NEO4J_PASSWORD")
    auth = (os.environ.get("NEO4J_USERNAME", "neo4j"), password) if password else None
    with _plain_errors(f"{parts.scheme}://{parts.netloc}"):
        driver = neo4j.GraphDatabase.driver(
            f"{parts.scheme}://{parts.netloc}",
            auth=auth,
            connection_timeout=_CONNECT_SECONDS,
            max_transaction_retry_time=_CONNECT_SECONDS,
            notifications_min_severity="OFF",
        )
        try:
            driver.verify_connectivity()
        except BaseException:
            driver.close()
            raise
    return driver, database


@contextmanager
def _plain_errors(server: str = "the Neo4j server") -> Iterator[None]:
    """Turn what the driver raises into one line that says what to do."""
    try:
        yield
    except AuthError as error:
        raise MedgraftError(
            f"{server} refuses the credentials; set NEO4J_USERNAME and NEO4J_PASSWORD to those of the server"
        ) from error
    except ConfigurationError as error:
        raise MedgraftError(f"{server}: {_first_line(error)}") from error
    except Neo4jError as error:
        raise MedgraftError(f"the query was refused: {_first_line(error)}") from error
    except (DriverError, OSError, ValueError) as error:
        raise MedgraftError(
            f"{server} does not answer ({_first_line(error)}); check the address and that the server runs"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
