use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<SettingMistake>> {
    Settings::read(|name| pairs.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned()))
}

const ADMIN: (&str, &str) = ("ADMIN_KEY", "an-operators-key-of-32-characters!");
const PEPPERS: (&str, &str) = (
    "KEY_PEPPERS",
    "0101010101010101010101010101010101010101010101010101010101010101, 0202020202020202020202020202020202020202020202020202020202020202",
);

#[test]
fn two_settings_are_enough() {
    let settings = read(&[ADMIN, PEPPERS]).expect("reads");
    assert_eq!(settings.peppers(), [[1; 32], [2; 32]]);
    assert!(settings.is_admin_key(ADMIN.1) && !settings.is_admin_key("") && !settings.is_admin_key("x"));
    assert_eq!(settings.quorum().usdc(), "100.000000");
    let base = x402_chain::network::by_key("base").expect("registered");
    assert_eq!(settings.providers(base), base.rpc);
}

#[test]
fn signers_are_read_for_each_environment_and_never_shown() {
    const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const OTHER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    let both = format!("{KEY}, {OTHER}");
    let settings = read(&[ADMIN, PEPPERS, ("EVM_SIGNERS_TEST", &both)]).expect("reads");
    assert_eq!(settings.signers(Family::Evm, Environment::Test).len(), 2);
    assert!(settings.signers(Family::Evm, Environment::Live).is_empty() && settings.xpub().is_none());
    assert!(!format!("{settings:?}").contains("f39F"));
    for wrong in [format!("{KEY},{KEY}"), "beef".to_owned(), ",".to_owned()] {
        let mistakes = read(&[ADMIN, PEPPERS, ("EVM_SIGNERS_LIVE", &wrong)]).expect_err("refused");
        assert_eq!(mistakes.len(), 1);
        assert!(!mistakes.iter().any(|mistake| mistake.to_string().contains(KEY)));
    }
    let private = read(&[ADMIN, PEPPERS, ("EVM_XPUB", "xprv9s21")]).expect_err("refused");
    assert!(private.iter().any(|mistake| mistake.setting == "EVM_XPUB"));
}

#[test]
fn a_days_money_is_set_in_dollars_and_kept_in_the_chains_coin() {
    let base = x402_chain::network::by_key("base").expect("registered");
    let settings = read(&[ADMIN, PEPPERS]).expect("reads");
    // A coin of 4,000 dollars.
    assert_eq!(settings.signer_budget(base), 250_000_000_000_000_000);
    assert_eq!(settings.free_budget(base), 12_500_000_000_000_000);
    let own = [ADMIN, PEPPERS, ("SETTLE_DAILY_SIGNER_USD", "8"), ("SETTLE_DAILY_FREE_USD", "0")];
    let settings = read(&own).expect("reads");
    assert_eq!((settings.signer_budget(base), settings.free_budget(base)), (2_000_000_000_000_000, 0));
    let own =
        read(&[ADMIN, PEPPERS, ("SETTLE_DAILY_USD", "1.5"), ("SETTLE_DAILY_FAILED_USD", "0.004")]).expect("reads");
    let budget = own.tenant_budget(base);
    assert_eq!((budget.day, budget.failed), (375_000_000_000_000, 1_000_000_000_000));
    let wrong = read(&[ADMIN, PEPPERS, ("SETTLE_DAILY_FREE_USD", "much")]).expect_err("refused");
    assert_eq!(wrong.first().map(|mistake| mistake.setting.as_str()), Some("SETTLE_DAILY_FREE_USD"));
}

#[test]
fn every_mistake_is_reported_at_once_and_no_value_with_it() {
    let pairs = [
        ("ADMIN_KEY", "short"),
        ("KEY_PEPPERS", "0xbeef"),
        ("RPC_BASE", "ftp://secret.example"),
        ("QUORUM_USDC", "1e3"),
        ("PUBLIC_URL", "x"),
    ];
    let mistakes = read(&pairs).expect_err("five mistakes");
    let names: Vec<&str> = mistakes.iter().map(|mistake| mistake.setting.as_str()).collect();
    assert_eq!(names, ["ADMIN_KEY", "KEY_PEPPERS", "RPC_BASE", "QUORUM_USDC", "PUBLIC_URL"]);
    let listed: String = mistakes.iter().map(ToString::to_string).collect();
    for value in ["short", "beef", "secret", "1e3"] {
        assert!(!listed.contains(value), "{value}");
    }
    assert_eq!(read(&[]).expect_err("two are required").len(), 2);
}

#[test]
fn a_chain_takes_the_operators_providers() {
    let own = ("RPC_BASE_SEPOLIA", "https://a.example/key, http://127.0.0.1:8545");
    let settings = read(&[ADMIN, PEPPERS, own]).expect("reads");
    let chain = x402_chain::network::by_key("base-sepolia").expect("registered");
    assert_eq!(settings.providers(chain), ["https://a.example/key", "http://127.0.0.1:8545"]);
    for wrong in ["http://a.example", "https://", "http://127.0.0.1.evil.example", "https://a,,https://b", "a b"] {
        assert!(read(&[ADMIN, PEPPERS, ("RPC_BASE", wrong)]).is_err(), "{wrong}");
    }
}

#[test]
fn a_password_that_cannot_be_sent_is_a_mistake_of_its_setting() {
    assert!(read(&[ADMIN, PEPPERS, ("RPC_BASE", "https://me:hunter%232@a.example/v1")]).is_ok());
    for wrong in ["https://me:hunter#2@a.example/v1", "https://me:hunter%2@a.example", "https://me:hunt,er@a.example"] {
        let mistakes = read(&[ADMIN, PEPPERS, ("RPC_BASE", wrong)]).expect_err(wrong);
        let [SettingMistake { setting, rule }] = mistakes.as_slice() else { panic!("{mistakes:?}") };
        assert!(setting == "RPC_BASE" && rule.contains("percent-encoded") && !rule.contains("hunter"));
    }
    assert!(read(&[ADMIN, PEPPERS, ("PUBLIC_URL", "https://me:hunter2@a.example")]).is_err());
}

#[test]
fn nothing_of_it_is_printed() {
    let settings = read(&[ADMIN, PEPPERS]).expect("reads");
    assert_eq!(format!("{settings:?}"), "Settings(…)");
}

#[test]
fn a_mail_backend_is_one_of_those_that_there_are() {
    assert!(read(&[ADMIN, PEPPERS]).expect("reads").mail().is_none());
    let mailbox = read(&[ADMIN, PEPPERS, ("MAIL_BACKEND", "mailbox")]).expect("reads");
    assert!(mailbox.mail() == Some(&MailBackend::Mailbox) && mailbox.resend_webhook_key().is_none());
    let wrong = read(&[ADMIN, PEPPERS, ("MAIL_BACKEND", "smtp")]).expect_err("refused");
    assert_eq!(wrong.first().map(|mistake| mistake.setting.as_str()), Some("MAIL_BACKEND"));
    // A link in a mail must not name the host that somebody's request names.
    let sent = read(&[ADMIN, PEPPERS, ("MAIL_BACKEND", "cloudflare"), ("MAIL_FROM", "a@b.test")]).expect_err("refused");
    assert_eq!(sent.first().map(|mistake| mistake.setting.as_str()), Some("PUBLIC_URL"));
}
