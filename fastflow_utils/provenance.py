"""What a result depends on beside data, recipe and seed: software, to be kept beside it."""

import ast
import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ["code_digest", "result_digest", "versions"]

_PACKAGE = Path(__file__).parent

RESULT_CODE = (
    "data/*.py",
    "detector/*.py",
    "detector/baselines/*.py",
    "compute.py",
    "experiments/run.py",
    "experiments/recipes/__init__.py",
)
"""The source files of this package that decide a result."""

RESULT_PACKAGES = (
    "torch",
    "timm",
    "torchmetrics",
    "numpy",
    "scipy",
    "scikit-image",
    "pandas",
    "pillow",
    "einops",
    "safetensors",
)
"""The packages that the code of a result computes with."""


def versions(*names: str) -> dict[str, str]:
    """Return the versions that a result depends on, or those of the packages named.

    Example:
        >>> list(versions("torch", "timm"))
        ['torch', 'timm']
    """
    if names:
        return {name: version(name) for name in names}
    return {
        "python": platform.python_version(),
        **versions("fastflow-utils", *RESULT_PACKAGES),
    }


def result_digest() -> str:
    """Return the digest of the code that decides a result; see :func:`code_digest`.

    The package's own version changes with a release only, this with every change of the code.
    """
    return code_digest(*RESULT_CODE)


@functools.cache
def code_digest(*patterns: str) -> str:
    """Return a sha256 of source files of this package, without comments and docstrings.

    A rewritten comment, docstring or line break does not change it, any other change does.

    Args:
        patterns: Of files, as for ``Path.glob``, relative to the package's folder.

    Raises:
        ValueError: If a pattern matches no file.

    Example:
        >>> code_digest("compute.py") == code_digest("comp*.py")
        True
        >>> len(code_digest("data/*.py"))
        64
    """
    digest = hashlib.sha256()
    files: set[Path] = set()
    for pattern in patterns:
        found = set(_PACKAGE.glob(pattern))
        if not found:
            raise ValueError(f"no source file matches '{pattern}' in {_PACKAGE}")
        files |= found
    for file in sorted(files):
        digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\n{_code(file)}\n".encode())
    return digest.hexdigest()


def _code(file: Path) -> str:
    """A file's statements, written in one way; ``ast`` knows no comments."""
    tree = _WithoutTexts().visit(ast.parse(file.read_text(encoding="utf-8")))
    return ast.unparse(tree)


class _WithoutTexts(ast.NodeTransformer):
    """Remove what is a text and nothing else: docstrings of any kind."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:  # ast names it
        return None if isinstance(node.value, ast.Constant) else node
