//! `GET /v1/settlements`: the filters.

use super::body::invalid;
use alloy_primitives::B256;
use x402_chain::address::{Address, Family, TxId, hex_bytes};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::x402::network_named;
use x402_core::error::Fault;
use x402_core::settlement::payment::authorization_id;
use x402_core::settlement::status::SettlementFilter;

/// Reads the filters of a query string; `limit` and `cursor` are read apart.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_filter(query: &str) -> Result<SettlementFilter, Fault> {
    let mut filter = SettlementFilter::default();
    let (mut network, mut payer, mut nonce) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "network" => {
                let named = network::find_network(&value).or_else(|| network_named(&value));
                network =
                    Some(named.ok_or_else(|| invalid("network", "must name a network, such as eip155:8453 or base"))?);
            }
            "payer" => payer = Some(value.into_owned()),
            "nonce" => {
                let bytes: Option<[u8; 32]> = hex_bytes(&value);
                let bytes = bytes.ok_or_else(|| invalid("nonce", "must be 0x and 64 hex digits"))?;
                nonce = Some(B256::from(bytes));
            }
            "transaction" => {
                let id = [Family::Evm, Family::Svm].into_iter().find_map(|family| TxId::parse(family, &value));
                let id = id.ok_or_else(|| invalid("transaction", "must be a transaction's hash or signature"))?;
                filter.transaction = Some(id.to_string());
            }
            "handed_over" => {
                let flag = value.parse().map_err(|_| invalid("handed_over", "must be true or false"))?;
                filter.handed_over = Some(flag);
            }
            _ => {}
        }
    }
    let payer = payer.map(|text| read_payer(network, &text)).transpose()?;
    if let Some(nonce) = nonce {
        let (Some(network), Some(payer)) = (network, payer) else {
            return Err(invalid("nonce", "needs 'network' and 'payer' too"));
        };
        filter.authorization = Some(authorization_id(network, &payer, &nonce));
    }
    filter.network = network.map(|network| network.caip2.to_owned());
    filter.payer = payer.map(|payer| payer.to_string());
    Ok(filter)
}

fn read_payer(network: Option<&'static Network>, text: &str) -> Result<Address, Fault> {
    let families = network.map_or([Family::Evm, Family::Svm], |network| [network.family; 2]);
    let found = families.into_iter().find_map(|family| Address::parse(family, text));
    found.ok_or_else(|| invalid("payer", "must be an address, of 'network' where that is named"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_their_fault_named() {
        let payer = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let nonce = format!("0x{}", "07".repeat(32));
        let all = read_filter(&format!(
            "network=base&payer={}&nonce={nonce}&handed_over=false&limit=3&x=y",
            payer.to_lowercase()
        ));
        let all = all.expect("reads");
        assert_eq!((all.network.as_deref(), all.payer.as_deref()), (Some("eip155:8453"), Some(payer)));
        let found = all.authorization.expect("named");
        assert!(found.starts_with("eip155:8453/") && found.ends_with(&nonce) && all.handed_over == Some(false));
        assert_eq!(read_filter("").expect("reads"), SettlementFilter::default());
        let hash = format!("0x{}", "AB".repeat(32));
        for hash in [&hash, &hash.replacen("0x", "0X", 1)] {
            let found = read_filter(&format!("transaction={hash}")).expect("reads").transaction;
            assert_eq!(found, Some(hash.to_lowercase()));
        }
        let capital = nonce.replacen("0x", "0X", 1);
        let same = read_filter(&format!("network=base&payer={payer}&nonce={capital}")).expect("reads");
        assert_eq!(same.authorization.as_deref(), Some(found.as_str()));
        for (query, param) in [
            ("network=nowhere".to_owned(), "network"),
            ("payer=0x1".to_owned(), "payer"),
            (format!("network=solana&payer={payer}"), "payer"),
            (format!("nonce={nonce}"), "nonce"),
            ("nonce=7".to_owned(), "nonce"),
            ("transaction=0x7".to_owned(), "transaction"),
            ("handed_over=perhaps".to_owned(), "handed_over"),
        ] {
            assert_eq!(read_filter(&query).expect_err(&query).param.as_deref(), Some(param), "{query}");
        }
    }
}
