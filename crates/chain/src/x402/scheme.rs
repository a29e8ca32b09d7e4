//! The schemes of x402 by name, as requirements and payloads write them.

/// A scheme of x402 that is served. Closed: whatever reads one decides for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// One amount, signed by the payer: EIP-3009 on EVM, a transfer in a transaction on Solana.
    Exact,
}

impl Scheme {
    /// All schemes, in the order in which `/facilitator/supported` lists them.
    pub const ALL: [Self; 1] = [Self::Exact];

    /// The name in requirements and payloads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
        }
    }

    /// The scheme of that name; the protocol's names have one spelling.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

/// A scheme as requirements or a payload name it, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedScheme {
    /// The name as written: a refusal repeats it.
    pub text: String,
    /// The scheme; `None` where none of that name is served.
    pub served: Option<Scheme>,
}

impl NamedScheme {
    /// Reads a scheme's name.
    #[must_use]
    pub(crate) fn read(text: String) -> Self {
        Self { served: Scheme::parse(&text), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_read_by_its_name() {
        for scheme in Scheme::ALL {
            assert_eq!(Scheme::parse(scheme.name()), Some(scheme));
        }
        for other in ["upto", "Exact", "", "exact "] {
            assert_eq!(NamedScheme::read(other.to_owned()), NamedScheme { text: other.to_owned(), served: None });
        }
    }
}
