//! What admin writes and the CLI reads.
