"""Pure steps shared by the stream and the backfill."""
