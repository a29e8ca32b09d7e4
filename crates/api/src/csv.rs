//! Files of CSV (RFC 4180) that are safe to open in a spreadsheet.

/// Characters by which a spreadsheet divides cells, by its language and settings: whether it heeds quotes then or not.
const DIVIDERS: [char; 5] = [';', ',', '\t', '\r', '\n'];

/// Whether a spreadsheet would read a text as a formula. Full-width and small forms are read as the plain ones.
fn is_formula(text: &str) -> bool {
    let begin = text.trim_start_matches(|letter: char| letter == '"' || letter.is_whitespace());
    begin.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫'])
}

/// Writes a cell in quotes. What a spreadsheet would read as a formula gets an apostrophe in front, at the begin and after a
/// divider: others choose some of the texts, such as the user agent.
fn push_cell(text: &mut String, cell: &str) {
    text.push('"');
    if is_formula(cell) || cell.starts_with(['\t', '\r', '\n']) {
        text.push('\'');
    }
    for (at, letter) in cell.char_indices() {
        text.push(letter);
        if letter == '"' {
            text.push('"');
        }
        let rest = cell.get(at.saturating_add(letter.len_utf8())..).unwrap_or_default();
        if DIVIDERS.contains(&letter) && is_formula(rest) {
            text.push('\'');
        }
    }
    text.push('"');
}

/// Writes a line of cells, each in quotes and none a formula.
pub(crate) fn push_line<'a>(text: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        push_cell(text, cell);
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_ends_early() {
        for (cell, want) in [
            ("a,b", r#""a,b""#),
            ("say \"x\"", r#""say ""x""""#),
            ("=1+1", r#""'=1+1""#),
            ("+1", r#""'+1""#),
            ("-1", r#""'-1""#),
            ("@SUM(A1)", r#""'@SUM(A1)""#),
            ("\t=1", "\"'\t'=1\""),
            ("\tx", "\"'\tx\""),
            (" =1", r#""' =1""#),
            ("x;=1;y; @a,\"+1", r#""x;'=1;y;' @a,'""+1""#),
            ("x\n=1\r-1", "\"x\n'=1\r'-1\""),
            ("＝1", r#""'＝1""#),
            ("x;＋1;－1;＠a;﹦1", r#""x;'＋1;'－1;'＠a;'﹦1""#),
            ("Mozilla/5.0 (X11; Linux; rv:1-2) a=b, c", r#""Mozilla/5.0 (X11; Linux; rv:1-2) a=b, c""#),
            ("", r#""""#),
        ] {
            let mut text = String::new();
            push_cell(&mut text, cell);
            assert_eq!(text, want);
        }
        let mut text = String::new();
        push_line(&mut text, ["a", "=b", ""]);
        assert_eq!(text, "\"a\",\"'=b\",\"\"\r\n");
    }
}
