//! Typed access to a settler's SQLite: flights with every signed version, and nonces.

pub(super) use super::rows::FlightRow;
use super::rows::FlyingFlight;
use super::{Settler, migrations, sql};
use crate::app;
use crate::objects::sqlite::{Sqlite, millis_value, storage_failed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use x402_chain::address::TxId;
use x402_core::error::Fault;
use x402_core::settlement::Flight;
use x402_core::settlement::flight::{FlightVersion, FlightVersions};
use x402_core::settlement::nonces::Nonces;
use x402_core::settlement::refusal::{NodeAcceptance, PendingSends};

impl Settler {
    pub(super) fn sqlite(&self) -> Sqlite {
        Sqlite::new(&self.state.storage())
    }

    pub(super) fn open_storage(&self) -> Result<(), Fault> {
        if !self.opened.get() {
            self.sqlite().migrate(migrations::MIGRATIONS)?;
            self.opened.set(true);
        }
        Ok(())
    }

    pub(super) fn flight_row(&self, key: &str) -> Result<Option<FlightRow>, Fault> {
        self.sqlite().first(sql::FLIGHT_GET, vec![key.into()])
    }

    /// A flight's row, if it has not ended.
    pub(super) fn open_flight_row(&self, key: &str) -> Result<Option<FlightRow>, Fault> {
        Ok(self.flight_row(key)?.filter(|row| row.report.is_none()))
    }

    /// All open flights. A row that cannot be read is skipped, so that it delays no launch.
    pub(super) fn flights_in_flight(&self) -> Result<Vec<(String, Flight)>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHTS_FLYING, Vec::new())?;
        let read = |row: FlyingFlight| match row.flight {
            Ok(flight) => Some((row.key, flight)),
            Err(fault) => {
                self.note_stuck(&row.key, &fault);
                None
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Inserts a flight with its first version.
    pub(super) fn put_flight(&self, flight: &Flight, nonce: u64, version: FlightVersion) -> Result<(), Fault> {
        self.note_chain(&flight.network)?;
        let bind = vec![
            flight.key().into(),
            integer_value(nonce),
            serde_json::to_string(flight).map_err(storage_failed)?.into(),
            serde_json::to_string(&FlightVersions::first(version)).map_err(storage_failed)?.into(),
            millis_value(app::now()),
        ];
        self.sqlite().run(sql::FLIGHT_PUT, bind)?;
        self.launched.set(self.launched.get().wrapping_add(1));
        Ok(())
    }

    pub(super) fn nonces(&self) -> Result<Nonces, Fault> {
        self.stored_value("nonces")
    }

    pub(super) fn put_nonces(&self, nonces: &Nonces) -> Result<(), Fault> {
        self.put_stored_value("nonces", nonces)
    }

    /// The value stored under a name; the default where there is none.
    pub(super) fn stored_value<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, Fault> {
        Ok(self.sqlite().state(name)?.unwrap_or_default())
    }

    pub(super) fn put_stored_value<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Fault> {
        self.sqlite().put_state(name, value)
    }

    /// Adds a version, under a nonce.
    pub(super) fn put_version(&self, row: &FlightRow, nonce: u64, version: &FlightVersion) -> Result<(), Fault> {
        let mut sent = row.sent.clone();
        sent.versions.push(version.clone());
        self.put_sent(&row.key, nonce, &sent)
    }

    pub(super) fn put_sent(&self, key: &str, nonce: u64, sent: &FlightVersions) -> Result<(), Fault> {
        let sent = serde_json::to_string(sent).map_err(storage_failed)?;
        self.sqlite()
            .run(sql::FLIGHT_SENT, vec![integer_value(nonce), sent.into(), millis_value(app::now()), key.into()])
    }

    /// Notes that a version is being sent; `fresh`: for the first time, in the turn that signed it.
    pub(super) fn note_sending(&self, row: &FlightRow, id: TxId, fresh: bool) -> Result<(), Fault> {
        let stored = row.sent.version(&id).map_or(NodeAcceptance::No, |version| version.handed);
        let handed = {
            let mut sending = self.sending.borrow_mut();
            let sends =
                sending.entry(id).and_modify(PendingSends::begin).or_insert_with(|| PendingSends::first(stored, fresh));
            sends.acceptance()
        };
        self.put_handed(&row.key, id, handed)
    }

    /// Notes the result of sending.
    pub(super) fn note_sent(&self, key: &str, id: TxId, handed: NodeAcceptance) -> Result<(), Fault> {
        let handed = {
            let mut sending = self.sending.borrow_mut();
            let Some(sends) = sending.get_mut(&id) else { return Ok(()) };
            let is_last = sends.finish(handed);
            let handed = sends.acceptance();
            if is_last {
                sending.remove(&id);
            }
            handed
        };
        self.put_handed(key, id, handed)
    }

    fn put_handed(&self, key: &str, id: TxId, handed: NodeAcceptance) -> Result<(), Fault> {
        let Some(mut row) = self.flight_row(key)? else { return Ok(()) };
        let known = row.sent.versions.iter_mut().find(|version| version.id == id);
        let Some(version) = known.filter(|version| version.handed != handed) else { return Ok(()) };
        version.handed = handed;
        self.put_sent(key, row.nonce, &row.sent)
    }
}

/// A nonce as an integer: far below 2^53.
pub(super) fn integer_value(nonce: u64) -> worker::SqlStorageValue {
    worker::SqlStorageValue::Integer(i64::try_from(nonce).unwrap_or(i64::MAX))
}
