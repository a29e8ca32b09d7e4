//! The checks that need no chain: the payment's own rules, its authorization, and the signers that may send it.

use super::{AskLedger, PlanContext, PlanStep, PlannedPayment};
use crate::settings::Settings;
use crate::settlement::payment::{
    PaymentAction, PaymentFinding, PaymentRequest, PaymentTerms, authorization_id, transaction_authorization_id,
};
use crate::tenancy::key::KeyHash;
use crate::traceparent::TraceParent;
use crate::verification::decision::IdempotencyKey;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use x402_chain::address::{Address, TxId};
use x402_chain::checks::Checks;
use x402_chain::id::RequestId;
use x402_chain::network::{Network, TenantBudget};
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::schemes::exact::svm::SvmExactPayment;
use x402_chain::schemes::exact::{ExactPayment, OffchainVerdict};
use x402_chain::signer::Signer;
use x402_chain::x402::{MalformedPayment, Payment, Scheme, X402Version, network_named};

/// What a request for a payment holds beside its body.
pub struct NewRequest {
    /// The SHA-256 of the API key that asks.
    pub key: KeyHash,
    /// The HTTP request's id.
    pub request_id: RequestId,
    /// The span of a settle request.
    pub traceparent: Option<TraceParent>,
    /// Verify or settle.
    pub verb: PaymentAction,
    /// The `Idempotency-Key` of a settle request.
    pub idempotency: Option<IdempotencyKey>,
    /// Whether the request asks for our additions in the body of a settle's success.
    pub explain: bool,
    /// Random bytes for a settlement's id; zeros on verify.
    pub random: [u8; 10],
}

/// The message to the ledger before any check.
#[must_use]
pub fn initial_request(
    request: NewRequest,
    read: Result<&Payment, &MalformedPayment>,
    settings: &Settings,
) -> PaymentRequest {
    let NewRequest { key, request_id, traceparent, verb, idempotency, explain, random } = request;
    let network_text = read.map_or_else(|malformed| &malformed.network, |payment| &payment.requirements.network);
    let network = read.ok().and_then(|payment| network_named(&payment.requirements.network));
    PaymentRequest {
        key,
        request_id,
        traceparent,
        verb,
        network_text: network_text.clone(),
        network: None,
        pay_to_tried: false,
        chain_on: true,
        payer: None,
        terms: None,
        finding: PaymentFinding::Unavailable,
        budget: network.map_or(TenantBudget { day: 0, failed: 0 }, |network| settings.tenant_budget(network)),
        idempotency,
        identifier: read.ok().and_then(|payment| payment.identifier.clone()),
        explain,
        random,
    }
}

/// The question whether the registry check allows the payment's network.
pub struct CheckRegistry<'a> {
    context: PlanContext<'a>,
    asked: PaymentRequest,
    payment: &'a Payment,
    network: &'static Network,
}

impl<'a> CheckRegistry<'a> {
    pub(super) const fn new(
        context: PlanContext<'a>,
        asked: PaymentRequest,
        payment: &'a Payment,
        network: &'static Network,
    ) -> Self {
        Self { context, asked, payment, network }
    }

    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.network
    }

    /// Runs the checks that need no chain; returns the next step.
    #[must_use]
    pub fn then(self, is_allowed: bool) -> PlanStep<'a> {
        let Self { context, mut asked, payment, network } = self;
        asked.chain_on = is_allowed;
        let signers = context.settings.signers(network.family, network.environment);
        let own: Vec<Address> = signers.iter().map(Signer::address).collect();
        let OffchainVerdict { mut rules, payment: terms } = match payment.requirements.scheme.served {
            // A scheme that is not served is refused by the rules of this one.
            Some(Scheme::Exact) | None => exact::verify_offchain(payment, network, &own, context.now.seconds()),
        };
        asked.payer = terms.as_ref().map_or_else(|| exact::payer_named(payment), |terms| Some(terms.payer()));
        // An expired payment may have been settled in time: then only its record answers.
        let (terms, late) = match (terms, rules.refusal.take()) {
            (Some(terms), late) => (terms, late),
            (None, refusal) => {
                let malformed = || (Reason::InvalidPayload, "the payload is malformed".to_owned());
                let (reason, message) = refusal.unwrap_or_else(malformed);
                return AskLedger::refused(asked, Checks::new(&rules.checks), reason, message);
            }
        };
        let Some(signable) = SignableAuthorization::of(&terms, network, signers) else { return AskLedger::last(asked) };
        let SignableAuthorization { authorization, signers, completed } = signable;
        let signer = signers.first().map(|signer| signer.address());
        let own_key = late.is_some() && matches!(&terms, ExactPayment::Evm(terms) if terms.is_signed_by_payer());
        asked.terms = Some(PaymentTerms { signer, own_key, ..payment_terms(payment, network, &terms, authorization) });
        if !is_allowed {
            return AskLedger::last(asked);
        }
        let is_unread = Cell::new(false);
        PlannedPayment { context, asked, payment, network, terms, rules, late, signers, completed, is_unread }
            .first_step()
    }
}

/// A payment's authorization, and the signers that may serve it.
struct SignableAuthorization<'a> {
    /// The id of what the chain accepts once.
    authorization: String,
    /// In order: each payer has a first signer of its own, always the same; payers are spread evenly. On Solana the
    /// payer's transaction names the one.
    signers: Vec<&'a Signer>,
    /// The id that the transaction gets by our signature (Solana).
    completed: Option<TxId>,
}

impl<'a> SignableAuthorization<'a> {
    /// `None` where no signer of ours can complete a Solana transaction.
    fn of(terms: &ExactPayment, network: &Network, signers: &'a [Signer]) -> Option<Self> {
        match terms {
            ExactPayment::Evm(terms) => {
                let payer = terms.payer();
                let [first, second, ..]: [u8; 32] =
                    Sha256::digest(format!("{}/{}", network.caip2, payer.unchecksummed())).into();
                let at = usize::from(u16::from_be_bytes([first, second])).checked_rem(signers.len()).unwrap_or(0);
                let (before, from) = signers.split_at_checked(at)?;
                let authorization = authorization_id(network, &payer, &terms.nonce());
                Some(Self { authorization, signers: from.iter().chain(before).collect(), completed: None })
            }
            ExactPayment::Svm(terms) => {
                let (signer, id) = completed_transaction(terms, signers)?;
                let authorization = transaction_authorization_id(network, &id);
                Some(Self { authorization, signers: vec![signer], completed: Some(id) })
            }
        }
    }
}

/// The signer that a Solana payment names as its fee payer, and the id that the transaction gets by its signature.
fn completed_transaction<'a>(terms: &SvmExactPayment, signers: &'a [Signer]) -> Option<(&'a Signer, TxId)> {
    let signer = signers.iter().find(|signer| signer.address() == terms.fee_payer())?;
    Some((signer, terms.transaction().clone().sign(signer.svm()?)?.id))
}

/// The terms for the ledger. They are made from parsed values, so that another spelling is no second payment.
fn payment_terms(payment: &Payment, network: &Network, terms: &ExactPayment, authorization: String) -> PaymentTerms {
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    // In version 2 the buyer chooses the resource text, so it binds nothing.
    let resource = payment.resource.as_deref().filter(|_| payment.version == X402Version::One).unwrap_or("");
    let (scheme, asset) = (terms.scheme().name(), network.asset.text);
    let required = format!("{scheme}\n{}\n{asset}\n{amount}\n{}\n{resource}", network.caip2, pay_to.unchecksummed());
    let proof = match terms {
        ExactPayment::Evm(terms) => hex::encode(Sha256::digest(terms.signature())),
        ExactPayment::Svm(_) => String::new(),
    };
    PaymentTerms {
        authorization,
        fingerprint: hex::encode(Sha256::digest(required)),
        payer,
        pay_to,
        amount,
        signer: None,
        proof,
        valid_before: terms.valid_before(),
        worst: 0,
        has_code: false,
        max_fee_wei: None,
        own_key: false,
    }
}
