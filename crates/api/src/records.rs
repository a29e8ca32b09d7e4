//! Pages of lists, such as `GET /v1/verifications`: the newest entries first.

use super::body::invalid;
use serde::Serialize;
use x402_core::error::Fault;
use x402_core::messages::ledger::PageQuery;

/// Entries of a page where the request names no number.
const LIMIT_DEFAULT: u32 = 20;
/// The most entries of a page.
pub(super) const LIMIT_MAX: u32 = 100;

/// One page of a list, the newest entries first.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ListPage<T> {
    /// The entries of this page.
    pub data: Vec<T>,
    /// What to send as `cursor` for the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

/// Reads `limit` and `cursor` of a query string; the cursor is the id of the last entry of the page before. Other
/// parameters are ignored.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_page_query(query: &str, is_id: impl Fn(&str) -> bool) -> Result<PageQuery, Fault> {
    let mut page = PageQuery { limit: LIMIT_DEFAULT, before: None };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                page.limit =
                    limit.ok_or_else(|| invalid("limit", &format!("must be a whole number from 1 to {LIMIT_MAX}")))?;
            }
            "cursor" if is_id(&value) => page.before = Some(value.into_owned()),
            "cursor" => return Err(invalid("cursor", "must be the next_cursor of a page of this list")),
            _ => {}
        }
    }
    Ok(page)
}

impl<T> ListPage<T> {
    /// A page of at most `limit` entries of `data`; an entry beyond them shows that there is another page.
    #[must_use]
    pub fn of(mut data: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = data.len() > limit;
        data.truncate(limit);
        let next_cursor = data.last().filter(|_| more).map(id);
        Self { data, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_or_its_fault_named() {
        let read = |query| read_page_query(query, |text| text.starts_with("ver_"));
        assert_eq!(read(""), Ok(PageQuery { limit: 20, before: None }));
        assert_eq!(read("limit=5&cursor=ver_1&x=y"), Ok(PageQuery { limit: 5, before: Some("ver_1".into()) }));
        for wrong in ["limit=0", "limit=101", "limit=x", "cursor=key_1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_comes_only_when_there_is_more() {
        let list = ListPage::of(vec![3, 2, 1], 2, |n: &i32| n.to_string());
        assert_eq!((list.data, list.next_cursor), (vec![3, 2], Some("2".to_owned())));
        assert_eq!(ListPage::of(vec![1], 2, |n: &i32| n.to_string()).next_cursor, None);
    }
}
