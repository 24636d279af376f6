"""Private rows that no statement sees, unless it asks for them: SQLAlchemy's extending_query/filter_public."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from sqla_patterns.criteria import GlobalCriteria, HasPrivate
from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


class User(HasPrivate, Base):
    __tablename__ = "demo_public_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    addresses: Mapped[list[Address]] = relationship(back_populates="user", order_by="Address.id")


class Address(HasPrivate, Base):
    __tablename__ = "demo_public_address"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(50))
    user_id: Mapped[int] = mapped_column(ForeignKey("demo_public_user.id"))
    user: Mapped[User] = relationship(back_populates="addresses")


PUBLIC = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        Session = sessionmaker(engine)
        PUBLIC.attach(Session)
        with Session() as session:
            session.add_all(
                [
                    User(
                        id=number,
                        name=f"u{number}",
                        addresses=[
                            Address(email=f"u{number}a1@x.org"),
                            Address(email=f"u{number}a2@x.org", public=False),
                        ],
                    )
                    for number in (1, 2)
                ]
                + [
                    User(id=number, name=f"u{number}", public=False, addresses=[Address(email=f"u{number}a1@x.org")])
                    for number in (3, 4, 5)
                ]
            )
            session.commit()

            names = session.scalars(select(User.name).order_by(User.id)).all()
            options.say(f"public users: {names}")
            assert names == ["u1", "u2"]
            everybody = select(User.name).order_by(User.id).execution_options(include_private=True)
            assert session.scalars(everybody).all() == ["u1", "u2", "u3", "u4", "u5"]

            # Columns, joins, counts and relationships are filtered alike.
            joined = select(User.name, Address.email).join(User.addresses).order_by(Address.id)
            assert [tuple(row) for row in session.execute(joined)] == [("u1", "u1a1@x.org"), ("u2", "u2a1@x.org")]
            assert session.scalar(select(func.count(Address.id))) == 5
            first = session.get_one(User, 1)
            assert [address.email for address in first.addresses] == ["u1a1@x.org"]
            hidden = select(Address).where(Address.email == "u1a2@x.org").execution_options(include_private=True)
            options.say(f"a private address, by the option: {session.scalars(hidden).one().email}")

        # Where upstream ends, it asserts that a private user who is in the session is returned. Here it is not.
        with Session() as session:
            private = session.scalars(
                select(User).where(User.name == "u3").execution_options(include_private=True)
            ).one()
            address = session.scalars(select(Address).where(Address.email == "u3a1@x.org")).one()
            owner: User | None = address.user
            assert owner is None
            assert session.get(User, private.id) is None
            options.say(f"{private.name} is held by the session, and neither get() nor address.user returns it")
    return 0
