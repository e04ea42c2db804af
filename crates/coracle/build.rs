//! How the program is linked.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Two and a half megabytes of records that say where the program holds addresses become 25 kilobytes.
    if packed_relocations_are_understood() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The loader reads packed relocations from glibc 2.36 on. With an older one the program would not start.
fn packed_relocations_are_understood() -> bool {
    let here = env::var("HOST") == env::var("TARGET");
    let gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|name| name == "gnu");
    here && gnu && glibc().is_some_and(|version| version >= (2, 36))
}

/// The version of this machine's, such as (2, 41).
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
