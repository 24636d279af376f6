"""The criteria of rows, as methods of the class that all forms derive from."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, inspect, or_, true

from ...exceptions import InvalidArgumentError
from ._config import TemporalConfig, config_of


class TemporalBase:
    """What every class with temporal rows derives from.

    Its methods are called with the class or with an alias of it, by which SQLAlchemy adapts criteria.
    """

    @classmethod
    def __sqla_current__(cls) -> ColumnElement[bool]:
        """Return the criterion of current rows."""
        entity: Any = cls
        config = _config(entity)
        if config is None:
            return true()  # SQLAlchemy tries the criterion with this class, which is not mapped
        found: ColumnElement[bool]
        found = entity.valid_to.is_(None) if config.form == "temporal" else entity.is_current.is_(True)
        return found

    @classmethod
    def __sqla_valid_at__(cls, moment: Any) -> ColumnElement[bool]:
        """Return the criterion of rows that were current at a moment.

        Raises:
            InvalidArgumentError: The rows have no times.
        """
        entity: Any = cls
        config = _config(entity)
        if config is None:
            return true()
        require_time(config)
        return and_(entity.valid_from <= moment, or_(entity.valid_to.is_(None), entity.valid_to > moment))


def require_time(config: TemporalConfig) -> None:
    """Raise if the rows of a class do not say when they were valid.

    Raises:
        InvalidArgumentError: They do not.
    """
    if not config.has_time:
        raise InvalidArgumentError(
            f"valid_at() was given to a statement that reads {config.name}, whose rows do not say when they were "
            "valid; give the class __temporal__ = TemporalOptions(period=True), or make it a TemporalRow"
        )


def _config(entity: Any) -> TemporalConfig | None:
    insp: Any = inspect(entity, raiseerr=False)
    return None if insp is None else config_of(insp.mapper.class_)
