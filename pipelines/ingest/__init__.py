"""ingest: transitions in; chunks, windows, decisions and rejected messages out."""
