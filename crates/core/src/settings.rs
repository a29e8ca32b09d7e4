//! The settings: one table, read once. All mistakes are reported together, and none repeats a value.

mod billing;
pub mod mail;
mod operators;
pub mod provider;
mod request_log;
pub mod sentry;
pub mod sign_in;

use billing::BillingSettings;
use core::fmt;
use mail::{MailBackend, MailSettings};
use operators::OperatorSettings;
use sentry::SentrySettings;
use sha2::{Digest, Sha256};
use sign_in::{OauthClient, SignInSettings};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;
use x402_chain::address::{Family, Xpub};
use x402_chain::amount::Amount;
use x402_chain::collect::set_of;
use x402_chain::network::{Environment, NETWORKS, Network, TenantBudget, rpc_setting};
use x402_chain::signer::Signer;

/// One row of the table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name; `<CHAIN>` stands for a chain's key in capitals.
    pub name: &'static str,
    /// Whether it is a secret.
    pub secret: bool,
    /// Whether the service needs it to start.
    pub required: bool,
    /// The value, or the effect, where it is absent.
    pub default: &'static str,
    /// What the setting does, for the reference page.
    pub meaning: &'static str,
}

const ADMIN_KEY: &str = "ADMIN_KEY";
const KEY_PEPPERS: &str = "KEY_PEPPERS";
const QUORUM_USDC: &str = "QUORUM_USDC";
const QUORUM_USDC_DEFAULT: &str = "100";
const EVM_XPUB: &str = "EVM_XPUB";
/// The settings of the EVM keys: live, then test.
const EVM_SIGNERS: [&str; 2] = ["EVM_SIGNERS_LIVE", "EVM_SIGNERS_TEST"];
const SVM_SIGNERS: [&str; 2] = ["SOLANA_SIGNERS_LIVE", "SOLANA_SIGNERS_TEST"];
/// Daily budgets in dollars on a network, with their defaults: a tenant's, the part of it for failures, a signer's, and
/// that of all tenants of the free tier together.
const SETTLE_DAILY: [(&str, &str); 4] = [
    ("SETTLE_DAILY_USD", "100"),
    ("SETTLE_DAILY_FAILED_USD", "10"),
    ("SETTLE_DAILY_SIGNER_USD", "1000"),
    ("SETTLE_DAILY_FREE_USD", "50"),
];
const PUBLIC_URL: &str = "PUBLIC_URL";

/// The least length of an operator's key, in characters.
const ADMIN_KEY_MIN: usize = 32;
/// The most providers of a chain: a verification asks two or three.
const PROVIDERS_MAX: usize = 8;
/// The form that [`read_provider_urls`] accepts.
const PROVIDERS_RULE: &str = "must be 1 to 8 comma-separated https URLs (http on loopback only); a user and a \
                              password in one are percent-encoded UTF-8 without control characters, a comma as %2C; \
                              an international host name is in Punycode";
const PUBLIC_URL_RULE: &str = "must be an https origin (http on loopback only), without user and password, an \
                               international host name in Punycode";
/// The most signers of an environment: each is an object of its own on each chain.
const SIGNERS_MAX: usize = 16;

/// Every setting that the Worker reads; `docs/reference/settings.md` is generated from it.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: ADMIN_KEY,
        secret: true,
        required: true,
        default: "",
        meaning: "Operators' key for `X-Admin-Key`; at least 32 characters.",
    },
    Setting {
        name: KEY_PEPPERS,
        secret: true,
        required: true,
        default: "",
        meaning: "Comma-separated hex of 32 bytes each; the first signs new API keys, all verify.",
    },
    Setting {
        name: "RPC_<CHAIN>",
        secret: true,
        required: false,
        default: "the registry's public providers",
        meaning: "The chain's providers in order of preference, comma-separated `https` URLs (`http` on loopback), \
                  in place of the registry's; the chain's key in capitals with `_` for `-`: `RPC_BASE_SEPOLIA`. A user \
                  and a password, percent-encoded (`https://user:password@host`), are sent as Basic authentication.",
    },
    Setting {
        name: QUORUM_USDC,
        secret: false,
        required: false,
        default: QUORUM_USDC_DEFAULT,
        meaning: "From this amount of USDC on, two providers must agree where two are configured.",
    },
    Setting {
        name: EVM_XPUB,
        secret: false,
        required: false,
        default: "none: nothing is derived",
        meaning: "BIP-32 extended public key of an account (`xpub…`); its children `0/<index>` become recipients \
                  of tenants that ask for `\"derive\"`. Never a private key.",
    },
    Setting {
        name: EVM_SIGNERS[0],
        secret: true,
        required: false,
        default: "none: nothing is settled on live EVM chains",
        meaning: "Comma-separated hex private keys that pay gas on live EVM chains.",
    },
    Setting {
        name: EVM_SIGNERS[1],
        secret: true,
        required: false,
        default: "none: nothing is settled on EVM test networks",
        meaning: "The same for test networks.",
    },
    Setting {
        name: SVM_SIGNERS[0],
        secret: true,
        required: false,
        default: "none: nothing is settled on Solana",
        meaning: "Comma-separated base58 key pairs (64 bytes) that pay fees on Solana.",
    },
    Setting {
        name: SVM_SIGNERS[1],
        secret: true,
        required: false,
        default: "none: nothing is settled on Solana's test networks",
        meaning: "The same for test networks.",
    },
    Setting {
        name: SETTLE_DAILY[0].0,
        secret: false,
        required: false,
        default: SETTLE_DAILY[0].1,
        meaning: "Dollars that one tenant's settlements may cost on one network in a day (UTC), at the registry's \
                  price of the chain's coin; the worst cost is reserved before anything is signed, the real one charged.",
    },
    Setting {
        name: SETTLE_DAILY[1].0,
        secret: false,
        required: false,
        default: SETTLE_DAILY[1].1,
        meaning: "Dollars of it that failed settlements may cost; once they are used up, only payers who have completed \
                  a settlement with the tenant are served, one at a time.",
    },
    Setting {
        name: SETTLE_DAILY[2].0,
        secret: false,
        required: false,
        default: SETTLE_DAILY[2].1,
        meaning: "Dollars that one signer may pay for transactions on one network in a day (UTC); transactions \
                  that are not mined count at their worst cost.",
    },
    Setting {
        name: SETTLE_DAILY[3].0,
        secret: false,
        required: false,
        default: SETTLE_DAILY[3].1,
        meaning: "Dollars that all signers together may pay on one network in a day (UTC) for all tenants of the free \
                  tier together.",
    },
    Setting {
        name: PUBLIC_URL,
        secret: false,
        required: false,
        default: "the request's origin",
        meaning: "The origin that links in answers and in mails name. Required with `MAIL_BACKEND` `cloudflare` and `resend`, \
                  and with `GITHUB_CLIENT_ID`.",
    },
    mail::BACKEND_ROW,
    mail::FROM_ROW,
    mail::RESEND_KEY_ROW,
    mail::RESEND_WEBHOOK_ROW,
    sign_in::TURNSTILE_ROW,
    sign_in::GITHUB_ID_ROW,
    sign_in::GITHUB_SECRET_ROW,
    sign_in::DOH_ROW,
    operators::ALERT_URL_ROW,
    operators::MAIL_ROW,
    operators::METRICS_ROW,
    request_log::ROW,
    sentry::ROWS[0],
    sentry::ROWS[1],
    sentry::ROWS[2],
    billing::ROWS[0],
    billing::ROWS[1],
    billing::ROWS[2],
    billing::ROWS[3],
    billing::ROWS[4],
];

/// A setting that is missing or malformed. It never holds the value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingMistake {
    /// The name of the setting that is wrong.
    pub setting: String,
    /// The form that its value must have.
    pub rule: &'static str,
}

impl fmt::Display for SettingMistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.setting, self.rule)
    }
}

/// The service's settings, parsed.
pub struct Settings {
    admin_key: [u8; 32],
    peppers: Vec<[u8; 32]>,
    providers: BTreeMap<&'static str, Vec<String>>,
    quorum: Amount,
    xpub: Option<Xpub>,
    /// EVM signers, by environment: live, then test.
    evm_signers: [Vec<Signer>; 2],
    /// Solana signers, by environment: live, then test.
    svm_signers: [Vec<Signer>; 2],
    /// The budgets in the order of [`SETTLE_DAILY`], millionths of a dollar.
    daily: [u128; 4],
    public_url: Option<String>,
    mail: MailSettings,
    sign_in: SignInSettings,
    operators: OperatorSettings,
    billing: BillingSettings,
    logs_all: bool,
    sentry: Option<SentrySettings>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Settings(…)")
    }
}

impl Settings {
    /// Reads all settings; an empty one counts as absent.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<SettingMistake>> {
        let mut mistakes = Vec::new();
        let get = |name: &str| get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let mut wrong = |setting: &str, rule| mistakes.push(SettingMistake { setting: setting.to_owned(), rule });
        let admin_key = get(ADMIN_KEY).unwrap_or_default();
        if admin_key.chars().count() < ADMIN_KEY_MIN {
            wrong(ADMIN_KEY, "must have at least 32 characters");
        }
        let peppers = peppers(&get(KEY_PEPPERS).unwrap_or_default());
        if peppers.is_none() {
            wrong(KEY_PEPPERS, "must be comma-separated hex of 32 bytes each, at least one");
        }
        let providers = providers(get, &mut wrong);
        let quorum = Amount::parse_usdc(&get(QUORUM_USDC).unwrap_or_else(|| QUORUM_USDC_DEFAULT.to_owned()));
        if quorum.is_none() {
            wrong(QUORUM_USDC, "must be a decimal number of USDC with at most six decimals");
        }
        let xpub_text = get(EVM_XPUB);
        let xpub = xpub_text.as_deref().and_then(Xpub::parse);
        if xpub_text.is_some() && xpub.is_none() {
            wrong(EVM_XPUB, "must be an extended public key (xpub…), never a private one");
        }
        let mut keys = |family, name: &str, rule| match get(name) {
            None => Vec::new(),
            Some(text) => signers(family, &text).unwrap_or_else(|| {
                wrong(name, rule);
                Vec::new()
            }),
        };
        let rule = "must be 1 to 16 different comma-separated private keys of 32 bytes of hex";
        let evm_signers = EVM_SIGNERS.map(|name| keys(Family::Evm, name, rule));
        let rule = "must be 1 to 16 different comma-separated base58 key pairs of 64 bytes";
        let svm_signers = SVM_SIGNERS.map(|name| keys(Family::Svm, name, rule));
        let daily = daily_budgets(get, &mut wrong);
        let public_url = get(PUBLIC_URL);
        if public_url.as_deref().is_some_and(|url| !provider::is_address(url) || url.contains('@')) {
            wrong(PUBLIC_URL, PUBLIC_URL_RULE);
        }
        let mail = MailSettings::read(&get, public_url.is_some(), &mut wrong);
        let sign_in = SignInSettings::read(&get, public_url.is_some(), &mut wrong);
        let operators = OperatorSettings::read(&get, &mut wrong);
        let billing = BillingSettings::read(&get, &mut wrong);
        let logs_all = request_log::read(&get, &mut wrong);
        let sentry = sentry::read(&get, &mut wrong);
        match (peppers, quorum, mistakes.is_empty()) {
            (Some(peppers), Some(quorum), true) => {
                let admin_key = Sha256::digest(admin_key.as_bytes()).into();
                Ok(Self {
                    admin_key,
                    peppers,
                    providers,
                    quorum,
                    xpub,
                    evm_signers,
                    svm_signers,
                    daily,
                    public_url,
                    mail,
                    sign_in,
                    operators,
                    billing,
                    logs_all,
                    sentry,
                })
            }
            (..) => Err(mistakes),
        }
    }

    /// Whether this is the operators' key; compared in constant time.
    #[must_use]
    pub fn is_admin_key(&self, text: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.admin_key.ct_eq(&given).into()
    }

    /// Whether this is the token with which metrics are read, compared in constant time; `None` where there is none.
    #[must_use]
    pub fn is_metrics_token(&self, text: &str) -> Option<bool> {
        let given: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.operators.metrics_token.map(|token| token.ct_eq(&given).into())
    }

    /// The secrets of API keys' tags: the first signs new keys, all verify.
    #[must_use]
    pub fn peppers(&self) -> &[[u8; 32]] {
        &self.peppers
    }

    /// A chain's providers in order of preference.
    #[must_use]
    pub fn providers(&self, network: &'static Network) -> Vec<&str> {
        match self.providers.get(network.key) {
            Some(urls) => urls.iter().map(String::as_str).collect(),
            None => network.rpc.to_vec(),
        }
    }

    /// From this amount on, two providers must agree where two are configured.
    #[must_use]
    pub const fn quorum(&self) -> Amount {
        self.quorum
    }

    /// The keys that pay for transactions on an environment's chains of a family.
    #[must_use]
    pub const fn signers(&self, family: Family, environment: Environment) -> &[Signer] {
        let [live, test] = match family {
            Family::Evm => &self.evm_signers,
            Family::Svm => &self.svm_signers,
        };
        match environment {
            Environment::Live => live.as_slice(),
            Environment::Test => test.as_slice(),
        }
    }

    /// The extended public key from which recipients are derived.
    #[must_use]
    pub const fn xpub(&self) -> Option<&Xpub> {
        self.xpub.as_ref()
    }

    /// What a tenant's settlements may cost on a network in a day, smallest units of its coin.
    #[must_use]
    pub(crate) fn tenant_budget(&self, network: &Network) -> TenantBudget {
        let [day, failed, ..] = self.budgets(network);
        TenantBudget { day, failed }
    }

    /// What one signer may pay for transactions on a network in a day, smallest units of its coin.
    #[must_use]
    pub fn signer_budget(&self, network: &Network) -> u128 {
        let [_, _, signer, _] = self.budgets(network);
        signer
    }

    /// What all signers may pay in a day on a network for tenants of the free tier, smallest units of its coin.
    #[must_use]
    pub fn free_budget(&self, network: &Network) -> u128 {
        let [.., free] = self.budgets(network);
        free
    }

    /// The budgets in the order of [`SETTLE_DAILY`], in the smallest unit of the network's coin; zeros where nothing is
    /// settled.
    fn budgets(&self, network: &Network) -> [u128; 4] {
        let coin = network.settle.map(|settle| settle.coin);
        self.daily.map(|micro_usd| coin.map_or(0, |coin| coin.units_for(micro_usd)))
    }

    /// The origin of links in answers; `None`: that of the request.
    #[must_use]
    pub fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// How mails are sent; `None`: there are none, and nobody signs in by one.
    #[must_use]
    pub const fn mail(&self) -> Option<&MailBackend> {
        self.mail.backend.as_ref()
    }

    /// The key of Resend's webhooks; `None`: there are none.
    #[must_use]
    pub fn resend_webhook_key(&self) -> Option<&[u8]> {
        self.mail.webhook_key.as_deref()
    }

    /// The secret key of Turnstile; `None`: no token is asked for.
    #[must_use]
    pub fn turnstile(&self) -> Option<&str> {
        self.sign_in.turnstile.as_deref()
    }

    /// The OAuth app at GitHub; `None`: nobody signs in by it.
    #[must_use]
    pub const fn github(&self) -> Option<&OauthClient> {
        self.sign_in.github.as_ref()
    }

    /// The Slack-compatible webhook to which operators' alerts are posted.
    #[must_use]
    pub fn operator_alert_url(&self) -> Option<&str> {
        self.operators.alert_url.as_deref()
    }

    /// The mail address to which operators' alerts are sent.
    #[must_use]
    pub fn operator_mail(&self) -> Option<&str> {
        self.operators.mail.as_deref()
    }

    /// The DNS resolver over HTTPS.
    #[must_use]
    pub fn resolver(&self) -> &str {
        &self.sign_in.resolver
    }
}

/// The budgets of [`SETTLE_DAILY`], millionths of a dollar.
fn daily_budgets(get: impl Fn(&str) -> Option<String>, wrong: &mut impl FnMut(&str, &'static str)) -> [u128; 4] {
    SETTLE_DAILY.map(|(name, default)| {
        let dollars = Amount::parse_usdc(&get(name).unwrap_or_else(|| default.to_owned()));
        let micro = dollars.and_then(|amount| u128::try_from(amount.0).ok());
        if micro.is_none() {
            wrong(name, "must be a decimal number of dollars with at most six decimals; 0 allows nothing");
        }
        micro.unwrap_or_default()
    })
}

/// The providers of each chain that has a setting.
fn providers(
    get: impl Fn(&str) -> Option<String>,
    wrong: &mut impl FnMut(&str, &'static str),
) -> BTreeMap<&'static str, Vec<String>> {
    let mut providers = BTreeMap::new();
    for network in NETWORKS {
        let name = rpc_setting(network);
        if let Some(text) = get(&name) {
            match read_provider_urls(&text) {
                Some(urls) => drop(providers.insert(network.key, urls)),
                None => wrong(&name, PROVIDERS_RULE),
            }
        }
    }
    providers
}

fn peppers(text: &str) -> Option<Vec<[u8; 32]>> {
    let read = |part: &str| {
        let mut pepper = [0_u8; 32];
        hex::decode_to_slice(part.trim(), &mut pepper).ok().map(|()| pepper)
    };
    text.split(',').map(read).collect()
}

fn signers(family: Family, text: &str) -> Option<Vec<Signer>> {
    let signers: Vec<Signer> = text.split(',').map(|part| Signer::parse(family, part.trim())).collect::<Option<_>>()?;
    let distinct = set_of(signers.iter().map(Signer::address));
    (signers.len() <= SIGNERS_MAX && distinct.len() == signers.len()).then_some(signers)
}

fn read_provider_urls(text: &str) -> Option<Vec<String>> {
    let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
    (urls.len() <= PROVIDERS_MAX && urls.iter().all(|url| provider::is_address(url))).then_some(urls)
}

#[cfg(test)]
mod tests;
