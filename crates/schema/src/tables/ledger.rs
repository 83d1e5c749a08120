//! What was watched, what was lost, what was delivered.

use crate::{Time, Word};

table! {
    /// What was watched from when to when, and what was not. An answer of "no rows" means "it did not happen" only inside an interval that is
    /// `watched`.
    coverageinfo: CoverageInfo, CoverageInfoEnd, key coverageid;
    begin {
        /// Number of the row, ordered by time.
        coverageid: i64,
        /// Class of events: `process`, `exec-denied`, `rename`, `credentials`, `tcp`, `tcp-accept`, `udp`, `names`, `interfaces`, `routes`, `host`, `file`, `hardware`…; `all` for a gap of the whole recorder, a sleep of the host and a step of its clock;
        /// `canary`, whether the others are put to the test (see `canaryinfo`).
        class: Word,
        /// `watched`, every event; `sampled`, what was there when the sensor looked; `unwatched`, nothing; `gap`, the recorder was down, or the canary did not come back: since
        /// the last one that did; `asleep`, the host was suspended, and nothing ran on it; `step`, the wall clock was set: forward, and these instants never were, or back, and they
        /// were twice.
        state: Word,
        /// `ebpf`; `poll`; `netlink`; `proc`; `files`, which tell of their changes; `recorder`, for its canary; or `none`.
        sensor: Word,
        /// The hook that sees the class: the kernel's name for it.
        hook: Option<String>,
        /// Why it is so, where it is not plain.
        reason: Option<String>,
        /// Since when.
        created: Time,
    }
    end {
        /// Until when.
        destroyed: Time,
        /// Why no longer: `stop`, the recorder was stopped; `killed`, it ended without saying so, and `destroyed` is the last sign of it;
        /// `start`, the recorder is back; `awake`, the host is; `forward` and `back`, which way the clock was set; `canary`, a canary did not come back, or does again.
        ended: Word,
    }
    derived {}
    index { (class) }
}

table! {
    /// What was lost: each row says how many events of which class, between which instants, and why.
    lossinfo: LossInfo, LossInfoEnd, key lossid;
    begin {
        /// Number of the row, ordered by time.
        lossid: i64,
        /// Class of events, as in `coverageinfo`; for rows that could not be stored, the table's name.
        class: Word,
        /// Where they were lost: `ring-full`, `table-full`, `recursion`, `queue-full`, `store-failed`…
        cause: Word,
        /// How many.
        count: i64,
        /// More about it.
        note: Option<String>,
        /// They were lost after this instant.
        created: Time,
        /// And before this one.
        until: Time,
    }
    end {}
    derived {}
    index { (class, until) }
}

table! {
    /// What became of the canary: in each round the recorder runs a process that does something known in each class of events, and expects its own rows back. One row
    /// per round and class that is watched. The rows of the canary itself stand where those of any other process do: `psinfo.canary` tells them.
    canaryinfo: CanaryInfo, CanaryInfoEnd, key canaryid;
    begin {
        /// Number of the row, ordered by time.
        canaryid: i64,
        /// Number of the round, in `psinfo.canary` of what was run for it.
        round: i64,
        /// Class of events, as in `coverageinfo`.
        class: Word,
        /// 1 if a row came back for all that was done in this class; 0 if one did not, and the class is a `gap` in `coverageinfo` until it does; NULL if nothing could be done.
        seen: Option<i32>,
        /// How many acts were done in this class.
        acts: i32,
        /// From the act until its row was in a batch, microseconds: that of the act that took longest.
        latency: Option<i64>,
        /// From the act until its row was stored where it can be queried, microseconds; with an agent until its server said so. NULL if that took longer than the round.
        storedlatency: Option<i64>,
        /// What did not come back, or could not be done and why.
        reason: Option<String>,
        /// When the round began.
        created: Time,
    }
    end {}
    derived {}
    index {}
}

table! {
    /// The ledger: one row per batch that was stored. A batch is stored wholly or not at all.
    batchinfo: BatchInfo, BatchInfoEnd, key batchid;
    begin {
        /// Number of the batch, without gaps for each host.
        batchid: i64,
        /// The run of the recorder that made it: when it started, in microseconds since 1970.
        run: i64,
        /// How many rows it created, this one not counted.
        rowcount: i64,
        /// How many rows it ended.
        endcount: i64,
        /// Instant of its first event.
        firstevent: Time,
        /// Everything that the sensors delivered before this instant is in this batch or an earlier one.
        lastevent: Time,
        /// When it was closed.
        created: Time,
        /// Public key (Ed25519, base64) that signed this batch, where the batch before it does not name it: in the first batch, and where a host lost its key.
        publickey: Option<String>,
        /// Public key that signs the next batch. The private key of this one is overwritten as soon as it has signed.
        nextkey: Option<String>,
        /// SHA-256 (base64) over the host's identity, the digest of the batch before, what the batch created and ended, and this row up to here.
        digest: Option<String>,
        /// Signature (Ed25519, base64) of the digest. NULL if the batch was not sealed.
        signature: Option<String>,
    }
    end {}
    derived {}
    index {}
}

table! {
    /// What was given up because the time was over for which it was to be kept: one row for each host, table and act of retention. These rows are
    /// the store's own (`batch` is 0): no host delivers them. What a batch created and is neither in its table nor in the range of such a row
    /// was removed by somebody else.
    retentioninfo: RetentionInfo, RetentionInfoEnd, key retentionid;
    begin {
        /// Number of the row, ordered by time.
        retentionid: i64,
        /// The table that rows were dropped from.
        tablename: Word,
        /// Rows whose number is below this one were dropped, except those that had not ended; in a SQLite store also except those that ended at or after the beginning of the first day
        /// that is kept.
        beforekey: i64,
        /// The instant that `beforekey` stands for: the beginning of a day, in UTC; another one where the act was ended half way, and a later one goes on from there.
        beforetime: Time,
        /// How many rows were dropped.
        rowcount: i64,
        /// How many rows in that range stay.
        keptcount: i64,
        /// The first batch of which rows were dropped.
        firstbatch: i64,
        /// The last batch of which rows were dropped.
        lastbatch: i64,
        /// When they were dropped.
        created: Time,
        /// Public key (Ed25519, base64) of the server or recorder that signed this row; NULL if it was done without a key.
        signer: Option<String>,
        /// Signature (Ed25519, base64) over the host's identity and this row up to here.
        signature: Option<String>,
    }
    end {}
    derived {}
    index {}
}
