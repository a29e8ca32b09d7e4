use super::*;

const OWN: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const SELLER: &str = "3Nx1cFvHcFJ9uQ8rWNiKbZ5fNdUBKCNMNxwQTgLLFS7v";
const FEE_PAYER: &str = "6mqzFeePayer";

fn base() -> &'static Network {
    network_named("eip155:84532").expect("base-sepolia")
}

/// The answer where every address is the tenant's own, and everything is settled.
fn answered(body: &Value) -> (u16, Value) {
    let request = AcceptsRequest::read(body.to_string().as_bytes()).expect("reads");
    let payees = request.payee_queries().into_iter().map(|wanted| {
        let network = x402_chain::network::by_key(&wanted.network).expect("a network");
        let default = if network.family == Family::Evm { OWN } else { SELLER };
        PayeeAnswer::Own(wanted.pay_to.or_else(|| Address::parse(network.family, default)).expect("an address"))
    });
    let payees = payees.collect();
    let fee_payer = |network: &Network| (network.family == Family::Svm).then(|| FEE_PAYER.to_owned());
    let reply = request.answer(payees, |network| OfferedSettlement::Settled { fee_payer: fee_payer(network) });
    (reply.status, serde_json::from_str(&reply.body).expect("JSON"))
}

#[test]
fn faremeters_list_of_version_2_is_completed() {
    let body = json!({"x402Version": 2, "resource": {"url": "https://shop.test/a", "description": "a"}, "accepts": [
        {"scheme": "exact", "network": "eip155:84532", "amount": "10000", "payTo": OWN.to_lowercase(), "maxTimeoutSeconds": 0, "extra": {"note": "kept"}},
        {"scheme": "exact", "network": "solana-devnet", "amount": "5", "payTo": SELLER, "maxTimeoutSeconds": 45, "extra": {"memo": "order-1"}},
    ]});
    let (status, answer) = answered(&body);
    assert_eq!(status, 200);
    let devnet = network_named("solana-devnet").expect("devnet");
    let (name, version) = base().asset.eip712.expect("a domain");
    assert_eq!(
        answer,
        json!({"x402Version": 2, "resource": {"url": "https://shop.test/a", "description": "a"}, "accepts": [
            {"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": base().asset.text, "payTo": OWN,
                "maxTimeoutSeconds": 300, "extra": {"note": "kept", "name": name, "version": version}},
            {"scheme": "exact", "network": devnet.caip2, "amount": "5", "asset": devnet.asset.text, "payTo": SELLER,
                "maxTimeoutSeconds": 45, "extra": {"memo": "order-1", "feePayer": FEE_PAYER, "decimals": 6}},
        ]})
    );
}

#[test]
fn a_list_of_version_1_keeps_its_names() {
    let body = json!({"x402Version": 1, "accepts": [{"network": "base-sepolia", "maxAmountRequired": "10000",
        "resource": "https://shop.test/a", "asset": base().asset.text.to_lowercase(), "outputSchema": null}]});
    let (status, answer) = answered(&body);
    let (name, version) = base().asset.eip712.expect("a domain");
    assert_eq!((status, &answer["error"]), (200, &json!("")));
    assert_eq!(
        answer["accepts"],
        json!([{"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000",
        "resource": "https://shop.test/a", "description": "", "mimeType": "", "asset": base().asset.text, "payTo": OWN,
        "maxTimeoutSeconds": 300, "extra": {"name": name, "version": version}}])
    );
}

#[test]
fn thirdwebs_price_is_answered_402() {
    let body = json!({"resourceUrl": "https://shop.test/a", "method": "GET", "network": "eip155:84532", "price": "$0.01",
        "routeConfig": {"description": "a", "maxTimeoutSeconds": 60, "inputSchema": {"queryParams": {}}},
        "serverWalletAddress": OWN});
    let (status, answer) = answered(&body);
    assert_eq!((status, &answer["x402Version"], &answer["error"]), (402, &json!(1), &json!(UNPAID)));
    let (name, version) = base().asset.eip712.expect("a domain");
    assert_eq!(
        answer["accepts"],
        json!([{"scheme": "exact", "network": "eip155:84532", "maxAmountRequired": "10000",
        "resource": "https://shop.test/a", "description": "a", "mimeType": "", "asset": base().asset.text, "payTo": OWN,
        "maxTimeoutSeconds": 60, "extra": {"name": name, "version": version, "primaryType": "TransferWithAuthorization"},
        "outputSchema": {"input": {"type": "http", "method": "GET", "discoverable": true, "queryParams": {}}, "output": null}}])
    );
    let mut other = body;
    other["recipientAddress"] = json!("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC");
    assert_eq!(answered(&other).1["accepts"][0]["payTo"], other["recipientAddress"]);
    other["price"] = json!("free");
    let (status, refused) = answered(&other);
    assert_eq!((status, &refused["accepts"]), (402, &json!([])));
    assert!(refused["error"].as_str().expect("text").contains("price"));
}

#[test]
fn a_price_or_network_of_another_type_is_no_request() {
    let body = json!({"network": "eip155:84532", "price": "$0.01"});
    for (name, value) in [
        ("price", json!([null, null])),
        ("price", json!(true)),
        ("network", json!(null)),
        ("network", json!(84532)),
        ("network", json!(["eip155:84532"])),
    ] {
        let mut wrong = body.clone();
        wrong[name] = value;
        let fault = AcceptsRequest::read(wrong.to_string().as_bytes()).expect_err("refused");
        assert_eq!((fault.code, fault.param.as_deref()), (ErrorCode::InvalidRequest, Some(name)), "{wrong}");
    }
}

/// What `thirdweb` says where the seller has no sentence of its own.
const UNPAID: &str = "X-PAYMENT header is required";

#[test]
fn what_cannot_be_completed_is_left_out_and_named() {
    let whole = json!({"network": "eip155:84532", "amount": "1", "payTo": OWN});
    for (name, value, reason) in [
        ("network", json!("eip155:1 "), "invalid_network"),
        ("scheme", json!("upto"), "unsupported_scheme"),
        ("asset", json!(OWN), "asset_not_allowed"),
        ("amount", json!("0"), "invalid_payment_requirements"),
        ("amount", json!(1), "invalid_payment_requirements"),
        ("payTo", json!("0x1"), "invalid_payment_requirements"),
        ("payTo", json!(7), "invalid_payment_requirements"),
        ("payTo", json!([OWN]), "invalid_payment_requirements"),
        ("asset", json!({"address": base().asset.text}), "invalid_payment_requirements"),
        ("maxAmountRequired", json!(1), "invalid_payment_requirements"),
        ("extra", json!({"verifyingContract": OWN}), "invalid_payment_requirements"),
        ("extra", json!({"verifyingContract": 7}), "invalid_payment_requirements"),
        ("extra", json!("text"), "invalid_payment_requirements"),
        ("maxTimeoutSeconds", json!("60"), "invalid_payment_requirements"),
        ("maxTimeoutSeconds", json!(-1), "invalid_payment_requirements"),
        ("maxTimeoutSeconds", json!(1.5), "invalid_payment_requirements"),
    ] {
        let mut wrong = whole.clone();
        wrong[name] = value;
        let (status, answer) = answered(&json!({"accepts": [wrong, whole]}));
        assert_eq!((status, answer["accepts"].as_array().map(Vec::len)), (200, Some(1)), "{name}");
        let error = answer["error"].as_str().expect("text");
        assert!(error.starts_with(&format!("accepts[0]: {reason}: ")), "{error}");
    }
    let asset = json!({"network": "eip155:84532", "amount": "1", "extra": {"verifyingContract": base().asset.text.to_lowercase()}});
    assert_eq!(answered(&json!({"accepts": [asset]})).1["error"], Value::Null);
}

#[test]
fn only_what_is_the_sellers_own_and_settled_here_is_completed() {
    let body = json!({"accepts": [{"network": "eip155:84532", "amount": "1", "payTo": OWN}]}).to_string();
    let read = || AcceptsRequest::read(body.as_bytes()).expect("reads");
    let settled = |_: &Network| OfferedSettlement::Settled { fee_payer: None };
    let own = || vec![PayeeAnswer::Own(Address::parse(Family::Evm, OWN).expect("an address"))];
    let stranger = vec![PayeeAnswer::Refused(Reason::PayToNotAllowed, "not yours".to_owned())];
    for (payees, offered) in [(stranger, true), (own(), false), (Vec::new(), true)] {
        let reply =
            read().answer(payees, |network| if offered { settled(network) } else { OfferedSettlement::NotSettled });
        let answer: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!(answer["accepts"], json!([]), "{answer}");
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    assert_eq!(read().networks().len(), 1);
}

#[test]
fn a_body_of_neither_form_is_a_fault() {
    for (body, code, param) in [
        ("", ErrorCode::InvalidJson, None),
        ("[]", ErrorCode::InvalidJson, None),
        ("{}", ErrorCode::InvalidRequest, Some("accepts")),
        (r#"{"accepts": {}}"#, ErrorCode::InvalidRequest, Some("accepts")),
        (r#"{"accepts": [], "x402Version": 3}"#, ErrorCode::InvalidRequest, Some("x402Version")),
        (r#"{"accepts": [], "resource": "x"}"#, ErrorCode::InvalidRequest, Some("resource")),
    ] {
        let fault = AcceptsRequest::read(body.as_bytes()).expect_err(body);
        assert_eq!((fault.code, fault.param.as_deref()), (code, param), "{body}");
    }
    let many = json!({"accepts": vec![json!({}); ENTRIES_MAX + 1]});
    assert!(AcceptsRequest::read(many.to_string().as_bytes()).is_err());
}
