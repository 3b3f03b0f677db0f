"""What all processes share: wire messages, stream access, service life cycle, settings.

Knows nothing of any service; imports nothing of ours.
"""
