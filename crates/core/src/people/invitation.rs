//! Invitations to a tenant: how long they hold, how many there may be, and the token of their link.

use super::secret::Secret;
use x402_chain::id::InvitationId;
use x402_chain::time::UnixMillis;

/// How long an invitation holds: a week, over a weekend and a day off.
pub const INVITATION_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// The most invitations of a tenant in a day: each is a mail to somebody who did not ask for it.
pub const INVITATIONS_DAY_MAX: u64 = 20;
/// The most invitations of a tenant to an address in a day, and the most other tenants from which the address gets some: of
/// those that signed up by themselves, are of the free tier and have no confirmed payment. No other tenant is counted, or
/// refused, for what others do.
pub const ADDRESS_DAY_MAX: u64 = 3;
/// The most mails of a tenant to an address in a day by repeats of an invitation, with the first ones.
pub const ADDRESS_MAILS_MAX: u64 = 4;
/// The most invitations of all such tenants in a day, beyond two of each.
pub const ALL_DAY_MAX: u64 = 5_000;
/// The most members of a tenant.
pub const MEMBERS_MAX: u64 = 100;

/// The token of an invitation's link.
#[must_use]
pub fn token(id: InvitationId, pepper: &[u8; 32]) -> Option<Secret> {
    Secret::derived(pepper, "x402 invitation token", &id.to_string())
}

/// The token with this hash, under the pepper that made it; `None` where the pepper is gone.
#[must_use]
pub fn find_token(id: InvitationId, hash: &str, peppers: &[[u8; 32]]) -> Option<Secret> {
    peppers.iter().filter_map(|pepper| token(id, pepper)).find(|made| made.has_hash(hash))
}

/// Who invites, as the mail names it. Whoever signs up chooses his address: one that could be read as anything else, as a
/// link, is not shown to strangers.
#[must_use]
pub fn shown_inviter(email: &str) -> &str {
    let is_plain = email.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._%+-@".contains(&byte));
    if is_plain { email } else { "Somebody" }
}

/// When an invitation of this time ends.
#[must_use]
pub const fn expiry(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(INVITATION_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::sign_in::SignInSecrets;
    use x402_chain::id::SignInId;

    #[test]
    fn a_mail_shows_no_address_that_could_be_a_link() {
        assert_eq!(shown_inviter("ann.b+c@x-y.test"), "ann.b+c@x-y.test");
        for odd in ["pay-at/evil.example/x@evil.example", "a?b@x.test", "a#b@x.test"] {
            assert_eq!(shown_inviter(odd), "Somebody", "{odd}");
        }
    }

    #[test]
    fn an_invitation_has_a_token_of_its_own() {
        let id = |random| InvitationId::new(UnixMillis(1), [random; 10]);
        let (old, new) = ([1; 32], [2; 32]);
        let made = token(id(1), &old).expect("made");
        assert_eq!(find_token(id(1), &made.hash(), &[new, old]), Some(made));
        assert_eq!(find_token(id(1), &made.hash(), &[new]), None);
        assert_eq!(find_token(id(2), &made.hash(), &[old]), None);
        let sign_in = SignInSecrets::of(SignInId::new(UnixMillis(1), [1; 10]), &old).expect("made");
        assert_ne!(sign_in.token, made);
    }
}
