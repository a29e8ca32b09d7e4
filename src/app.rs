//! The bindings and settings of the Worker. No other module reads a binding by its name.

use crate::isolate;
use std::rc::Rc;
use worker::{Bucket, Context, D1Database, Date, Env, ObjectNamespace, Queue, SendEmail};
use x402_chain::id::{EventId, RequestId};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::settings::Settings;
use x402_core::settings::sentry::secrets::secret_values;

/// The settings, and access to the bindings.
pub(crate) struct App {
    env: Env,
    /// The settings, parsed once an isolate.
    pub(crate) settings: Rc<Settings>,
    /// The origin of links in answers.
    pub(crate) origin: String,
    /// The origin at which the request has found the service; empty where there is no request.
    pub(crate) request_origin: String,
}

impl App {
    /// Reads the settings once an isolate.
    ///
    /// # Errors
    /// `MISCONFIGURED`, naming every mistake.
    pub(crate) fn new(env: Env, request_origin: &str) -> Result<Self, Fault> {
        let settings = isolate::settings(|| Settings::read(|name| setting(&env, name)));
        let settings = settings.map_err(|mistakes| {
            let listed: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            Fault::new(ErrorCode::Misconfigured, format!("the service's settings are wrong: {}", listed.join("; ")))
                .after(60)
        })?;
        let origin = settings.public_url().unwrap_or(request_origin).trim_end_matches('/').to_owned();
        Ok(Self { env, settings, origin, request_origin: request_origin.to_owned() })
    }

    /// The directory's binding.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn db(&self) -> Result<D1Database, Fault> {
        db(&self.env)
    }

    /// The values of all secret settings, so that nothing that is sent holds one.
    pub(crate) fn secrets(&self) -> Vec<String> {
        secret_values(|name| setting(&self.env, name))
    }

    /// The namespace of the ledgers.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn ledgers(&self) -> Result<ObjectNamespace, Fault> {
        self.env.durable_object("LEDGERS").map_err(|error| unbound("LEDGERS").because(error))
    }

    /// The namespace of the settlers.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn settlers(&self) -> Result<ObjectNamespace, Fault> {
        self.env.durable_object("SETTLERS").map_err(|error| unbound("SETTLERS").because(error))
    }

    /// The namespace of the months' records.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn records(&self) -> Result<ObjectNamespace, Fault> {
        records(&self.env)
    }

    /// The namespace of the webhook endpoints' Couriers.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn couriers(&self) -> Result<ObjectNamespace, Fault> {
        couriers(&self.env)
    }

    /// The namespace of the Meters.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn meters(&self) -> Result<ObjectNamespace, Fault> {
        meters(&self.env)
    }

    /// The bindings, for work that goes on without this.
    pub(crate) const fn env(&self) -> &Env {
        &self.env
    }

    /// The archive of records.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn archive(&self) -> Result<Bucket, Fault> {
        bucket(&self.env)
    }

    /// The queue of mails.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn mails(&self) -> Result<Queue, Fault> {
        self.env.queue("MAILS").map_err(|error| unbound("MAILS").because(error))
    }

    /// The queue of customers about whom Stripe has sent an event.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn stripe_events(&self) -> Result<Queue, Fault> {
        self.env.queue("STRIPE_EVENTS").map_err(|error| unbound("STRIPE_EVENTS").because(error))
    }

    /// The platform's sender of mails.
    ///
    /// # Errors
    /// `MISCONFIGURED` where the binding is missing.
    pub(crate) fn email(&self) -> Result<SendEmail, Fault> {
        self.env.send_email("EMAIL").map_err(|error| unbound("EMAIL").because(error))
    }

    /// The coarse rate limit in front of the service; where the binding is absent, there is no such limit.
    pub(crate) fn guard(&self) -> Option<worker::RateLimiter> {
        self.env.rate_limiter("GUARD").ok()
    }

    /// The platform's count of wrong operators' keys from a network; where the binding is absent, only isolates count.
    pub(crate) fn operator_guard(&self) -> Option<worker::RateLimiter> {
        self.env.rate_limiter("OPERATOR_GUARD").ok()
    }

    /// The platform's count of a tenant's requests about billing; where the binding is absent, there is no such limit.
    pub(crate) fn billing_guard(&self) -> Option<worker::RateLimiter> {
        self.env.rate_limiter("BILLING_GUARD").ok()
    }
}

/// A setting as the platform has it.
fn setting(env: &Env, name: &str) -> Option<String> {
    let secret = env.secret(name).map(|secret| secret.to_string());
    secret.or_else(|_| env.var(name).map(|var| var.to_string())).ok()
}

/// The directory's binding.
///
/// # Errors
/// `MISCONFIGURED` where it is missing.
pub(crate) fn db(env: &Env) -> Result<D1Database, Fault> {
    env.d1("DB").map_err(|error| unbound("DB").because(error))
}

/// The namespace of the months' records.
///
/// # Errors
/// `MISCONFIGURED` where the binding is missing.
pub(crate) fn records(env: &Env) -> Result<ObjectNamespace, Fault> {
    env.durable_object("RECORDS").map_err(|error| unbound("RECORDS").because(error))
}

/// The namespace of the Couriers.
///
/// # Errors
/// `MISCONFIGURED` where the binding is missing.
pub(crate) fn couriers(env: &Env) -> Result<ObjectNamespace, Fault> {
    env.durable_object("COURIERS").map_err(|error| unbound("COURIERS").because(error))
}

/// The namespace of the Meters.
///
/// # Errors
/// `MISCONFIGURED` where the binding is missing.
pub(crate) fn meters(env: &Env) -> Result<ObjectNamespace, Fault> {
    env.durable_object("METERS").map_err(|error| unbound("METERS").because(error))
}

/// The archive of records (R2).
///
/// # Errors
/// `MISCONFIGURED` where the binding is missing.
pub(crate) fn bucket(env: &Env) -> Result<Bucket, Fault> {
    env.bucket("ARCHIVE").map_err(|error| unbound("ARCHIVE").because(error))
}

fn unbound(name: &str) -> Fault {
    Fault::new(ErrorCode::Misconfigured, format!("the binding {name} is missing")).after(60)
}

/// The current time; read once in a request or step.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(Date::now().as_millis())
}

/// Random bytes from the platform.
///
/// # Errors
/// `INTERNAL` where it has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(Fault::internal)?;
    Ok(bytes)
}

/// An event's id: of several of one millisecond, each is greater than those before, so that they are listed in the order in
/// which they happened. Its time is that at which the event is written, which may be long after `began`, when a step or an
/// alarm has waited for others: whoever reads what is new looks back from the newest id for a bounded time.
///
/// # Errors
/// `INTERNAL` where the platform has no randomness.
pub(crate) fn event_id(began: UnixMillis) -> Result<EventId, Fault> {
    Ok(isolate::note_event(EventId::new(now().max(began), random()?)))
}

/// A request id of this time with new random bits.
pub(crate) fn request_id(now: UnixMillis) -> RequestId {
    // Without randomness, two requests of one millisecond share an id; nothing depends on its uniqueness.
    RequestId::new(now, random().unwrap_or_default())
}

/// Runs work that goes on after the answer.
pub(crate) fn after_answer(context: &Context, work: impl Future<Output = ()> + 'static) {
    context.wait_until(work);
}
