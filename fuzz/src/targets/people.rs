//! What signs people and programs in, and secrets as texts.

use crate::properties::{canonical, text};
use crate::targets::http::PEPPERS;
use x402_chain::id::{DeletionId, InvitationId, SignInId};
use x402_chain::time::UnixMillis;
use x402_core::people::oauth::{Identity, IdentityProvider};
use x402_core::people::oidc::MailDomain;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::{SignInIntent, SignInSecrets};
use x402_core::people::{deletion, invitation, known, oidc, sign_in as rules};
use x402_core::sealing::Sealed;
use x402_core::tenancy::key;
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::{Scope, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::webhook::secret::WebhookSecret;

pub(crate) fn api_key(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let _ = key::last_four(given);
    let found = key::read_any(given, &PEPPERS);
    let Some(caller) = found else { return false };
    assert_eq!(caller.hash, KeyHash::of(given));
    let of_kinds = KeyKind::ALL.iter().filter(|kind| key::read(given, **kind, &PEPPERS).is_some()).count();
    assert_eq!(of_kinds, 1, "a key of two kinds");
    // One spelling: with any letter changed, left out or added it is no key.
    for at in 0..given.len() {
        let (head, tail) = given.split_at(at);
        let changed = [
            format!("{head}{}", &tail[1..]),
            format!("{head}1{tail}"),
            format!("{head}{}{}", if tail.starts_with('a') { 'b' } else { 'a' }, &tail[1..]),
        ];
        assert!(changed.iter().all(|other| key::read_any(other, &PEPPERS).is_none()), "another spelling is a key");
    }
    assert!(key::read_any(&given.to_ascii_uppercase(), &PEPPERS).is_none());
    assert!(key::read_any(given, &[[3; 32]]).is_none(), "signed by no pepper");
    true
}

pub(crate) fn secret(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let read = Secret::parse(given);
    assert!(read.is_none_or(|secret| !format!("{secret:?}").contains(given)), "a secret is shown");
    if let Some(secret) = read {
        let _ = known::is_known(&secret, given, &PEPPERS);
    }
    canonical(given, read.map(|secret| secret.text()))
}

/// Texts beside a secret: a code, hashes of the directory, an address.
pub(crate) fn sign_in(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let id = SignInId::new(UnixMillis(1), [7; 10]);
    let secrets = SignInSecrets::of(id, &PEPPERS[0]).expect("secrets");
    assert_eq!(secrets.is_code(given), secrets.code() == given);
    let found = SignInSecrets::find(id, given, &PEPPERS).is_some();
    assert_eq!(
        found,
        PEPPERS.iter().any(|pepper| SignInSecrets::of(id, pepper).is_some_and(|made| made.token.hash() == given))
    );
    let others = invitation::find_token(InvitationId::new(UnixMillis(1), [7; 10]), given, &PEPPERS).is_some()
        || deletion::find_token(DeletionId::new(UnixMillis(1), [7; 10]), given, &PEPPERS).is_some();
    let mailbox = rules::mailbox(given);
    assert!(mailbox.len() <= given.len() + 1);
    assert_eq!(rules::mailbox(&mailbox), mailbox, "{given}");
    assert!(invitation::shown_inviter(given).len() <= given.len().max(40));
    let names = [
        canonical(given, SignInIntent::parse(given).map(SignInIntent::name)),
        canonical(given, Role::parse(given).map(Role::name)),
        canonical(given, Scope::parse(given).map(Scope::name)),
        canonical(given, TenantStatus::parse(given).map(TenantStatus::name)),
        canonical(given, Tier::parse(given).map(|tier| tier.plan().name)),
    ];
    secrets.is_code(given) || found || others || names.contains(&true)
}

pub(crate) fn identity(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    assert_eq!(IdentityProvider::parse(given).is_some(), given == "github");
    canonical(given, Identity::parse(given).map(|identity| identity.id()))
}

pub(crate) fn mail_domain(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    assert!(!oidc::is_recorded(&[given.to_owned()], "a-token-that-nobody-knows"));
    let Some(domain) = MailDomain::parse(given) else { return false };
    assert_eq!(domain.as_str(), given.to_ascii_lowercase());
    assert!(domain.record_name().len() <= 253);
    let address = format!("ann@{domain}");
    assert_eq!(MailDomain::of(&address).as_ref(), Some(&domain));
    assert!(
        domain.has(&address) && !domain.has(&format!("ann@sub.{domain}")) && !domain.has(&format!("ann@x{domain}"))
    );
    true
}

pub(crate) fn sealed(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    canonical(given, Sealed::parse(given).map(|sealed| sealed.text()))
}

pub(crate) fn webhook_secret(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let read = WebhookSecret::parse(given);
    assert!(read.as_ref().is_none_or(|secret| !format!("{secret:?}").contains(given)), "a secret is shown");
    canonical(given, read.map(|secret| secret.text()))
}
