"""`rootstream doctor`: what this machine has, whether that is enough to serve, and what to do where it is not."""
