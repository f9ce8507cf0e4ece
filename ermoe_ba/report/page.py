"""What all pages share: templates, one script that alone may run, files turned into text."""

import base64
import hashlib
from importlib.resources import files

import jinja2
from markupsafe import Markup

from ermoe_ba.report.content import in_words, signed

# Rows of a list of scans that are drawn at once: some screens full, laid out in a blink; the others
# wait in a template, which browsers read and do not draw.
PAGE_ROWS = 100


def environment() -> jinja2.Environment:
    """Return the templates' environment: text is escaped, an unknown name is an error.

    Returns
    -------
    jinja2.Environment
        Knows the filters ``signed`` and ``in_words``.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("ermoe_ba.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"signed": signed, "in_words": in_words}
    return templates


def resource(name: str) -> str:
    """Return the text of a file that lies beside the templates.

    Parameters
    ----------
    name : str
        Of the file.

    Returns
    -------
    str
        Read as UTF-8.
    """
    return files("ermoe_ba.report").joinpath(name).read_text(encoding="utf-8")


def inline(styles: tuple[str, ...], scripts: tuple[str, ...]) -> dict[str, Markup | str]:
    """Return what a page's head and foot need to hold styles and script within.

    Parameters
    ----------
    styles, scripts : tuple of str
        Names of files beside the templates; scripts share one scope, in this order.

    Returns
    -------
    dict
        ``style`` and ``script`` as markup, and ``script_hash``, SHA-256 in base64: by naming it, a
        page's policy lets this one script run, and nothing that slips into the text.
    """
    body = "".join(resource(name) for name in scripts)
    script = f'"use strict";\n(() => {{\n{body}}})();\n'
    return {
        "style": Markup("".join(resource(name) for name in styles)),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as a URI of their media type, e.g. ``image/png``.

    Parameters
    ----------
    kind : str
        Media type.
    data : bytes
        What it holds.

    Returns
    -------
    str
        In base64.
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
