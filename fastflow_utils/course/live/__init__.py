"""Figures that answer without a kernel: in a rendered page, and in JupyterLab by the same script.

A figure carries what its page needs as data (:func:`attach`); ``*.js`` beside this file makes
controls and canvases of it. There is one data format for each *kind* of live figure, and one
script of that name: ``frames`` walks through pictures drawn beforehand, the others compute.
"""

from fastflow_utils.course.live.attach import MIME, LiveFigure, attach, present
from fastflow_utils.course.live.packing import pack, quantise, webp
from fastflow_utils.course.live.script import module, script, style

__all__ = [
    "MIME",
    "LiveFigure",
    "attach",
    "module",
    "pack",
    "present",
    "quantise",
    "script",
    "style",
    "webp",
]
