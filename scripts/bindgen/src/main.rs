//! `bindgen IN.wasm FOLDER` writes `FOLDER/index.js` and `FOLDER/index_bg.wasm`: the Worker and the JavaScript that
//! calls it, as `worker-build` asks `wasm-bindgen` for them.

use anyhow::{Context, Result};
use std::env::args_os;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut paths = args_os().skip(1);
    let wasm = paths.next().context("usage: bindgen IN.wasm FOLDER")?;
    let folder = paths.next().context("usage: bindgen IN.wasm FOLDER")?;
    Bindgen::new()
        .module(true)?
        .input_path(wasm)
        .out_name("index")
        .typescript(false)
        // The shim starts the instance anew after a panic.
        .reset_state_function(true)
        .force_enable_abort_handler(true)
        .generate(folder)
}
