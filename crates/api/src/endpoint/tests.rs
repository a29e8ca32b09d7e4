use super::*;

fn found(method: &str, path: &str) -> Option<(Endpoint, Vec<String>)> {
    match Routes::build().expect("a table without conflicts").find(method, path, false) {
        Route::Found(row, params) => Some((row.endpoint, params)),
        Route::OtherMethods(_) | Route::Nowhere => None,
    }
}

#[test]
fn every_row_is_found_under_its_path_and_its_alias() {
    for row in ENDPOINTS {
        for path in [Some(row.path), row.alias].into_iter().flatten() {
            let found = found(&row.method.to_string(), path);
            assert_eq!(found.map(|(endpoint, _)| endpoint), Some(row.endpoint), "{} {path}", row.method);
        }
    }
}

#[test]
fn parameters_come_in_the_order_of_the_path() {
    let want = Some((Endpoint::KeyRevoke, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(found("DELETE", "/v1/admin/tenants/a/api-keys/b"), want);
    let leaked = found("POST", "/v1/api-keys/revoke-leaked");
    assert_eq!(leaked, Some((Endpoint::LeakedKey, Vec::new())), "a path of its own beside a parameter");
    assert_eq!(found("GET", "/v1/usage/").map(|(endpoint, _)| endpoint), Some(Endpoint::Usage));
    assert_eq!(found("HEAD", "/v1/health").map(|(endpoint, _)| endpoint), Some(Endpoint::Health));
}

#[test]
fn another_method_is_not_another_path() {
    let routes = Routes::build().expect("a table without conflicts");
    let find = |method, path| routes.find(method, path, false);
    let allowed = |method, path| match find(method, path) {
        Route::OtherMethods(rows) => allowed_methods(&rows),
        found @ (Route::Found(..) | Route::Nowhere) => panic!("{method} {path}: {found:?}"),
    };
    assert_eq!(allowed("GET", "/v1/verify"), "POST, OPTIONS");
    assert_eq!(allowed("PUT", "/v1/admin/tenants"), "POST, GET, HEAD, OPTIONS");
    for nowhere in ["/", "//", "/v1", "/v2/verify", "/v1/verify/x"] {
        assert!(matches!(find("GET", nowhere), Route::Nowhere), "{nowhere}");
    }
}

#[test]
fn a_head_is_no_get_that_changes_something() {
    let routes = Routes::build().expect("a table without conflicts");
    let mut refused = Vec::new();
    for row in ENDPOINTS.iter().filter(|row| row.method == Method::Get) {
        for path in [Some(row.path), row.alias].into_iter().flatten() {
            match routes.find("HEAD", path, false) {
                Route::Found(found, _) => assert_eq!(found.endpoint, row.endpoint, "{path}"),
                Route::OtherMethods(rows) => {
                    assert_eq!(allowed_methods(&rows), "GET, OPTIONS", "{path}");
                    refused.push(path);
                }
                Route::Nowhere => panic!("{path}"),
            }
        }
    }
    // Of a new route it is to be said here whether its GET changes something.
    let [github, oidc] = [crate::github::CALLBACK_PATH, crate::oidc::CALLBACK_PATH];
    assert_eq!(refused, ["/v1/session/github", github, crate::oidc::GO_PATH, oidc]);
}

#[test]
fn a_key_in_the_path_opens_the_routes_of_the_protocol_only() {
    let routes = Routes::build().expect("a table without conflicts");
    let paths: Vec<&str> = ENDPOINTS.iter().filter(|row| row.url_key).map(|row| row.path).collect();
    let of_protocol = ["verify", "verify", "settle", "settle", "supported", "accepts"];
    assert_eq!(paths, of_protocol.map(|last| format!("/facilitator/{last}")));
    for row in ENDPOINTS {
        let found = routes.find(&row.method.to_string(), row.path, true);
        assert_eq!(matches!(found, Route::Found(..)), row.url_key, "{}", row.path);
    }
    assert!(matches!(routes.find("GET", "/v1/verify", true), Route::Nowhere));
    assert!(matches!(routes.find("DELETE", "/facilitator/verify", true), Route::OtherMethods(_)));
}
