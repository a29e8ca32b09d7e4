//! The messages between the Worker and its Durable Objects, and between one object and another: one enum of messages
//! and one of replies for each class of objects.
//!
//! A deployment replaces the Worker and the objects one by one, so that both sides of a call may be of different
//! builds. Each build reads messages and replies of its own version and of the one before:
//!
//! | version | its messages and replies |
//! |---|---|
//! | 1 | JSON without a version; a reply's meaning is its HTTP status and one header for each fact |
//! | 2 | the same JSON, sent to an address that names the version; a reply's meaning is one typed value |
//!
//! The version stands in the address of a call ([`MessageHead`]) and not in its body: an object of version 1 ignores it
//! there, and reads the body as before. An object replies in the version that its caller named. `tests/fixtures/messages`
//! holds each message and reply as a build of version 1 wrote it.

pub mod courier;
pub mod ledger;
pub mod meter;
pub mod records;
pub mod settler;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use x402_chain::time::UnixMillis;

/// A version of the messages. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageVersion {
    /// The version of the build before. Its messages name no version.
    V1,
    /// The version of this build.
    V2,
}

impl MessageVersion {
    /// The version that this build sends.
    pub const OWN: Self = Self::V2;

    const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Reads a segment of an address, such as `v2`. The version of a later build is read as this build's own.
    fn read(segment: &str) -> Self {
        match segment.strip_prefix('v').and_then(|number| number.parse::<u8>().ok()) {
            Some(number) if number >= Self::V2.number() => Self::V2,
            Some(_) | None => Self::V1,
        }
    }
}

/// What the address of a call holds: the message is its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// The version in which the caller wrote the message and reads the reply.
    pub version: MessageVersion,
    /// When the caller gives up; `None` where it named no time.
    pub deadline: Option<UnixMillis>,
}

impl MessageHead {
    /// The head of a call that this build makes.
    #[must_use]
    pub const fn own(deadline: Option<UnixMillis>) -> Self {
        Self { version: MessageVersion::OWN, deadline }
    }

    /// The address of a call: `https://ledger/v2/1764457200000`. The last segment is the deadline, as in version 1.
    #[must_use]
    pub fn address(self, object: &str) -> String {
        let number = self.version.number();
        match self.deadline {
            Some(deadline) => format!("https://{object}/v{number}/{}", deadline.0),
            None => format!("https://{object}/v{number}/"),
        }
    }

    /// The head that an address holds.
    #[must_use]
    pub fn read(address: &str) -> Self {
        let mut segments = address.split('/').skip(3);
        let version = segments.next().map_or(MessageVersion::V1, MessageVersion::read);
        let deadline = address.rsplit('/').next().and_then(|deadline| deadline.parse().ok()).map(UnixMillis);
        Self { version, deadline }
    }
}

/// A reply with the version of the object that wrote it. A reply of version 1 has no such form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VersionedReply<T> {
    version: u8,
    reply: T,
}

impl<T> VersionedReply<T> {
    const fn own(reply: T) -> Self {
        Self { version: MessageVersion::OWN.number(), reply }
    }
}
