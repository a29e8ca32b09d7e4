//! Signing in by a mail: its link's token and its code, how often a mail may be asked for, and whom an address signs in.
//!
//! Token and code are derived from the id of the request and a pepper. Neither is stored: the directory holds the token's
//! hash, by which it is found, and a mail that is sent a second time is the same mail.

use super::secret::Secret;
use crate::tenancy::role::Role;
use subtle::ConstantTimeEq;
use x402_chain::id::{SignInId, TenantId};
use x402_chain::time::UnixMillis;

/// How long a link and a code hold: a mail may be slow, and a person look for it.
pub const SIGN_IN_MS: u64 = 15 * 60 * 1_000;
/// The most codes that are compared: five of a million.
pub const TRIES_MAX: u64 = 5;
/// The span of [`ADDRESS_MAX`], [`PREFIX_MAX`] and [`ALL_MAX`].
pub const SPAN_MS: u64 = SIGN_IN_MS;
/// The most mails to one address, asked for from one prefix, in 15 minutes.
pub const ADDRESS_MAX: u64 = 5;
/// The most mails to one address in a day, and of those from one prefix. No bound but [`ADDRESS_MAX`] and [`KNOWN_DAY_MAX`]
/// holds for a browser in which the person has signed in before ([`super::known`]), else strangers could keep him out.
pub const ADDRESS_DAY_MAX: u64 = 20;
/// The most mails to one address in a day where a prefix asks for the first time: with five tries each, 500 guesses of a
/// million.
pub const ADDRESS_NEW_MAX: u64 = 100;
/// Of the prefixes that ask for the first time, the most of one network around them: whoever rents one has its prefixes.
pub const NEW_AROUND_MAX: u64 = 5;
/// The most mails to one address in a day from browsers in which its person has signed in.
pub const KNOWN_DAY_MAX: u64 = 40;
/// A day, the span of [`ADDRESS_DAY_MAX`].
pub const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// The most mails asked for from one prefix of addresses in 15 minutes: an office behind one address signs in.
pub const PREFIX_MAX: u64 = 20;
/// The most mails of the whole service in 15 minutes: what a sender's reputation bears. It does not hold for a prefix that
/// has asked for less than [`LITTLE`].
pub const ALL_MAX: u64 = 2_000;
/// What a prefix may ask for in 15 minutes, however much others ask for.
pub const LITTLE: u64 = 2;
/// The most of such mails from the network around a prefix ([`super::client::network_around`]).
pub const AROUND_MAX: u64 = 20;

/// The most wrong codes of a day (UTC) from one prefix of addresses.
pub const WRONG_PREFIX_MAX: u64 = 20;
/// The most wrong codes of a day (UTC) from all: a thousand guesses of a million, a chance of one in a thousand that any code
/// is met. From then on a code is compared only in a browser in which the person has signed in; links sign in as before.
pub const WRONG_ALL_MAX: u64 = 1_000;

/// The start of the day (UTC) in which wrong codes are counted, and the seconds until the next.
#[must_use]
pub const fn day_of(now: UnixMillis) -> (UnixMillis, u64) {
    let gone = now.0 % DAY_MS;
    (UnixMillis(now.0.saturating_sub(gone)), DAY_MS.saturating_sub(gone).div_ceil(1_000))
}

/// The mailbox of an address, by which mails are counted: what follows a plus sign leads to the same person. The directory's
/// columns `mailbox` hold the same.
#[must_use]
pub fn mailbox(email: &str) -> String {
    let (local, host) = email.split_once('@').unwrap_or((email, ""));
    match local.split_once('+') {
        Some((name, _)) if !name.is_empty() => format!("{name}@{host}"),
        Some(_) | None => email.to_owned(),
    }
}

/// What a person asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInIntent {
    /// A new tenant, unless the address belongs to one.
    SignUp,
    /// A session of a tenant that the address belongs to.
    LogIn,
}

impl SignInIntent {
    /// Both.
    pub const ALL: [Self; 2] = [Self::SignUp, Self::LogIn];

    /// The name in the directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignUp => "signup",
            Self::LogIn => "login",
        }
    }

    /// The intent with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|intent| intent.name() == text)
    }
}

/// The secrets of one mail.
#[derive(Debug)]
pub struct SignInSecrets {
    /// The token of the link; it signs in from any browser.
    pub token: Secret,
    code: u64,
}

impl SignInSecrets {
    /// Those of a request. The first pepper makes new ones.
    #[must_use]
    pub fn of(id: SignInId, pepper: &[u8; 32]) -> Option<Self> {
        let id = id.to_string();
        let token = Secret::derived(pepper, "x402 sign-in token", &id)?;
        // Of 2^64 numbers, each code stands for as many but one: no guess is better than another.
        let code = Secret::derived(pepper, "x402 sign-in code", &id)?.number().checked_rem(1_000_000)?;
        Some(Self { token, code })
    }

    /// Those whose token has this hash, under the pepper that made them; `None` where the pepper is gone.
    #[must_use]
    pub fn find(id: SignInId, token_hash: &str, peppers: &[[u8; 32]]) -> Option<Self> {
        peppers.iter().filter_map(|pepper| Self::of(id, pepper)).find(|made| made.token.has_hash(token_hash))
    }

    /// The code of six digits; it signs in only from the browser that asked.
    #[must_use]
    pub fn code(&self) -> String {
        format!("{:06}", self.code)
    }

    /// Whether this is the code; compared in constant time.
    #[must_use]
    pub fn is_code(&self, given: &str) -> bool {
        self.code().as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// A tenant that a person belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// The person's role in it.
    pub role: Role,
}

/// What a proven address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A session of a tenant that the person belongs to.
    Member(Membership),
    /// The person becomes the owner of a tenant that an operator made for this address, and that has no member.
    FirstOwner(TenantId),
    /// A new tenant, with the person as its owner.
    NewTenant,
    /// The address belongs to nobody.
    Nobody,
}

/// Decides what a proven address leads to. Of `memberships` the first counts; `unowned` is the
/// tenant whose contact is this address and that has no member.
#[must_use]
pub fn arrival(intent: SignInIntent, memberships: &[Membership], unowned: Option<TenantId>) -> Arrival {
    match (unowned, memberships.first(), intent) {
        // Nobody else can become its owner, and whoever is invited elsewhere would lose it.
        (Some(tenant), ..) => Arrival::FirstOwner(tenant),
        (None, Some(first), _) => Arrival::Member(*first),
        (None, None, SignInIntent::SignUp) => Arrival::NewTenant,
        (None, None, SignInIntent::LogIn) => Arrival::Nobody,
    }
}

/// When a request of this time ends.
#[must_use]
pub const fn expiry(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(SIGN_IN_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn id(random: u8) -> SignInId {
        SignInId::new(UnixMillis(1), [random; 10])
    }

    #[test]
    fn a_request_has_its_own_secrets_and_the_same_each_time() {
        let [one, again, other] = [id(1), id(1), id(2)].map(|id| SignInSecrets::of(id, &OLD).expect("made"));
        assert_eq!((one.token, one.code()), (again.token, again.code()));
        assert_ne!(one.token, other.token);
        assert_ne!(one.token, SignInSecrets::of(id(1), &NEW).expect("made").token);
        assert!(one.code().len() == 6 && one.code().bytes().all(|digit| digit.is_ascii_digit()));
        assert!(one.is_code(&one.code()) && !one.is_code("") && !one.is_code(&format!("{}0", one.code())));
    }

    #[test]
    fn a_mail_is_the_same_after_a_new_pepper_came_first() {
        let made = SignInSecrets::of(id(1), &OLD).expect("made");
        let found = SignInSecrets::find(id(1), &made.token.hash(), &[NEW, OLD]).expect("found");
        assert_eq!((found.token, found.code()), (made.token, made.code()));
        assert!(SignInSecrets::find(id(1), &made.token.hash(), &[NEW]).is_none());
    }

    #[test]
    fn wrong_codes_are_counted_by_the_day() {
        let begin = UnixMillis(20_000 * DAY_MS);
        let at = |ms: u64| day_of(UnixMillis(begin.0 + ms));
        assert_eq!((at(0), at(1)), ((begin, 86_400), (begin, 86_400)));
        assert_eq!((at(DAY_MS - 1), at(DAY_MS)), ((begin, 1), (UnixMillis(begin.0 + DAY_MS), 86_400)));
    }

    #[test]
    fn addresses_with_a_plus_are_of_one_mailbox() {
        for (email, want) in [
            ("ann@x.test", "ann@x.test"),
            ("ann+1@x.test", "ann@x.test"),
            ("ann+a+b@x.test", "ann@x.test"),
            ("+1@x.test", "+1@x.test"),
            ("a.nn@x.test", "a.nn@x.test"),
        ] {
            assert_eq!(mailbox(email), want);
        }
    }

    #[test]
    fn a_link_and_a_code_end_after_15_minutes() {
        assert_eq!(expiry(UnixMillis(5)), UnixMillis(5 + 15 * 60 * 1_000));
    }

    #[test]
    fn an_address_leads_to_the_tenant_that_it_belongs_to() {
        let tenant = TenantId([1; 12]);
        let member = Membership { tenant, role: Role::Viewer };
        let other = Some(TenantId([2; 12]));
        for intent in SignInIntent::ALL {
            assert_eq!(arrival(intent, &[member], None), Arrival::Member(member));
            for joined in [&[][..], &[member]] {
                assert_eq!(arrival(intent, joined, other), Arrival::FirstOwner(TenantId([2; 12])));
            }
            assert_eq!(SignInIntent::parse(intent.name()), Some(intent));
        }
        assert_eq!(arrival(SignInIntent::SignUp, &[], None), Arrival::NewTenant);
        assert_eq!(arrival(SignInIntent::LogIn, &[], None), Arrival::Nobody);
    }
}
