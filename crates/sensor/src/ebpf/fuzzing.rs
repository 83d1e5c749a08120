//! The decoders of the kernel programs' records, for fuzzing. Their strings are what processes choose.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::{
    bulk::Pieces,
    decode,
    files::Files,
    places::Names,
    privilege,
    reader::{records, take_bulk},
    record::{self, kind, split},
};
use crate::{
    digest::Digests,
    observation::{FilePath, Observation},
    queue,
};

thread_local! {
    /// Nothing is asked of it: records of contents are left out.
    static DIGESTS: Rc<RefCell<Digests>> = Rc::new(RefCell::new(Digests::new(queue::bounded(1 << 20).0, 0, || ())));
}

/// Records, each after its length.
pub fn ring(bytes: &[u8]) {
    // No mount namespace has the number 1: nothing is looked up here.
    let mut files = Files::new(1, DIGESTS.with(Rc::clone), Names::default());
    let (mut pieces, mut messages, mut out) = (Pieces::default(), VecDeque::new(), Vec::new());
    for record in records(bytes) {
        let Some((header, _)) = split::<record::Header>(record) else { continue };
        let told = match header.kind {
            kind::FORK => decode::fork(record),
            kind::EXEC | kind::TASK => {
                decode::program(record, |image| pieces.take(image)).map(|(r, task, program)| {
                    Observation::Exec { at: r.h.at, task: Box::new(task), program: Box::new(program) }
                })
            }
            kind::EXIT => decode::exit(record),
            kind::RENAME => decode::rename(record),
            kind::CREDENTIALS => decode::credentials_changed(record),
            kind::PRIVILEGE => privilege::act(record),
            kind::EXEC_DENIED => decode::denied(record),
            kind::ENDPOINT | kind::ENDPOINT_END | kind::CONNECT_FAILED => {
                decode::endpoint(record).map(|(r, endpoint)| {
                    decode::peer_key(&r);
                    let (endpoint, end) = (Box::new(endpoint), decode::endpoint_end(&r));
                    Observation::EndpointEnd { at: r.h.at, endpoint, end }
                })
            }
            kind::FILE => {
                files.one(record, &mut out);
                None
            }
            kind::FILE_ANSWER => {
                files.answered(record, &mut out);
                None
            }
            kind::FILE_END => {
                files.closed(record);
                None
            }
            kind::FILE_CLOEXEC => {
                files.closes_at_exec(record);
                None
            }
            kind::FILE_AGAIN => {
                files.again(record);
                None
            }
            kind::FILE_ANSWER => {
                files.answered(record, &mut out);
                None
            }
            _ => {
                take_bulk(record, &mut pieces, &mut messages);
                None
            }
        };
        out.extend(told);
    }
    for observation in &out {
        if let Observation::File(file) = observation {
            let told = [Some(&file.path), file.target.as_ref()];
            assert!(told.into_iter().flatten().all(is_whole), "no path: {file:?}");
        }
    }
}

fn is_whole(path: &FilePath) -> bool {
    path.path.starts_with(b"/") && path.seen.as_ref().is_none_or(|seen| seen.starts_with(b"/"))
}
