//! A connection to containerd, in one of its namespaces and under a lease.
//!
//! The library wants an asynchronous runtime. It runs in a thread of its own, which is started here and nowhere else, so that
//! whoever does not speak to containerd has none; everybody else blocks.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::SigSet;
use prost::Message;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Result;
use super::error::Error;
use super::messages::{AddResource, Empty, Lease, Namespaces, Resource, method};
use crate::image::stop;

/// Longest that containerd may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same once we are to end: to give up an ingest, and the lease.
const FAREWELL: Duration = Duration::from_millis(300);
/// How often it is looked whether we are to end.
const TICK: Duration = Duration::from_millis(100);
/// Namespaces of `ctr`, of Kubernetes and of Docker.
const USUAL: [&str; 3] = ["default", "k8s.io", "moby"];
/// For how long what we have written is kept if we do not end as we should: as long as `ctr` has it kept.
const LEASE: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of a blob that may be on the way to us.
const WINDOW: u32 = 4 << 20;
/// Longest text of containerd's that a message bears.
const MAX_SAID: usize = 200;

/// A connection. What is written through it is kept until it is dropped, and then if an image needs it.
pub(super) struct Client {
    connection: Connection,
    /// The namespace that is asked.
    pub(super) namespace: String,
    /// The lease's name, once there is one.
    lease: OnceLock<String>,
}

/// The way to containerd, and the thread that goes it.
struct Connection {
    address: PathBuf,
    channel: Channel,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects. The part of `name` before the first `/` is the namespace if containerd has one of that name, or it is one
    /// that everybody uses. Returns the rest of the name as well.
    pub(super) fn open(address: &Path, namespace: &str, name: &str) -> Result<(Self, String)> {
        let connection = Connection::open(address)?;
        let mut this = Self {
            connection,
            namespace: namespace.to_owned(),
            lease: OnceLock::new(),
        };
        let mut name = name;
        if let Some((first, rest)) = name.split_once('/')
            && (USUAL.contains(&first) || this.has_namespace(first)?)
        {
            first.clone_into(&mut this.namespace);
            name = rest;
        }
        Ok((this, name.to_owned()))
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        let list: Namespaces = self
            .unary(method::NAMESPACE_LIST, Empty {})
            .map_err(|status| self.refused("list its namespaces", &status))?;
        Ok(list.namespaces.iter().any(|it| it.name == name))
    }

    /// Lets containerd keep what we write and what we ask for, until the lease ends.
    pub(super) fn begin_lease(&self) -> Result<()> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::Unreachable {
            address: self.connection.address.clone(),
            source: error.into(),
        })?;
        let id = format!("ocihsm-{:016x}", u64::from_be_bytes(random));
        let end = humantime::format_rfc3339_seconds(SystemTime::now() + LEASE).to_string();
        let lease = Lease {
            id: id.clone(),
            labels: BTreeMap::from([("containerd.io/gc.expire".to_owned(), end)]),
        };
        let created = self.unary::<_, Empty>(method::LEASE_CREATE, lease);
        // One that is answered too late, or not at all, may be there, and is ended as well.
        if created.as_ref().map_or_else(may_be_done, |_| true) {
            let _ = self.lease.set(id);
        }
        created
            .map(drop)
            .map_err(|status| self.refused("begin a lease", &status))
    }

    /// The lease's name; empty without one.
    pub(super) fn lease(&self) -> &str {
        self.lease.get().map_or("", String::as_str)
    }

    /// Has a blob kept, and all that it names, until the lease ends. It need not be there.
    pub(super) fn keep(&self, digest: &str) -> Result<()> {
        let resource = AddResource {
            id: self.lease().to_owned(),
            resource: Some(Resource {
                id: digest.to_owned(),
                kind: "content".to_owned(),
            }),
        };
        self.unary::<_, Empty>(method::LEASE_ADD, resource)
            .map(drop)
            .map_err(|status| self.refused("keep a blob", &status))
    }

    /// One question, one answer.
    pub(super) fn unary<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(request);
        self.wait(async {
            let (mut grpc, path) = self.ready(method).await?;
            let answer = grpc.unary(request, path, ProstCodec::default()).await?;
            Ok(answer.into_inner())
        })
    }

    /// One question, many answers.
    pub(super) fn answers<Q, A>(
        &self,
        method: &'static str,
        request: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(request);
        self.wait(async {
            let (mut grpc, path) = self.ready(method).await?;
            let answer = grpc
                .server_streaming(request, path, ProstCodec::default())
                .await?;
            Ok(answer.into_inner())
        })
    }

    /// Many questions, each with its answer.
    pub(super) fn talk<Q, A>(
        &self,
        method: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(requests);
        self.wait(async {
            let (mut grpc, path) = self.ready(method).await?;
            let answer = grpc.streaming(request, path, ProstCodec::default()).await?;
            Ok(answer.into_inner())
        })
    }

    /// Waits for what containerd says next, but not for ever. Once we are to end, what is begun is to give things up.
    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let is_farewell = stop::is_set();
        let patience = match is_farewell {
            true => FAREWELL,
            false => PATIENCE,
        };
        let end = Instant::now() + patience;
        self.connection.handle.block_on(async {
            let mut work = pin!(work);
            loop {
                match tokio::time::timeout(TICK, work.as_mut()).await {
                    Ok(done) => return done,
                    Err(_) if stop::is_set() && !is_farewell => {
                        return Err(Status::cancelled("a signal asked us to end"));
                    }
                    Err(_) if Instant::now() >= end => {
                        let seconds = patience.as_secs_f32();
                        let text = format!("no answer for {seconds} s");
                        return Err(Status::deadline_exceeded(text));
                    }
                    Err(_) => {}
                }
            }
        })
    }

    async fn ready(&self, method: &'static str) -> Result<(Grpc<Channel>, PathAndQuery), Status> {
        let mut grpc = Grpc::new(self.connection.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok((grpc, PathAndQuery::from_static(method)))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = [
            ("containerd-namespace", self.namespace.as_str()),
            ("containerd-lease", self.lease()),
        ];
        for (name, value) in headers {
            let value: Option<MetadataValue<Ascii>> = value.parse().ok();
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request.metadata_mut().insert(name, value);
            }
        }
        request
    }

    pub(super) fn refused(&self, action: &'static str, status: &Status) -> Error {
        Error::Refused {
            address: self.connection.address.clone(),
            action,
            said: status.message().chars().take(MAX_SAID).collect(),
        }
    }
}

/// Whether containerd may have done what was asked: it has not said no.
fn may_be_done(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    let open = [Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown];
    open.contains(&status.code())
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(id) = self.lease.get() {
            let lease = Lease {
                id: id.clone(),
                labels: BTreeMap::new(),
            };
            let ended = self.unary::<_, Empty>(method::LEASE_DELETE, lease);
            if ended.is_err_and(|status| status.code() != Code::NotFound) {
                tracing::warn!(
                    "containerd does not answer, so its lease {id} is left: it ends within a day, or with `ctr --namespace {} leases delete {id}`",
                    self.namespace
                );
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.connection.address.display();
        write!(f, "Client({address}, {}, {})", self.namespace, self.lease())
    }
}

impl Connection {
    fn open(address: &Path) -> Result<Self> {
        let unreachable = |source| Error::Unreachable {
            address: address.to_owned(),
            source,
        };
        // The library tells less of why not.
        UnixStream::connect(address).map_err(unreachable)?;
        let absolute = std::path::absolute(address).map_err(unreachable)?;
        let endpoint = Endpoint::from_shared(format!("unix:{}", absolute.display()))
            .map_err(|error| unreachable(std::io::Error::other(error)))?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .timeout(PATIENCE);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(unreachable)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            // Signals are for the threads that wait for them.
            let _ = SigSet::all().thread_block();
            let _ = runtime.block_on(stopped);
        };
        let thread = thread::Builder::new()
            .name("containerd".to_owned())
            .spawn(run)
            .map_err(unreachable)?;
        let channel = handle
            .block_on(endpoint.connect())
            .map_err(|error| unreachable(std::io::Error::other(error)))?;
        Ok(Self {
            address: address.to_owned(),
            channel,
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
