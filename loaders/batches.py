"""Many documents through one function: in order, in several processes, in bounded memory, resumable after any end.

What is finished lies in `.NAME.unfinished` beside the output, one JSON line a document behind a line that says of what.
A run that was killed goes on behind the last whole line; the output is then written in its format, and appears whole.
"""

import hashlib
import json
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

from loaders.documents import input_files, open_writer, read_documents, write_format
from loaders.errors import MedgraftError
from loaders.folders import only_writer
from loaders.jsonl import document_from_json, document_to_json
from loaders.lines import text_lines
from loaders.records import Document

BATCH = 16  # documents that a process takes at a time

Work = Callable[[list[Document]], Iterable[Document]]
_work: Work | None = None  # of a worker process


def process_documents(
    make: Callable[..., Work],
    arguments: Sequence[Any],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    key: str,
    format: str | None = None,
    read_as: str | None = None,
    jobs: int = 1,
    advance: Callable[[int], None] | None = None,
) -> int:
    """Read documents, work on each and write them, in their order; how many there are.

    Args:
        make: Called with `arguments` once in each process; gives the function that works on a batch of documents. What
            it makes of a document must not depend on the rest of the batch. Any importable function.
        arguments: Of `make`; strings, numbers and the like.
        inputs: Files and folders, see `read_documents`.
        out: File or folder, see `open_writer`. An output that is already there is replaced at the end.
        key: Says what the work is (model, settings); an unfinished run with another one is begun anew.
        format: Of the output; by default told by its ending.
        read_as: Format of the input; by default told by its content.
        jobs: Processes.
        advance: Called with the number of documents that were finished since the call before, for progress.

    Raises:
        MedgraftError: bad input, a place that cannot be written, another process at work there, a worker that died.
    """
    out = Path(out)
    write_format(out, format)
    header = json.dumps({"unfinished": _fingerprint(key, inputs, read_as)})
    unfinished = out.parent / f".{out.name}.unfinished"
    with only_writer(out):
        done = _resume(unfinished, header)
        if advance and done:
            advance(done)
        documents = islice(read_documents(inputs, read_as), done, None)
        with unfinished.open("ab") as file:
            for batch in _worked(make, arguments, documents, jobs):
                lines = "".join(document_to_json(document) + "\n" for document in batch)
                file.write(lines.encode("utf-8"))
                file.flush()
                done += len(batch)
                if advance:
                    advance(len(batch))
        with open_writer(out, format) as write:
            for number, line in islice(text_lines(unfinished), 1, None):
                write(document_from_json(line, unfinished, number))
        unfinished.unlink()
    return done


def _fingerprint(key: str, inputs: Sequence[str | Path], read_as: str | None) -> str:
    """Changes with the work and with the files: their names, sizes and times."""
    digest = hashlib.sha256(f"{key}\n{read_as}\n".encode())
    for path, name in input_files(inputs):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _resume(unfinished: Path, header: str) -> int:
    """How many documents an earlier run has finished; what it left behind them is cut off."""
    done, size = -1, 0
    if unfinished.is_file():
        with unfinished.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or (done < 0 and line != header.encode() + b"\n"):
                    break
                done, size = done + 1, size + len(line)
    if done < 0:
        unfinished.write_text(header + "\n", encoding="utf-8")
        return 0
    os.truncate(unfinished, size)
    return done


def _worked(
    make: Callable[..., Work], arguments: Sequence[Any], documents: Iterator[Document], jobs: int
) -> Iterator[list[Document]]:
    batches = iter(lambda: list(islice(documents, BATCH)), [])
    first = next(batches, None)
    if first is None:
        return
    if jobs < 2:
        work = make(*arguments)
        yield list(work(first))
        for batch in batches:
            yield list(work(batch))
        return
    waiting: deque[Future[list[Document]]] = deque()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start, (make, *arguments)) as pool:
        try:
            waiting.append(pool.submit(_run, first))
            for batch in batches:
                waiting.append(pool.submit(_run, batch))
                if len(waiting) >= 3 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            message = "a worker process died, for want of memory perhaps; run again to go on, with fewer --jobs"
            raise MedgraftError(message) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start(make: Callable[..., Work], *arguments: Any) -> None:
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = make(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(batch: list[Document]) -> list[Document]:
    assert _work is not None
    return list(_work(batch))
