//! Which node's word counts, and when another must be asked.
