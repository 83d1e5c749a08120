//! Makes Rust of the protocol's definition. protox stands for protoc, so that the build needs no program beside cargo's.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let definition = protox::compile(["link.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(definition)?;
    Ok(())
}
