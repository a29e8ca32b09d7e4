//! The table of targets. A new parser of outside bytes is one row here, one function in [`crate::targets`] and a folder
//! `fuzz/corpus/<name>/` with at least two files, of which one is accepted.

use crate::targets::{bodies, chain, http, messages, people, queries, services, settings, stored, values, x402};
use crate::{corpus, edit};
#[cfg(not(fuzzing))]
use bolero::ValueGenerator as _;

/// What an input is: targets of a kind share hostile files and patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A path of a URL.
    Path,
    /// A query string.
    Query,
    /// A header, an id, an amount: a text of one line.
    Word,
    /// JSON.
    Json,
    /// Bytes of another format.
    Bytes,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Path, Self::Query, Self::Word, Self::Json, Self::Bytes];

    /// The name of the folder that its targets share.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Word => "word",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }
}

/// A parser of outside bytes.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether the parser accepts an input. Panics where a property does not hold.
    pub(crate) check: fn(&[u8]) -> bool,
}

impl Target {
    /// Runs a committed input; a panic says which.
    pub(crate) fn run(&self, name: &str, input: &[u8]) -> bool {
        let checked = std::panic::catch_unwind(|| (self.check)(input));
        checked.unwrap_or_else(|_| panic!("{} does not hold for {name}", self.name))
    }

    /// Its committed inputs, its own twice: they are picked more often.
    fn inputs(&self) -> Vec<&'static [u8]> {
        let own = corpus::own(self).values();
        own.clone().chain(own).chain(corpus::shared(self.kind).values()).map(Vec::as_slice).collect()
    }
}

/// Inputs of a target in one run of the tests; `BOLERO_RANDOM_ITERATIONS` sets another number.
const ITERATIONS: usize = 200;

/// Declares the targets, and for each a test of its name: the name by which `cargo bolero test` finds it.
macro_rules! targets {
    ($($kind:ident { $($name:ident = $check:path;)+ })+) => {
        /// Every target.
        pub(crate) const TARGETS: &[Target] = &[
            $($(Target { name: stringify!($name), kind: Kind::$kind, check: $check },)+)+
        ];

        /// Random inputs.
        mod random {
            use super::*;
            $($(
                #[test]
                fn $name() {
                    let target = TARGETS.iter().find(|target| target.name == stringify!($name)).expect("a target");
                    let test = bolero::check!();
                    // A fuzzer makes inputs of its own corpus, guided by coverage.
                    #[cfg(fuzzing)]
                    test.for_each(|input: &[u8]| {
                        (target.check)(input);
                    });
                    #[cfg(not(fuzzing))]
                    {
                        let files = target.inputs();
                        let made = bolero::generator::produce::<Vec<u8>>().with().len(0..40_usize).map_gen(move |script: Vec<u8>| edit::edited(&files, &script));
                        test.with_iterations(ITERATIONS).with_generator(made).for_each(|input: &edit::Input| {
                            (target.check)(&input.0);
                        });
                    }
                }
            )+)+
        }
    };
}

targets! {
    Path {
        request_path = http::request_path;
        request_target = http::request_target;
        mail_address_in_path = queries::mail_address_in_path;
    }
    Query {
        page_query = queries::page;
        audit_query = queries::audit;
        event_query = queries::events;
        stream_query = queries::stream;
        export_query = queries::export;
        analytics_query = queries::analytics;
        settlement_query = queries::settlements;
        delivery_query = queries::deliveries;
        billing_query = queries::billing;
        search_query = queries::search;
        oidc_query = queries::oidc;
        callback_query = queries::callbacks;
    }
    Word {
        media_type = http::media_type;
        authorization = http::authorization;
        cookie_header = http::cookie;
        prefer_header = http::prefer;
        last_event_id = http::last_event_id;
        client_address = http::client_address;
        request_source = http::request_source;
        api_key = people::api_key;
        secret_text = people::secret;
        sign_in_texts = people::sign_in;
        identity_id = people::identity;
        mail_domain = people::mail_domain;
        ids = values::ids;
        names = values::names;
        amount = values::amount;
        instant = values::instant;
        address = values::address;
        transaction_id = values::transaction;
        hex = values::hex;
        network = values::network;
        public_url = values::public_url;
        traceparent = values::traceparent;
        sentry_dsn = settings::sentry_dsn;
        sentry_share = settings::sentry_share;
        branding = values::branding;
        allowed_network = values::allowed_network;
        extended_key = settings::extended_key;
        signer_key = settings::signer;
        provider_address = settings::provider;
        sealed_box = people::sealed;
        webhook_secret = people::webhook_secret;
        wallet_signature = chain::wallet_signature;
        svm_transaction = x402::svm_transaction;
        stripe_signature = services::stripe_signature;
        standard_signature = services::standard_signature;
        id_token = services::id_token;
        message_address = messages::address;
        archive_key = stored::archive_key;
        csv_cells = stored::csv;
    }
    Json {
        body_verify = bodies::verify;
        body_accepts = bodies::accepts;
        body_admin = bodies::admin;
        body_keys = bodies::keys;
        body_recipients = bodies::recipients;
        body_session = bodies::session;
        body_members = bodies::members;
        body_tenant = bodies::tenant;
        body_webhook_endpoints = bodies::webhook_endpoints;
        body_deliveries = bodies::deliveries;
        body_billing = bodies::billing;
        body_rebuild = bodies::rebuild;
        body_oidc = bodies::oidc;
        payment_body = x402::payment;
        rpc_answer = chain::rpc_answer;
        evm_trace = chain::evm_trace;
        svm_trace = chain::svm_trace;
        evm_values = chain::evm_values;
        svm_values = chain::svm_values;
        registry_answers = chain::registry_answers;
        dns_answer = services::dns;
        oidc_discovery = services::discovery;
        oidc_token_answer = services::oidc_token;
        oidc_claims = services::claims;
        github_answers = services::github;
        stripe_event = services::stripe_event;
        stripe_answers = services::stripe;
        resend_event = services::resend;
        ledger_message = messages::ledger;
        ledger_reply = messages::ledger_reply;
        settler_message = messages::settler;
        object_messages = messages::objects;
        object_replies = messages::replies;
        stored_state = stored::state;
        record_line = stored::record;
        outbox_entry = stored::outbox;
        sanctions_list = stored::sanctions;
    }
    Bytes {
        body_text = http::body_text;
        settings = settings::settings;
        packed_row = stored::packed;
        gzip_file = stored::gzip;
        gzip_lines = stored::gzip_lines;
        receiver_answer = services::receiver;
        svm_transaction_bytes = x402::svm_transaction_bytes;
        token_account_bytes = chain::token_account;
    }
}
