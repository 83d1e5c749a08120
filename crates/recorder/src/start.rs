//! How a run begins: what earlier runs left open, and which boot of the host this is.

use luarm_schema::{
    End, Resume, Time, Word,
    tables::{HostInfo, HostInfoEnd, NetInfoEnd},
};
use luarm_sensor::{
    condition::{Condition, Fact},
    observation::Origin,
};

use crate::{
    Recorder, Setup,
    canary::Canary,
    clock::{Clock, Numbers},
    condition::{self, Conditions},
    context::Context,
    coverage::Intervals,
    digest::Digests,
    draft::Draft,
    endpoint::Endpoints,
    file::{self, Files},
    identity::{Identity, boot_entity},
    ledger::Ledger,
    names::Names,
    process::{Processes, plain_end},
    protection::Protection,
    question::Questions,
    session::Sessions,
};

pub(crate) fn start(setup: Setup<'_>) -> Recorder {
    let Setup { mut resume, host, run, version, users, clock_offset, hosts_file, own } = setup;
    let known = resume.boot.as_ref().filter(|(bootid, _)| *bootid == host.boot_id).map(|&(_, entity)| entity);
    let previous = resume.boot.as_ref().map(|&(_, entity)| entity);
    let base = known.unwrap_or_else(|| boot_entity(clock_offset, previous));
    let mut ctx = Context {
        host,
        clock: Clock::new(clock_offset, run),
        numbers: Numbers::new(run, &resume),
        identity: Identity::new(base),
        draft: Draft::new(),
        users,
        digests: Digests::new(),
    };
    if known.is_none() {
        let boottime = ctx.clock.time(0);
        end_earlier_boot(&mut ctx, &mut resume, boottime);
        let row = hostinfo(&ctx, base, boottime, run, version);
        ctx.draft.push(row);
    }
    // Which descriptors those were, nobody knows any more.
    let last = resume.last_batch.map_or(run, |(_, last)| last);
    for open in std::mem::take(&mut resume.files) {
        let end = file::unseen(last.max(open.created), "unseen");
        ctx.draft.end(open.fileaccessid, End::FileInfo(end));
    }
    let questions = Questions::begin(&mut ctx, &resume.queries, last);
    let coverage = Intervals::begin(&mut ctx, &resume, run);
    // What ended before this run may have rows, unless there was no run before.
    let horizon = if resume.last_batch.is_some() { ctx.clock.boot(run) } else { 0 };
    let ledger = Ledger::new(&ctx, run, resume.last_batch);
    let mut conditions = Conditions::new(&resume.conditions);
    let recorded_by = Fact { name: "agentversion", value: version.to_owned() };
    let at = ctx.clock.boot(run);
    conditions.set(&mut ctx, at, Condition::Fact(recorded_by), Origin::Found);
    let mut names = Names::new(hosts_file);
    let now = ctx.clock.latest();
    names.refresh(&mut ctx, now);
    // Of what took place in it, at most records tell.
    let gap = resume.last_batch.map(|(_, last)| (last.max(ctx.clock.time(0)), run));
    Recorder {
        processes: Processes::new(resume.processes, horizon),
        endpoints: Endpoints::new(resume.endpoints),
        names,
        files: Files::new(),
        conditions,
        sessions: Sessions::new(base, gap, &resume.conditions),
        coverage,
        questions,
        protection: Protection::new(),
        ledger,
        canary: Canary::new(own),
        canaried: 0,
        ctx,
        reached: None,
        observations: 0,
    }
}

/// Nothing outlives the kernel that ran it.
fn end_earlier_boot(ctx: &mut Context, resume: &mut Resume, boottime: Time) {
    for open in resume.processes.drain(..) {
        let end = plain_end(boottime.max(open.created), "boot");
        ctx.draft.end(open.psentity, End::PsInfo(end));
    }
    for open in resume.endpoints.drain(..) {
        let end = NetInfoEnd {
            destroyed: boottime,
            ended: Word::Borrowed("boot"),
            result: None,
            bytessent: None,
            bytesreceived: None,
            packetssent: None,
            packetsreceived: None,
        };
        ctx.draft.end(open.endpointinfo, End::NetInfo(end));
    }
    for open in resume.files.drain(..) {
        let end = file::unseen(boottime.max(open.created), "boot");
        ctx.draft.end(open.fileaccessid, End::FileInfo(end));
    }
    condition::end_all(ctx, std::mem::take(&mut resume.conditions), boottime);
    if let Some((_, entity)) = resume.boot {
        let destroyed = resume.last_batch.map_or(boottime, |(_, last)| last);
        ctx.draft.end(entity, End::HostInfo(HostInfoEnd { destroyed }));
    }
}

fn hostinfo(ctx: &Context, bootentity: i64, boottime: Time, run: Time, version: &str) -> HostInfo {
    let host = &ctx.host;
    HostInfo {
        bootentity,
        machineid: host.machine_id.clone(),
        hostname: host.hostname.clone(),
        os: host.os.clone(),
        kernel: host.kernel.clone(),
        arch: host.arch.clone(),
        bootid: host.boot_id.clone(),
        boottime,
        timezone: host.timezone.clone(),
        cmdline: host.cmdline.clone(),
        virtualization: host.virtualization.clone(),
        vendor: host.vendor.clone(),
        product: host.product.clone(),
        serial: host.serial.clone(),
        agentversion: version.to_owned(),
        memory: i64::try_from(host.memory).unwrap_or(i64::MAX),
        cpus: i32::try_from(host.cpus).unwrap_or(i32::MAX),
        created: run,
        end: None,
    }
}
