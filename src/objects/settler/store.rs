//! Typed access to a settler's SQLite: flights with every signed version, and nonces.

use super::Settler;
use crate::app;
use crate::objects::sqlite::{Sqlite, integer_column, millis_value, optional_text_column, storage_failed, text_column};
use crate::sql::settler as sql;
use serde::Serialize;
use serde::de::DeserializeOwned;
use x402_chain::address::TxId;
use x402_core::error::Fault;
use x402_core::settlement::flight::{FlightVersion, FlightVersions};
use x402_core::settlement::nonces::Nonces;
use x402_core::settlement::refusal::{NodeAcceptance, PendingSends};
use x402_core::settlement::{Flight, SettlementReport};

/// One row of the table of flights.
pub(super) struct FlightRow {
    pub(super) key: String,
    pub(super) nonce: u64,
    pub(super) flight: Flight,
    pub(super) sent: FlightVersions,
    pub(super) report: Option<SettlementReport>,
    /// Whether the ledger holds the report.
    pub(super) is_reported: bool,
}

impl Settler {
    pub(super) fn sqlite(&self) -> Sqlite {
        Sqlite::new(&self.state.storage())
    }

    pub(super) fn open_storage(&self) -> Result<(), Fault> {
        if !self.opened.get() {
            self.sqlite().exec_schema(sql::SCHEMA)?;
            self.opened.set(true);
        }
        Ok(())
    }

    pub(super) fn flight_row(&self, key: &str) -> Result<Option<FlightRow>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHT_GET, vec![key.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let report = optional_text_column(row.get(3))
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(storage_failed)?;
        Ok(Some(FlightRow {
            key: key.to_owned(),
            nonce: u64::try_from(integer_column(row.first())).map_err(storage_failed)?,
            flight: serde_json::from_str(&text_column(row.get(1))).map_err(storage_failed)?,
            sent: serde_json::from_str(&text_column(row.get(2))).map_err(storage_failed)?,
            report,
            is_reported: integer_column(row.get(4)) != 0,
        }))
    }

    /// A flight's row, if it has not ended.
    pub(super) fn open_flight_row(&self, key: &str) -> Result<Option<FlightRow>, Fault> {
        Ok(self.flight_row(key)?.filter(|row| row.report.is_none()))
    }

    /// All open flights. A row that cannot be read is skipped, so that it delays no launch.
    pub(super) fn flights_in_flight(&self) -> Result<Vec<(String, Flight)>, Fault> {
        let rows = self.sqlite().rows(sql::FLIGHTS_FLYING, Vec::new())?;
        let read = |row: &Vec<worker::SqlStorageValue>| {
            let key = text_column(row.first());
            match serde_json::from_str(&text_column(row.get(1))).map_err(storage_failed) {
                Ok(flight) => Some((key, flight)),
                Err(fault) => {
                    self.note_stuck(&key, &fault);
                    None
                }
            }
        };
        Ok(rows.iter().filter_map(read).collect())
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
        let rows = self.sqlite().rows(sql::STATE_GET, vec![name.into()])?;
        rows.first()
            .map_or(Ok(T::default()), |row| serde_json::from_str(&text_column(row.first())).map_err(storage_failed))
    }

    pub(super) fn put_stored_value<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Fault> {
        let value = serde_json::to_string(value).map_err(storage_failed)?;
        self.sqlite().run(sql::STATE_PUT, vec![name.into(), value.into()])
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
