//! The texts of mails, in plain text and HTML.

use super::oauth::{Identity, IdentityProvider};
use super::secret::Secret;
use super::sign_in::{SIGN_IN_MS, SignInIntent, SignInSecrets};
use crate::tenancy::branding::{BrandName, Branding, Color, branding_shown};
use crate::tenancy::role::Role;
use crate::tenancy::tier::Tier;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// A mail as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailText {
    /// The subject line.
    pub subject: &'static str,
    /// The body in plain text.
    pub text: String,
    /// The body in HTML.
    pub html: String,
}

/// The mail of a request to sign in. `is_known`: the address belongs to a person or a tenant. Nobody else learns from an
/// answer whether it does, so this mail says it.
#[must_use]
pub fn sign_in_mail(intent: SignInIntent, is_known: bool, secrets: &SignInSecrets, origin: &str) -> MailText {
    let minutes = SIGN_IN_MS / 60_000;
    let unasked = "If you did not ask for this, ignore this mail: nothing happens.";
    let (subject, first) = match (intent, is_known) {
        (SignInIntent::SignUp, false) => ("Confirm your address", "Confirm your address to finish your sign-up."),
        (SignInIntent::SignUp, true) => ("Sign in", "You already have an account with this address. Sign in to it."),
        (SignInIntent::LogIn, true) => ("Sign in", "Sign in to your account."),
        (SignInIntent::LogIn, false) => {
            let first = "Somebody asked to sign in with this address, and there is no account with it.";
            let second = "Sign up to make one, or try the address that you signed up with.";
            return written("No account with this address", &[first, second, unasked], None);
        }
    };
    // The token stands in the fragment, which no browser sends: only a click on the page uses it, and no mail scanner
    // that opens the link.
    let link = format!("{origin}/sign-in#token={}", secrets.token.text());
    let code = format!("Your code, for the browser that you asked in: {}", secrets.code());
    let holds = format!("Code and link can be used once, within {minutes} minutes. {unasked}");
    written(subject, &[first, &code, &holds], Some((subject, &link)))
}

/// What a mail shows of the tenant that it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantInMail {
    name: Option<BrandName>,
    color: Option<Color>,
    support_address: Option<String>,
}

impl TenantInMail {
    /// What is shown of a tenant's branding and support address: nothing in a tier without branding, since whoever signs
    /// up could write to strangers by it; no picture, since its server would learn who reads the mail; and only an address
    /// of plain letters, since mail programs make links of others.
    #[must_use]
    pub fn of(tier: Tier, branding: Option<Branding>, support_address: Option<String>) -> Self {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "@.+-_".contains(letter);
        let support_address = support_address.filter(|text| tier.plan().branding && text.chars().all(plain));
        let shown = branding_shown(tier, branding).unwrap_or_default();
        Self { name: shown.name, color: shown.primary_color, support_address }
    }
}

/// The mail of an invitation to a tenant.
#[must_use]
pub fn invitation_mail(inviter: &str, role: Role, token: &Secret, origin: &str, tenant: &TenantInMail) -> MailText {
    let role = role.name();
    let first = match &tenant.name {
        // A zero-width space after each dot: mail programs make links of names such as `example.com`.
        Some(name) => {
            let name = name.to_string().replace('.', ".\u{200b}");
            format!("{inviter} invites you to work together on x402-edge for “{name}”, as {role}.")
        }
        None => format!("{inviter} invites you to work together on x402-edge, as {role}."),
    };
    let link = format!("{origin}/join#token={}", token.text());
    let holds =
        "The invitation can be accepted once, within seven days. If you do not know the sender, ignore this mail.";
    let support = tenant.support_address.as_ref().map(|address| format!("Questions are answered at {address}."));
    let paragraphs = [Some(first.as_str()), Some(holds), support.as_deref()];
    let paragraphs: Vec<&str> = paragraphs.into_iter().flatten().collect();
    written_in("You are invited", &paragraphs, Some(("Accept the invitation", &link)), tenant.color)
}

/// The mail that asks an owner a second time whether the tenant is to be deleted.
#[must_use]
pub fn deletion_mail(tenant: TenantId, token: &Secret, origin: &str) -> MailText {
    let first = format!("You asked to delete the tenant {tenant}. Confirm it, or nothing is deleted.");
    let link = format!("{origin}/delete#token={}", token.text());
    let then = "Its API keys are then revoked at once, for good. For seven days an owner can undo the deletion; after that \
        the personal data are erased. A plan that is paid for does not renew from then on, and ends with the tenant.";
    let holds = format!(
        "The link works for one hour, in a session of an owner. If you did not ask for this, do not use it, and end your \
        sessions: {origin}"
    );
    written("Delete your tenant?", &[&first, then, &holds], Some(("Delete the tenant", &link)))
}

/// An account of another service that was linked to a person's.
#[derive(Clone, Copy, Debug)]
pub struct LinkedAccount<'a> {
    /// The account.
    pub identity: Identity<'a>,
    /// Its name there, of plain letters.
    pub name: Option<&'a str>,
    /// When it was linked.
    pub at: UnixMillis,
    /// The network of the client that linked it: a prefix of addresses, or `unknown`.
    pub ip_prefix: &'a str,
}

/// The mail that tells a person that an account of another service signs in to his.
#[must_use]
pub fn linked_mail(account: &LinkedAccount<'_>, origin: &str) -> MailText {
    let LinkedAccount { identity, name, at, ip_prefix } = account;
    let (service, number) = (identity.provider.title(), identity.subject);
    let who = name.map_or_else(|| format!("number {number}"), |name| format!("“{name}” (number {number})"));
    let first = format!(
        "The {service} account {who} was linked to your account here, and can sign in to it from now on: {service} has \
         verified your address for it. This was done on {}, from the network {ip_prefix}.",
        at.rfc3339()
    );
    let known = "If this was you, there is nothing to do.";
    let unknown = format!(
        "If it was not you: sign in by a mail, remove the account from your linked accounts, which shuts it out for good, \
         and sign out everywhere. Then look which addresses your own {service} account has."
    );
    let subject = match identity.provider {
        IdentityProvider::Github => "A GitHub account can sign in to yours",
        IdentityProvider::Oidc(_) => "Your company's account can sign in to yours",
    };
    written(subject, &[&first, known, &unknown], Some(("Open your account", origin)))
}

/// Whose a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeOf {
    /// Operators'.
    Operators,
    /// An alert to a tenant, whose owners may want none.
    Alert(TenantId),
    /// About what a tenant pays: its owners get it, whatever they want of alerts.
    Billing(TenantId),
}

/// The mail of a notice: a title, a paragraph for each line of its text, and for a tenant whose it is.
#[must_use]
pub fn alert_mail(title: &'static str, text: &str, of: NoticeOf, origin: &str) -> MailText {
    let (last, link) = match of {
        NoticeOf::Operators => (None, None),
        NoticeOf::Alert(tenant) => {
            let can = "Its owners get these mails, and can turn them off in its settings.";
            (Some(format!("This is about the tenant {tenant}. {can}")), Some(("Open your account", origin)))
        }
        NoticeOf::Billing(tenant) => {
            let why =
                "All its owners get this mail, also where alerts by mail are turned off: it is about what is paid.";
            (Some(format!("This is about the tenant {tenant}. {why}")), Some(("Open your account", origin)))
        }
    };
    let paragraphs: Vec<&str> = text.lines().chain(last.as_deref()).collect();
    written(title, &paragraphs, link.filter(|(_, url)| !url.is_empty()))
}

/// Paragraphs as a mail; the link comes after the first.
fn written(subject: &'static str, paragraphs: &[&str], link: Option<(&str, &str)>) -> MailText {
    written_in(subject, paragraphs, link, None)
}

/// The same under a line of a colour.
fn written_in(
    subject: &'static str,
    paragraphs: &[&str],
    link: Option<(&str, &str)>,
    color: Option<Color>,
) -> MailText {
    let style = color.map(|color| format!(" style=\"border-top:4px solid {color}\"")).unwrap_or_default();
    let (mut text, mut html) = (String::new(), format!("<!doctype html><html lang=\"en\"><body{style}>"));
    let mut link = link;
    for paragraph in paragraphs {
        text.push_str(paragraph);
        text.push_str("\n\n");
        html.push_str(&format!("<p>{}</p>", escaped(paragraph)));
        if let Some((label, url)) = link.take() {
            text.push_str(&format!("{label}: {url}\n\n"));
            html.push_str(&format!("<p><a href=\"{}\">{}</a></p>", escaped(url), escaped(label)));
        }
    }
    html.push_str("</body></html>");
    MailText { subject, text, html }
}

/// A text within HTML, or within a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::branding::LogoUrl;
    use x402_chain::id::SignInId;

    #[test]
    fn a_mail_holds_its_link_and_its_code_in_both_forms() {
        let secrets = SignInSecrets::of(SignInId::new(UnixMillis(1), [1; 10]), &[1; 32]).expect("made");
        for (intent, is_known) in
            [(SignInIntent::SignUp, false), (SignInIntent::SignUp, true), (SignInIntent::LogIn, true)]
        {
            let mail = sign_in_mail(intent, is_known, &secrets, "https://x.test");
            let link = format!("https://x.test/sign-in#token={}", secrets.token.text());
            for body in [&mail.text, &mail.html] {
                assert!(body.contains(&link) && body.contains(&secrets.code()), "{body}");
            }
        }
        let none = sign_in_mail(SignInIntent::LogIn, false, &secrets, "https://x.test");
        for secret in [secrets.code(), secrets.token.text()] {
            assert!(!none.text.contains(&secret) && !none.html.contains(&secret));
        }
    }

    #[test]
    fn the_mail_of_a_deletion_names_the_tenant_and_what_is_lost() {
        let (tenant, token) = (TenantId([1; 12]), Secret::new([2; 32]));
        let mail = deletion_mail(tenant, &token, "https://x.test");
        let link = format!("https://x.test/delete#token={}", token.text());
        for body in [&mail.text, &mail.html] {
            for part in [link.as_str(), &tenant.to_string(), "seven days", "one hour", "does not renew"] {
                assert!(body.contains(part), "{body}");
            }
        }
    }

    #[test]
    fn the_mail_of_a_linked_account_says_which_when_from_where_and_how_it_ends() {
        let identity = Identity { provider: IdentityProvider::Github, subject: "583231" };
        let at = UnixMillis(1_000);
        for (name, who) in [(Some("octocat"), "“octocat” (number 583231)"), (None, "account number 583231")] {
            let mail =
                linked_mail(&LinkedAccount { identity, name, at, ip_prefix: "203.0.113.0/24" }, "https://x.test");
            for body in [&mail.text, &mail.html] {
                for part in [who, "1970-01-01T00:00:01.000Z", "203.0.113.0/24", "remove the account", "https://x.test"]
                {
                    assert!(body.contains(part), "{part}: {body}");
                }
            }
        }
    }

    #[test]
    fn the_mail_of_a_notice_has_its_lines_and_names_the_tenant() {
        let tenant = TenantId([1; 12]);
        let mail = alert_mail("A title", "One.\n<two>", NoticeOf::Alert(tenant), "https://x.test");
        assert_eq!(mail.subject, "A title");
        assert!(mail.html.contains("<p>&lt;two&gt;</p>"));
        for body in [&mail.text, &mail.html] {
            for part in ["One.", &tenant.to_string(), "turn them off", "https://x.test"] {
                assert!(body.contains(part), "{part}: {body}");
            }
        }
        // Nobody has asked for a page of operators, and a developer's machine may have no address.
        let mail = alert_mail("A title", "One.", NoticeOf::Operators, "https://x.test");
        assert_eq!(mail.text, "One.\n\n");
        assert!(!alert_mail("A title", "One.", NoticeOf::Alert(tenant), "").text.contains("Open"));
        // What is paid for cannot be turned off.
        let mail = alert_mail("A title", "One.", NoticeOf::Billing(tenant), "https://x.test");
        for body in [&mail.text, &mail.html] {
            assert!(body.contains(&tenant.to_string()) && !body.contains("can turn them off"), "{body}");
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        let mail = written("S", &["a < b & \"c\"</p>"], Some(("L", "https://x.test/\"><script>")));
        assert!(mail.html.contains("a &lt; b &amp; &quot;c&quot;&lt;/p&gt;") && !mail.html.contains("<script>"));
    }

    fn branding() -> Branding {
        Branding {
            name: BrandName::parse("Ann & Co. evil.com"),
            logo_url: LogoUrl::parse("https://ann.example/logo.png"),
            primary_color: Color::parse("#00ffaa"),
            background_color: None,
        }
    }

    fn invitation_of(tenant: &TenantInMail) -> MailText {
        invitation_mail("bob@example.test", Role::Viewer, &Secret::new([1; 32]), "https://x.test", tenant)
    }

    #[test]
    fn an_invitation_names_a_tenant_whose_tier_shows_its_branding() {
        let plain = invitation_of(&TenantInMail::default());
        for (tier, is_shown) in [(Tier::Free, false), (Tier::Pro, true), (Tier::Enterprise, true)] {
            let shown = TenantInMail::of(tier, Some(branding()), Some("help@ann.example".to_owned()));
            let mail = invitation_of(&shown);
            assert_eq!(mail != plain, is_shown, "{tier:?}");
            assert_eq!(mail.text.contains("“Ann & Co.\u{200b} evil.\u{200b}com”"), is_shown);
            assert_eq!(mail.html.contains("<body style=\"border-top:4px solid #00ffaa\">"), is_shown);
            for body in [&mail.text, &mail.html] {
                assert_eq!(body.contains("Questions are answered at help@ann.example."), is_shown);
                // Its link is the service's, and it is the only one.
                assert_eq!(body.matches("http").count(), 1, "{body}");
                assert!(!body.contains("evil.com") && !body.contains("logo.png"));
            }
        }
    }

    #[test]
    fn a_support_address_that_could_be_a_link_is_not_shown() {
        for address in ["https://evil.example/@x", "<b>@x.y", "a@b.c\u{200b}", "ä@b.c"] {
            let shown = TenantInMail::of(Tier::Pro, None, Some(address.to_owned()));
            assert_eq!(shown, TenantInMail::default(), "{address}");
        }
    }
}
