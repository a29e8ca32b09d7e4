//! A Settler's rows: flights with every version that was signed, and the nonces.

use super::Settler;
use crate::address::TxId;
use crate::chain::evm::tx::Price;
use crate::error::Fault;
use crate::payment::settlement::{Attempt, SettlementStatus};
use crate::settle::{Flight, Nonces, Report};
use crate::shell::app;
use crate::shell::sqlite::{Sqlite, broken, integer, ms, optional, text};
use crate::sql::settler as sql;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// Every version of a flight's transaction, the newest last: all carry the same
/// nonce and call, so at most one is mined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) versions: Vec<Version>,
    /// Whether it was in a block that has left the chain.
    #[serde(default)]
    pub(super) reopened: bool,
}

/// One signed version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) raw: String,
    pub(super) id: TxId,
    /// What a unit of gas may cost (EVM).
    pub(super) price: Option<Price>,
    /// The last block height that can hold it (Solana).
    pub(super) until: Option<u64>,
    pub(super) at: UnixMillis,
}

impl Sent {
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let attempt = |version: &Version| Attempt { transaction: version.id.to_string(), at: version.at.rfc3339() };
        self.versions.iter().map(attempt).collect()
    }

    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }
}

/// One row.
pub(super) struct Row {
    pub(super) key: String,
    pub(super) nonce: u64,
    pub(super) flight: Flight,
    pub(super) sent: Sent,
    pub(super) report: Option<Report>,
    pub(super) told: bool,
}

impl Settler {
    pub(super) fn db(&self) -> Sqlite {
        Sqlite::new(&self.state.storage())
    }

    pub(super) fn open(&self) -> Result<(), Fault> {
        if !self.opened.get() {
            self.db().make(sql::SCHEMA)?;
            self.opened.set(true);
        }
        Ok(())
    }

    pub(super) fn row(&self, key: &str) -> Result<Option<Row>, Fault> {
        let rows = self.db().rows(sql::FLIGHT_GET, vec![key.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let report = optional(row.get(3)).map(|text| serde_json::from_str(&text)).transpose().map_err(broken)?;
        Ok(Some(Row {
            key: key.to_owned(),
            nonce: u64::try_from(integer(row.first())).map_err(broken)?,
            flight: serde_json::from_str(&text(row.get(1))).map_err(broken)?,
            sent: serde_json::from_str(&text(row.get(2))).map_err(broken)?,
            report,
            told: integer(row.get(4)) != 0,
        }))
    }

    pub(super) fn nonces(&self) -> Result<Nonces, Fault> {
        let rows = self.db().rows(sql::STATE_GET, vec!["nonces".into()])?;
        rows.first().map_or(Ok(Nonces::default()), |row| serde_json::from_str(&text(row.first())).map_err(broken))
    }

    pub(super) fn put_nonces(&self, nonces: &Nonces) -> Result<(), Fault> {
        let value = serde_json::to_string(nonces).map_err(broken)?;
        self.db().run(sql::STATE_PUT, vec!["nonces".into(), value.into()])
    }

    pub(super) fn put_sent(&self, row: &Row, nonce: u64, version: &Version) -> Result<(), Fault> {
        let mut sent = row.sent.clone();
        sent.versions.push(version.clone());
        let sent = serde_json::to_string(&sent).map_err(broken)?;
        self.db().run(sql::FLIGHT_SENT, vec![number(nonce), sent.into(), ms(app::now()), row.key.as_str().into()])
    }

    pub(super) fn end(&self, key: &str, report: &Report) -> Result<(), Fault> {
        let text = serde_json::to_string(report).map_err(broken)?;
        self.db().run(sql::FLIGHT_END, vec![text.into(), ms(app::now()), key.into()])?;
        if report.status == SettlementStatus::Completed && !report.external { self.watch(key) } else { Ok(()) }
    }
}

/// A nonce to bind: below 2^53 for as long as anybody lives.
pub(super) fn number(nonce: u64) -> worker::SqlStorageValue {
    worker::SqlStorageValue::Integer(i64::try_from(nonce).unwrap_or(i64::MAX))
}
