//! An x402 request, versions 1 and 2 read into one form (docs/spec/protocol.md#p-1-1 to #p-1-4). Only its form is
//! checked here, such as missing members; whether the payment is valid is not.

mod body;
mod repeatable;
mod scheme;

use crate::network;
use crate::network::{NETWORKS, Network};
use crate::reason::Reason;
pub use body::X402Body;
use body::{
    AuthorizationMembers, ExtensionMembers, ExtensionsMembers, ExtraMembers, IdentifierMembers, PayloadMembers,
    PaymentPayload, RawMember, RequirementsMembers, ResourceMembers, read_object, read_text,
};
pub use repeatable::buyer_can_repeat;
pub(crate) use scheme::NamedScheme;
pub use scheme::Scheme;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How deep a body may nest; the protocol's own objects nest seven deep.
const DEPTH_MAX: usize = 16;

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum X402Version {
    /// Networks by name, `maxAmountRequired`.
    One,
    /// Networks by CAIP-2, `amount`, `accepted` in the payload.
    Two,
}

/// The seller's requirements, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The scheme.
    pub scheme: NamedScheme,
    /// The network as written.
    pub network: String,
    /// Atomic units as written.
    pub amount: String,
    /// The token's address as written.
    pub asset: String,
    /// The recipient's address, as written.
    pub pay_to: String,
    /// `extra.name`: the EIP-712 domain's.
    pub name: Option<String>,
    /// `extra.version`: the EIP-712 domain's.
    pub version: Option<String>,
    /// `extra.feePayer`: the fee payer on Solana.
    pub fee_payer: Option<String>,
    /// `extra.memo`: the memo that a Solana transaction must carry.
    pub memo: Option<String>,
    /// `extra.verifyingContract`: the contract that is to check the signature (EVM), as JSON where it is no text.
    pub verifying_contract: Option<String>,
}

/// An EIP-3009 authorization with its signature, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eip3009 {
    /// The payer's address, as written.
    pub from: String,
    /// The recipient's address, as written.
    pub to: String,
    /// The amount in atomic units, decimal digits.
    pub value: String,
    /// Valid after this time, unix seconds.
    pub valid_after: String,
    /// Valid before this time, unix seconds.
    pub valid_before: String,
    /// The nonce, 32 bytes of hex.
    pub nonce: String,
    /// The signature, hex.
    pub signature: String,
}

/// What the buyer signed, by scheme and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Scheme `exact` on EVM: EIP-3009.
    Eip3009(Box<Eip3009>),
    /// `exact` on Solana: a transaction in base64.
    Transaction(String),
    /// A payload of any other form.
    Other,
}

/// One payment to verify or settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The protocol's version.
    pub version: X402Version,
    /// The seller's requirements.
    pub requirements: Requirements,
    /// The requirements that the buyer accepted: whole in version 2, scheme and network in version 1.
    pub accepted: AcceptedRequirements,
    /// What the buyer signed.
    pub payload: Payload,
    /// The URL of the resource that is paid for.
    pub resource: Option<String>,
    /// The `payment-identifier` extension's id.
    pub identifier: Option<String>,
}

/// The requirements that the buyer accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptedRequirements {
    /// Version 1 names scheme and network.
    Named {
        /// The scheme that the buyer names.
        scheme: NamedScheme,
        /// The network as written.
        network: String,
    },
    /// Version 2 repeats the requirements whole.
    Whole(Box<Requirements>),
}

impl AcceptedRequirements {
    /// The scheme that the buyer names.
    #[must_use]
    pub(crate) const fn scheme(&self) -> &NamedScheme {
        match self {
            Self::Named { scheme, .. } => scheme,
            Self::Whole(requirements) => &requirements.scheme,
        }
    }

    /// The network as written.
    #[must_use]
    pub fn network(&self) -> &str {
        match self {
            Self::Named { network, .. } => network,
            Self::Whole(requirements) => &requirements.network,
        }
    }
}

/// Why a body is not a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedPayment {
    /// The reason, as the protocol spells it.
    pub reason: Reason,
    /// Which member is missing or malformed, in one sentence.
    pub message: String,
    /// The network that the requirements name; empty where they name none.
    pub network: String,
}

/// A network as either version writes it: `base-sepolia` or `eip155:84532`; the registry's short keys count too.
#[must_use]
pub fn network_named(text: &str) -> Option<&'static Network> {
    network::by_caip2(text)
        .or_else(|| NETWORKS.iter().find(|network| network.v1_name == Some(text)))
        .or_else(|| network::by_key(text))
}

/// Reads the body of `/verify` or `/settle`; both have the same form.
///
/// # Errors
/// [`MalformedPayment`] with `invalid_x402_version`, `invalid_payment_requirements` or `invalid_payload`.
pub fn read(body: &X402Body<'_>) -> Result<Payment, MalformedPayment> {
    let members = &body.members;
    let wanted: Option<RequirementsMembers<'_>> = read_object(members.payment_requirements);
    let network = wanted.and_then(|wanted| read_text(wanted.network)).unwrap_or_default();
    let malformed =
        |reason, message: &str| MalformedPayment { reason, message: message.to_owned(), network: network.clone() };
    if body.depth > DEPTH_MAX {
        return Err(malformed(Reason::InvalidPayload, &format!("the body nests deeper than {DEPTH_MAX} levels")));
    }
    let payload: Option<PaymentPayload<'_>> = read_object(members.payment_payload);
    let version = read_version(members.version, payload.and_then(|payload| payload.version));
    let version = version.ok_or_else(|| {
        malformed(
            Reason::InvalidVersion,
            "x402Version is missing, is not 1 or 2, or differs from paymentPayload.x402Version",
        )
    })?;
    let requirements = match wanted {
        Some(wanted) => read_requirements(&wanted, version).ok_or_else(|| {
            let names = missing_members(&wanted, version).join(", ");
            malformed(
                Reason::InvalidRequirements,
                &format!("paymentRequirements lacks {names}, or they are not strings"),
            )
        })?,
        None => {
            return Err(malformed(Reason::InvalidRequirements, "paymentRequirements is missing, or is not an object"));
        }
    };
    let payload =
        payload.ok_or_else(|| malformed(Reason::InvalidPayload, "paymentPayload is missing, or is not an object"))?;
    let accepted =
        read_accepted(&payload, version).ok_or_else(|| malformed(Reason::InvalidPayload, accepted_rule(version)))?;
    let inner: Option<PayloadMembers<'_>> = read_object(payload.payload);
    let inner = inner
        .ok_or_else(|| malformed(Reason::InvalidPayload, "paymentPayload.payload is missing, or is not an object"))?;
    let resource = match version {
        X402Version::One => wanted.and_then(|wanted| read_text(wanted.resource)),
        X402Version::Two => {
            read_object(payload.resource).and_then(|resource: ResourceMembers<'_>| read_text(resource.url))
        }
    };
    let identifier = read_identifier(&payload).map_err(|rule| malformed(Reason::InvalidPayload, rule))?;
    Ok(Payment { version, requirements, resource, accepted, payload: read_payload(&inner), identifier })
}

/// The outer and the inner number must agree; old clients send only one.
fn read_version(outer: RawMember<'_>, inner: RawMember<'_>) -> Option<X402Version> {
    let number = |raw: &RawValue| serde_json::from_str::<u64>(raw.get()).ok();
    let number_found = match (outer, inner) {
        (Some(outer), Some(inner)) => number(outer).filter(|outer| Some(*outer) == number(inner)),
        (Some(one), None) | (None, Some(one)) => number(one),
        (None, None) => None,
    };
    match number_found {
        Some(1) => Some(X402Version::One),
        Some(2) => Some(X402Version::Two),
        Some(_) | None => None,
    }
}

/// The required members of the requirements that are missing, or are no text.
fn missing_members(wanted: &RequirementsMembers<'_>, version: X402Version) -> Vec<&'static str> {
    let (name, amount) = amount_member(wanted, version);
    let all = [
        ("scheme", wanted.scheme),
        ("network", wanted.network),
        (name, amount),
        ("asset", wanted.asset),
        ("payTo", wanted.pay_to),
    ];
    all.into_iter().filter(|(_, raw)| read_text(*raw).is_none()).map(|(name, _)| name).collect()
}

/// The name of the member that holds the amount, by version.
const fn amount_member<'a>(wanted: &RequirementsMembers<'a>, version: X402Version) -> (&'static str, RawMember<'a>) {
    match version {
        X402Version::One => ("maxAmountRequired", wanted.max_amount_required),
        X402Version::Two => ("amount", wanted.amount),
    }
}

fn read_requirements(wanted: &RequirementsMembers<'_>, version: X402Version) -> Option<Requirements> {
    let (_, amount) = amount_member(wanted, version);
    let extra: ExtraMembers<'_> = read_object(wanted.extra).unwrap_or_default();
    Some(Requirements {
        scheme: NamedScheme::read(read_text(wanted.scheme)?),
        network: read_text(wanted.network)?,
        amount: read_text(amount)?,
        asset: read_text(wanted.asset)?,
        pay_to: read_text(wanted.pay_to)?,
        name: read_text(extra.name),
        version: read_text(extra.version),
        fee_payer: read_text(extra.fee_payer),
        memo: read_text(extra.memo),
        verifying_contract: extra
            .verifying_contract
            .map(|raw| read_text(Some(raw)).unwrap_or_else(|| raw.get().to_owned())),
    })
}

/// What a payload without the accepted requirements lacks.
const fn accepted_rule(version: X402Version) -> &'static str {
    match version {
        X402Version::One => "paymentPayload lacks scheme or network",
        X402Version::Two => "paymentPayload.accepted is missing, or lacks a member of the requirements",
    }
}

fn read_accepted(payload: &PaymentPayload<'_>, version: X402Version) -> Option<AcceptedRequirements> {
    match version {
        X402Version::One => {
            let scheme = NamedScheme::read(read_text(payload.scheme)?);
            Some(AcceptedRequirements::Named { scheme, network: read_text(payload.network)? })
        }
        X402Version::Two => {
            let wanted: RequirementsMembers<'_> = read_object(payload.accepted)?;
            read_requirements(&wanted, version).map(|all| AcceptedRequirements::Whole(Box::new(all)))
        }
    }
}

fn read_payload(inner: &PayloadMembers<'_>) -> Payload {
    match (read_eip3009(inner), read_text(inner.transaction)) {
        (Some(signed), _) => Payload::Eip3009(Box::new(signed)),
        (None, Some(transaction)) => Payload::Transaction(transaction),
        (None, None) => Payload::Other,
    }
}

fn read_eip3009(inner: &PayloadMembers<'_>) -> Option<Eip3009> {
    let signed: AuthorizationMembers<'_> = read_object(inner.authorization)?;
    Some(Eip3009 {
        from: read_text(signed.from)?,
        to: read_text(signed.to)?,
        value: read_text(signed.value)?,
        valid_after: read_text(signed.valid_after)?,
        valid_before: read_text(signed.valid_before)?,
        nonce: read_text(signed.nonce)?,
        signature: read_text(inner.signature)?,
    })
}

/// `extensions.payment-identifier.info.id`, if present; an error where it is required and missing.
fn read_identifier(payload: &PaymentPayload<'_>) -> Result<Option<String>, &'static str> {
    let extension =
        read_object(payload.extensions).and_then(|all: ExtensionsMembers<'_>| read_object(all.payment_identifier));
    let info: IdentifierMembers<'_> =
        extension.and_then(|one: ExtensionMembers<'_>| read_object(one.info)).unwrap_or_default();
    if info.id.is_none() {
        let required = info.required.is_some_and(|required| required.get() == "true");
        return if required {
            Err("the extension payment-identifier requires an id, and there is none")
        } else {
            Ok(None)
        };
    }
    let is_id = |id: &String| {
        (16..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let id = read_text(info.id).filter(is_id);
    id.map(Some).ok_or("the payment identifier must be 16 to 128 letters, digits, '_' and '-'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(body: &Value) -> Result<Payment, MalformedPayment> {
        super::read(&X402Body::parse(body.to_string().as_bytes()).expect("an object"))
    }

    fn second() -> Value {
        let requirements = json!({"scheme": "exact", "network": "eip155:84532", "amount": "1000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
            "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}});
        json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": {"x402Version": 2,
            "accepted": requirements, "resource": null, "extensions": {"payment-identifier": {"info": {"id": "pay_0123456789abcdef"}}},
            "payload": {"signature": "0xab", "authorization": {"from": "0x1", "to": "0x2", "value": "1000",
                "validAfter": "0", "validBefore": "1", "nonce": "0x3"}}}})
    }

    fn first() -> Value {
        let mut body = second();
        body["x402Version"] = json!(1);
        body["paymentRequirements"]["maxAmountRequired"] = json!("1000");
        body["paymentRequirements"]["network"] = json!("base-sepolia");
        body["paymentPayload"] = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia",
            "payload": body["paymentPayload"]["payload"]});
        body
    }

    #[test]
    fn both_versions_read_into_one_form() {
        let two = read(&second()).expect("reads");
        assert_eq!((two.version, two.accepted.network()), (X402Version::Two, "eip155:84532"));
        assert_eq!(two.identifier.as_deref(), Some("pay_0123456789abcdef"));
        let one = read(&first()).expect("reads");
        assert_eq!(
            (one.version, one.accepted.scheme().text.as_str(), one.requirements.amount.as_str()),
            (X402Version::One, "exact", "1000")
        );
        assert_eq!(one.payload, two.payload);
    }

    #[test]
    fn what_is_no_payment_is_named() {
        let check = |change: &dyn Fn(&mut Value), want: Reason| {
            let mut body = second();
            change(&mut body);
            assert_eq!(read(&body).map_err(|malformed| malformed.reason), Err(want), "{body}");
        };
        check(&|body| body["x402Version"] = json!(3), Reason::InvalidVersion);
        check(&|body| body["x402Version"] = json!(1), Reason::InvalidVersion);
        check(&|body| body["x402Version"] = json!("2"), Reason::InvalidVersion);
        check(&|body| body["paymentRequirements"] = json!([]), Reason::InvalidRequirements);
        check(&|body| body["paymentRequirements"]["payTo"] = json!(""), Reason::InvalidRequirements);
        check(&|body| body["paymentRequirements"]["amount"] = json!(1000), Reason::InvalidRequirements);
        let mut bare = first();
        bare["paymentRequirements"] = json!({"scheme": "exact", "network": "base", "amount": "1"});
        let found = read(&bare).map_err(|malformed| malformed.message);
        let want = "paymentRequirements lacks maxAmountRequired, asset, payTo, or they are not strings";
        assert_eq!(found, Err(want.to_owned()));
        check(&|body| body["paymentPayload"]["accepted"] = Value::Null, Reason::InvalidPayload);
        for info in
            [json!({"id": "short"}), json!({"id": "a payment of today"}), json!({"id": 7}), json!({"required": true})]
        {
            let set =
                |body: &mut Value| body["paymentPayload"]["extensions"]["payment-identifier"]["info"] = info.clone();
            check(&set, Reason::InvalidPayload);
        }
        check(&|body| body["paymentPayload"]["payload"] = json!("x"), Reason::InvalidPayload);
        let mut deep = json!(1);
        for _ in 0..20 {
            deep = json!([deep]);
        }
        check(&|body| body["extra"] = deep.clone(), Reason::InvalidPayload);
        let mut old = second();
        old.as_object_mut().expect("an object").remove("x402Version");
        assert!(read(&old).is_ok());
    }

    #[test]
    fn networks_are_known_by_either_name() {
        for name in ["base-sepolia", "eip155:84532"] {
            assert_eq!(network_named(name).map(|network| network.key), Some("base-sepolia"));
        }
        assert!(network_named("eip155:1 ").is_none());
    }

    proptest! {
        #[test]
        fn no_json_panics(text in "\\PC*") {
            if let Ok(body) = X402Body::parse(text.as_bytes()) {
                let _ = super::read(&body);
            }
        }
    }
}
