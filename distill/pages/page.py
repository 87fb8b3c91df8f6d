"""HTML pages from the templates beside this module. A page loads nothing from elsewhere."""

from importlib import resources


def page(template: str, **values: object) -> str:
    """A template with its values in place. All text is escaped, and a name without a value is an error.

    Args:
        template: name of its file; it may extend `page.html.j2`, which has the style and ends with the stages and settings of a run.
        values: what it shows.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _text(name: str) -> str:
    return resources.files("distill").joinpath(name).read_text(encoding="utf-8")
