#!/bin/sh
# The one entry to building, running and testing luarm. `make NAME` is the same as `./do NAME`.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'USAGE'
usage: ./do COMMAND [ARGUMENTS]

  run [ARGS]    install what the build needs, build, and record this host (ARGS go to `luarm run`)
  test [ARGS]   install what the tests need, and run them all (ARGS go to the test runner)
  demo [ARGS]   replay the seed's incident on this machine and answer its queries
  bench [ARGS]  install what the measurements need, and measure
  lint          formatting, clippy and rustdoc, warnings as errors
  package       build, and make target/package/luarm*.deb: program, agent, server
  build         install what the build needs, and build target/release/luarm
USAGE
}

step() { printf '%s\n' "==> $*" >&2; }

# Prints `sudo` where it is needed and there is one; fails where root is out of reach.
elevate() {
    if [ "$(id -u)" = 0 ]; then
        return 0
    elif command -v sudo >/dev/null 2>&1; then
        echo sudo
    else
        return 1
    fi
}

build() {
    scripts/setup build
    step "cargo build --release"
    cargo build --release --locked --package luarm
}

package() {
    build
    step "packaging/package"
    packaging/package target/release/luarm target/package
}

run() {
    build
    if sudo=$(elevate); then
        step "$sudo target/release/luarm run $*"
        exec $sudo target/release/luarm run "$@"
    fi
    data=${XDG_STATE_HOME:-$HOME/.local/state}/luarm
    step "not root and no sudo: recording what this user may see, into $data"
    exec target/release/luarm run --data "$data" "$@"
}

# Builds as this user; runs the tests as root where that is possible, because the eBPF sensor wants it.
run_tests() {
    scripts/setup test
    scripts/kernel
    sudo=$(elevate) || step "not root and no sudo: tests that need root will say SKIPPED"
    if [ -n "${sudo:-}" ]; then
        triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
        export "CARGO_TARGET_${triple}_RUNNER=sudo -E"
    fi
    if cargo nextest --version >/dev/null 2>&1; then
        step "cargo nextest run"
        cargo nextest run --locked --workspace "$@"
        step "cargo test --doc"
        cargo test --locked --workspace --doc --quiet
    else
        step "cargo test"
        cargo test --locked --workspace "$@"
    fi
}

lint() {
    scripts/setup build
    step "cargo fmt --check"
    cargo fmt --all --check
    step "cargo clippy"
    cargo clippy --locked --workspace --all-targets -- -D warnings
    step "cargo doc"
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
}

demo() {
    scripts/setup test
    build
    sudo=$(elevate) || { echo "do: the demonstration needs root: run it as root or install sudo" >&2; exit 1; }
    step "demo/run"
    exec $sudo demo/run target/release/luarm "$@"
}

bench() {
    scripts/setup bench
    build
    sudo=$(elevate) || step "not root and no sudo: what needs root is skipped"
    step "cargo build --release (bench)"
    cargo build --release --locked --package luarm-bench
    exec ${sudo:-} target/release/luarm-bench "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    run) run "$@" ;;
    test) run_tests "$@" ;;
    demo) demo "$@" ;;
    bench) bench "$@" ;;
    lint) lint ;;
    build) build ;;
    package) package ;;
    help | -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
