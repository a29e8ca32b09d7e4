//! People who sign in: how a mail proves an address, how long a session holds, and which requests a cookie may make.

pub mod client;
pub mod deletion;
pub mod delivery;
pub mod invitation;
pub mod known;
pub mod mail;
pub mod oauth;
pub mod oidc;
pub mod origin;
pub mod secret;
pub mod session;
pub mod sign_in;
