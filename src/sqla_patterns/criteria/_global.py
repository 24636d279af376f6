"""`GlobalCriteria`: a criterion for all classes below a mixin, attached to sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, TextClause
from sqlalchemy.orm import ORMExecuteState, Session

from .._attach import Attachment, Listener, SessionTarget, attach
from .._sqlalchemy import invoke
from .._typing import AnyResult
from ..exceptions import InvalidArgumentError
from ._apply import apply_rule, as_select
from ._errors import UnfilteredStatementError
from ._flushed_values import check_flushed_values
from ._held import guard_held, held_verdict
from ._private import dml_strategy
from ._rules import FixedRule
from ._skipping import bypassed, only_inserts_values

T = TypeVar("T")

#: Py_TPFLAGS_HEAPTYPE of CPython: `int`, `object` and the like, below which no class is mapped, have not got it.
_BY_CLASS_STATEMENT: Final = 1 << 9


class GlobalCriteria(Generic[T]):
    """A criterion for the rows of every class below a mixin, in the sessions that it is attached to.

    >>> from sqlalchemy import Integer, create_engine, select
    >>> from sqlalchemy.orm import DeclarativeBase, mapped_column, sessionmaker
    >>> from sqla_patterns.criteria import GlobalCriteria, HasPrivate
    >>> class Base(DeclarativeBase): ...
    >>> class Post(HasPrivate, Base):
    ...     __tablename__ = "post"
    ...     id = mapped_column(Integer, primary_key=True)
    >>> Session = sessionmaker(create_engine("sqlite://"))
    >>> PUBLIC = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    >>> with PUBLIC.attach(Session), Session() as session:
    ...     Base.metadata.create_all(session.get_bind())
    ...     session.add_all([Post(public=True), Post(public=False)])
    ...     session.commit()
    ...     print(len(session.scalars(select(Post)).all()))
    ...     print(len(session.scalars(select(Post).execution_options(include_private=True)).all()))
    1
    2

    Args:
        mixin: The class whose mapped subclasses obey, also those that are mapped later.
        criterion: Makes the criterion for one of them or an alias of it. It is called when a form of statement is
            compiled for the first time, so that it must not depend on anything that changes.
        option: The execution option that switches the criterion off for one statement, and for what the objects that it
            loads load lazily.
    """

    def __init__(self, mixin: type[T], criterion: Callable[[type[T]], ColumnElement[bool]], *, option: str) -> None:
        if not isinstance(cast("object", mixin), type) or not mixin.__flags__ & _BY_CLASS_STATEMENT:
            raise InvalidArgumentError(f"GlobalCriteria needs a class and was given {mixin!r}; pass a mixin or a base")
        if not callable(criterion):
            raise InvalidArgumentError(
                f"GlobalCriteria for {mixin.__name__} needs a function that makes the criterion and was given "
                f"{criterion!r}; pass one, such as lambda cls: cls.public.is_(True)"
            )
        if not option or not option.isidentifier():
            raise InvalidArgumentError(
                f"GlobalCriteria for {mixin.__name__} was given option={option!r}; pass the name of an execution option"
            )
        self.mixin: Final = mixin
        self.option: Final = option
        self._rule: Final = FixedRule(mixin, lambda cls, _: criterion(cls), option)

    def attach(self, target: SessionTarget) -> Attachment:
        """Attach the criterion to whatever makes sessions, and return the handle that detaches it.

        Before the listeners that are there already, so that a cache that is attached to the same sessions, earlier or
        later, is asked for what the criterion leaves.

        Raises:
            InvalidArgumentError: `target` makes no sessions.
        """
        listeners: dict[str, Listener] = {
            "do_orm_execute": self._on_execute,
            "before_flush": self._on_flush,
            "after_attach": self._on_attach,
        }
        return attach(target, listeners, component=self, first=True)

    def hides(self, obj: object) -> bool | None:
        """Return whether an object is hidden by what is loaded of it, None if that cannot be told without the
        database.
        """
        if not isinstance(obj, self.mixin):
            return False
        shown = held_verdict(self._rule, obj)
        return None if shown is None else not shown

    def _on_execute(self, state: ORMExecuteState) -> AnyResult | None:
        guard_held(state.session, self, self._on_execute)
        executes = as_select(state)
        if isinstance(state.statement, TextClause) or bypassed(state, self._rule):
            pass
        elif only_inserts_values(state) or (state.is_update and dml_strategy(state) == "bulk"):
            pass  # by values, or by primary keys, which name the rows
        else:
            apply_rule(state, self._rule)
        return invoke(state) if executes else None

    def _on_flush(self, session: Session, context: object, instances: object) -> None:
        check_flushed_values(session, self._rule, UnfilteredStatementError)

    def _on_attach(self, session: Session, instance: object) -> None:
        guard_held(session, self, self._on_execute)

    def __repr__(self) -> str:
        return f"GlobalCriteria({self.mixin.__name__}, option={self.option!r})"
