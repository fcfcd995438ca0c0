//! Builds `tideover-guest` once for each world and wraps it as a component, so that the crate can
//! embed `cache.wasm` and `policy.wasm` from `OUT_DIR`.
//!
//! The guest is built by a cargo of its own, in a target folder of its own (the outer cargo holds
//! the lock of the other one) and with an environment of its own: what comes out depends on the
//! sources, the lock file and the toolchain, not on who built it or under which profile, clippy or
//! coverage tool.
//!
//! A package from a registry would not have `../wasm-guest` beside it. Before the crate is
//! published, the two components go into the package and are copied from there instead.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use wit_component::ComponentEncoder;

/// Worlds of `../wit`; each is a feature of the guest and the name of a component.
const WORLDS: [&str; 2] = ["cache", "policy"];

const TARGET: &str = "wasm32-unknown-unknown";

/// What the components are made from, relative to this package.
const SOURCES: [&str; 5] = ["../wasm-guest", "../core", "../wit", "../Cargo.toml", "../Cargo.lock"];

/// The guest's release profile. Size was given up for speed: level `s` saves a quarter.
const PROFILE: [(&str, &str); 8] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
];

/// Settings of the outer build that must not reach the inner one.
const FOREIGN: [&str; 4] = ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_INCREMENTAL"];

/// As [`FOREIGN`], by prefix.
const FOREIGN_PREFIXES: [&str; 4] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];

/// Builds both, and says when to build them again.
pub(crate) fn build() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    if let Err(reason) = build_components() {
        // Fails the build with this line alone, whereas a script that exits with an error has all its output shown.
        println!("cargo::error={reason}");
    }
}

/// Leaves one component for each world in `OUT_DIR`.
fn build_components() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    // docs.rs has no network to fetch a target over, and documentation does not run the component.
    let documentation_only = env::var_os("DOCS_RS").is_some();
    if !documentation_only {
        ensure_target()?;
    }
    for world in WORLDS {
        let component = if documentation_only { Vec::new() } else { encode(world, &build_guest(world, &out)?)? };
        let path = out.join(world).with_extension("wasm");
        fs::write(&path, component).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Compiles the guest with the feature `world` and returns its core module.
fn build_guest(world: &str, out: &Path) -> Result<Vec<u8>, String> {
    let target_dir = out.join("guest");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--release", "--locked", "--package", "tideover-guest", "--target", TARGET])
        .args(["--features", world, "--manifest-path", "../wasm-guest/Cargo.toml", "--target-dir"])
        .arg(&target_dir);
    isolate(&mut cargo, &target_dir);
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(_) => {
            println!("cargo::error=the guest for world `{world}` does not build; its compiler's words are at the end");
            exit(1);
        }
        Err(error) => return Err(format!("cannot run cargo for the guest: {error}")),
    }
    let module = target_dir.join(TARGET).join("release/tideover_guest.wasm");
    fs::read(&module).map_err(|error| format!("cannot read {}: {error}", module.display()))
}

/// Gives `cargo` the guest's own settings in place of those of the build around it.
fn isolate(cargo: &mut Command, target_dir: &Path) {
    for (name, _) in env::vars_os() {
        let foreign = name.to_str().is_some_and(|name| {
            FOREIGN.contains(&name) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        if foreign {
            cargo.env_remove(name);
        }
    }
    cargo
        .envs(PROFILE)
        // Set and empty also overrules the flags in a user's configuration file (`target-cpu`, linkers).
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        // A `build.build-dir` shared with the outer cargo would wait for the outer cargo's lock for ever.
        .env("CARGO_BUILD_BUILD_DIR", target_dir);
}

/// Wraps a core module, which carries its world in a custom section, as a component.
fn encode(world: &str, module: &[u8]) -> Result<Vec<u8>, String> {
    let component = ComponentEncoder::default().validate(true).module(module).and_then(|encoder| encoder.encode());
    component.map_err(|error| format!("the guest for world `{world}` does not make a component: {error:#}"))
}

/// Adds the standard library for [`TARGET`] to the toolchain in use, if it is missing.
fn ensure_target() -> Result<(), String> {
    let libraries = PathBuf::from(ask_rustc(&["--print", "target-libdir", "--target", TARGET])?);
    if libraries.is_dir() {
        return Ok(());
    }
    let sysroot = PathBuf::from(ask_rustc(&["--print", "sysroot"])?);
    let toolchain = sysroot.file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("cargo::warning=the WebAssembly engines need the target {TARGET}: adding it to {toolchain}");
    let added = Command::new("rustup").args(["target", "add", "--toolchain", &toolchain, TARGET]).status();
    if added.is_ok_and(|status| status.success()) && libraries.is_dir() {
        return Ok(());
    }
    Err(format!(
        "the WebAssembly engines need the target {TARGET}, and it could not be added. Run: \
         rustup target add --toolchain {toolchain} {TARGET}"
    ))
}

/// The one line that the compiler in use prints when asked for `arguments`.
fn ask_rustc(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(variable("RUSTC")?)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A variable that cargo sets for every build script.
fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: run this through cargo"))
}
