"""HTML pages from templates. A page loads nothing from elsewhere."""

from importlib import resources


def page(template: str, **values: object) -> str:
    """Render a template. All text is escaped, and a name without a value is an error.

    Args:
        template: its path in `distill`. It extends `pages/base.html.j2`, which has the style, or `pages/page.html.j2`, which ends with the
            stages and settings of a run.
        values: the values of its names.
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
