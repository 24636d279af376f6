"""A day in an application on Flask-SQLAlchemy: create, migrate, move, edit, look back, cache, delete."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region
from flask import Flask, g, request
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.exceptions import PatternError
from sqla_patterns.trees import (
    InvalidMoveError,
    NestedSets,
    TreeNode,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    render_tree,
)
from sqla_patterns.versioning import Versioned, as_of, restore, revert, revision, versioning_disabled, versions
from tests._support import Database

from ._migrations import Migrations
from ._shop import IMPORTS, Shop, map_shop


class Application:
    """The Flask application with its database object, models and cache."""

    def __init__(self, url: str) -> None:
        """Make the application, as a factory of a user's does."""
        self.flask = Flask(__name__)
        self.flask.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True)
        self.db = SQLAlchemy(model_class=_new_base())
        self.db.init_app(self.flask)
        self.shop: Shop = map_shop(self.db.Model)
        self.cache = ORMCache({"default": make_region().configure("dogpile.cache.memory", expiration_time=60)})
        self.cache.listen_on_session(self.db.session)
        _routes(self)


def _new_base() -> type[DeclarativeBase]:
    class Base(DeclarativeBase):
        pass

    return Base


def _routes(application: Application) -> None:
    flask, db, shop, cache = application.flask, application.db, application.shop, application.cache

    @flask.before_request
    def who() -> None:
        g.scope = revision(db.session, actor=request.headers.get("X-User"))
        g.scope.__enter__()

    @flask.teardown_request
    def done(error: BaseException | None) -> None:
        g.scope.__exit__(None, None, None)

    @flask.errorhandler(PatternError)
    def refused(error: PatternError) -> tuple[str, int]:
        db.session.rollback()
        return str(error), 409 if isinstance(error, InvalidMoveError) else 400

    @flask.post("/categories")
    def create() -> dict[str, Any]:
        roots = insert_tree(db.session, shop.Category, request.get_json())
        db.session.commit()
        return {"id": [root.id for root in roots]}

    @flask.get("/categories")
    def show() -> str:
        return "\n".join(
            render_tree(root, label=lambda node: node.name) for root in load_tree(db.session, shop.Category)
        )

    @flask.get("/categories.json")
    def dump() -> Any:
        return dump_tree(db.session, shop.Category)

    @flask.post("/categories/<int:pk>/move/<int:to>")
    def move(pk: int, to: int) -> str:
        db.get_or_404(shop.Category, pk).move_to(db.get_or_404(shop.Category, to), "first_child")
        db.session.commit()
        return ""

    @flask.post("/categories/<int:pk>")
    def edit(pk: int) -> str:
        # A form sets every field, those that stay included.
        category = db.get_or_404(shop.Category, pk)
        for name, value in request.get_json().items():
            setattr(category, name, value)
        db.session.commit()
        return ""

    @flask.get("/categories/<int:pk>/history")
    def history(pk: int) -> list[list[Any]]:
        found = versions(db.session, shop.Category, pk)
        return [[each.number, each.object.name, each.revision.actor if each.revision else None] for each in found]

    @flask.post("/categories/<int:pk>/revert/<int:to>")
    def go_back(pk: int, to: int) -> str:
        revert(db.session, db.get_or_404(shop.Category, pk), to=to)
        db.session.commit()
        return ""

    @flask.get("/menu")
    def menu() -> list[str]:
        statement = select(shop.Category.name).order_by(shop.Category.name).options(FromCache("default"))
        return list(db.session.scalars(statement))

    @flask.get("/categories/<int:pk>/cached")
    def cached(pk: int) -> str:
        return str(cache.get(db.session, shop.Category, pk).name)

    @flask.post("/categories/<int:pk>/comments")
    def comment(pk: int) -> str:
        db.get_or_404(shop.Category, pk).comments.append(shop.Comment(text=request.get_json()))
        db.session.commit()
        return ""

    @flask.delete("/categories/<int:pk>")
    def delete(pk: int) -> dict[str, int]:
        gone = delete_subtree(db.session, db.get_or_404(shop.Category, pk))
        db.session.commit()
        return {"deleted": gone}

    @flask.post("/categories/<int:pk>/restore")
    def undelete(pk: int) -> str:
        restore(db.session, shop.Category, pk)
        db.session.commit()
        return ""


@pytest.fixture
def application(database: Database) -> Generator[Application, None, None]:
    application = Application(database.url_string)
    yield application
    with application.flask.app_context():
        application.db.session.remove()
        for engine in application.db.engines.values():
            engine.dispose()
    application.db.Model.registry.dispose()


@pytest.fixture
def client(application: Application, tmp_path: Path) -> FlaskClient:
    with application.flask.app_context():
        migrations = Migrations(tmp_path, application.db.metadata, application.db.engine, IMPORTS)
        migrations.revision("shop")
        migrations.upgrade()
        migrations.check()
    return application.flask.test_client()


BOOKS = {"name": "shop", "children": [{"name": "books", "children": [{"name": "crime"}]}, {"name": "music"}]}
ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


def _pk(application: Application, name: str) -> int:
    with application.flask.app_context():
        return int(application.db.session.scalars(select(application.shop.Category.id).filter_by(name=name)).one())


def test_a_day_in_the_shop(application: Application, client: FlaskClient) -> None:
    """One user creates, another moves and edits; the menu is cached, never stale; the past is read and restored."""
    assert client.post("/categories", json=BOOKS, headers=ANN).status_code == 200
    crime, music, books = (_pk(application, name) for name in ("crime", "music", "books"))
    assert client.get("/categories").text.splitlines() == ["shop", "├── books", "│   └── crime", "└── music"]
    assert client.get("/menu").json == ["books", "crime", "music", "shop"]

    assert client.post(f"/categories/{crime}/move/{music}", headers=BOB).status_code == 200
    assert client.get("/categories").text.splitlines() == ["shop", "├── books", "└── music", "    └── crime"]

    form = {"name": "thrillers", "parent_id": music}
    assert client.post(f"/categories/{crime}", json=form, headers=BOB).status_code == 200
    assert client.get("/menu").json == ["books", "music", "shop", "thrillers"]
    assert client.get(f"/categories/{crime}/cached").text == "thrillers"
    assert client.get(f"/categories/{crime}/history").json == [
        [1, "crime", "ann"],
        [2, "crime", "bob"],
        [3, "thrillers", "bob"],
    ]

    assert client.post(f"/categories/{crime}/revert/1", headers=ANN).status_code == 200
    assert client.get("/menu").json == ["books", "crime", "music", "shop"]
    assert client.get("/categories").text.splitlines() == ["shop", "├── books", "│   └── crime", "└── music"]

    client.post(f"/categories/{crime}/comments", json="gripping")
    assert client.delete(f"/categories/{books}", headers=BOB).json == {"deleted": 2}
    assert client.get("/menu").json == ["music", "shop"]
    assert client.get(f"/categories/{books}/history").json == [[1, "books", "ann"]]
    assert client.post(f"/categories/{books}/restore").status_code == 200
    assert client.get("/menu").json == ["books", "music", "shop"]


def test_a_form_that_sets_what_is_there_changes_nothing(application: Application, client: FlaskClient) -> None:
    client.post("/categories", json=BOOKS, headers=ANN)
    books, shop = _pk(application, "books"), _pk(application, "shop")
    client.post(f"/categories/{books}", json={"name": "books", "parent_id": shop, "version": 1}, headers=BOB)
    assert client.get("/categories").text.splitlines() == ["shop", "├── books", "│   └── crime", "└── music"]
    assert client.get(f"/categories/{books}/history").json == [[1, "books", "ann"]]


def test_an_illegal_move_is_an_error_of_the_client(application: Application, client: FlaskClient) -> None:
    """The application goes on with the same scoped session afterwards."""
    client.post("/categories", json=BOOKS)
    books, crime = _pk(application, "books"), _pk(application, "crime")
    assert client.post(f"/categories/{books}/move/{crime}").status_code == 409
    assert client.get("/menu").json == ["books", "crime", "music", "shop"]


def test_the_dump_is_what_flask_can_send(application: Application, client: FlaskClient) -> None:
    """Columns that packages maintain (versions, periods, revisions, paths) are not in it; it can be inserted."""
    client.post("/categories", json=BOOKS)
    dumped = client.get("/categories.json").json
    assert dumped == [
        {
            "name": "shop",
            "children": [{"name": "books", "children": [{"name": "crime"}]}, {"name": "music"}],
        }
    ]
    assert client.post("/categories", json=dumped).status_code == 200
    assert len(client.get("/categories").text.splitlines()) == 8


def test_scopes_of_the_session_work_on_the_scoped_session(application: Application, client: FlaskClient) -> None:
    client.post("/categories", json=BOOKS)
    db, shop, cache = application.db, application.shop, application.cache
    with application.flask.app_context():
        music = db.session.scalars(select(shop.Category).filter_by(name="music")).one()
        with versioning_disabled(db.session):
            music.name = "records"
            db.session.commit()
        assert [version.number for version in versions(db.session, music)] == [1]
        statement = select(shop.Category.name).filter_by(id=music.id).options(FromCache("default"))
        with cache.bypass(db.session):
            assert db.session.scalars(statement).one() == "records"
        with cache.refresh(db.session):
            assert db.session.scalars(statement).one() == "records"


def test_the_state_of_before_is_read_through_the_scoped_session(application: Application, client: FlaskClient) -> None:
    client.post("/categories", json=BOOKS)
    db, shop = application.db, application.shop
    with application.flask.app_context():
        music = db.session.scalars(select(shop.Category).filter_by(name="music")).one()
        before = music.valid_from
        music.name = "records"
        db.session.commit()
        then = as_of(db.session, select(shop.Category).where(shop.Category.id == music.id), before)
        assert [each.name for each in then] == ["music"]


def test_a_dataclass_model_of_flask_sqlalchemy_is_a_versioned_tree(database: Database) -> None:
    """The model is the dataclass: Flask-SQLAlchemy 3.1 cannot build its Model from one on SQLAlchemy 2.1."""
    db, flask = SQLAlchemy(model_class=_new_base()), Flask(__name__)
    flask.config["SQLALCHEMY_DATABASE_URI"] = database.url_string
    db.init_app(flask)

    class Page(MappedAsDataclass, NestedSets, TreeNode, Versioned, db.Model):  # type: ignore[misc, name-defined]
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        title: Mapped[str] = mapped_column(String(50))

    with flask.app_context():
        db.create_all()
        home, news = Page("home"), Page("news")
        db.session.add_all([home, news])
        db.session.commit()
        news.parent = home
        db.session.commit()
        assert [page.title for page in db.session.scalars(select(Page).where(Page.descendant_of(home)))] == ["news"]
        assert [version.number for version in versions(db.session, news)] == [1, 2]
        db.session.remove()
        db.engine.dispose()
    db.Model.registry.dispose()
