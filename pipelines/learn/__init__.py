"""learn: windows in; policies and checkpoints out."""
