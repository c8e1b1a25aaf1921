"""What medgraft raises when the user, not the code, has to act.

    MedgraftError            the cause and the way out, in one line
    └── InputError           ... in a file, at a line
    MedgraftWarning          what goes on, but will surprise, in one line

The command line prints the message and for errors exits with 1; everything else is a bug and shows its traceback.
"""

from pathlib import Path


class MedgraftError(Exception):
    """Something the user can mend: the message names the cause and the way out."""


class MedgraftWarning(UserWarning):
    """What was asked for is done, but will hardly be what was meant; the message names the way out."""


class InputError(MedgraftError):
    """A file cannot be read as what it should be; `line` counts from 1 and is None where the whole file is at fault."""

    def __init__(self, path: str | Path, line: int | None, message: str) -> None:
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {message}")
        self.path = Path(str(path))  # what lies in a zip archive is no `Path`
        self.line = line
