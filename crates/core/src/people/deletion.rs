//! The deletion of a tenant by its owner: asked for, confirmed by the token of a mail, then undone, or erased when it is due.

use super::secret::Secret;
use crate::error::{ErrorCode, Fault};
use crate::tenancy::tenant::TenantStatus;
use serde::Serialize;
use x402_chain::id::DeletionId;
use x402_chain::time::UnixMillis;

/// How long the token of the mail holds.
pub const QUESTION_MS: u64 = 60 * 60 * 1_000;
/// How long a confirmed deletion can be undone: a week, over a weekend and a day off.
pub const UNDO_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// The most mails of this kind to one address in a day.
pub const QUESTIONS_DAY_MAX: u64 = 5;

/// The token of a mail's link.
#[must_use]
pub fn token(id: DeletionId, pepper: &[u8; 32]) -> Option<Secret> {
    Secret::derived(pepper, "x402 deletion token", &id.to_string())
}

/// The token with this hash, under the pepper that made it; `None` where the pepper is gone.
#[must_use]
pub fn find_token(id: DeletionId, hash: &str, peppers: &[[u8; 32]]) -> Option<Secret> {
    peppers.iter().filter_map(|pepper| token(id, pepper)).find(|made| made.has_hash(hash))
}

/// How far the deletion of a tenant is. One that was undone is [`Deletion::None`] again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Nobody wants it.
    None,
    /// An owner has asked, and was sent a mail.
    Asked {
        /// Until when the mail's token holds.
        expires_at: UnixMillis,
    },
    /// The mail's token was given back: the keys are dead.
    Confirmed {
        /// Until when it can be undone.
        due_at: UnixMillis,
    },
    /// Personal data are being erased, or are erased: no way leads back.
    Erased {
        /// When it was due.
        due_at: UnixMillis,
    },
}

impl Deletion {
    /// When a confirmed deletion is due, or was.
    #[must_use]
    pub const fn due_at(self) -> Option<UnixMillis> {
        match self {
            Self::None | Self::Asked { .. } => None,
            Self::Confirmed { due_at } | Self::Erased { due_at } => Some(due_at),
        }
    }

    /// An owner asks; returns what the deletion is then. A question that is open is replaced.
    ///
    /// # Errors
    /// `TENANT_DELETING`.
    pub fn ask(self, now: UnixMillis) -> Result<Self, Fault> {
        self.check_none()?;
        Ok(Self::Asked { expires_at: UnixMillis(now.0.saturating_add(QUESTION_MS)) })
    }

    /// An owner gives the token of the newest mail back; returns what the deletion is then. The same again changes nothing:
    /// the answer to the first may have been lost.
    ///
    /// # Errors
    /// `INVALID_CONFIRMATION`, `TENANT_DELETING`.
    pub fn confirm(self, is_token: bool, now: UnixMillis) -> Result<Self, Fault> {
        match self {
            Self::Asked { expires_at } if is_token && now < expires_at => {
                Ok(Self::Confirmed { due_at: UnixMillis(now.0.saturating_add(UNDO_MS)) })
            }
            Self::Confirmed { .. } if is_token => Ok(self),
            Self::None | Self::Asked { .. } | Self::Confirmed { .. } => {
                let detail = "the token is wrong, has expired, or a newer mail has replaced it";
                Err(Fault::new(ErrorCode::InvalidConfirmation, detail).at("token"))
            }
            Self::Erased { .. } => Err(deleting()),
        }
    }

    /// An owner undoes it; returns what the deletion is then.
    ///
    /// # Errors
    /// `NOT_FOUND`, `TENANT_DELETING` once it is due.
    pub fn undo(self, now: UnixMillis) -> Result<Self, Fault> {
        match self {
            Self::Confirmed { due_at } if now < due_at => Ok(Self::None),
            Self::Confirmed { .. } | Self::Erased { .. } => Err(deleting()),
            Self::None | Self::Asked { .. } => Err(Fault::new(ErrorCode::NotFound, "the tenant is not being deleted")),
        }
    }

    /// Whether personal data are erased.
    #[must_use]
    pub fn is_to_erase(self, now: UnixMillis) -> bool {
        match self {
            Self::None | Self::Asked { .. } => false,
            Self::Confirmed { due_at } => due_at <= now,
            Self::Erased { .. } => true,
        }
    }

    /// Checks that nothing is erased: what would be written then stays, in a tenant of which nothing personal may.
    ///
    /// # Errors
    /// `TENANT_DELETING`.
    pub fn check_not_erased(self) -> Result<(), Fault> {
        match self {
            Self::None | Self::Asked { .. } | Self::Confirmed { .. } => Ok(()),
            Self::Erased { .. } => Err(Fault::new(ErrorCode::TenantDeleting, "the tenant was deleted, for good")),
        }
    }

    /// Checks that the tenant is not being deleted.
    ///
    /// # Errors
    /// `TENANT_DELETING`.
    pub fn check_none(self) -> Result<(), Fault> {
        if self.due_at().is_none() { Ok(()) } else { Err(deleting()) }
    }
}

fn deleting() -> Fault {
    Fault::new(ErrorCode::TenantDeleting, "the tenant is being deleted: undo that first, while it is not due")
}

/// Whether a tenant is served, as its people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ShownStatus {
    /// Its requests are served.
    Active,
    /// Its requests are refused until an operator makes it active.
    Suspended,
    /// Its requests are refused.
    Cancelled,
    /// Its keys are dead, and its personal data are erased when that is due.
    Deleting,
}

impl ShownStatus {
    /// What is shown of a tenant.
    #[must_use]
    pub const fn of(status: TenantStatus, deletion_due_at: Option<UnixMillis>) -> Self {
        match (deletion_due_at, status) {
            (Some(_), _) => Self::Deleting,
            (None, TenantStatus::Active) => Self::Active,
            (None, TenantStatus::Suspended) => Self::Suspended,
            (None, TenantStatus::Cancelled) => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn later(ms: u64) -> UnixMillis {
        UnixMillis(NOW.0.saturating_add(ms))
    }

    #[track_caller]
    fn refused(outcome: Result<Deletion, Fault>, code: ErrorCode) {
        assert_eq!(outcome.map_err(|fault| fault.code), Err(code));
    }

    #[test]
    fn a_deletion_takes_a_question_its_answer_and_a_week() {
        let asked = Deletion::None.ask(NOW).expect("asked");
        assert_eq!(asked, Deletion::Asked { expires_at: later(QUESTION_MS) });
        assert!(asked.due_at().is_none() && asked.check_none().is_ok());
        refused(asked.confirm(false, NOW), ErrorCode::InvalidConfirmation);
        refused(asked.confirm(true, later(QUESTION_MS)), ErrorCode::InvalidConfirmation);
        refused(Deletion::None.confirm(true, NOW), ErrorCode::InvalidConfirmation);
        refused(asked.undo(NOW), ErrorCode::NotFound);
        let confirmed = asked.confirm(true, NOW).expect("confirmed");
        assert_eq!(confirmed.due_at(), Some(later(UNDO_MS)));
        // The answer was lost: the same again is due at the same time.
        assert_eq!(confirmed.confirm(true, later(5)), Ok(confirmed));
        refused(confirmed.confirm(false, NOW), ErrorCode::InvalidConfirmation);
        refused(confirmed.ask(NOW), ErrorCode::TenantDeleting);
        assert_eq!(confirmed.undo(later(UNDO_MS - 1)), Ok(Deletion::None));
        refused(confirmed.undo(later(UNDO_MS)), ErrorCode::TenantDeleting);
    }

    #[test]
    fn it_is_undone_or_erased_and_never_both() {
        for at in [0, 1, UNDO_MS - 1, UNDO_MS, UNDO_MS + 1, u64::MAX / 2] {
            let confirmed = Deletion::Confirmed { due_at: later(UNDO_MS) };
            assert_ne!(confirmed.undo(later(at)).is_ok(), confirmed.is_to_erase(later(at)), "{at}");
        }
        let erased = Deletion::Erased { due_at: NOW };
        // Also by a clock that went back.
        refused(erased.undo(UnixMillis(0)), ErrorCode::TenantDeleting);
        refused(erased.ask(NOW), ErrorCode::TenantDeleting);
        refused(erased.confirm(true, NOW), ErrorCode::TenantDeleting);
        assert!(erased.is_to_erase(UnixMillis(0)) && erased.check_none().is_err());
        refused(erased.check_not_erased().map(|()| erased), ErrorCode::TenantDeleting);
        assert!(Deletion::Confirmed { due_at: NOW }.check_not_erased().is_ok());
        for none in [Deletion::None, Deletion::Asked { expires_at: NOW }] {
            assert!(!none.is_to_erase(later(UNDO_MS)));
        }
    }

    #[test]
    fn a_question_has_a_token_of_its_own() {
        let id = |random| DeletionId::new(NOW, [random; 10]);
        let (old, new) = ([1; 32], [2; 32]);
        let made = token(id(1), &old).expect("made");
        assert_eq!(find_token(id(1), &made.hash(), &[new, old]), Some(made));
        assert_eq!(find_token(id(1), &made.hash(), &[new]), None);
        assert_eq!(find_token(id(2), &made.hash(), &[old]), None);
    }

    #[test]
    fn a_tenant_that_is_being_deleted_is_shown_so_whatever_else_it_is() {
        for status in [TenantStatus::Active, TenantStatus::Suspended, TenantStatus::Cancelled] {
            assert_eq!(ShownStatus::of(status, Some(NOW)), ShownStatus::Deleting);
            assert_eq!(
                serde_json::to_value(ShownStatus::of(status, None)).expect("JSON"),
                serde_json::to_value(status).expect("JSON")
            );
        }
    }
}
