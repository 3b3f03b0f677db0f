"""One program over many items: bounded, warmed, watched and resumable."""
