"""``python -m rootstream``."""

from rootstream.cli import main

main()
