//! What the calls do, on threads that may block: looking up certificates, storing batches, signing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use luarm_chain::{Head, Heads, Manifest, Notary, VerifyingKey, decode};
use luarm_schema::{
    Batch, Row, Time,
    tables::{QueryInfo, QueryInfoEnd},
};
use luarm_store::{
    Asked, Certified, Claim, HostIdentity, Intake, Parcel, Registry, Scope, Stored, analyst_id,
};
use tonic::Code;

use super::{Config, examine, journal::Journal, monitor::Tally, pending, refusal::Refusal, room::Room};
use crate::{
    LinkError,
    authority::{self, Authority, Signed},
    packed::{self, UnpackError},
    proto::{Certificate, JoinReply, JoinRequest, Receipt, RefusedRows},
    tls,
    token::{Token, hex},
};

/// A question without an end that is older than this, and than what this server allows, has nobody who answers it: servers that share a store may allow
/// different times.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// What a row takes in memory beside its texts, at most: 64 columns, as they are and ready to be stored.
const ROW_BYTES: usize = 3 << 10;

/// The store and the authority.
pub(super) struct Backend {
    registry: Mutex<Registry>,
    journal: Journal,
    intake: Intake,
    room: Room,
    authority: Authority,
    data: PathBuf,
    lifetime: Duration,
    tally: Arc<Tally>,
    heads: Arc<Heads>,
    signer: VerifyingKey,
}

/// What a batch takes in memory, about, with what is made of it before it is stored.
fn memory(batch: &Batch, parcel: &Parcel) -> usize {
    ROW_BYTES * (batch.rows.len() + batch.ends.len()) + 2 * parcel.length as usize + batch.manifest.len()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn link(error: LinkError) -> Refusal {
    match error {
        LinkError::Store(error) => Refusal::store(&error),
        LinkError::Request(_)
        | LinkError::HostName { .. }
        | LinkError::MachineId { .. }
        | LinkError::Token(_) => Refusal::new("unsound", Code::InvalidArgument, error.to_string()),
        error => Refusal::failed(error),
    }
}

impl Backend {
    pub(super) fn open(
        config: &Config,
        authority: Authority,
        notary: &Notary,
        tally: Arc<Tally>,
    ) -> Result<Self, LinkError> {
        let intake = Intake::open(&config.store, notary)?;
        let heads = authority::directory(&config.data).join("heads");
        let heads = Arc::new(Heads::keep_in(&heads).map_err(|source| LinkError::File {
            action: "make",
            path: heads,
            source,
        })?);
        let mut registry = Registry::open(&config.store)?;
        pending::import(&config.data, &mut registry)?;
        let journal = Journal::open(&config.data, &config.store, notary, Arc::clone(&heads))?;
        let (now, most) = (Time::now(), config.answering.time.max(ABANDONED));
        let most = i64::try_from(most.as_micros()).unwrap_or(i64::MAX);
        journal.abandon(Time(now.0.saturating_sub(most)), now)?;
        Ok(Backend {
            registry: Mutex::new(registry),
            journal,
            intake,
            room: Room::new(),
            authority,
            data: config.data.clone(),
            lifetime: config.lifetime,
            tally,
            heads,
            signer: notary.key(),
        })
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Writes a question down.
    pub(super) fn ask(&self, question: QueryInfo) -> Result<Asked, Refusal> {
        self.journal.begin(question).map_err(|error| Refusal {
            inside: Some(format!("a question cannot be recorded: {error}")),
            ..Refusal::new(
                "unrecorded",
                Code::Unavailable,
                "the server cannot record the question now, and does not answer it (luarm server --unrecorded answer would); its log says more",
            )
        })
    }

    /// Writes down how a question ended.
    pub(super) fn answered(&self, asked: Asked, end: &QueryInfoEnd) -> Result<(), Refusal> {
        self.journal.end(asked, end).map_err(link)
    }

    /// Seals what it has written down itself; nothing is written down afterwards.
    pub(super) fn close(&self) {
        self.journal.close();
    }

    /// How many batches may be unpacked at the same time.
    pub(super) fn places(&self) -> usize {
        self.intake.connections() + 1
    }

    /// The host of that certificate, if it is good now.
    pub(super) fn host(&self, fingerprint: &str) -> Result<Certified, Refusal> {
        let certified = self.certified(fingerprint)?;
        if certified.analyst().is_some() {
            let message = "this certificate is an analyst's, who can only ask";
            return Err(Refusal::new("analyst", Code::PermissionDenied, message));
        }
        Ok(certified)
    }

    /// The analyst of that certificate, if it is good now, and whose rows he may see.
    pub(super) fn analyst(&self, fingerprint: &str) -> Result<(String, Scope), Refusal> {
        let certified = self.certified(fingerprint)?;
        let Some(name) = certified.analyst() else {
            let message = "this certificate is a host's, which can only deliver: an analyst has one of his own (luarm enroll token --analyst NAME)";
            return Err(Refusal::new("no-analyst", Code::PermissionDenied, message));
        };
        let scope = lock(&self.registry).scope(&certified.machine_id).map_err(|e| Refusal::store(&e))?;
        Ok((name.to_owned(), scope))
    }

    /// Who has that certificate, if it is good now.
    pub(super) fn certified(&self, fingerprint: &str) -> Result<Certified, Refusal> {
        let certified = lock(&self.registry).certificate(fingerprint).map_err(|e| Refusal::store(&e))?;
        let Some(certified) = certified else {
            let message = "this certificate is not known here: join again with a new token";
            return Err(Refusal::new("unknown", Code::PermissionDenied, message));
        };
        if certified.revoked {
            let message = format!("the certificate of {} was revoked", certified.name);
            return Err(Refusal::new("revoked", Code::PermissionDenied, message));
        }
        if certified.expires <= Time::now() {
            let message = format!("the certificate of {} has expired", certified.name);
            return Err(Refusal::new("expired", Code::Unauthenticated, message));
        }
        Ok(certified)
    }

    fn last(&self, machine_id: &str, name: &str) -> Result<i64, Refusal> {
        let host = HostIdentity::enrolled(machine_id, name);
        self.intake.last_batch(&host).map_err(|e| Refusal::store(&e))
    }

    /// Number of the last batch that is stored of a host; 0 for none.
    pub(super) fn last_batch(&self, host: &Certified) -> Result<i64, Refusal> {
        self.last(&host.machine_id, &host.name)
    }

    /// Stores what came over a connection with that certificate. `place` is given back once there is room for what was unpacked.
    pub(super) fn store<P>(&self, fingerprint: &str, parcel: &Parcel, place: P) -> Result<Receipt, Refusal> {
        let host = self.host(fingerprint)?;
        let mut batch = packed::unpack(parcel).map_err(|error| unpacking(&error))?;
        examine::batch(&host, &batch)?;
        batch.manifest = Manifest::of(&batch).encode();
        if batch.manifest.len() > packed::MOST_MANIFEST {
            let message = format!("batch {} has more rows and ends than a batch can have", batch.id);
            return Err(Refusal::new("too-large", Code::ResourceExhausted, message));
        }
        let (id, rows, entry) = (batch.id, batch.rows.len(), batch.rows.last().cloned());
        let _room = self.room.take(memory(&batch, parcel));
        drop(place);
        let identity = HostIdentity::enrolled(&host.machine_id, &host.name);
        let stored = self.intake.append(&identity, batch).map_err(|error| Refusal::store(&error))?;
        self.tally.stored(&host.name, rows, parcel.bytes.len());
        if stored.restarted {
            self.tally.restarted();
            tracing::warn!(
                "the chain of {} begins anew with batch {}: the host has lost its key, or somebody else goes on in its name; luarm verify shows it",
                host.name,
                id
            );
        }
        self.note_head(&host, entry.as_ref(), &stored);
        let mut tables: Vec<RefusedRows> = Vec::new();
        for row in stored.refused {
            match tables.iter_mut().find(|t| t.table == row.table) {
                Some(table) => table.count += 1,
                None => tables.push(RefusedRows { table: row.table.to_owned(), count: 1 }),
            }
        }
        Ok(Receipt { stored: id, refused: tables, sync: 0 })
    }

    /// Notes that the batch with this entry in the ledger is the last one of the host.
    fn note_head(&self, host: &Certified, entry: Option<&Row>, stored: &Stored) {
        let Some(Row::BatchInfo(info)) = entry else { return };
        let digest = info.digest.as_deref().and_then(decode);
        if let (Some(key), Some(receipt), Some(digest)) = (&stored.publickey, &stored.receipt, digest) {
            let receipt = Some((self.signer, receipt.0, receipt.1.clone()));
            self.heads.note(Head::new(&host.machine_id, &host.name, info, &digest, key.clone(), receipt));
        }
    }

    /// Makes the first certificate of a host, against a token.
    pub(super) fn join(&self, request: &JoinRequest) -> Result<JoinReply, Refusal> {
        let now = Time::now();
        let token: Token = request.token.parse().map_err(link)?;
        let kept = self.good_token(&token, now)?;
        if kept.analyst().is_some() != request.analyst {
            let message = match request.analyst {
                true => "this token is for a host, not for an analyst",
                false => "this token is for an analyst, not for a host",
            };
            return Err(Refusal::new("token-kind", Code::InvalidArgument, message));
        }
        if let Some(analyst) = kept.analyst() {
            return self.join_analyst(&request.request, (&kept, analyst), now);
        }
        let name = kept.name.as_deref().unwrap_or(&request.name);
        examine::host_name(name).map_err(link)?;
        examine::machine_id(&request.machine_id).map_err(link)?;
        let (name, machine_id) = (name.to_owned(), request.machine_id.clone());
        // Before anything is changed: what is not sound must not use up a token.
        let signed =
            self.authority.sign(&request.request, (&name, &machine_id), self.lifetime).map_err(link)?;
        let key = hex(&signed.key);
        let failed = |error| Refusal::store(&error);
        let mut registry = lock(&self.registry);
        // Bound to this key from here on: should anything below fail, the host can try again with it, and nobody else.
        if !registry.use_token(&token.id(), &key).map_err(failed)? {
            return Err(used());
        }
        let denied = |message: String| Err(Refusal::new("claimed", Code::AlreadyExists, message));
        let again = format!(
            "{name} is known here: a host that joins again needs a token made for it (luarm enroll token --host {name})"
        );
        let mut fresh = false;
        match registry.claim(&machine_id, &name).map_err(failed)? {
            Claim::Granted => fresh = true,
            Claim::Had if kept.name.is_some() => {
                registry.revoke(&machine_id, now).map_err(failed)?;
            }
            // Its certificate was made, and the answer got lost.
            Claim::Had if registry.has_key(&machine_id, &key).map_err(failed)? => {}
            Claim::Had => return denied(again),
            Claim::Known { name: known } => {
                return denied(format!(
                    "this machine is known as {known}: join again with a token made for it (luarm enroll token --host {known}); a copied machine needs a machine id of its own (systemd-machine-id-setup)"
                ));
            }
            Claim::Taken => {
                return denied(format!(
                    "another machine is known as {name}: choose another name with --name"
                ));
            }
        }
        let stored = match self.last(&machine_id, &name) {
            // A history that others wrote is not for whoever comes first.
            Ok(1..) if fresh && kept.name.is_none() => {
                registry.unclaim(&machine_id).map_err(failed)?;
                return denied(again);
            }
            Ok(stored) => stored,
            Err(refusal) => {
                if fresh {
                    registry.unclaim(&machine_id).map_err(failed)?;
                }
                return Err(refusal);
            }
        };
        self.note(&mut registry, &signed, (&name, &machine_id), now)?;
        drop(registry);
        tracing::info!("{name} joined (machine {machine_id})");
        Ok(JoinReply { certificate: Some(self.answer(&signed)), name, stored })
    }

    /// Makes a certificate of an analyst, against a token that was made for him. Those that he had are worth nothing from then on.
    fn join_analyst(
        &self,
        request: &[u8],
        (kept, analyst): (&luarm_store::Token, &str),
        now: Time,
    ) -> Result<JoinReply, Refusal> {
        examine::analyst_name(analyst).map_err(link)?;
        let id = analyst_id(analyst);
        let signed = self.authority.sign(request, (&id, &id), self.lifetime).map_err(link)?;
        let failed = |error| Refusal::store(&error);
        let mut registry = lock(&self.registry);
        if !registry.use_token(&kept.id, &hex(&signed.key)).map_err(failed)? {
            return Err(used());
        }
        if registry.claim(&id, &id).map_err(failed)? != Claim::Granted {
            registry.revoke(&id, now).map_err(failed)?;
        }
        let scope = registry.scope(&kept.id).map_err(failed)?;
        registry.set_scope(&id, &scope).map_err(failed)?;
        self.note(&mut registry, &signed, (&id, &id), now)?;
        drop(registry);
        match &scope {
            Scope::All => tracing::info!("the analyst {analyst} joined, and may see all hosts"),
            Scope::Hosts(hosts) => {
                tracing::info!("the analyst {analyst} joined, and may see {}", hosts.join(", "));
            }
        }
        Ok(JoinReply { certificate: Some(self.answer(&signed)), name: analyst.to_owned(), stored: 0 })
    }

    /// The token as it was made, if it is good.
    fn good_token(&self, token: &Token, now: Time) -> Result<luarm_store::Token, Refusal> {
        let failed = |error| Refusal::store(&error);
        let mut registry = lock(&self.registry);
        let mut kept = registry.token(&token.id()).map_err(failed)?;
        if kept.is_none() {
            pending::import(&self.data, &mut registry).map_err(link)?;
            kept = registry.token(&token.id()).map_err(failed)?;
        }
        // Whether there is no such token or its secret is wrong is nobody's business.
        let kept = kept.filter(|kept| token.is(&kept.hash)).ok_or_else(|| {
            Refusal::new(
                "token-unknown",
                Code::PermissionDenied,
                "this token is not known here: ask for another",
            )
        })?;
        if kept.expires <= now {
            let message = format!("this token expired at {} UTC: ask for another", kept.expires);
            return Err(Refusal::new("token-expired", Code::PermissionDenied, message));
        }
        Ok(kept)
    }

    /// Makes another certificate for the host or analyst that calls.
    pub(super) fn renew(&self, fingerprint: &str, request: &[u8]) -> Result<Certificate, Refusal> {
        let host = self.certified(fingerprint)?;
        let name = (host.name.as_str(), host.machine_id.as_str());
        let signed = self.authority.sign(request, name, self.lifetime).map_err(link)?;
        self.note(&mut lock(&self.registry), &signed, name, Time::now())?;
        tracing::info!("{} has a new certificate", host.name);
        Ok(self.answer(&signed))
    }

    fn note(
        &self,
        registry: &mut Registry,
        signed: &Signed,
        (name, machine_id): (&str, &str),
        now: Time,
    ) -> Result<(), Refusal> {
        let certified = Certified {
            fingerprint: hex(&tls::fingerprint(&signed.certificate)),
            machine_id: machine_id.to_owned(),
            name: name.to_owned(),
            public_key: hex(&signed.key),
            expires: signed.expires,
            revoked: false,
        };
        registry.add_certificate(&certified, now).map_err(|e| Refusal::store(&e))
    }

    fn answer(&self, signed: &Signed) -> Certificate {
        Certificate {
            certificate: signed.certificate.to_vec(),
            authority: self.authority.certificate().to_vec(),
            expires: signed.expires.0,
        }
    }
}

fn used() -> Refusal {
    let message = "this token was used before: ask for another";
    Refusal::new("token-used", Code::PermissionDenied, message)
}

fn unpacking(error: &UnpackError) -> Refusal {
    let message = error.to_string();
    if error.is_unknown() {
        Refusal::new("version", Code::FailedPrecondition, message)
    } else if error.is_too_large() {
        Refusal::new("too-large", Code::ResourceExhausted, message)
    } else {
        Refusal::new("unsound", Code::InvalidArgument, message)
    }
}
