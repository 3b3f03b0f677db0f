"""One operation per file: a plain torch reference, and beside it what runs on a CPU."""
