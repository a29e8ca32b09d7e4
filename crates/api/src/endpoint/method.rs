//! HTTP methods.

use core::fmt;

/// An HTTP method that some endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads; changes nothing.
    Get,
    /// Creates, or runs a check.
    Post,
    /// Sets the whole of something.
    Put,
    /// Changes the members that the body names.
    Patch,
    /// Removes a recipient or revokes a key.
    Delete,
}

impl Method {
    /// Reads the method's name; `HEAD` counts as `GET`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "GET" | "HEAD" => Some(Self::Get),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Whether requests of this method change something.
    #[must_use]
    pub const fn is_unsafe(self) -> bool {
        !matches!(self, Self::Get)
    }

    /// Whether requests of this method have a body.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        })
    }
}
