use super::*;

const NOW: u64 = 1_800_000_000;

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode("signature"))
}

fn claims() -> Value {
    json!({
        "iss": "https://idp.example", "aud": "client", "iat": NOW, "exp": NOW + 300, "nonce": "n", "sub": "7",
        "email": "Ann@Corp.example", "email_verified": true
    })
}

fn person(claims: &Value, issuer: &str) -> Result<OidcPerson, &'static str> {
    let domain = MailDomain::parse("corp.example").expect("a domain");
    let expected = ExpectedToken { issuer, client_id: "client", nonce: "n", domain: &domain, now_s: NOW };
    UncheckedToken::parse(&token(&json!({"alg": "RS256", "kid": "k"}), claims))?.person(expected)
}

#[test]
fn a_token_names_a_person_of_the_domain() {
    let ann = OidcPerson { subject: "7".to_owned(), email: "ann@corp.example".to_owned() };
    assert_eq!(person(&claims(), "https://idp.example").as_ref(), Ok(&ann));
    for (name, value) in [
        ("aud", json!(["client"])),
        ("azp", json!("client")),
        ("email_verified", json!("true")),
        ("exp", json!(NOW - 59)),
        ("iat", json!(NOW + 60)),
        ("iat", json!(1.5)),
    ] {
        let mut also = claims();
        also[name] = value;
        assert_eq!(person(&also, "https://idp.example").as_ref(), Ok(&ann), "{also}");
    }
    let mut several = claims();
    several["aud"] = json!(["other", "client"]);
    assert!(person(&several, "https://idp.example").is_err());
    several["azp"] = json!("client");
    assert_eq!(person(&several, "https://idp.example").as_ref(), Ok(&ann));
    let mut absent = claims();
    absent.as_object_mut().expect("an object").remove("email_verified");
    assert_eq!(person(&absent, "https://idp.example"), Ok(ann));
}

#[test]
fn each_claim_that_is_wrong_or_absent_refuses() {
    for (name, wrong) in [
        ("iss", json!("https://idp.example/")),
        ("aud", json!("other")),
        ("aud", json!(["other"])),
        ("aud", json!([])),
        ("azp", json!("other")),
        ("iat", json!(NOW + 61)),
        ("iat", json!("now")),
        ("exp", json!(NOW - 60)),
        ("exp", json!(-1)),
        ("nonce", json!("m")),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("s".repeat(256))),
        ("email", json!("ann@other.example")),
        ("email", json!("ann@a.corp.example")),
        ("email", json!("ann@corp.example.other.example")),
        ("email", json!("ann@corp.example, bob@other.example")),
        ("email", json!("ann@other.example@corp.example")),
        ("email", json!("ann@corp.example.")),
        ("email", json!("ann@cοrp.example")),
        ("email", json!(["ann@corp.example"])),
        ("email_verified", json!(false)),
        ("email_verified", json!("false")),
        ("email_verified", json!(null)),
    ] {
        let mut all = claims();
        all[name] = wrong;
        assert!(person(&all, "https://idp.example").is_err(), "{all}");
    }
    for name in ["iss", "aud", "iat", "exp", "nonce", "sub", "email"] {
        let mut all = claims();
        all.as_object_mut().expect("an object").remove(name);
        assert!(person(&all, "https://idp.example").is_err(), "{name}");
    }
}

#[test]
fn an_account_at_google_is_of_the_company() {
    let mut all = claims();
    all["iss"] = json!(GOOGLE);
    assert!(person(&all, GOOGLE).is_err());
    all["hd"] = json!("other.example");
    assert!(person(&all, GOOGLE).is_err());
    all["hd"] = json!("corp.example");
    assert!(person(&all, GOOGLE).is_ok());
}

#[test]
fn an_address_at_entra_is_of_a_domain_that_the_directory_owns() {
    let issuer = "https://login.microsoftonline.com/6f0c3a5e-0000-4000-8000-000000000000/v2.0";
    let mut all = claims();
    all["iss"] = json!(issuer);
    assert!(person(&all, issuer).is_err());
    for (owned, is_ok) in
        [(json!(false), false), (json!("0"), false), (json!(true), true), (json!("1"), true), (json!(1), true)]
    {
        all["xms_edov"] = owned.clone();
        assert_eq!(person(&all, issuer).is_ok(), is_ok, "{owned}");
    }
}

#[test]
fn a_token_is_signed_by_one_of_two_algorithms() {
    let parse = |header: &Value| UncheckedToken::parse(&token(header, &claims())).map(|token| token.algorithm);
    assert_eq!(parse(&json!({"alg": "RS256"})), Ok(SignatureAlgorithm::Rs256));
    assert_eq!(parse(&json!({"alg": "ES256"})), Ok(SignatureAlgorithm::Es256));
    for wrong in ["none", "None", "HS256", "RS384", "PS256", "rs256", ""] {
        assert!(parse(&json!({"alg": wrong})).is_err(), "{wrong}");
    }
    assert!(parse(&json!({})).is_err() && parse(&json!({"alg": ["RS256"]})).is_err());
    assert!(parse(&json!({"alg": "RS256", "crit": ["exp"]})).is_err());
    let good = token(&json!({"alg": "RS256"}), &claims());
    let long = format!("{good}{}", "A".repeat(TOKEN_MAX));
    for wrong in ["", ".", "..", "a.b.c", good.rsplit_once('.').expect("parts").0, &format!("{good}."), &long] {
        assert!(UncheckedToken::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_key_is_found_by_its_id_and_fits_the_algorithm() {
    let rsa = |id: &str, bytes: usize| json!({"kty": "RSA", "kid": id, "use": "sig", "n": URL_SAFE_NO_PAD.encode(vec![255; bytes]), "e": "AQAB", "d": "x"});
    let ec = json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": "x", "y": "y"});
    let key = |algorithm: &str, id: Option<&str>, keys: &Value| {
        let header = json!({"alg": algorithm, "kid": id});
        let found = UncheckedToken::parse(&token(&header, &claims())).expect("a token");
        found.key(json!({"keys": keys}).to_string().as_bytes())
    };
    let found = key("RS256", Some("k"), &json!([rsa("j", 256), rsa("k", 256), ec])).expect("a key");
    assert_eq!(found.as_object().expect("an object").keys().collect::<Vec<_>>(), ["e", "kty", "n"]);
    assert!(key("RS256", None, &json!([rsa("j", 256), ec])).is_ok());
    assert!(key("ES256", Some("k"), &json!([rsa("j", 256), ec])).is_ok());
    let mut encrypts = rsa("k", 256);
    encrypts["use"] = json!("enc");
    let mut other = rsa("k", 256);
    other["alg"] = json!("RS512");
    let unnamed = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![255; 256]), "e": "AQAB"});
    for (id, keys) in [
        (Some("k"), json!([rsa("j", 256)])),
        (Some("k"), json!([rsa("k", 255)])),
        (Some("k"), json!([rsa("k", 256), rsa("k", 256)])),
        (None, json!([rsa("j", 256), rsa("k", 256)])),
        (Some("k"), json!([ec])),
        (Some("k"), json!([encrypts])),
        (Some("k"), json!([other])),
        (Some("k"), json!([unnamed])),
        (Some("k"), json!([{"kty": "oct", "kid": "k", "k": "AAAA"}])),
        (Some("k"), json!(null)),
    ] {
        assert!(key("RS256", id, &keys).is_err(), "{keys}");
    }
    let short = json!([{"kty": "RSA", "kid": "k", "n": format!("{}{}", "A".repeat(400), "_".repeat(8)), "e": "AQAB"}]);
    assert!(key("RS256", Some("k"), &short).is_err(), "zeros in front make no key longer");
}
