//! A server of its own for each test, hosts that joined it, and a client that says whatever it is told to.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use luarm_link::{
    agent::{self, ServerUrl},
    analyst,
    authority::Authority,
    identity, packed,
    proto::{
        Hello, PackedBatch, Parcel as Message, Receipt, delivery_client::DeliveryClient,
        enrolment_client::EnrolmentClient, inquiry_client::InquiryClient, parcel::What,
    },
    server::{self, Answering, Server},
    token::Token,
};
use luarm_schema::{
    Batch, Row, Time,
    tables::{BatchInfo, HostInfo, RenameInfo},
};
use luarm_store::{Cell, Parcel, Reader, RowSink, Scope, StoreUrl};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};

use crate::seals::Seals;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a loaded machine; no test's verdict depends on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server, its directory and its store.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
    pub(crate) server: Option<Server>,
    pub(crate) address: SocketAddr,
}

/// A host that joined.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) machine_id: String,
    pub(crate) data: PathBuf,
    pub(crate) seals: Arc<Seals>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_certificates_for(24 * HOUR)
    }

    pub(crate) fn with_certificates_for(lifetime: Duration) -> Self {
        Self::with(lifetime, Answering::default())
    }

    pub(crate) fn with(lifetime: Duration, answering: Answering) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Authority::init(&directory.path().join("server"), &[]).unwrap();
        let server = start(directory.path(), lifetime, answering);
        Scene { address: server.address(), server: Some(server), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("server")
    }

    pub(crate) fn store(&self) -> StoreUrl {
        store(self.directory.path())
    }

    pub(crate) fn url(&self) -> ServerUrl {
        format!("https://{}", self.address).parse().unwrap()
    }

    pub(crate) fn token(&self, host: Option<&str>) -> Token {
        server::make_token(&self.data(), Some(&self.store()), host, HOUR).unwrap()
    }

    /// A host of that name, whose machine id is made of the name.
    pub(crate) fn join(&self, name: &str) -> Host {
        let host = self.stranger(name);
        self.join_with(&host, &self.token(None)).unwrap();
        host
    }

    /// An analyst of that name, who may see all hosts; in a directory of that name.
    pub(crate) fn analyst(&self, name: &str) -> PathBuf {
        let (data, store) = (self.path(name), self.store());
        let token =
            server::make_analyst_token(&self.data(), Some(&store), (name, &Scope::All), HOUR).unwrap();
        beside(|| analyst::join(&self.url(), &token, &data).unwrap());
        data
    }

    /// The same machine with another data directory, and what it has sealed so far.
    pub(crate) fn moved(&self, host: &Host, name: &str) -> Host {
        let (machine_id, seals) = (host.machine_id.clone(), Arc::clone(&host.seals));
        Host { data: self.path(name), name: host.name.clone(), machine_id, seals }
    }

    /// A host that has not joined.
    pub(crate) fn stranger(&self, name: &str) -> Host {
        let machine_id = format!("{:032x}", name.bytes().fold(1_u64, |n, b| n * 31 + u64::from(b)));
        let data = self.path(name);
        let seals = Arc::new(Seals::new(&machine_id, &data));
        Host { name: name.to_owned(), machine_id, data, seals }
    }

    pub(crate) fn join_with(&self, host: &Host, token: &Token) -> Result<identity::Facts, String> {
        let names = (host.name.as_str(), host.machine_id.as_str());
        beside(|| agent::join(&self.url(), token, &host.data, names).map_err(|error| error.to_string()))
    }

    /// The number that a query of the store answers.
    pub(crate) fn count(&self, query: &str) -> i64 {
        struct Number(i64);

        impl RowSink for Number {
            fn columns(&mut self, _: &[String]) -> io::Result<()> {
                Ok(())
            }

            fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
                if let Cell::Integer(n) = cells[0] {
                    self.0 = n;
                }
                Ok(())
            }
        }

        let mut number = Number(i64::MIN);
        Reader::open(&self.store()).unwrap().query(query, &mut number).unwrap();
        number.0
    }

    /// How many batches of a host are stored.
    pub(crate) fn batches(&self, host: &Host) -> i64 {
        self.count(&format!(
            "SELECT count(*) FROM batchinfo WHERE host = (SELECT host FROM hostinfo WHERE machineid = '{}')",
            host.machine_id
        ))
    }

    /// How often the server refused something of that kind.
    pub(crate) fn refused(&self, kind: &str) -> u64 {
        let totals = self.server.as_ref().unwrap().refusals().totals();
        totals.iter().find(|(k, _)| *k == kind).map_or(0, |(_, count)| *count)
    }

    /// A client with that host's certificate.
    pub(crate) async fn client(&self, host: &Host) -> Client {
        connect(self.address, self.tls(Some(&host.data))).await.unwrap()
    }

    /// What a client has of TLS: the server's authority, and a host's certificate if it has one.
    pub(crate) fn tls(&self, host: Option<&Path>) -> ClientConfig {
        tls(&self.data().join("server/ca.pem"), host)
    }

    /// A stream of that host that has said hello; gives the number of the last batch that the server says it has.
    pub(crate) async fn stream(&self, host: &Host) -> (Stream, i64) {
        let mut stream = Stream::open(self.client(host).await).await.unwrap();
        stream.seals = Some(Arc::clone(&host.seals));
        stream.say(What::Hello(Hello { version: "test".to_owned() })).await;
        let stored = stream.receipt().await.unwrap().stored;
        (stream, stored)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            beside(|| server.stop());
        }
    }
}

/// Does something that blocks on a thread that may.
pub(crate) fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn store(directory: &Path) -> StoreUrl {
    StoreUrl::Sqlite(directory.join("store.db"))
}

pub(crate) fn start(directory: &Path, lifetime: Duration, answering: Answering) -> Server {
    let config = server::Config {
        data: directory.join("server"),
        store: store(directory),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        lifetime,
        answering,
        overdue: luarm_store::OVERDUE,
    };
    beside(|| Server::start(&config).unwrap())
}

pub(crate) fn tls(authority: &Path, host: Option<&Path>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match host {
        None => config.with_no_client_auth(),
        Some(data) => {
            let (agent, analyst) = (data.join("agent/agent.pem"), data.join("analyst/analyst.pem"));
            let file = if agent.exists() { agent } else { analyst };
            let certificate = CertificateDer::from_pem_file(&file).unwrap();
            config
                .with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(&file).unwrap())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) async fn handshake(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// All services over one connection.
pub(crate) struct Client {
    pub(crate) delivery: DeliveryClient<Channel>,
    pub(crate) inquiry: InquiryClient<Channel>,
    pub(crate) enrolment: EnrolmentClient<Channel>,
}

pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<Client, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let config = config.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(handshake(address, config).await?)) }
    });
    let endpoint = Endpoint::from_static("http://server");
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(Client {
        delivery: DeliveryClient::new(channel.clone()).max_encoding_message_size(usize::MAX),
        inquiry: InquiryClient::new(channel.clone()).max_encoding_message_size(usize::MAX),
        enrolment: EnrolmentClient::new(channel).max_encoding_message_size(usize::MAX),
    })
}

/// A stream of deliveries.
pub(crate) struct Stream {
    sender: mpsc::Sender<Message>,
    receipts: Streaming<Receipt>,
    /// Of the host that it is of, if what it delivers is to be sealed.
    seals: Option<Arc<Seals>>,
}

impl Stream {
    pub(crate) async fn open(mut client: Client) -> Result<Self, Status> {
        let (sender, outgoing) = mpsc::channel(16);
        let receipts = client.delivery.deliver(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Stream { sender, receipts, seals: None })
    }

    pub(crate) async fn say(&self, what: What) {
        // The server may have ended the stream: its status says why.
        let _ = self.sender.send(Message { what: Some(what) }).await;
    }

    pub(crate) async fn send(&self, parcel: &Parcel) {
        let Parcel { id, digest, length, bytes } = parcel.clone();
        self.say(What::Batch(PackedBatch { id, digest, length, zstd: bytes })).await;
    }

    pub(crate) async fn receipt(&mut self) -> Result<Receipt, Status> {
        let receipt =
            tokio::time::timeout(PATIENCE, self.receipts.message()).await.expect("no receipt in time")?;
        receipt.ok_or_else(|| Status::new(Code::Unknown, "the stream ended"))
    }

    /// Seals a batch and sends it, and gives the number up to which the server has all.
    pub(crate) async fn deliver(&mut self, batch: &Batch) -> Result<i64, Status> {
        let Some(seals) = self.seals.clone() else {
            self.send(&packed::pack(batch).unwrap()).await;
            return self.receipt().await.map(|receipt| receipt.stored);
        };
        let sealed = seals.seal(batch);
        self.send(&packed::pack(&sealed).unwrap()).await;
        let receipt = self.receipt().await?;
        seals.keep(batch, sealed);
        Ok(receipt.stored)
    }
}

/// A batch of a host: `rows` changes of names, and in the first one what the host is.
pub(crate) fn batch(host: &Host, id: i64, rows: i64) -> Batch {
    let renames = (0..rows).map(|n| rename(id * 1000 + n));
    let first = (id == 1).then(|| hostinfo(&host.machine_id, &host.name));
    closed(id, first.into_iter().chain(renames).collect())
}

/// These rows as a batch.
pub(crate) fn closed(id: i64, mut rows: Vec<Row>) -> Batch {
    let ledger = BatchInfo {
        batchid: id,
        run: 1,
        rowcount: rows.len() as i64,
        endcount: 0,
        firstevent: Time(id),
        lastevent: Time(id),
        created: Time(id),
        publickey: None,
        nextkey: None,
        digest: None,
        signature: None,
        end: None,
    };
    rows.push(ledger.into());
    Batch { id, rows, ends: Vec::new(), ..Batch::default() }
}

pub(crate) fn rename(key: i64) -> Row {
    RenameInfo {
        renameid: key,
        psentity: 1,
        username: "root".into(),
        loginname: None,
        pid: 1,
        application: format!("name {key}"),
        oldapplication: String::new(),
        auid: None,
        session: None,
        created: Time(key),
        end: None,
    }
    .into()
}

pub(crate) fn hostinfo(machine_id: &str, name: &str) -> Row {
    HostInfo {
        bootentity: 1,
        machineid: machine_id.to_owned(),
        hostname: name.to_owned(),
        os: String::new(),
        kernel: String::new(),
        arch: String::new(),
        bootid: String::new(),
        boottime: Time(0),
        timezone: None,
        cmdline: None,
        virtualization: None,
        vendor: None,
        product: None,
        serial: None,
        agentversion: String::new(),
        memory: 0,
        cpus: 1,
        created: Time(0),
        end: None,
    }
    .into()
}
