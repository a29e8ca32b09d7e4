//! The stack of a WebAssembly instance, as V8 writes it, in Sentry's form.
//!
//! The build keeps the names of functions (`--debuginfo` in scripts/lib/build.mjs), and wasm-bindgen has demangled them.

use serde::{Deserialize, Serialize};

/// The most frames that are kept: those next to the panic.
const FRAMES_MAX: usize = 60;
/// The most bytes of a function's name: generic ones are long.
const NAME_MAX: usize = 300;

/// One call on the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFrame {
    /// The function, without the hash that the compiler adds.
    pub function: String,
    /// `wasm` or `js`.
    pub module: String,
    /// The file of the build.
    pub filename: String,
    /// Whether it is code of the project.
    pub in_app: bool,
    /// The offset in the module, in hex: with the file, a tool finds the source line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction_addr: Option<String>,
    /// The platform that Sentry reads the frame by.
    pub platform: String,
}

/// The frames of a stack, the oldest call first.
#[must_use]
pub fn read_stack(stack: &str) -> Vec<StackFrame> {
    let mut frames: Vec<StackFrame> = stack.lines().filter_map(read_frame).take(FRAMES_MAX).collect();
    frames.reverse();
    frames
}

/// Reads `    at name (place)` or `    at place`.
fn read_frame(line: &str) -> Option<StackFrame> {
    let text = line.trim().strip_prefix("at ")?;
    let (name, place) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((name, place)) => (name, place),
        None => ("", text),
    };
    let name = name.strip_prefix("async ").unwrap_or(name);
    match place.split_once(":wasm-function[") {
        Some((_, at)) => {
            let (number, address) = at.split_once("]:")?;
            let function = if name.is_empty() { format!("wasm-function[{number}]") } else { plain_name(name) };
            Some(StackFrame {
                in_app: is_ours(&function),
                function,
                module: "wasm".to_owned(),
                filename: "index_bg.wasm".to_owned(),
                instruction_addr: Some(address.to_owned()),
                platform: "native".to_owned(),
            })
        }
        None => Some(StackFrame {
            function: if name.is_empty() { "?".to_owned() } else { plain_name(name) },
            module: "js".to_owned(),
            filename: "index.js".to_owned(),
            in_app: false,
            instruction_addr: None,
            platform: "javascript".to_owned(),
        }),
    }
}

/// A name without the module that V8 puts before it, and without what the compiler and wasm-bindgen add: hashes, and what a
/// wrapper is for.
fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("x402_edge.wasm.").unwrap_or(name);
    let mut name = without_hashes(&without_hashes(name, "::h", ""), "[", "]");
    for wrapper in [" multivalue shim", " externref shim", " catch wrapper"] {
        name = name.replace(wrapper, "");
    }
    let end = (0..=NAME_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
    name.truncate(end);
    name
}

/// A text without each 16 hex digits between two texts, and those.
fn without_hashes(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hash = part
            .get(..16)
            .filter(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        match hash.and_then(|hash| part.strip_prefix(hash)?.strip_prefix(after)) {
            Some(rest) => plain.push_str(rest),
            None => {
                plain.push_str(before);
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Whether a function is of one of the project's crates, also as an implementation for a type of theirs.
fn is_ours(function: &str) -> bool {
    function.trim_start_matches('<').starts_with("x402_")
}

/// The function in which the project's code has failed: of its calls the last.
#[must_use]
pub fn culprit(frames: &[StackFrame]) -> Option<&str> {
    frames.iter().rev().find(|frame| frame.in_app).map(|frame| frame.function.as_str())
}

/// A source file's path, without where the machine of the build keeps it.
#[must_use]
pub fn plain_path(path: &str) -> &str {
    for kept in ["/registry/src/", "/library/"] {
        if let Some((_, rest)) = path.split_once(kept) {
            // Crates stand in the folder of their registry.
            return if kept == "/library/" { rest } else { rest.split_once('/').map_or(rest, |(_, rest)| rest) };
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: &str = "Error
    at __wbg_new_1 (index.js:1:2000)
    at std::panicking::rust_panic_with_hook::h1a2b3c4d5e6f7089 (wasm://wasm/00a1b2c3:wasm-function[812]:0x1f00)
    at x402_edge.wasm.core[c5930c85a12de822]::result::unwrap_failed (wasm://wasm/00a1b2c3:wasm-function[77]:0x1200)
    at x402_edge.wasm.x402_edge::handlers::verify::{{closure}}::h0123456789abcdef externref shim (wasm://wasm/00a1b2c3:wasm-function[5]:0x300)
    at <x402_core::error::Fault as core::fmt::Display>::fmt::h0123456789abcdef (wasm://wasm/00a1b2c3:wasm-function[6]:0x200)
    at wasm://wasm/00a1b2c3:wasm-function[7]:0x100
    at async Object.fetch (index.js:1:20)
    at index.js:2:2";

    #[test]
    fn frames_are_in_sentrys_order_with_their_names_and_places() {
        let frames = read_stack(STACK);
        let names: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(
            names,
            [
                "?",
                "Object.fetch",
                "wasm-function[7]",
                "<x402_core::error::Fault as core::fmt::Display>::fmt",
                "x402_edge::handlers::verify::{{closure}}",
                "core::result::unwrap_failed",
                "std::panicking::rust_panic_with_hook",
                "__wbg_new_1",
            ]
        );
        let ours: Vec<bool> = frames.iter().map(|frame| frame.in_app).collect();
        assert_eq!(ours, [false, false, false, true, true, false, false, false]);
        assert_eq!(frames[4].instruction_addr.as_deref(), Some("0x300"));
        assert_eq!((frames[4].module.as_str(), frames[0].module.as_str()), ("wasm", "js"));
        assert_eq!(culprit(&frames), Some("x402_edge::handlers::verify::{{closure}}"));
    }

    #[test]
    fn no_stack_is_too_strange() {
        assert!(read_stack("").is_empty() && read_stack("Error: x").is_empty());
        assert!(read_stack("at a (wasm://wasm/1:wasm-function[1)").is_empty());
        let deep = "    at f (wasm://wasm/1:wasm-function[1]:0x1)\n".repeat(500);
        assert_eq!(read_stack(&deep).len(), FRAMES_MAX);
        let long = format!("at {} (index.js:1:1)", "é".repeat(1_000));
        assert!(read_stack(&long)[0].function.len() <= NAME_MAX);
    }

    #[test]
    fn paths_do_not_name_the_machine_of_the_build() {
        for (path, plain) in [
            (
                "/root/.cargo/registry/src/index.crates.io-1949/worker-0.8.7/src/context.rs",
                "worker-0.8.7/src/context.rs",
            ),
            ("/rustc/abc/library/core/src/result.rs", "core/src/result.rs"),
            ("src/entry/http.rs", "src/entry/http.rs"),
        ] {
            assert_eq!(plain_path(path), plain);
        }
    }
}
