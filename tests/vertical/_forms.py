"""Every form of criterion, for the tests of what they match and of how databases read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Forms about the key ``x`` of values of several types.
FORMS: dict[str, Callable[[Any], Any]] = {
    "== 5": lambda attrs: attrs["x"] == 5,
    "== '5'": lambda attrs: attrs["x"] == "5",
    "== True": lambda attrs: attrs["x"] == True,  # noqa: E712
    "== False": lambda attrs: attrs["x"] == False,  # noqa: E712
    "== 1": lambda attrs: attrs["x"] == 1,
    "== None": lambda attrs: attrs["x"] == None,  # noqa: E711
    "!= 5": lambda attrs: attrs["x"] != 5,
    "!= None": lambda attrs: attrs["x"] != None,  # noqa: E711
    "~(== 5)": lambda attrs: ~(attrs["x"] == 5),
    "~(!= 5)": lambda attrs: ~(attrs["x"] != 5),
    "< 7": lambda attrs: attrs["x"] < 7,
    "<= 7": lambda attrs: attrs["x"] <= 7,
    "> 5": lambda attrs: attrs["x"] > 5,
    ">= 5": lambda attrs: attrs["x"] >= 5,
    "> '4'": lambda attrs: attrs["x"] > "4",
    "in_": lambda attrs: attrs["x"].in_([5, "5", None]),
    "in_ of one type": lambda attrs: attrs["x"].in_((5, 7, 9)),
    "~in_": lambda attrs: ~attrs["x"].in_([5, "5", True]),
    "like": lambda attrs: attrs["x"].like("5%"),
    "is_(None)": lambda attrs: attrs["x"].is_(None),
    "is_not(None)": lambda attrs: attrs["x"].is_not(None),
    "exists": lambda attrs: attrs["x"].exists(),
    "~exists": lambda attrs: ~attrs["x"].exists(),
    "value": lambda attrs: attrs["x"].value(int) + 1 == 6,
    "any_value(5)": lambda attrs: attrs.any_value(5),
    "any_value('5')": lambda attrs: attrs.any_value("5"),
    "any_value(False)": lambda attrs: attrs.any_value(False),
    "any_value(None)": lambda attrs: attrs.any_value(None),
    "~any_value": lambda attrs: ~attrs.any_value(5),
}
#: The same for the plain variant, whose values are texts.
TEXT_FORMS: dict[str, Callable[[Any], Any]] = {
    "== '5'": lambda attrs: attrs["x"] == "5",
    "== ''": lambda attrs: attrs["x"] == "",
    "== None": lambda attrs: attrs["x"] == None,  # noqa: E711
    "!= '5'": lambda attrs: attrs["x"] != "5",
    "~(== '5')": lambda attrs: ~(attrs["x"] == "5"),
    "> '5'": lambda attrs: attrs["x"] > "5",
    "in_": lambda attrs: attrs["x"].in_(["7", None]),
    "like": lambda attrs: attrs["x"].like("_"),
    "is_(None)": lambda attrs: attrs["x"].is_(None),
    "is_not(None)": lambda attrs: attrs["x"].is_not(None),
    "exists": lambda attrs: attrs["x"].exists(),
    "value": lambda attrs: attrs["x"].value(str) == "5",
    "any_value('5')": lambda attrs: attrs.any_value("5"),
    "any_value(None)": lambda attrs: attrs.any_value(None),
}
