//! The watchers are watched: who looked at what was recorded, and what was done to those who record.

use std::sync::Arc;

use crate::{Time, Word};

table! {
    /// Questions about what was recorded, by whichever of luarm's own doors they came: who asked what, and how it ended. Those that a recorder was told of
    /// are rows of its host and in its batches like all others. Those that a server answered are in batches of the server's own, whose number is `host`: it has a
    /// ledger as hosts have, and no row in `hostinfo`. Those that came by an account of the database are in no batch (`batch` is 0), because nobody could sign for
    /// them: `host` is the host that was asked about, 0 where that was not one host alone. What somebody asks the database by another program is not here.
    queryinfo: QueryInfo, QueryInfoEnd, key queryid;
    begin {
        /// Number of the question, ordered by time.
        queryid: i64,
        /// By which door: `data`, on the host itself, of the store that its recorder or server writes; `server`, through a server, with an analyst's certificate;
        /// `store`, by an account of the database.
        door: Word,
        /// What kind of question: `sql`; `status`, what `luarm status` asks all together; `hosts`, which there are; `use`, whether there is that one; `counts`, rows of each table; `size`.
        kind: Word,
        /// Who: the effective user of the process that asked, the name of the analyst, or the account of the database.
        username: Arc<str>,
        /// Id of that user, as the kernel told it.
        uid: Option<u32>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Login user id.
        auid: Option<u32>,
        /// Login session id.
        session: Option<u32>,
        /// The image that asked.
        psentity: Option<i64>,
        /// Its process id.
        pid: Option<u32>,
        /// Its task name.
        application: Option<String>,
        /// Address and port that a server was asked from.
        address: Option<String>,
        /// SHA-256 of the analyst's certificate.
        certificate: Option<String>,
        /// The host that the tables were limited to, by its name or machine id, or the one host that the analyst may see; NULL for none.
        limitedto: Option<String>,
        /// The statement: its first 65536 bytes.
        statement: String,
        /// How many bytes it had.
        statementbytes: i64,
        /// Its SHA-256, where it was longer than that.
        statementsha256: Option<String>,
        /// When it came.
        created: Time,
    }
    end {
        /// When it ended.
        destroyed: Time,
        /// How: `answered`; `failed`, with `error`; `limit`, the server went no further; `interrupted`, by whoever asked; `gone`, whoever asked went away without a
        /// word; `stop`, recorder or server were stopped; `killed`, while the recorder did not run, or the server was found to have ended.
        ended: Word,
        /// How many rows went out; NULL where that is not known.
        answerrows: Option<i64>,
        /// What was said where it failed, its first 4096 bytes.
        error: Option<String>,
    }
    derived {}
    index {}
}

table! {
    /// What the detectors found, with the keys of the rows that are the evidence.
    alertinfo: AlertInfo, AlertInfoEnd, key alertid;
    begin {
        /// Number of the row, ordered by time.
        alertid: i64,
        /// Which detector: `self-protection`, what was aimed at the recorder itself.
        detector: Word,
        /// What it found. `self-protection`: `signal`, to a process of the recorder; `trace`, ptrace or foreign access to its memory; `bpf`, to its programs, maps or
        /// links; `file`, its program, configuration, units or data were opened for writing or changed by somebody else; `disk`, there is little room left for its data; `killed`,
        /// the run before ended without a word.
        kind: Word,
        /// `critical`, evidence may be lost or wrong; `warning`, it may become so; `notice`, it was tried and refused, or is what an operator does.
        severity: Word,
        /// What happened, in words.
        summary: String,
        /// The table of the row that is the evidence; NULL where there is none.
        tablename: Option<Word>,
        /// Its key there.
        rowkey: Option<i64>,
        /// The image that did it.
        psentity: Option<i64>,
        /// Its effective user.
        username: Option<Arc<str>>,
        /// User who logged in.
        loginname: Option<Arc<str>>,
        /// Its process id.
        pid: Option<u32>,
        /// Its task name.
        application: Option<String>,
        /// When it happened.
        created: Time,
    }
    end {}
    derived {}
    index { (psentity) }
}
