//! The rows about people, their sessions and mails.

mod identities;
mod operators;
mod sign_ins;

use crate::storage::{FromRow, RowReader};
pub use identities::{IdentityMail, IdentityRow, OwnIdentityRow};
pub use operators::{FoundRow, MailToRepeat, PersonRow};
pub use sign_ins::{OldestMail, OpenSignIn, WrongCodes};
use x402_api::members::{InvitationView, MemberView};
use x402_api::session::{MailView, MembershipView, OwnSession, PersonView, SessionTenant, SessionView};
use x402_chain::id::{InvitationId, MailId, PersonId, SessionId, SignInId, TenantId};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::deletion::{Deletion, ShownStatus};
use x402_core::people::session::SessionTimes;
use x402_core::people::sign_in::{Membership, SignInIntent};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::TenantStatus;
use x402_core::tenancy::tier::Tier;

/// A tenant of a person.
pub struct MembershipRow {
    /// The tenant and the role.
    pub membership: Membership,
    company_name: Option<String>,
}

impl FromRow for MembershipRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "role", "company_name"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let membership = Membership { tenant: row.parse(TenantId::parse)?, role: row.parse(Role::parse)? };
        Ok(Self { membership, company_name: row.get()? })
    }
}

impl MembershipRow {
    /// What the person reads.
    #[must_use]
    pub fn view(self) -> MembershipView {
        let Membership { tenant, role } = self.membership;
        MembershipView { id: tenant.to_string(), company_name: self.company_name, role }
    }
}

/// A tenant that has no member.
pub struct UnownedTenant {
    /// The tenant.
    pub tenant: TenantId,
}

impl FromRow for UnownedTenant {
    const COLUMNS: &'static [&'static str] = &["id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)? })
    }
}

/// Checks that a tenant is served.
///
/// # Errors
/// `TENANT_SUSPENDED`.
pub fn check_served(status: TenantStatus) -> Result<(), Fault> {
    match status {
        TenantStatus::Active => Ok(()),
        TenantStatus::Suspended | TenantStatus::Cancelled => {
            Err(Fault::new(ErrorCode::TenantSuspended, "the tenant is suspended or cancelled"))
        }
    }
}

/// A session, with its person and its tenant.
pub struct SessionRow {
    /// `ses_…`.
    pub id: SessionId,
    /// Who is signed in.
    pub person: PersonId,
    /// The address by which the person signs in.
    pub email: String,
    /// The tenant that it acts for.
    pub tenant: TenantId,
    company_name: Option<String>,
    tier: Tier,
    status: TenantStatus,
    /// When the tenant's deletion is due, if it is being deleted.
    deletion_due_at: Option<UnixMillis>,
    /// The person's role in the tenant.
    pub role: Role,
    /// When it began, was used and ends.
    pub times: SessionTimes,
    /// Whether it holds for its tenant alone.
    pub only_tenant: bool,
}

impl FromRow for SessionRow {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "person_id",
        "email",
        "tenant_id",
        "company_name",
        "tier",
        "status",
        "due_ms",
        "role",
        "created_ms",
        "seen_ms",
        "expires_ms",
        "only_tenant",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            id: row.parse(SessionId::parse)?,
            person: row.parse(PersonId::parse)?,
            email: row.get()?,
            tenant: row.parse(TenantId::parse)?,
            company_name: row.get()?,
            tier: row.parse(Tier::parse)?,
            status: row.parse(TenantStatus::parse)?,
            deletion_due_at: row.get()?,
            role: row.parse(Role::parse)?,
            times: SessionTimes { created_at: row.get()?, seen_at: row.get()?, expires_at: row.get()? },
            only_tenant: row.get()?,
        })
    }
}

impl SessionRow {
    /// Checks that the tenant is served, and not being deleted: else it is read, and not changed.
    ///
    /// # Errors
    /// `TENANT_SUSPENDED`, `TENANT_DELETING`.
    pub fn check_active(&self) -> Result<(), Fault> {
        self.check_served()?;
        self.deletion_due_at.map_or(Deletion::None, |due_at| Deletion::Confirmed { due_at }).check_none()
    }

    /// Checks the role of the session.
    ///
    /// # Errors
    /// `INSUFFICIENT_ROLE`.
    pub fn check_role(&self, wanted: Role) -> Result<(), Fault> {
        if self.role >= wanted {
            return Ok(());
        }
        let detail = format!("this needs the role '{}'; yours is '{}'", wanted.name(), self.role.name());
        Err(Fault::new(ErrorCode::InsufficientRole, detail))
    }

    /// Checks that the tenant is served.
    ///
    /// # Errors
    /// `TENANT_SUSPENDED`.
    pub fn check_served(&self) -> Result<(), Fault> {
        check_served(self.status)
    }

    /// What the person reads.
    #[must_use]
    pub fn view(&self) -> SessionView {
        SessionView {
            id: self.id.to_string(),
            person: PersonView { id: self.person.to_string(), email: self.email.clone() },
            tenant: SessionTenant {
                id: self.tenant.to_string(),
                company_name: self.company_name.clone(),
                tier: self.tier,
                status: ShownStatus::of(self.status, self.deletion_due_at),
                deletion_due_at: self.deletion_due_at.map(UnixMillis::rfc3339),
            },
            role: self.role,
            created_at: self.times.created_at.rfc3339(),
            ends_at: self.times.ends_at().rfc3339(),
            expires_at: self.times.expires_at.rfc3339(),
        }
    }
}

/// One of a person's sessions.
pub struct OwnSessionRow {
    id: SessionId,
    tenant: TenantId,
    ip_prefix: String,
    user_agent: Option<String>,
    times: SessionTimes,
}

impl FromRow for OwnSessionRow {
    const COLUMNS: &'static [&'static str] =
        &["id", "tenant_id", "ip_prefix", "user_agent", "created_ms", "seen_ms", "expires_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            id: row.parse(SessionId::parse)?,
            tenant: row.parse(TenantId::parse)?,
            ip_prefix: row.get()?,
            user_agent: row.get()?,
            times: SessionTimes { created_at: row.get()?, seen_at: row.get()?, expires_at: row.get()? },
        })
    }
}

impl OwnSessionRow {
    /// What the person reads; `asking` is the session that asks.
    #[must_use]
    pub fn view(self, asking: SessionId) -> OwnSession {
        OwnSession {
            id: self.id.to_string(),
            current: self.id == asking,
            tenant: self.tenant.to_string(),
            ip_prefix: self.ip_prefix,
            user_agent: self.user_agent,
            created_at: self.times.created_at.rfc3339(),
            seen_at: self.times.seen_at.rfc3339(),
            ends_at: self.times.ends_at().rfc3339(),
        }
    }
}

/// What the mail of a sign-in is made of.
pub struct SignInMail {
    /// The address that it goes to.
    pub address: String,
    /// The origin of its link.
    pub origin: String,
    /// The sign-in.
    pub id: SignInId,
    /// What was asked for.
    pub intent: SignInIntent,
    /// The hash of its token.
    pub token_hash: String,
    /// Until when its link and its code hold.
    pub expires_at: UnixMillis,
    /// Whether the address belongs to somebody.
    pub is_known: bool,
}

impl FromRow for SignInMail {
    const COLUMNS: &'static [&'static str] =
        &["address", "origin", "id", "intent", "token_hash", "expires_ms", "is_known"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            address: row.get()?,
            origin: row.get()?,
            id: row.parse(SignInId::parse)?,
            intent: row.parse(SignInIntent::parse)?,
            token_hash: row.get()?,
            expires_at: row.get()?,
            is_known: row.get()?,
        })
    }
}

/// A member of a tenant.
pub struct MemberRow {
    /// The person.
    pub person: PersonId,
    /// The address by which the person signs in.
    pub email: String,
    /// The person's role in the tenant.
    pub role: Role,
    created_at: UnixMillis,
}

impl FromRow for MemberRow {
    const COLUMNS: &'static [&'static str] = &["person_id", "email", "role", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let person = row.parse(PersonId::parse)?;
        Ok(Self { person, email: row.get()?, role: row.parse(Role::parse)?, created_at: row.get()? })
    }
}

impl MemberRow {
    /// What people of the tenant read.
    #[must_use]
    pub fn view(&self) -> MemberView {
        MemberView {
            person_id: self.person.to_string(),
            email: self.email.clone(),
            role: self.role,
            created_at: self.created_at.rfc3339(),
        }
    }
}

/// An invitation that holds.
pub struct InvitationRow {
    /// `inv_…`.
    pub id: InvitationId,
    /// The address that is invited.
    pub email: String,
    /// The role that the person gets.
    pub role: Role,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Until when it holds.
    pub expires_at: UnixMillis,
}

impl FromRow for InvitationRow {
    const COLUMNS: &'static [&'static str] = &["id", "email", "role", "created_ms", "expires_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, email) = (row.parse(InvitationId::parse)?, row.get()?);
        Ok(Self { id, email, role: row.parse(Role::parse)?, created_at: row.get()?, expires_at: row.get()? })
    }
}

impl InvitationRow {
    /// What people of the tenant read.
    #[must_use]
    pub fn view(&self) -> InvitationView {
        InvitationView {
            id: self.id.to_string(),
            email: self.email.clone(),
            role: self.role,
            created_at: self.created_at.rfc3339(),
            expires_at: self.expires_at.rfc3339(),
        }
    }
}

/// An invitation that holds.
pub struct OpenInvitation {
    /// `inv_…`.
    pub id: InvitationId,
    /// The tenant.
    pub tenant: TenantId,
    /// The address that was invited: its mail held the token.
    pub email: String,
    /// The role that the person gets.
    pub role: Role,
    /// Whether the invited person belongs to a tenant.
    pub has_account: bool,
    /// Whether the tenant is served.
    pub status: TenantStatus,
    /// The tenant's members, without the invited person.
    pub members: u64,
}

impl FromRow for OpenInvitation {
    const COLUMNS: &'static [&'static str] = &["id", "tenant_id", "email", "role", "has_account", "status", "members"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, tenant) = (row.parse(InvitationId::parse)?, row.parse(TenantId::parse)?);
        let (email, role, has_account) = (row.get()?, row.parse(Role::parse)?, row.get()?);
        let (status, members) = (row.parse(TenantStatus::parse)?, row.get()?);
        Ok(Self { id, tenant, email, role, has_account, status, members })
    }
}

/// What the mail of an invitation is made of.
pub struct InvitationMail {
    /// The address that it goes to.
    pub address: String,
    /// The origin of its link.
    pub origin: String,
    /// The invitation.
    pub id: InvitationId,
    /// The role that the person gets.
    pub role: Role,
    /// The hash of its token.
    pub token_hash: String,
    /// Until when it holds.
    pub expires_at: UnixMillis,
    /// The tenant that it leads to.
    pub tenant: TenantId,
    /// The address of the person who invites.
    pub inviter: String,
}

impl FromRow for InvitationMail {
    const COLUMNS: &'static [&'static str] =
        &["address", "origin", "id", "role", "token_hash", "expires_ms", "tenant_id", "inviter"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            address: row.get()?,
            origin: row.get()?,
            id: row.parse(InvitationId::parse)?,
            role: row.parse(Role::parse)?,
            token_hash: row.get()?,
            expires_at: row.get()?,
            tenant: row.parse(TenantId::parse)?,
            inviter: row.get()?,
        })
    }
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// A request to sign in.
    SignIn,
    /// An invitation.
    Invitation,
    /// A question whether to delete the tenant.
    Deletion,
    /// An account of another service that was linked.
    Identity,
    /// A notice about alerts.
    Alert,
}

/// A mail that is tried.
pub struct ClaimedMail {
    /// What it is about.
    pub kind: MailKind,
    /// The tries with this one.
    pub tries: u64,
    /// When it was asked for.
    pub created_at: UnixMillis,
    /// Whether its address gets no mail.
    pub is_marked: bool,
}

impl FromRow for ClaimedMail {
    const COLUMNS: &'static [&'static str] = &["kind", "tries", "created_ms", "is_marked"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let kind = row.parse(|text| match text {
            "sign_in" => Some(MailKind::SignIn),
            "invitation" => Some(MailKind::Invitation),
            "deletion" => Some(MailKind::Deletion),
            "identity" => Some(MailKind::Identity),
            "alert" => Some(MailKind::Alert),
            _ => None,
        })?;
        Ok(Self { kind, tries: row.get()?, created_at: row.get()?, is_marked: row.get()? })
    }
}

/// A mail that was not sent yet.
pub struct LostMail {
    /// `mail_…`.
    pub id: MailId,
}

impl FromRow for LostMail {
    const COLUMNS: &'static [&'static str] = &["id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(MailId::parse)? })
    }
}

/// A mail in the mailbox.
pub struct MailboxRow {
    /// The mail as operators read it.
    pub mail: MailView,
}

impl FromRow for MailboxRow {
    const COLUMNS: &'static [&'static str] = &["mail_id", "address", "subject", "text", "html", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let mail = MailView {
            id: row.parse(MailId::parse)?.to_string(),
            to: row.get()?,
            subject: row.get()?,
            text: row.get()?,
            html: row.get()?,
            sent_at: row.get::<UnixMillis>()?.rfc3339(),
        };
        Ok(Self { mail })
    }
}
