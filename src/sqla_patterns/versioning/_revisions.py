"""Load the revisions that versions refer to."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session, class_mapper

from .._sql import chunks, is_column, key_in
from ._config import VersionConfig
from ._past_objects import PastObjects
from ._revision_log import RevisionLog


def load_revisions(session: Session, root: VersionConfig, keys: Iterable[object]) -> dict[object, RevisionLog]:
    """Return detached revisions by primary key, with one SELECT for a thousand of them.

    Args:
        session: The session.
        root: The root of a hierarchy, whose options name the class of revisions.
        keys: The primary keys; None is left out.
    """
    cls = root.options.revision
    wanted: list[tuple[object, ...]] = [(key,) for key in keys if key is not None]
    if cls is None or not wanted:
        return {}
    mapper = class_mapper(cls, configure=False)
    attrs = [attr for attr in mapper.column_attrs if is_column(attr.columns[0])]
    connection = session.connection(bind_arguments={"mapper": mapper})
    statement = select(*(attr.columns[0] for attr in attrs))
    past = PastObjects(mapper, [attr.key for attr in attrs])
    found: dict[object, RevisionLog] = {}
    for chunk in chunks(wanted):
        for row in connection.execute(statement.where(key_in(list(mapper.primary_key), chunk))):
            revision = past.make(row)
            (key,) = mapper.primary_key_from_instance(revision)
            found[key] = revision
    return found
