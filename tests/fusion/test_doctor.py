"""What the doctor says of the machine."""

import pytest

from fusion import doctor


@pytest.mark.parametrize(("threads", "load", "warned"), [(1, 3.0, False), (2, 0.1, False), (2, 2.3, True)])
def test_threads_are_warned_about_where_others_work(
    monkeypatch: pytest.MonkeyPatch, threads: int, load: float, warned: bool
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    said = doctor._threads(threads)
    assert said.startswith(str(threads)) and ("OMP_NUM_THREADS=1" in said) == warned
