//! Tenants, their keys, tiers, rates, quotas and budgets.

pub mod access;
pub mod admission;
pub mod allow_list;
pub mod branding;
pub mod budget;
pub mod key;
pub mod payee;
pub mod proof;
pub mod quota;
pub mod rate;
pub mod role;
pub mod saved;
pub mod tenant;
pub mod tier;
pub mod usage;
