//! Amounts of USDC as integers of atomic units, read from and written as decimal strings. No floats.

use alloy_primitives::U256;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Decimal places of a USDC amount; every registered asset has six.
pub(crate) const USDC_DECIMALS: u8 = 6;

/// Digits before the point that a request may name: 10^20 USDC is beyond any supply.
const WHOLE_DIGITS_MAX: usize = 20;

/// A number of atomic units, 256 bits as on EVM. Written as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub U256);

impl Amount {
    /// Zero atomic units.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Atomic units from a small number.
    #[must_use]
    pub fn atomic(units: u64) -> Self {
        Self(U256::from(units))
    }

    /// Reads decimal digits of atomic units, at most 78 of them.
    #[must_use]
    pub fn parse_atomic(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.len() <= 78 && text.bytes().all(|c| c.is_ascii_digit());
        if !digits {
            return None;
        }
        U256::from_str_radix(text, 10).ok().map(Self)
    }

    /// Reads a decimal number of USDC: digits, then at most six after a point;
    /// no sign, no exponent, no space. Zero is read as zero.
    #[must_use]
    pub fn parse_usdc(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
        let fraction = match fraction {
            None => "",
            Some("") => return None,
            Some(digits) => digits,
        };
        let decimals = usize::from(USDC_DECIMALS);
        if whole.is_empty() || whole.len() > WHOLE_DIGITS_MAX || fraction.len() > decimals {
            return None;
        }
        Self::parse_atomic(&format!("{whole}{fraction:0<decimals$}"))
    }

    /// Writes whole USDC with six digits after the point: `1.500000`.
    #[must_use]
    pub fn usdc(self) -> String {
        let digits = format!("{:0>7}", self.0.to_string());
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(usize::from(USDC_DECIMALS)));
        format!("{whole}.{fraction}")
    }

    /// The sum, or `None` beyond 256 bits.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn saturating_minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether the amount is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse_atomic(&text).ok_or_else(|| serde::de::Error::custom("an amount is decimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: Option<u64>) {
        assert_eq!(Amount::parse_usdc(text), want.map(Amount::atomic), "{text}");
    }

    #[test]
    fn a_decimal_is_read_to_the_last_atomic_unit() {
        check("1", Some(1_000_000));
        check("0.000001", Some(1));
        check("119.999955", Some(119_999_955));
        check("120", Some(120_000_000));
        check("00.5", Some(500_000));
        check("0", Some(0));
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for wrong in ["", ".", "1.", ".5", "1e3", "-1", "+1", " 1", "1 ", "0x1", "1.0000001", "1,5", "１", "NaN"] {
            check(wrong, None);
        }
        check(&"9".repeat(21), None);
    }

    proptest! {
        #[test]
        fn usdc_reads_back_what_it_writes(units in any::<u64>()) {
            let amount = Amount::atomic(units);
            prop_assert_eq!(Amount::parse_usdc(&amount.usdc()), Some(amount));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Amount::parse_usdc(&text);
            let _ = Amount::parse_atomic(&text);
        }
    }
}
