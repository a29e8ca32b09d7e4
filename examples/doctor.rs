//! `cargo run --example doctor -- .dev.vars`: every mistake in a file of
//! settings at once, by the Worker's own rules, and what they should hold; no value is printed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use x402_core::settings::Settings;
use x402_core::settings::mail::MailBackend;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| ".dev.vars".to_owned());
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("{path} cannot be read");
        return ExitCode::FAILURE;
    };
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let is_name = name.trim().chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        is_name.then(|| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    let values: BTreeMap<String, String> = text.lines().filter_map(pair).collect();
    match Settings::read(|name| values.get(name).cloned().or_else(|| std::env::var(name).ok())) {
        Ok(settings) => {
            println!("settings: ok");
            let is_sent = settings.mail().is_some_and(|backend| *backend != MailBackend::Mailbox);
            if is_sent && settings.turnstile().is_none() {
                println!("warning: mails are sent, and TURNSTILE_SECRET is not set (docs/sign-in.md)");
            }
            let is_set =
                |name: &str| values.get(name).is_some_and(|text| !text.is_empty()) || std::env::var(name).is_ok();
            let is_begun = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"].into_iter().any(is_set);
            if let Some(gap) = settings.billing_gap().filter(|_| is_begun) {
                println!("warning: no plan is sold: {gap} (docs/billing.md)");
            }
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            for mistake in mistakes {
                println!("{mistake}");
            }
            ExitCode::FAILURE
        }
    }
}
