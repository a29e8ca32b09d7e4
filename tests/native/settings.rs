//! `wrangler.toml` names only settings that exist, and no secret.

use x402_edge::config::SETTINGS;

#[test]
fn the_vars_are_settings_and_no_secrets() {
    let text = include_str!("../../wrangler.toml");
    let mut inside = false;
    let mut seen = 0;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("vars]");
            continue;
        }
        let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) else { continue };
        let setting = SETTINGS.iter().find(|setting| setting.name == name.trim());
        assert!(setting.is_some_and(|setting| !setting.secret), "{name}");
        seen += 1;
    }
    assert!(seen > 0);
}
