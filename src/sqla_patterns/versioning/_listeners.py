"""What the room listens to, registered when the first class is mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ._association_sync import sync_associations
from ._bulk import on_execute
from ._flush import before_delete, before_insert, before_update, continue_versions
from ._past import refuse_past_objects
from ._session import after_flush_postexec, after_soft_rollback, before_flush, known_versions

__all__ = ("MAPPER_LISTENERS", "SESSION_LISTENERS")


def _after_flush(session: Session, context: object) -> None:
    versions = known_versions(session)
    if versions is not None and versions.named:
        continue_versions(session, versions)
    sync_associations(session, context)


MAPPER_LISTENERS: dict[str, Callable[..., Any]] = {
    "before_insert": before_insert,
    "before_update": before_update,
    "before_delete": before_delete,
}
SESSION_LISTENERS: dict[str, Callable[..., Any]] = {
    "before_flush": before_flush,
    "after_flush": _after_flush,
    "after_flush_postexec": after_flush_postexec,
    "after_soft_rollback": after_soft_rollback,
    "do_orm_execute": on_execute,
    "before_attach": refuse_past_objects,
}
