//! What each target does with an input: it runs the parser, says whether the input was accepted, and panics where a property
//! does not hold. Parsers are named with their type or module, by which [`crate::complete`] finds them.

pub(crate) mod bodies;
pub(crate) mod chain;
pub(crate) mod http;
pub(crate) mod messages;
pub(crate) mod people;
pub(crate) mod queries;
pub(crate) mod services;
pub(crate) mod settings;
pub(crate) mod stored;
pub(crate) mod values;
pub(crate) mod x402;
