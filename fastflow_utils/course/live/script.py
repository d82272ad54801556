"""The script and the style of live figures, from the readable files beside this one."""

from pathlib import Path

__all__ = ["module", "script", "style"]

HERE = Path(__file__).parent
ORDER = ("core.js", "frames.js", "features.js", "scores.js")
"""What the later files use comes first; each adds its kinds to `live.kinds`."""


def script() -> str:
    """Return the script as a statement that defines `live`, with comments and line breaks."""
    parts = [(HERE / name).read_text(encoding="utf-8") for name in ORDER]
    return "const live = (() => {\n" + "\n".join(parts) + "\nreturn live;\n})();\n"


def module() -> str:
    """Return the script as the module that anywidget loads in JupyterLab."""
    return (
        script()
        + "export default { render({ model, el }) { live.mount(el, model.get('data')); } };\n"
    )


def style() -> str:
    """Return the style of live figures; a page's own colours come from its variables."""
    return (HERE / "live.css").read_text(encoding="utf-8")
