//! The canary: a process that the recorder itself has run, which does something known in each class of events. Its rows are made as those of any other process are;
//! here they are marked, recognized, and missed where they do not come.
//!
//! What a canary is, is known by descent: the image that created it is the recorder's own. What it did is known from its own report ([`Report`]), which the recorder
//! has by a pipe.

mod act;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use luarm_schema::{
    Batch, End, Row, Time, Word,
    tables::{CanaryInfo, PsInfo},
};
use luarm_sensor::observation::Watch;

pub use self::act::{ACTS, Act, NOBODYS};
use self::act::{Whose, is_childs};
use crate::{context::Context, coverage::Intervals, process::Processes};

/// What a canary says of itself when its round is over.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its process id; 0 if it could not be run.
    pub pid: u32,
    /// When it was started.
    pub began: Time,
    /// Names of the [`ACTS`] that it did.
    pub done: Vec<String>,
    /// Of those that it could not do, and why.
    pub failed: Vec<(String, String)>,
    /// What came of the whole round otherwise than as intended: then a row that is missing proves nothing.
    pub trouble: Option<String>,
    /// Why there may be rows on their way still, where it was given up to wait for them.
    pub behind: Option<String>,
    /// Losses that were counted meanwhile: of which class or table, and in words.
    pub lost: Vec<(String, String)>,
    /// Numbers of batches with rows of it, and when they were stored where they can be queried.
    pub delivered: Vec<(i64, Time)>,
}

/// What came of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// When the round began.
    pub began: Time,
    /// Classes all of whose rows came back, and within how many microseconds.
    pub seen: Vec<(&'static str, i64)>,
    /// Classes of which a row did not, and what is said of it.
    pub missing: Vec<(&'static str, String)>,
    /// Those of `missing` that were well before.
    pub lost: Vec<&'static str>,
    /// Those of `seen` that were not.
    pub regained: Vec<&'static str>,
    /// What came of the whole round otherwise than as intended.
    pub trouble: Option<String>,
    /// Something is missing for the first time: whether it is lost the next round shows.
    pub doubted: bool,
}

/// A row that came back.
#[derive(Debug, Clone, Copy)]
struct Seen {
    latency: i64,
    acted: Time,
    batch: i64,
}

/// A round that is under way.
struct Round {
    number: i64,
    pid: u32,
    /// Its images, by `psentity`.
    images: HashMap<i64, Whose>,
    /// By position in [`ACTS`].
    seen: BTreeMap<usize, Seen>,
    /// Rows whose ends are waited for: where their table stands, their key, and for which acts.
    lasting: HashMap<(usize, i64), Vec<usize>>,
}

/// Copies of a canary that are followed; it makes two.
const COPIES: usize = 16;

/// What is known of canaries.
pub(crate) struct Canary {
    /// The recorder's own process.
    own: Option<u32>,
    round: Option<Round>,
    /// Acts whose last rows did not come back, by position in [`ACTS`].
    silent: BTreeSet<usize>,
    /// Those of which one row did not: somebody may have held a file at the very moment that it was closed.
    doubted: BTreeSet<usize>,
    /// When the round began in which the row of an act came back last.
    proved: BTreeMap<usize, Time>,
}

impl Canary {
    /// `own` is the recorder's process id as sensors give it, if it is to have a canary.
    pub(crate) fn new(own: Option<u32>) -> Self {
        Self { own, round: None, silent: BTreeSet::new(), doubted: BTreeSet::new(), proved: BTreeMap::new() }
    }

    /// Marks the rows of images that the recorder had run, before they go into a batch.
    pub(crate) fn mark(&mut self, ctx: &mut Context, processes: &Processes) {
        let Some(recorder) = self.own.and_then(|pid| processes.psentity_of(pid)) else { return };
        let Self { round, .. } = self;
        let mut numbers = || ctx.numbers.next(ctx.clock.now());
        for row in ctx.draft.psinfos() {
            let own = is_childs(row, recorder);
            let copy = !own && round.as_ref().is_some_and(|round| round.is_copy(row));
            if !own && !copy {
                continue;
            }
            if own && round.as_ref().is_none_or(|round| round.pid != row.pid) {
                *round = Some(Round::new(numbers(), row.pid));
            }
            let Some(round) = round else { continue };
            row.canary = Some(round.number);
            if own || round.images.len() < COPIES {
                round.images.insert(row.psentity, if own { Whose::Own } else { Whose::Copys });
            }
        }
    }

    /// Recognizes what a batch has of the canary. Whether it has any.
    pub(crate) fn recognize(&mut self, batch: &Batch) -> bool {
        let Some(round) = &mut self.round else { return false };
        let closed = batch.rows.last().map_or(Time(0), Row::created);
        let mut any = false;
        for row in &batch.rows {
            let Some(whose) = actor(row).and_then(|psentity| round.images.get(&psentity)).copied() else {
                continue;
            };
            any = true;
            for (place, act) in ACTS.iter().enumerate() {
                if act.left(row, whose) {
                    round.saw(place, row.created(), closed, batch.id);
                }
                if act.ends(row, whose) {
                    match ended(row) {
                        Some((how, at)) if act.is_end(how) => round.saw(place, at, closed, batch.id),
                        Some(_) => {}
                        None => {
                            round.lasting.entry((row.position(), row.key())).or_default().push(place);
                        }
                    }
                }
            }
        }
        for (key, end) in &batch.ends {
            let Some(places) = round.lasting.remove(&(end.position(), *key)) else { continue };
            let Some((how, at)) = end_of(end) else { continue };
            any = true;
            for place in places.into_iter().filter(|&place| ACTS[place].is_end(how)) {
                round.saw(place, at, closed, batch.id);
            }
        }
        any
    }

    /// Says what came of a round, and of the classes with it.
    pub(crate) fn judge(&mut self, ctx: &mut Context, coverage: &mut Intervals, report: &Report) -> Verdict {
        let round = self.round.take().filter(|round| round.pid == report.pid && report.pid != 0);
        let number = round.as_ref().map_or_else(|| ctx.numbers.next(report.began), |round| round.number);
        let seen = round.map(|round| round.seen).unwrap_or_default();
        let mut judgement = Judgement { canary: self, ctx, coverage, report, number, seen };
        let mut verdict =
            Verdict { began: report.began, trouble: report.trouble.clone(), ..Verdict::default() };
        let mut classes: Vec<&'static str> = ACTS.iter().map(|act| act.class).collect();
        classes.dedup();
        for class in classes {
            judgement.pass(class, &mut verdict);
        }
        verdict
    }
}

/// What a round is judged by.
struct Judgement<'a> {
    canary: &'a mut Canary,
    ctx: &'a mut Context,
    coverage: &'a mut Intervals,
    report: &'a Report,
    number: i64,
    seen: BTreeMap<usize, Seen>,
}

impl Judgement<'_> {
    /// Passes judgement on one class.
    fn pass(&mut self, class: &'static str, verdict: &mut Verdict) {
        let watch = self.coverage.watch(class).filter(|watch| *watch != Watch::Unwatched);
        let Some(watch) = watch else {
            for place in places(class) {
                self.canary.silent.remove(&place);
                self.canary.doubted.remove(&place);
                self.canary.proved.remove(&place);
            }
            return;
        };
        let done = |place: usize| {
            let act = &ACTS[place];
            (act.lasting || watch == Watch::Watched) && self.report.done.iter().any(|name| name == act.name)
        };
        let expected: Vec<usize> = places(class).filter(|&place| done(place)).collect();
        let (found, missing): (Vec<usize>, Vec<usize>) =
            expected.iter().partition(|place| self.seen.contains_key(place));
        let is_well = missing.is_empty();
        // What disturbed the round explains what is missing.
        let is_judged = !expected.is_empty() && (is_well || self.report.trouble.is_none());
        let reason = match (is_judged, is_well) {
            (true, true) => None,
            (true, false) => Some(self.why_missing(class, &missing)),
            (false, _) => match self.why_undone(class) {
                Some(reason) => Some(reason),
                // This round had no act for it.
                None => return,
            },
        };
        let seen: Vec<Seen> = found.iter().filter_map(|place| self.seen.get(place)).copied().collect();
        let latency = seen.iter().map(|seen| seen.latency).max().filter(|_| is_judged && is_well);
        let row = CanaryInfo {
            canaryid: self.ctx.numbers.next(self.ctx.clock.now()),
            round: self.number,
            class: Word::Borrowed(class),
            seen: is_judged.then_some(i32::from(is_well)),
            acts: i32::try_from(expected.len()).unwrap_or(i32::MAX),
            latency,
            storedlatency: latency.and_then(|_| self.stored(&seen)),
            reason: reason.clone(),
            created: self.report.began,
            end: None,
        };
        self.ctx.draft.push(row);
        if !is_judged {
            return;
        }
        let was_silent = places(class).any(|place| self.canary.silent.contains(&place));
        let proved = missing.iter().map(|place| self.canary.proved.get(place).copied()).min().flatten();
        for place in found {
            self.canary.silent.remove(&place);
            self.canary.doubted.remove(&place);
            self.canary.proved.insert(place, self.report.began);
        }
        for place in missing {
            if self.canary.silent.contains(&place) || !self.canary.doubted.insert(place) {
                self.canary.doubted.remove(&place);
                self.canary.silent.insert(place);
            } else {
                verdict.doubted = true;
            }
        }
        let silent: Vec<usize> = places(class).filter(|place| self.canary.silent.contains(place)).collect();
        if silent.is_empty() {
            if places(class).any(|place| self.canary.doubted.contains(&place)) {
                return;
            }
            self.coverage.prove(self.ctx, class, self.report.began);
            verdict.seen.push((class, latency.unwrap_or(0)));
            if was_silent {
                verdict.regained.push(class);
            }
            return;
        }
        let reason = reason.unwrap_or_else(|| self.why_missing(class, &silent));
        self.coverage.miss(self.ctx, class, proved, (&names(&silent), &reason));
        if !was_silent {
            verdict.lost.push(class);
        }
        verdict.missing.push((class, reason));
    }

    fn why_missing(&self, class: &str, missing: &[usize]) -> String {
        let mut text = format!("the canary did not come back: {}", names(missing));
        // What is lost of tables is lost of all classes, as far as is known here.
        let concerns = |of: &str| of == class || luarm_schema::table(of).is_some();
        let lost = self.report.lost.iter().filter(|(of, _)| concerns(of)).map(|(_, lost)| lost);
        for more in self.report.behind.iter().chain(lost) {
            text += "; ";
            text += more;
        }
        text
    }

    /// Why nothing was done in a class, if something should have been.
    fn why_undone(&self, class: &str) -> Option<String> {
        let failed = ACTS.iter().filter(|act| act.class == class).filter_map(|act| {
            let (_, why) = self.report.failed.iter().find(|(name, _)| name == act.name)?;
            Some(format!("{}: {why}", act.name))
        });
        let texts: Vec<String> = self.report.trouble.iter().cloned().chain(failed).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// How long it took until the last of these was stored, if all are.
    fn stored(&self, seen: &[Seen]) -> Option<i64> {
        let took = seen.iter().map(|seen| {
            let (_, at) = self.report.delivered.iter().find(|(batch, _)| *batch == seen.batch)?;
            Some((at.0 - seen.acted.0).max(0))
        });
        took.collect::<Option<Vec<i64>>>()?.into_iter().max()
    }
}

/// The positions of the acts of a class.
fn places(class: &'static str) -> impl Iterator<Item = usize> {
    ACTS.iter().enumerate().filter(move |(_, act)| act.class == class).map(|(place, _)| place)
}

fn names(places: &[usize]) -> String {
    let names: Vec<&str> = places.iter().map(|&place| ACTS[place].name).collect();
    names.join(", ")
}

impl Round {
    fn new(number: i64, pid: u32) -> Self {
        let (images, lasting) = Default::default();
        Self { number, pid, images, seen: BTreeMap::new(), lasting }
    }

    /// Whether that image is a copy of the canary's.
    fn is_copy(&self, row: &PsInfo) -> bool {
        row.ppsentity.is_some_and(|creator| self.images.contains_key(&creator))
    }

    fn saw(&mut self, place: usize, acted: Time, closed: Time, batch: i64) {
        let seen = Seen { latency: (closed.0 - acted.0).max(0), acted, batch };
        self.seen.entry(place).or_insert(seen);
    }
}

/// The image that did what a row tells.
fn actor(row: &Row) -> Option<i64> {
    match row {
        Row::PsInfo(row) => Some(row.psentity),
        Row::ExecInfo(row) => Some(row.psentity),
        Row::RenameInfo(row) => Some(row.psentity),
        Row::PrivInfo(row) => Some(row.psentity),
        Row::FileInfo(row) => Some(row.psentity),
        Row::NetInfo(row) => row.psentity,
        Row::NameInfo(row) => row.psentity,
        _ => None,
    }
}

/// How and when a row ended, if it has.
fn ended(row: &Row) -> Option<(&str, Time)> {
    match row {
        Row::PsInfo(row) => row.end.as_ref().map(|end| (&*end.ended, end.destroyed)),
        Row::NetInfo(row) => row.end.as_ref().map(|end| (&*end.ended, end.destroyed)),
        Row::FileInfo(row) => row.end.as_ref().map(|end| (&*end.ended, end.destroyed)),
        _ => None,
    }
}

fn end_of(end: &End) -> Option<(&str, Time)> {
    match end {
        End::PsInfo(end) => Some((&*end.ended, end.destroyed)),
        End::NetInfo(end) => Some((&*end.ended, end.destroyed)),
        End::FileInfo(end) => Some((&*end.ended, end.destroyed)),
        _ => None,
    }
}
