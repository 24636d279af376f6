"""The listeners of the package, by the name of the event; they are registered when a class is mapped."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from ._assignments import refuse_assigned_versions
from ._association_sync import sync_associations
from ._bulk import on_execute
from ._flush import before_delete, before_insert, before_update, continue_versions, withdraw_announced
from ._past_objects import refuse_past_objects
from ._session import after_flush_postexec, after_soft_rollback, before_flush, known_versions


def _before_flush(session: Session, context: object, instances: object) -> None:
    before_flush(session, context, instances)
    refuse_assigned_versions(session)


def _after_flush(session: Session, context: object) -> None:
    versions = known_versions(session)
    if versions is not None and versions.announced:
        withdraw_announced(session, versions)
    if versions is not None and versions.with_given_keys:
        continue_versions(session, versions)
    sync_associations(session, context)


MAPPER_LISTENERS: dict[str, Callable[..., None]] = {
    "before_insert": before_insert,
    "before_update": before_update,
    "before_delete": before_delete,
}
SESSION_LISTENERS: dict[str, Callable[..., object]] = {
    "before_flush": _before_flush,
    "after_flush": _after_flush,
    "after_flush_postexec": after_flush_postexec,
    "after_soft_rollback": after_soft_rollback,
    "do_orm_execute": on_execute,
    "before_attach": refuse_past_objects,
}
