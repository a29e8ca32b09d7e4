//! The only I/O: moves bytes between the core and the platform.
