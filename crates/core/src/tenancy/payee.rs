//! Whether a tenant's requirements may name a network and an address, checked before a buyer sees them. Nothing is
//! counted or registered.

use crate::error::Fault;
use crate::tenancy::tenant::Tenant;
use crate::tenancy::usage::may_use;
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::reason::Reason;

/// A network, and the address to be paid on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeQuery {
    /// The registry's short key of the network.
    pub network: String,
    /// The address to be paid; `None`: the tenant's default recipient there.
    pub pay_to: Option<Address>,
}

/// Whether one network and address may stand in requirements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayeeAnswer {
    /// The address is registered to the tenant.
    Own(Address),
    /// Why they may not: the reason, and a sentence.
    Refused(Reason, String),
}

/// Answers one query; `is_on` says whether the registry check allows a network.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where the Worker knows a network that this build does not: during a deployment it may be of a
/// later build.
pub fn resolve_payee(
    tenant: &Tenant,
    wanted: &PayeeQuery,
    is_on: impl Fn(&Network) -> bool,
) -> Result<PayeeAnswer, Fault> {
    let unknown = || Fault::other_version(format!("the network '{}' is not in the registry", wanted.network));
    network::by_key(&wanted.network).map(|network| payee_on(network, tenant, wanted, is_on)).ok_or_else(unknown)
}

fn payee_on(network: &Network, tenant: &Tenant, wanted: &PayeeQuery, is_on: impl Fn(&Network) -> bool) -> PayeeAnswer {
    if !may_use(tenant, network) {
        return PayeeAnswer::Refused(Reason::NetworkNotEnabled, format!("'{}' is not open to this key", network.key));
    }
    if !is_on(network) {
        let sentence = format!("'{}' is off until the registry check has passed", network.key);
        return PayeeAnswer::Refused(Reason::NetworkNotEnabled, sentence);
    }
    match wanted.pay_to {
        Some(named) if tenant.holds(&named, network) => PayeeAnswer::Own(named),
        Some(named) => {
            PayeeAnswer::Refused(Reason::PayToNotAllowed, format!("{named} is not registered to the seller"))
        }
        None => tenant.default_recipient(network).map_or_else(
            || {
                PayeeAnswer::Refused(
                    Reason::PayToNotAllowed,
                    format!("the seller has no recipient on '{}'", network.key),
                )
            },
            PayeeAnswer::Own,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::tenancy::admission::may_register;
    use crate::tenancy::tenant::{OwnLimits, Recipient, TenantStatus};
    use crate::tenancy::tier::Tier;
    use crate::verdict::SanctionsPolicy;
    use x402_chain::address::Family;
    use x402_chain::id::TenantId;
    use x402_chain::network::Environment;

    const OWN: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

    fn address(text: &str) -> Address {
        Address::parse(Family::Evm, text).expect("an address")
    }

    fn tenant(environment: Environment, tier: Tier) -> Tenant {
        Tenant {
            id: TenantId([1; 12]),
            environment,
            version: 1,
            company_name: None,
            status: TenantStatus::Active,
            tier,
            region: None,
            limits: OwnLimits::default(),
            sanctions: SanctionsPolicy::Refuse,
            explain: false,
            webhooks: Some(Vec::new()),
            recipients: vec![Recipient {
                address: address(OWN),
                default_for: Vec::new(),
                first_use: false,
                only_on: None,
            }],
            keys: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_open_and_the_tenants_own_may_be_named() {
        let live = tenant(Environment::Live, Tier::Free);
        let ask = |tenant: &Tenant, network: &str, pay_to: Option<&str>, on: bool| {
            let wanted = PayeeQuery { network: network.to_owned(), pay_to: pay_to.map(address) };
            resolve_payee(tenant, &wanted, |_| on).expect("a network of the registry")
        };
        assert_eq!(ask(&live, "base", None, true), PayeeAnswer::Own(address(OWN)));
        assert_eq!(ask(&live, "base", Some(OWN), true), PayeeAnswer::Own(address(OWN)));
        let reason = |payee: PayeeAnswer| match payee {
            PayeeAnswer::Own(own) => panic!("{own}"),
            PayeeAnswer::Refused(reason, message) => {
                assert!(!message.is_empty());
                reason
            }
        };
        let stranger = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
        assert_eq!(reason(ask(&live, "base", Some(stranger), true)), Reason::PayToNotAllowed);
        assert_eq!(reason(ask(&live, "solana", None, true)), Reason::PayToNotAllowed);
        assert_eq!(reason(ask(&live, "base", None, false)), Reason::NetworkNotEnabled);
        assert_eq!(reason(ask(&live, "polygon", None, true)), Reason::NetworkNotEnabled);
        assert_eq!(reason(ask(&live, "base-sepolia", None, true)), Reason::NetworkNotEnabled);
        // In test as in live: nothing is registered by it.
        let test = tenant(Environment::Test, Tier::Free);
        assert_eq!(reason(ask(&test, "base-sepolia", Some(stranger), true)), Reason::PayToNotAllowed);
    }

    #[test]
    fn an_address_that_is_proven_for_one_chain_is_the_tenants_there_alone() {
        let asked = |tenant: &Tenant, network: &str, pay_to: Option<&str>| {
            let wanted = PayeeQuery { network: network.to_owned(), pay_to: pay_to.map(address) };
            resolve_payee(tenant, &wanted, |_| true) == Ok(PayeeAnswer::Own(address(OWN)))
        };
        for (environment, own, other) in
            [(Environment::Live, "base", "polygon"), (Environment::Test, "base-sepolia", "polygon-amoy")]
        {
            let mut tenant = tenant(environment, Tier::Enterprise);
            tenant.recipients.iter_mut().for_each(|recipient| recipient.only_on = Some(vec![own.to_owned()]));
            assert!(asked(&tenant, own, Some(OWN)) && asked(&tenant, own, None));
            assert!(!asked(&tenant, other, Some(OWN)) && !asked(&tenant, other, None));
            // Its first use elsewhere does not register it there.
            let refused = may_register(&address(OWN), &tenant).expect_err("refused");
            assert!(refused.contains(own), "{refused}");
        }
    }

    #[test]
    fn a_network_that_only_the_worker_knows_is_no_refusal() {
        let wanted = PayeeQuery { network: "of-a-later-build".to_owned(), pay_to: None };
        let unknown = resolve_payee(&tenant(Environment::Live, Tier::Free), &wanted, |_| true);
        assert_eq!(unknown.map_err(|fault| fault.code), Err(ErrorCode::LedgerUnavailable));
    }
}
