"""FastFlow, anomaly detection with 2-D normalizing flows: the package that the notebooks import.

The modules read in the order of the course: ``datasets``, ``backbones``, ``features``, ``flows``,
``model``, ``training``, ``metrics``, ``evaluation``.
"""

__version__ = "0.1.0"
