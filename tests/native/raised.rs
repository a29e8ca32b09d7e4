//! Every code, verdict and reason that the documentation lists is raised somewhere.

use crate::tidy::all_sources;
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use x402_chain::reason::Reason;
use x402_core::error::ErrorCode;
use x402_core::verdict::RefusalCode;

/// The variants that code makes a value of. Patterns, comparisons and the tables themselves (macros) only
/// name them.
#[derive(Default)]
struct Made(BTreeSet<(String, String)>);

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Made {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            visit::visit_expr_binary(self, binary);
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., table, variant] = names.as_slice() {
            self.0.insert((table.clone(), variant.clone()));
        }
    }
}

fn made(sources: impl IntoIterator<Item = (String, String)>) -> Made {
    let mut made = Made::default();
    for (file, text) in sources {
        if !file.ends_with("tests.rs") && !file.contains("/tests/") {
            made.visit_file(&syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}")));
        }
    }
    made
}

#[test]
fn what_is_documented_is_raised_somewhere() {
    let made = made(all_sources());
    let raised = |table: &str, variant: String| made.0.contains(&(table.to_owned(), variant));
    let codes = ErrorCode::ALL.iter().map(|code| (code.as_str(), raised("ErrorCode", format!("{code:?}"))));
    let refusals =
        RefusalCode::ALL.iter().map(|refusal| (refusal.as_str(), raised("RefusalCode", format!("{refusal:?}"))));
    let reasons = Reason::ALL.iter().map(|reason| (reason.as_str(), raised("Reason", format!("{reason:?}"))));
    let unused: Vec<&str> =
        codes.chain(refusals).chain(reasons).filter(|(_, is_raised)| !is_raised).map(|(wire, _)| wire).collect();
    assert!(unused.is_empty(), "{unused:?}: a code that nothing raises leaves the documentation");
}

#[test]
fn naming_a_code_is_not_raising_it() {
    let text = "
        fn look(code: Code) -> bool {
            match code { Code::Pattern | Code::Alternative => return false, other if other == Code::Guard => {} _ => {} }
            if let Some(Code::Bound) = find() {}
            matches!(code, Code::Matched) || code != Code::Compared
        }
        table! { Code::Row }
        #[cfg(test)] mod tests { fn test() { raise(Code::Tested) } }
        fn raise() -> Fault { Fault::new(crate::error::Code::Argument, \"sentence\").or(Some(Code::Wrapped)) }
        const FIRST: Code = Code::Constant;
        fn pick(found: bool) -> Code { match found { true => Code::Arm, false => Code::Other } }";
    let made = made([("file.rs".to_owned(), text.to_owned())]);
    let variants: Vec<&str> =
        made.0.iter().filter(|(table, _)| table == "Code").map(|(_, variant)| variant.as_str()).collect();
    assert_eq!(variants, ["Argument", "Arm", "Constant", "Other", "Wrapped"]);
}
