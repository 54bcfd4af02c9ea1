"""The open log: trees, tiles, signed notes, checkpoints and proofs, in the formats of C2SP and RFC 6962 (docs/protocol/log.md)."""
