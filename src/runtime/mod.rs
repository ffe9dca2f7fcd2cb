//! All side effects: sockets, clock, threads, files, HTTP, metrics export.
