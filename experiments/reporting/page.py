"""The page: one HTML file that holds its styles and pictures, and needs neither a network nor scripts."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments.reporting.charts import Histogram
from experiments.reporting.content import Content

PACKAGE, TEMPLATES = "experiments.reporting", "page"
NOTHING = "-"


def render(content: Content) -> str:
    """The page as HTML; all text in it is escaped."""
    environment = Environment(
        loader=PackageLoader(PACKAGE, TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(us=latency, times=times, percent=percent, day=day, breakable=breakable)
    environment.globals.update(style_sheet=_style_sheet(environment), histogram=Histogram)
    return environment.get_template("page.html.j2").render(content=content)


def _style_sheet(environment: Environment) -> Markup:
    """The page's own style sheet, which is no text to be escaped."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, "style.css")[0])


def latency(value: Any) -> str:
    """Microseconds with three digits, and all before the point."""
    if value is None:
        return NOTHING
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(max(digits, 0), 4)}f}"


def times(value: Any) -> str:
    """A ratio such as a speedup, without its unit."""
    return NOTHING if value is None else f"{value:.2f}"


def percent(value: Any, digits: int = 1) -> str:
    """A fraction in percent, without its unit."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}"


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def day(value: Any) -> str:
    """The day of an ISO 8601 date."""
    return str(value)[:10] or NOTHING
