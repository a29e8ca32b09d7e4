//! The rows about requests to sign in.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::SignInId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::people::sign_in::SignInIntent;

/// A sign-in that holds: its token is right, or its code is compared.
pub struct OpenSignIn {
    /// `sgn_…`.
    pub id: SignInId,
    /// The hash of its link's token.
    pub token_hash: String,
    /// The address that is proven.
    pub email: String,
    /// What the person asked for.
    pub intent: SignInIntent,
    /// The name of a tenant to make.
    pub company_name: Option<String>,
}

impl FromRow for OpenSignIn {
    const COLUMNS: &'static [&'static str] = &["id", "token_hash", "email", "intent", "company_name"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, token_hash, email) = (row.parse(SignInId::parse)?, row.get()?, row.get()?);
        Ok(Self { id, token_hash, email, intent: row.parse(SignInIntent::parse)?, company_name: row.get()? })
    }
}

/// The time of a mail that was asked for.
pub struct OldestMail {
    /// When that was.
    pub created_at: UnixMillis,
}

impl FromRow for OldestMail {
    const COLUMNS: &'static [&'static str] = &["created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { created_at: row.get()? })
    }
}

/// The wrong codes of a day.
pub struct WrongCodes {
    /// Those from a prefix of addresses.
    pub of_prefix: u64,
    /// Those from all.
    pub of_all: u64,
}

impl FromRow for WrongCodes {
    const COLUMNS: &'static [&'static str] = &["of_prefix", "of_all"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { of_prefix: row.get()?, of_all: row.get()? })
    }
}
