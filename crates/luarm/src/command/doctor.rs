//! `luarm doctor`: what can be watched here, how, and what to do about the rest.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::Args;
use luarm_sensor::{
    ebpf,
    observation::{Coverage, Watch},
    poll,
    probe::Permits,
    surroundings,
};

use crate::{FAILED, config::Config};

/// Say what this kernel and user allow, how each class of events would be watched and why, and what to do about what is missing
///
/// Exits 0 when recording is possible.
#[derive(Debug, Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: Options, _: &Config) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let permits = Permits::read(Path::new("/"));
    for (name, says) in facts(&permits) {
        writeln!(out, "{name:<13} {says}")?;
    }
    let kernel = ebpf::doctor();
    match &kernel {
        Ok(_) => writeln!(out, "{:<13} can be used", "eBPF")?,
        Err(error) => writeln!(out, "{:<13} cannot be used: {error}", "eBPF")?,
    }
    let polling = poll::doctor();
    let coverage = match (&kernel, &polling) {
        (Ok(coverage), _) => {
            writeln!(out, "{:<13} luarm run watches with eBPF\n", "sensor")?;
            coverage
        }
        (Err(_), Ok(coverage)) => {
            writeln!(out, "{:<13} luarm run watches by polling\n", "sensor")?;
            coverage
        }
        (Err(_), Err(error)) => {
            writeln!(out, "{:<13} none: {error}", "sensor")?;
            return Ok(ExitCode::from(FAILED));
        }
    };
    write_row(&mut out, ["CLASS", "WATCHED BY", "HOOK, SOURCE", "WHY"])?;
    for class in coverage.iter().chain(&surroundings::doctor()) {
        let why = class.reason.as_deref().unwrap_or_default();
        write_row(&mut out, [class.class, watched_by(class), &class.hook, why])?;
    }
    if kernel.is_err() {
        writeln!(out, "\nTo watch with eBPF:")?;
        for advice in advice(&permits) {
            writeln!(out, "- {advice}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known without trying.
fn facts(permits: &Permits) -> Vec<(&'static str, String)> {
    let named = |wanted: bool| -> Vec<&str> {
        permits.capabilities.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect()
    };
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let user = if permits.user == 0 { "root".to_owned() } else { format!("uid {}", permits.user) };
    let lockdown = permits.lockdown.as_deref();
    vec![
        ("kernel", permits.kernel.clone()),
        ("user", user),
        ("capabilities", format!("{}; missing: {}", list(named(true)), list(named(false)))),
        (
            "BTF",
            if permits.btf { "the kernel tells its types" } else { "missing: /sys/kernel/btf/vmlinux" }
                .to_owned(),
        ),
        ("lockdown", lockdown.unwrap_or("not known: securityfs is not mounted").to_owned()),
    ]
}

fn watched_by(coverage: &Coverage) -> &'static str {
    match (coverage.watch, coverage.sensor) {
        (Watch::Watched, "ebpf") => "eBPF",
        (Watch::Sampled, "poll") => "polling",
        (Watch::Unwatched, _) => "nothing",
        (_, sensor) => sensor,
    }
}

/// Writes a row of the table of classes; what is wider than its column goes on below.
fn write_row(out: &mut impl Write, cells: [&str; 4]) -> io::Result<()> {
    const WIDTHS: [usize; 4] = [13, 11, 40, 46];
    let mut cells: Vec<_> =
        cells.iter().zip(WIDTHS).map(|(text, width)| wrap(text, width).into_iter()).collect();
    while cells.iter().any(|lines| lines.len() > 0) {
        let mut line = String::new();
        for (lines, width) in cells.iter_mut().zip(WIDTHS) {
            line += &format!("{:<width$} ", lines.next().unwrap_or_default());
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Breaks a text between words into lines of that width; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What to do, as far as the known facts explain why eBPF cannot be used.
fn advice(permits: &Permits) -> Vec<String> {
    let mut advice = Vec::new();
    let lacks = |name: &str| permits.capabilities.iter().any(|(known, has)| *known == name && !has);
    let missing: Vec<_> =
        ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"].into_iter().filter(|name| lacks(name)).collect();
    if !missing.is_empty() && lacks("CAP_SYS_ADMIN") {
        advice.push(format!(
            "run it as root, or with the capabilities that are missing: {}",
            missing.join(", ")
        ));
    }
    if !permits.btf {
        advice.push(
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as the distributions' kernels since 5.17 are"
                .to_owned(),
        );
    }
    if permits.lockdown.as_deref() == Some("confidentiality") {
        advice.push(
            "boot with lockdown=integrity: confidentiality keeps eBPF from reading the kernel".to_owned(),
        );
    }
    if advice.is_empty() {
        advice.push(
            "everything known is in place, so something refuses it that does not show (a container's seccomp filter, a security module): \
             run luarm outside of it"
                .to_owned(),
        );
    }
    advice
}
