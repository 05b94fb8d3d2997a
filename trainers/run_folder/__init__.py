"""What a run reads and writes: checkpoints, resume, storage, the log."""
