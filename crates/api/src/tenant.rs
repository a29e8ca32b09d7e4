//! `/v1/tenant`: what a tenant reads and changes of itself.

use crate::admin::{LimitsView, read_company_name, read_email_member};
use crate::body::{invalid, null_or_object, null_or_value, optional_object, optional_variant, parse_body};
use serde::{Deserialize, Serialize};
use x402_core::error::Fault;
use x402_core::people::deletion::ShownStatus;
use x402_core::public_url::PublicUrl;
use x402_core::tenancy::branding::{BRAND_NAME_MAX, BrandName, Branding, Color, LogoUrl};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

/// The body of `PATCH /v1/tenant`: an absent member stays unchanged.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TenantSettingsBody {
    /// The company's name; `null` removes it.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub company_name: Option<Option<String>>,
    /// The e-mail address for buyers' questions; `null` removes it.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub support_address: Option<Option<String>>,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub sanctions: Option<SanctionsPolicy>,
    /// The appearance in mails and on pages, replaced as a whole; `null` removes it. Some tiers do not include it.
    #[serde(default, deserialize_with = "null_or_object", skip_serializing_if = "Option::is_none")]
    pub branding: Option<Option<BrandingBody>>,
    /// How its owners are alerted.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertsBody>,
}

/// How the owners of a tenant are alerted; an absent member stays unchanged.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AlertsBody {
    /// A Slack-compatible webhook: an `https` URL of a host of the public DNS by its name, without user, port and fragment.
    /// It is stored encrypted, and only its host is shown; `null` removes it.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub slack_url: Option<Option<String>>,
    /// Whether owners get mails about alerts.
    pub mail: Option<bool>,
}

/// The appearance of a tenant. A member that is absent or `null` is the service's own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BrandingBody {
    /// The name: letters, digits, spaces and `& ' ( ) + , - . !`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 40)))]
    pub name: Option<String>,
    /// The logo: an `https` URL of a host by its name, without user, port and fragment.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub logo_url: Option<String>,
    /// The colour of buttons and links, `#rrggbb`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^#[0-9A-Fa-f]{6}$")))]
    pub primary_color: Option<String>,
    /// The colour behind the text, `#rrggbb`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^#[0-9A-Fa-f]{6}$")))]
    pub background_color: Option<String>,
}

/// A change of a tenant by one of its own: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Its name; `Some(None)` removes it.
    pub company_name: Option<Option<String>>,
    /// The address for buyers' questions; `Some(None)` removes it.
    pub support_address: Option<Option<String>>,
    /// What a payer on the sanctions list means.
    pub sanctions: Option<SanctionsPolicy>,
    /// Its appearance; `Some(None)` removes it.
    pub branding: Option<Option<Branding>>,
    /// How its owners are alerted.
    pub alerts: AlertsChange,
}

/// A change of how the owners of a tenant are alerted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertsChange {
    /// The Slack-compatible URL; `Some(None)` removes it.
    pub url: Option<Option<PublicUrl>>,
    /// Whether they get mails.
    pub mail: Option<bool>,
}

/// Reads `PATCH /v1/tenant`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn tenant_settings(body: &[u8]) -> Result<TenantSettings, Fault> {
    let body: TenantSettingsBody = parse_body(body)?;
    let support = |text: String| read_email_member("support_address", &text);
    Ok(TenantSettings {
        company_name: body.company_name.map(|name| name.map(read_company_name).transpose()).transpose()?,
        support_address: body.support_address.map(|text| text.map(support).transpose()).transpose()?,
        sanctions: body.sanctions,
        branding: body.branding.map(|branding| branding.map(read_branding).transpose()).transpose()?,
        alerts: read_alerts(body.alerts.unwrap_or_default())?,
    })
}

fn read_alerts(body: AlertsBody) -> Result<AlertsChange, Fault> {
    let rule = "must be an https URL of a host of the public DNS by its name, without user, port and fragment";
    let read = |text: String| PublicUrl::parse(&text).ok_or_else(|| invalid("alerts.slack_url", rule));
    let url = body.slack_url.map(|text| text.map(read).transpose()).transpose()?;
    Ok(AlertsChange { url, mail: body.mail })
}

fn read_branding(body: BrandingBody) -> Result<Branding, Fault> {
    let name_rule = format!("must be 1 to {BRAND_NAME_MAX} letters, digits, spaces and & ' ( ) + , - . !");
    let logo_rule = "must be an https URL of a host by its name, without user, port and fragment";
    let color_rule = "must be a colour as #rrggbb";
    Ok(Branding {
        name: read_member(body.name, "name", BrandName::parse, &name_rule)?,
        logo_url: read_member(body.logo_url, "logo_url", LogoUrl::parse, logo_rule)?,
        primary_color: read_member(body.primary_color, "primary_color", Color::parse, color_rule)?,
        background_color: read_member(body.background_color, "background_color", Color::parse, color_rule)?,
    })
}

fn read_member<T>(
    text: Option<String>,
    name: &str,
    parse: fn(&str) -> Option<T>,
    rule: &str,
) -> Result<Option<T>, Fault> {
    text.map(|text| parse(&text).ok_or_else(|| invalid(&format!("branding.{name}"), rule))).transpose()
}

/// A tenant as its own people and keys see it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OwnTenantView {
    /// The tenant's id, `ten_…`.
    pub id: String,
    /// The company's name; `null` where none was given.
    pub company_name: Option<String>,
    /// The address by which the service reaches the tenant.
    pub email: String,
    /// The address for buyers' questions; `null` where none was given.
    pub support_address: Option<String>,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// Whether its requests are served: `active`, `suspended`, `cancelled` or `deleting`.
    pub status: ShownStatus,
    /// Until when its deletion can be undone, RFC 3339; `null` where it is not being deleted.
    pub deletion_due_at: Option<String>,
    /// The location hint with which its ledgers are created; `null`: near the first request.
    pub region: Option<String>,
    /// The limits that apply: the tenant's own, else its tier's.
    pub limits: LimitsView,
    /// Whether a payment by a payer on the sanctions list is refused or only reported.
    pub sanctions: SanctionsPolicy,
    /// Its appearance as it is stored; `null` where there is none.
    pub branding: Option<BrandingBody>,
    /// Whether that appearance is shown: the tier includes it.
    pub branding_shown: bool,
    /// How its owners are alerted.
    pub alerts: AlertsView,
    /// When it was created, RFC 3339.
    pub created_at: String,
}

/// How the owners of a tenant are alerted.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AlertsView {
    /// Whether they get mails.
    pub mail: bool,
    /// The host of the Slack-compatible webhook; `null` where none is set. The rest of its URL is a secret.
    pub slack_host: Option<String>,
}

/// The answer to `GET` and `PATCH /v1/tenant`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OwnTenantAlone {
    /// The tenant as it is stored.
    pub tenant: OwnTenantView,
}

/// An appearance in JSON.
#[must_use]
pub fn branding_view(branding: &Branding) -> BrandingBody {
    BrandingBody {
        name: branding.name.as_ref().map(ToString::to_string),
        logo_url: branding.logo_url.as_ref().map(ToString::to_string),
        primary_color: branding.primary_color.map(|color| color.to_string()),
        background_color: branding.background_color.map(|color| color.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(body: &Value) -> Result<TenantSettings, Option<String>> {
        tenant_settings(body.to_string().as_bytes()).map_err(|fault| fault.param.map(Into::into))
    }

    #[test]
    fn what_is_absent_stays_and_null_removes() {
        assert_eq!(read(&json!({})), Ok(TenantSettings::default()));
        let nulls = json!({"company_name": null, "support_address": null, "sanctions": null, "branding": null});
        let removed = TenantSettings {
            company_name: Some(None),
            support_address: Some(None),
            sanctions: None,
            branding: Some(None),
            alerts: AlertsChange::default(),
        };
        assert_eq!(read(&nulls), Ok(removed));
        let alerts = |body| read(&json!({"alerts": body})).map(|read| read.alerts);
        assert_eq!(alerts(json!({"slack_url": null})), Ok(AlertsChange { url: Some(None), mail: None }));
        assert_eq!(alerts(json!({"mail": false})), Ok(AlertsChange { url: None, mail: Some(false) }));
        let url = alerts(json!({"slack_url": "https://hooks.slack.com/services/T/B/x"})).expect("reads").url.flatten();
        assert_eq!(url.expect("a URL").host(), "hooks.slack.com");
        let branding = json!({"name": "Ann & Co", "logo_url": "https://a.example/l.png", "primary_color": "#00FFAA"});
        let full = read(&json!({"support_address": "Help@Ann.example", "sanctions": "report", "branding": branding}));
        let full = full.expect("reads");
        assert_eq!(full.support_address, Some(Some("help@ann.example".to_owned())));
        let view = branding_view(&full.branding.flatten().expect("a branding"));
        assert_eq!((view.primary_color.as_deref(), view.background_color), (Some("#00ffaa"), None));
    }

    #[test]
    fn every_wrong_member_is_named() {
        for (wrong, param) in [
            (json!({"tier": "pro"}), "tier"),
            (json!({"email": "a@b.c"}), "email"),
            (json!({"company_name": ""}), "company_name"),
            (json!({"support_address": "nobody"}), "support_address"),
            (json!({"sanctions": "ignore"}), "sanctions"),
            (json!({"branding": "red"}), "branding"),
            (json!({"branding": []}), "branding"),
            (json!({"branding": {"name": "<b>"}}), "branding.name"),
            (json!({"branding": {"logo_url": "http://a.example/l.png"}}), "branding.logo_url"),
            (json!({"branding": {"primary_color": "red"}}), "branding.primary_color"),
            (json!({"branding": {"background_color": "#12345"}}), "branding.background_color"),
            (json!({"branding": {"font": "x"}}), "branding.font"),
            (json!({"alerts": {"slack_url": "http://hooks.slack.com/x"}}), "alerts.slack_url"),
            (json!({"alerts": {"slack_url": "https://127.0.0.1/x"}}), "alerts.slack_url"),
            (json!({"alerts": {"slack_url": ""}}), "alerts.slack_url"),
            (json!({"alerts": {"mail": "yes"}}), "alerts.mail"),
            (json!({"alerts": {"sms": true}}), "alerts.sms"),
            (json!({"alerts": []}), "alerts"),
        ] {
            assert_eq!(read(&wrong), Err(Some(param.to_owned())), "{wrong}");
        }
    }
}
