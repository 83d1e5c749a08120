//! Compiles the kernel programs in `bpf/` with clang.

use std::{env, path::PathBuf, process::Command};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../bpf");
    let object = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("luarm.bpf.o");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-env-changed=CLANG");

    let mut builder = SkeletonBuilder::new();
    builder.source(source.join("luarm.bpf.c")).obj(&object).clang_args([
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        &include_of_the_architecture(),
    ]);
    if let Some(clang) = env::var_os("CLANG") {
        builder.clang(clang);
    }
    if let Err(e) = builder.build() {
        // The only way that a build script has to tell a person something is to fail with it.
        panic!(
            "cannot compile bpf/luarm.bpf.c with clang (Debian packages: clang llvm libelf-dev zlib1g-dev): {e:#}"
        );
    }
}

/// Where Debian keeps the architecture's own kernel headers: clang does not look there when it compiles for BPF.
fn include_of_the_architecture() -> String {
    let triplet = Command::new("gcc")
        .arg("-print-multiarch")
        .output()
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok());
    match triplet.as_deref().map(str::trim) {
        Some(triplet) if !triplet.is_empty() => format!("-I/usr/include/{triplet}"),
        _ => format!("-I/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default()),
    }
}
