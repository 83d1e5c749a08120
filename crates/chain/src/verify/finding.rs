//! What is wrong, and where.

/// What explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// The row has other values than its batch created it with.
    RowChanged,
    /// The row is gone.
    RowDeleted,
    /// No batch knows the row.
    RowInserted,
    /// The row names another batch, or is with another host, than the one that created it.
    RowMoved,
    /// The row's end has other values, or another batch, than it was ended with.
    EndChanged,
    /// The row has ended, and does not say so any more.
    EndRemoved,
    /// No batch knows the row's end.
    EndAdded,
    /// The last batches are gone.
    TailCut,
    /// Batches are gone, with their rows in the ledger.
    BatchMissing,
    /// The batch's row in the ledger has other values than it was sealed with.
    LedgerChanged,
    /// The batch is not sealed.
    NotSealed,
    /// The signature is not that of the host's key.
    SignatureWrong,
    /// The server's receipt does not fit the batch.
    ReceiptWrong,
    /// The server's receipt is gone.
    ReceiptMissing,
    /// The host went on with a key of its own.
    ChainRestarted,
    /// What the store keeps beside the batch (`luarmproof`) is not what the batch was sealed with.
    ProofChanged,
    /// What the store keeps beside the batch (`luarmproof`) is gone.
    ProofMissing,
    /// The store is said to have refused rows of the batch, and no server has signed that.
    RowsRefused,
    /// The batch does not hold as many rows and ends as it says.
    CountWrong,
    /// The machine id is not the one that the digests are of.
    IdentityChanged,
    /// Retention is recorded, and not signed by a known key.
    RetentionUnsigned,
    /// The history is another one than that of a head that was kept elsewhere.
    HistoryRewritten,
    /// A clock went back.
    ClockMoved,
}

impl Change {
    /// Every change with its name.
    pub const ALL: [(Change, &'static str); 23] = [
        (Change::RowChanged, "row-changed"),
        (Change::RowDeleted, "row-deleted"),
        (Change::RowInserted, "row-inserted"),
        (Change::RowMoved, "row-moved"),
        (Change::EndChanged, "end-changed"),
        (Change::EndRemoved, "end-removed"),
        (Change::EndAdded, "end-added"),
        (Change::TailCut, "tail-cut"),
        (Change::BatchMissing, "batch-missing"),
        (Change::LedgerChanged, "ledger-changed"),
        (Change::NotSealed, "not-sealed"),
        (Change::SignatureWrong, "signature-wrong"),
        (Change::ReceiptWrong, "receipt-wrong"),
        (Change::ReceiptMissing, "receipt-missing"),
        (Change::ChainRestarted, "chain-restarted"),
        (Change::ProofChanged, "proof-changed"),
        (Change::ProofMissing, "proof-missing"),
        (Change::RowsRefused, "rows-refused"),
        (Change::CountWrong, "count-wrong"),
        (Change::IdentityChanged, "identity-changed"),
        (Change::RetentionUnsigned, "retention-unsigned"),
        (Change::HistoryRewritten, "history-rewritten"),
        (Change::ClockMoved, "clock-moved"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Change::ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, name)| name)
    }
}

/// One thing that is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The host's name.
    pub host: String,
    /// The host's number in the store.
    pub number: i64,
    /// The batch that it is about.
    pub batch: i64,
    /// The table: one of the schema's, or `luarmproof`.
    pub table: &'static str,
    /// The row's key.
    pub key: Option<i64>,
    /// What explains it.
    pub change: Change,
    /// More about it.
    pub detail: String,
    /// It is worth knowing, and the history is whole all the same.
    pub is_note: bool,
}
