"""The script and the style of live figures, from the readable files beside this one."""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["module", "script", "style"]

HERE = Path(__file__).parent
FILES = {
    "frames": ["frames"],
    "features": ["features"],
    "threshold": ["pictures", "charts", "threshold"],
    "mixer": ["pictures", "charts", "mixer"],
    "browse": ["pictures", "browse"],
    "wall": ["wall"],
}
"""The kinds of live figures, and the files of each; what the later ones use comes first."""
COMPUTING = ("features", "threshold", "mixer")
"""What runs in JupyterLab too; the others are made for pages alone."""


def script(kinds: Iterable[str]) -> str:
    """Return the script of some kinds as a statement that defines `live`, readable.

    Example:
        >>> script(["frames"]).splitlines()[0]
        'const live = (() => {'
    """
    names = dict.fromkeys(name for kind in sorted(set(kinds)) for name in FILES[kind])
    parts = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("core", *names)]
    return "const live = (() => {\n" + "\n".join(parts) + "\nreturn live;\n})();\n"


def module() -> str:
    """Return the script as the module that anywidget loads in JupyterLab."""
    return (
        script(COMPUTING)
        + "export default { render({ model, el }) { live.mount(el, model.get('data')); } };\n"
    )


def style(*more: str) -> str:
    """Return the style of live figures; a page's own colours come from its variables.

    Args:
        *more: Kinds with a style of their own.
    """
    return "".join((HERE / f"{name}.css").read_text(encoding="utf-8") for name in ("live", *more))
