//! How mails are sent: the backend, the sender, and the secret of the provider's webhooks.

use super::{PUBLIC_URL, Setting};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BACKEND: &str = "MAIL_BACKEND";
const FROM: &str = "MAIL_FROM";
const RESEND_KEY: &str = "RESEND_API_KEY";
const RESEND_WEBHOOK: &str = "RESEND_WEBHOOK_SECRET";

/// The row of `MAIL_BACKEND`.
pub(super) const BACKEND_ROW: Setting = Setting {
    name: BACKEND,
    secret: false,
    required: false,
    default: "none: nobody signs up or signs in by a mail",
    meaning: "How mails are sent. `cloudflare`: by the binding `EMAIL` (Cloudflare Email Service). `resend`: by Resend's \
              API. Both need `MAIL_FROM` and `PUBLIC_URL`. `mailbox`: they are not sent; operators read them at \
              `/v1/admin/mailbox`, with their links. For a developer's machine only.",
};
/// The row of `MAIL_FROM`.
pub(super) const FROM_ROW: Setting = Setting {
    name: FROM,
    secret: false,
    required: false,
    default: "none; required with `cloudflare` and `resend`",
    meaning: "The sender of mails: `name@domain`, or `A name <name@domain>`. The domain is verified with the provider.",
};
/// The row of `RESEND_API_KEY`.
pub(super) const RESEND_KEY_ROW: Setting = Setting {
    name: RESEND_KEY,
    secret: true,
    required: false,
    default: "none; required with `resend`",
    meaning: "Resend's API key (`re_…`). The permission to send is enough.",
};
/// The row of `RESEND_WEBHOOK_SECRET`.
pub(super) const RESEND_WEBHOOK_ROW: Setting = Setting {
    name: RESEND_WEBHOOK,
    secret: true,
    required: false,
    default: "none: `/v1/webhooks/resend` does not exist",
    meaning: "The signing secret (`whsec_…`) of Resend's webhook to `/v1/webhooks/resend`, with the events `email.bounced` \
              and `email.complained`: addresses that they name get no more mails.",
};

/// The most characters of a sender's name.
const NAME_MAX: usize = 100;
/// The most bytes of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const ADDRESS_MAX: usize = 254;

/// How mails are sent.
#[derive(Clone, PartialEq, Eq)]
pub enum MailBackend {
    /// They are not: operators read them.
    Mailbox,
    /// By the platform's binding.
    Cloudflare(MailSender),
    /// By Resend's API, with its key.
    Resend(MailSender, String),
}

/// Who sends mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSender {
    /// The name that readers see beside the address.
    pub name: Option<String>,
    /// The address.
    pub address: String,
}

impl MailSender {
    /// Reads `name@domain` or `A name <name@domain>`.
    fn parse(text: &str) -> Option<Self> {
        let (name, address) = match text.strip_suffix('>') {
            None => (None, text),
            Some(rest) => {
                let (name, address) = rest.split_once('<')?;
                (Some(name.trim()), address)
            }
        };
        let (local, domain) = address.split_once('@')?;
        // Characters that end or quote a part of the header `From` (RFC 5322, section 3.4).
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() || "<>\"\\,;:@()[]".contains(c));
        let is_address = [local, domain].iter().all(|part| !part.is_empty() && is_plain(part) && !part.contains(' '))
            && address.len() <= ADDRESS_MAX;
        let is_name = |name: &str| !name.is_empty() && is_plain(name) && name.chars().count() <= NAME_MAX;
        (is_address && name.is_none_or(is_name))
            .then(|| Self { name: name.map(str::to_owned), address: address.to_owned() })
    }

    /// The sender as one text, as it was set.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} <{}>", self.address),
            None => self.address.clone(),
        }
    }
}

/// The settings of mails.
#[derive(Default)]
pub(super) struct MailSettings {
    pub(super) backend: Option<MailBackend>,
    /// The key of Resend's webhooks.
    pub(super) webhook_key: Option<Vec<u8>>,
}

impl MailSettings {
    /// Reads them. `has_url`: `PUBLIC_URL` is set.
    pub(super) fn read(
        get: &impl Fn(&str) -> Option<String>,
        has_url: bool,
        wrong: &mut impl FnMut(&str, &'static str),
    ) -> Self {
        let (name, from) = (get(BACKEND), get(FROM));
        let sender = from.as_deref().and_then(MailSender::parse);
        if from.is_some() && sender.is_none() {
            wrong(FROM, "must be `name@domain`, or `A name <name@domain>`");
        }
        let key = get(RESEND_KEY);
        let is_sent = matches!(name.as_deref(), Some("cloudflare" | "resend"));
        if is_sent && from.is_none() {
            wrong(FROM, "must be set where mails are sent");
        }
        if is_sent && !has_url {
            wrong(PUBLIC_URL, "must be set where mails are sent: their links begin with it");
        }
        // A key is sent in a header.
        let is_token = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.as_ref().is_some_and(|key| !is_token(key)) {
            wrong(RESEND_KEY, "must be one word of ASCII characters");
        }
        let backend = match (name.as_deref(), sender, key) {
            (None, ..) => None,
            (Some("mailbox"), ..) => Some(MailBackend::Mailbox),
            (Some("cloudflare"), sender, _) => sender.map(MailBackend::Cloudflare),
            (Some("resend"), _, None) => {
                wrong(RESEND_KEY, "must be set with the backend `resend`");
                None
            }
            (Some("resend"), sender, Some(key)) => sender.map(|sender| MailBackend::Resend(sender, key)),
            (Some(_), ..) => {
                wrong(BACKEND, "must be `cloudflare`, `resend` or `mailbox`");
                None
            }
        };
        let secret = get(RESEND_WEBHOOK);
        let webhook_key = secret.as_deref().and_then(webhook_key);
        if secret.is_some() && webhook_key.is_none() {
            wrong(RESEND_WEBHOOK, "must be `whsec_` and 24 to 64 bytes in base64");
        }
        Self { backend, webhook_key }
    }
}

/// The key of a webhook's secret (Standard Webhooks 1.0.0, "Signature scheme").
fn webhook_key(text: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(text.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], wrong: &[&str]) -> MailSettings {
        let get = |name: &str| pairs.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned());
        let mut found = Vec::new();
        let has_url = pairs.iter().any(|(name, _)| *name == PUBLIC_URL);
        let read = MailSettings::read(&get, has_url, &mut |name: &str, _| found.push(name.to_owned()));
        assert_eq!(found, wrong, "{pairs:?}");
        read
    }

    const URL: (&str, &str) = (PUBLIC_URL, "https://x.test");
    const SENDER: (&str, &str) = (FROM, "x402 <mail@x.test>");
    const KEY: (&str, &str) = (RESEND_KEY, "re_1");

    #[test]
    fn a_backend_has_all_that_it_needs() {
        assert!(check(&[], &[]).backend.is_none());
        assert!(check(&[(BACKEND, "mailbox")], &[]).backend == Some(MailBackend::Mailbox));
        let sender = MailSender { name: Some("x402".to_owned()), address: "mail@x.test".to_owned() };
        assert_eq!(sender.text(), SENDER.1);
        let read = check(&[(BACKEND, "cloudflare"), SENDER, URL], &[]).backend;
        assert!(read == Some(MailBackend::Cloudflare(sender.clone())));
        let read = check(&[(BACKEND, "resend"), SENDER, URL, KEY], &[]).backend;
        assert!(read == Some(MailBackend::Resend(sender, "re_1".to_owned())));
        check(&[(BACKEND, "cloudflare")], &[FROM, PUBLIC_URL]);
        check(&[(BACKEND, "resend")], &[FROM, PUBLIC_URL, RESEND_KEY]);
        check(&[(BACKEND, "resend"), SENDER, URL, (RESEND_KEY, "re 1")], &[RESEND_KEY]);
        check(&[(BACKEND, "smtp")], &[BACKEND]);
    }

    #[test]
    fn a_sender_is_an_address_that_may_have_a_name() {
        for right in ["a@b.test", "A B <a+c@b.test>", "Ä <a@b.test>"] {
            assert_eq!(MailSender::parse(right).map(|sender| sender.text()).as_deref(), Some(right));
        }
        for wrong in ["", "a", "a@", "@b", "a@b@c", "a b@c", "<a@b>", "A <a@b", "A <a@b> B", "A, B <a@b>", "A\nB <a@b>"]
        {
            assert_eq!(MailSender::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_webhooks_secret_is_long_enough() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let read = check(&[(RESEND_WEBHOOK, &secret(24))], &[]);
        assert_eq!(read.webhook_key, Some(vec![7; 24]));
        for wrong in
            [secret(23), secret(65), "whsec_".to_owned(), secret(24).replace("whsec_", ""), "whsec_?".to_owned()]
        {
            check(&[(RESEND_WEBHOOK, &wrong)], &[RESEND_WEBHOOK]);
        }
    }
}
