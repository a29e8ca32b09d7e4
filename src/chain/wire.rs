//! JSON-RPC on the wire: requests and answers.
