use super::*;
use serde_json::{Value, json};

const MERCHANT: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

fn create(body: &Value) -> Result<NewTenant, Fault> {
    new_tenant(body.to_string().as_bytes())
}

#[test]
fn a_tenant_needs_an_email_and_nothing_else() {
    let tenant = create(&json!({"email": "Ann@Example.com"})).expect("reads");
    assert_eq!((tenant.email.as_str(), tenant.tier), ("ann@example.com", Tier::Free));
    let full = json!({"email": "a@b", "company_name": "B", "tier": "pro", "region": "weur",
        "recipients": {"base": MERCHANT, "eip155:137": MERCHANT}, "limits": {"per_minute": 5, "per_month": -1}});
    let tenant = create(&full).expect("reads");
    assert_eq!(tenant.recipients.len(), 2);
    let derived = create(&json!({"email": "a@b", "recipients": {"base": "derive"}})).expect("reads");
    assert_eq!(derived.recipients.first().map(|(_, address)| *address), Some(NewAddress::Derived));
    assert_eq!(tenant.limits, OwnLimits { per_minute: Some(5), per_hour: None, per_month: Some(-1) });
}

#[test]
fn every_wrong_member_of_a_tenant_is_named() {
    for (wrong, param) in [
        (json!({}), "email"),
        (json!({"email": "nobody"}), "email"),
        (json!({"email": "a@b", "tier": "gold"}), "tier"),
        (json!({"email": "a@b", "region": "mars"}), "region"),
        (json!({"email": "a@b", "recipients": {"base": "0x1"}}), "recipients.base"),
        (json!({"email": "a@b", "recipients": {"doge": MERCHANT}}), "recipients.doge"),
        (json!({"email": "a@b", "recipients": {"solana": "derive"}}), "recipients.solana"),
        (json!({"email": "a@b", "recipients": {"base": MERCHANT, "eip155:8453": MERCHANT}}), "recipients.eip155:8453"),
        (json!({"email": "a@b", "tier": {"pro": null}}), "tier"),
        (json!({"email": "a@b", "sanctions": {"report": null}}), "sanctions"),
        (json!({"email": "a@b", "limits": {"per_minute": -1}}), "limits.per_minute"),
        (json!({"email": "a@b", "limits": {"per_day": 1}}), "limits.per_day"),
        (json!({"email": "a@b", "limits": [1, 2, 3]}), "limits"),
        (json!({"email": "a@b", "limits": {"per_hour": "9"}}), "limits.per_hour"),
        (json!({"email": "a@b", "recipients": {"base": null}}), "recipients.base"),
        (json!({"email": "a@b", "explain": "yes"}), "explain"),
        (json!({"email": "a@b", "status": "active"}), "status"),
    ] {
        let fault = create(&wrong).expect_err(&wrong.to_string());
        assert_eq!(fault.param.as_deref(), Some(param), "{wrong}");
    }
}

#[test]
fn a_recipient_is_named_once() {
    let twice = format!(r#"{{"email":"a@b","recipients":{{"base":"{MERCHANT}","base":"{MERCHANT}"}}}}"#);
    let fault = new_tenant(twice.as_bytes()).expect_err("a chain that comes twice");
    assert_eq!((fault.param.as_deref(), &*fault.detail), (Some("recipients.base"), "'recipients.base' comes twice"));
    let change = json!({"recipients": {"base": null, "eip155:8453": MERCHANT}});
    let fault = tenant_change(change.to_string().as_bytes()).expect_err("a chain by both its names");
    assert_eq!(fault.detail, "'recipients.eip155:8453' names the chain 'base' a second time");
}

#[test]
fn a_chain_is_checked_once() {
    let read = |body: Value| {
        let networks = chains_to_check(body.to_string().as_bytes());
        networks.map(|all| all.iter().map(|network| network.key).collect()).map_err(|fault| fault.param)
    };
    assert_eq!(read(json!({"chains": ["base", "eip155:8453", "base", "polygon"]})), Ok(vec!["base", "polygon"]));
    assert_eq!(read(json!({"chains": []})), Ok(Vec::new()));
    assert_eq!(read(json!({"chains": ["base", "doge"]})), Err(Some("chains[1]".into())));
}

#[test]
fn a_change_distinguishes_removal_from_absence() {
    let read = |body: Value| tenant_change(body.to_string().as_bytes());
    let change = read(json!({"company_name": null, "recipients": {"base": null}, "limits": {"per_hour": null}}));
    let change = change.expect("reads");
    assert_eq!(change.company_name, Some(None));
    assert_eq!(change.recipients.first().map(|(_, address)| *address), Some(None));
    assert_eq!(change.limits.get("per_hour"), Some(&None));
    assert_eq!(change.email, None);
    assert_eq!(read(json!({"region": "weur"})).map_err(|fault| fault.param), Err(Some("region".into())));
}

#[test]
fn a_change_names_its_members() {
    let named = |body: Value| tenant_change(body.to_string().as_bytes()).expect("reads").named();
    let all = json!({"status": "suspended", "tier": "pro", "sanctions": "report", "explain": true,
        "email": "a@b", "company_name": null, "limits": {"per_hour": 1}, "recipients": {"base": null}});
    let want = "status=suspended, tier=pro, sanctions=report, explain=true, email, company_name, limits";
    assert_eq!(named(all), want);
    assert_eq!(named(json!({"recipients": {"base": null}})), "");
}

#[test]
fn a_key_ends_in_the_future() {
    let now = UnixMillis(1_795_233_600_000);
    let read = |body: Value| new_key(body.to_string().as_bytes(), now);
    let key = read(json!({"name": "ci", "environment": "test", "scopes": ["verify", "verify"]})).expect("reads");
    assert_eq!(key.scopes, [Scope::Verify]);
    assert!(read(json!({"name": "ci", "environment": "test", "expires_at": "2020-01-01T00:00:00Z"})).is_err());
    assert!(read(json!({"name": "ci", "environment": "test", "scopes": []})).is_err());
    assert!(read(json!({"environment": "test"})).is_err());
    assert_eq!(
        (key.kind, read(json!({"name": "ci", "environment": "test", "kind": "path"})).is_err()),
        (KeyKind::Bearer, true)
    );
}

#[test]
fn a_key_names_its_networks_each_once() {
    let read = |list: Value| {
        let body = json!({"name": "ci", "environment": "test", "allow_list": list});
        let key = new_key(body.to_string().as_bytes(), UnixMillis(0)).map_err(|fault| fault.param)?;
        Ok::<_, Option<std::borrow::Cow<'_, str>>>(key.allow_list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(read(Value::Null), Ok(Vec::new()));
    let twice = json!(["203.0.113.7/24", "::ffff:203.0.113.0/120", "2001:db8::/32"]);
    assert_eq!(read(twice), Ok(vec!["203.0.113.0/24".to_owned(), "2001:db8::/32".to_owned()]));
    assert_eq!(read(json!(["203.0.113.0/24", "here"])), Err(Some("allow_list[1]".into())));
    let many: Vec<String> = (0..=NETWORKS_MAX).map(|host| format!("10.0.0.{host}")).collect();
    assert_eq!(read(json!(many)), Err(Some("allow_list".into())));
}

#[test]
fn a_key_for_urls_verifies_and_settles_and_nothing_else() {
    let read = |scopes: Value| {
        let body = json!({"name": "shop", "environment": "live", "kind": "url", "scopes": scopes});
        new_key(body.to_string().as_bytes(), UnixMillis(0)).map(|key| (key.kind, key.scopes))
    };
    assert_eq!(read(Value::Null), Ok((KeyKind::Url, vec![Scope::Verify, Scope::Settle])));
    assert_eq!(read(json!(["settle"])), Ok((KeyKind::Url, vec![Scope::Settle])));
    for more in ["analytics", "manage"] {
        let refused = read(json!(["verify", more])).map_err(|fault| fault.param);
        assert_eq!(refused, Err(Some("scopes".into())), "{more}");
    }
}

#[test]
fn an_address_of_mail_is_one_address_in_ascii() {
    for (text, want) in [
        ("Ann.B+c@Example.test", "ann.b+c@example.test"),
        ("a@b.c", "a@b.c"),
        ("o'neil_=/x@sub.x-y.test", "o'neil_=/x@sub.x-y.test"),
        (&format!("{}@x.test", "a".repeat(64)), &format!("{}@x.test", "a".repeat(64))),
    ] {
        assert_eq!(read_email(text).as_deref(), Ok(want), "{text}");
    }
    for wrong in [
        "a<victim@x.test>",
        "x,victim@x.test",
        "\"<b>\"@x.test",
        "Ann <ann@x.test>",
        "a;b@x.test",
        "a@b@c",
        "@x.test",
        "a@",
        ".a@x.test",
        "a.@x.test",
        "a..b@x.test",
        "a@.x.test",
        "a@x..test",
        "a@-x.test",
        "a@x-.test",
        "a@x_y.test",
        "a@[127.0.0.1]",
        "a(b)@x.test",
        "a\\@x.test",
        // A Kelvin sign, whose lower case is `k`.
        "ma\u{212a}e@x.test",
        "\u{e4}@x.test",
        "a@\u{e4}.test",
        "a@x.test\u{200b}",
        &format!("{}@x.test", "a".repeat(65)),
        &format!("a@{}.test", "x".repeat(64)),
    ] {
        assert_eq!(read_email(wrong).map_err(|fault| fault.param), Err(Some("email".into())), "{wrong}");
    }
}
