"""rootstream: an LLM serving engine cut into processes over Redis streams.

This package is what users touch: the command line and the local launcher.
"""

__version__ = "0.1.0"
