"""What a user may ask of the readers of ontologies. Each reader says in `loaders.ontology` which of it it heeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Options:
    """How to read a dump; the defaults keep everything that is in use.

    Attributes:
        skip_bad: count malformed rows and go on, instead of stopping at the first.
        languages: keep names in these languages (ISO 639-1, `en`); all if empty.
        sources: keep names, facts and attributes of these source vocabularies (`MSH`, `SNOMEDCT_US`); all if empty.
        types: keep concepts of these semantic types (name, `T047`, or group, `DISO`); all if empty.
        suppressed: whether to keep names that the source suppresses or no longer uses, marked as such.
        max_restriction: leave out sources with a higher restriction level (UMLS: MRSAB.SRL, 0 to 9).
        attributes: names of the attributes to keep (UMLS: MRSAT.ATN); `*` keeps all.
        hierarchy: whether to keep each place of a concept in the trees of the sources (UMLS: MRHIER).
        release_type: which part of a release to read (SNOMED CT: `snapshot`, `full` or `delta`); found if empty.
        stated: read the relationships that authors stated instead of the inferred ones (SNOMED CT).
        columns: for tables of any kind, our column -> its name in the file (`{"head": "x_id"}`).
    """

    skip_bad: bool = False
    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    suppressed: bool = True
    max_restriction: int | None = None
    attributes: tuple[str, ...] = ()
    hierarchy: bool = False
    release_type: str = ""
    stated: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, without `skip_bad`, which every reader heeds."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: value for name, value in values.items() if value != getattr(DEFAULTS, name) and name != "skip_bad"
        }


DEFAULTS = Options()


def make_options(**values: Any) -> Options:
    """Options from keyword arguments; lists are taken where tuples are kept.

    Raises:
        MedgraftError: no such option.
    """
    known = [entry.name for entry in fields(Options)]
    for name in values:
        if name not in known:
            raise MedgraftError(f"no option {name!r}; there are {', '.join(known)}")
    several = ("languages", "sources", "types", "attributes")
    given: dict[str, Any] = {
        name: ((value,) if isinstance(value, str) else tuple(value)) if name in several else value
        for name, value in values.items()
    }
    return Options(**given)
