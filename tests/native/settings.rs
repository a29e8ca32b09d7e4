//! `wrangler.toml`: every environment has the same bindings and a configuration
//! that the Worker starts with, so that a bad deployment fails here.

use std::collections::BTreeMap;
use toml::{Table, Value};
use x402_core::settings::{SETTINGS, Settings};

/// The top (development) and every `[env.*]`, by name.
fn environments() -> BTreeMap<String, Table> {
    let top: Table = include_str!("../../wrangler.toml").parse().expect("TOML");
    let named = top["env"].as_table().expect("environments").clone();
    let mut all: BTreeMap<String, Table> =
        named.into_iter().map(|(name, env)| (name, env.as_table().expect("a table").clone())).collect();
    all.insert("dev".to_owned(), top);
    all
}

/// The names under which an environment binds things of a kind.
fn bound(env: &Table, path: &[&str], name: &str) -> Vec<String> {
    let start = env.get(path[0]);
    let list = path[1..].iter().fold(start, |at, key| at.and_then(|at| at.get(key)));
    let entries = list.and_then(Value::as_array).cloned().unwrap_or_default();
    entries.iter().map(|entry| entry[name].as_str().expect("text").to_owned()).collect()
}

#[test]
fn there_are_three_environments() {
    let names: Vec<String> = environments().into_keys().collect();
    assert_eq!(names, ["dev", "production", "staging"]);
}

#[test]
fn every_environment_binds_all_that_the_worker_reaches() {
    for (name, env) in environments() {
        assert_eq!(bound(&env, &["d1_databases"], "binding"), ["DB"], "{name}");
        let objects = ["LEDGERS", "SETTLERS", "RECORDS", "COURIERS", "METERS"];
        assert_eq!(bound(&env, &["durable_objects", "bindings"], "name"), objects, "{name}");
        assert_eq!(bound(&env, &["r2_buckets"], "binding"), ["ARCHIVE"], "{name}");
        assert_eq!(bound(&env, &["queues", "producers"], "binding"), ["MAILS", "STRIPE_EVENTS"], "{name}");
        let sent_to = bound(&env, &["queues", "producers"], "queue");
        assert_eq!(bound(&env, &["queues", "consumers"], "queue"), sent_to, "{name}");
        assert_eq!(bound(&env, &["send_email"], "name"), ["EMAIL"], "{name}");
        assert_eq!(bound(&env, &["ratelimits"], "name"), ["GUARD", "OPERATOR_GUARD", "BILLING_GUARD"], "{name}");
    }
}

#[test]
fn no_environment_lets_the_platform_log_urls() {
    for (name, env) in environments() {
        let observability = env.get("observability").unwrap_or_else(|| panic!("{name} says nothing of logs"));
        let logs = observability.get("logs").and_then(|logs| logs.get("invocation_logs")).and_then(Value::as_bool);
        assert_eq!(
            logs,
            Some(false),
            "{name}: the platform's line of a request holds its URL, and a URL may hold a key"
        );
        let traces = observability.get("traces").and_then(|traces| traces.get("enabled")).and_then(Value::as_bool);
        assert!(traces != Some(true), "{name}: a trace holds URLs too");
        assert!(env.get("logpush").is_none() && env.get("tail_consumers").is_none(), "{name}: they are given URLs");
    }
}

#[test]
fn every_environment_is_a_configuration_to_start_with() {
    let secrets = BTreeMap::from([("ADMIN_KEY", "x".repeat(32)), ("KEY_PEPPERS", "01".repeat(32))]);
    for (name, env) in environments() {
        let vars = env["vars"].as_table().expect("vars");
        for var in vars.keys() {
            let setting = SETTINGS.iter().find(|setting| setting.name == var);
            assert!(setting.is_some_and(|setting| !setting.secret), "{name}: {var}");
        }
        let value = |name: &str| vars.get(name).and_then(Value::as_str).map(str::to_owned);
        let read = Settings::read(|name| secrets.get(name).cloned().or_else(|| value(name)));
        assert!(read.is_ok(), "{name}: {:?}", read.err());
    }
}

#[test]
fn events_of_stripe_outlast_an_outage() {
    for (name, env) in environments() {
        let consumers = env["queues"]["consumers"].as_array().expect("consumers");
        for consumer in
            consumers.iter().filter(|one| one["queue"].as_str().is_some_and(|queue| queue.contains("stripe")))
        {
            assert_eq!(consumer["max_retries"].as_integer(), Some(100), "{name}: Stripe does not send an event again");
        }
    }
}
