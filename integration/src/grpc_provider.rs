//! A key provider that is a gRPC service: wraps with a real AES key, in a thread of its own, over TCP, a socket or TLS;
//! and the ways in which one can go wrong.

use std::fs;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::program::Program;

/// What the service does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What it should.
    Honest,
    /// Says nothing.
    Silent,
    /// Answers what is no answer.
    Nonsense,
    /// Answers more than anybody wants.
    Huge,
    /// Refuses, with words that would colour a terminal.
    Refusing,
}

/// Where it listens, and how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// TCP.
    Tcp,
    /// A socket of Unix.
    Unix,
    /// TLS over TCP, with a certificate for `provider.test`.
    Tls,
    /// The same; whoever comes has to show a certificate too.
    MutualTls,
}

/// The service, and the file that names it `grpc`.
#[derive(Debug)]
pub struct GrpcProvider {
    directory: TempDir,
    address: String,
    requests: Arc<Mutex<Vec<Value>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcProvider {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn start(manner: Manner, over: Over) -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-provider-").expect("a temporary directory can be made");
        if matches!(over, Over::Tls | Over::MutualTls) {
            certificates(directory.path());
        }
        let place = directory.path().to_owned();
        let requests = Arc::default();
        let service = Service {
            manner,
            cipher: Aes256Gcm::new_from_slice(&[7; 32]).expect("that is its length"),
            requests: Arc::clone(&requests),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("threads and files are to be had");
            runtime.block_on(async {
                let serve = async {
                    let listener = Listener::bind(over, &place).await;
                    tell.send(listener.target(&place))
                        .expect("they wait for it");
                    listener.serve(over, &place, service).await;
                };
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let address = told.recv().expect("the service starts");
        let this = Self {
            directory,
            address,
            requests,
            stop: Some(stop),
            thread: Some(thread),
        };
        this.configure(&match over {
            Over::Tcp | Over::Unix => json!({}),
            Over::Tls => json!({ "grpc-tls": {
                "root-ca-file": this.place("ca.crt"), "server-name": "provider.test",
            } }),
            Over::MutualTls => json!({ "grpc-tls": {
                "root-ca-file": this.place("ca.crt"), "server-name": "provider.test",
                "cert-file": this.place("client.crt"), "key-file": this.place("client.key"),
            } }),
        });
        this
    }

    /// Where it listens, as the file has it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A file of its directory.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `OCICRYPT_KEYPROVIDER_CONFIG` has to name.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.place("providers.json")
    }

    /// Writes the file anew, with these members beside the address.
    ///
    /// # Panics
    /// If that is no object.
    pub fn configure(&self, members: &Value) {
        let mut entry = json!({ "grpc": self.address });
        let members = members.as_object().expect("members stand in an object");
        let object = entry.as_object_mut().expect("it is one");
        object.extend(members.clone());
        let file = json!({ "key-providers": { "grpc": entry } });
        fs::write(self.file(), file.to_string()).expect("the directory is ours");
    }

    /// The requests that came.
    ///
    /// # Panics
    /// If the service did.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    /// Ends it; the file stays.
    pub fn stop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for GrpcProvider {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn bind(over: Over, place: &Path) -> Self {
        match over {
            Over::Unix => Self::Unix(UnixListener::bind(place.join("socket")).expect("a socket")),
            _ => Self::Tcp(
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a port"),
            ),
        }
    }

    fn target(&self, place: &Path) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().expect("it is bound").to_string(),
            Self::Unix(_) => format!("unix://{}", place.join("socket").display()),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }

    async fn serve(&self, over: Over, place: &Path, service: Service) {
        let tls = match over {
            Over::Tcp | Over::Unix => None,
            Over::Tls | Over::MutualTls => Some(acceptor(place, over == Over::MutualTls)),
        };
        loop {
            let Ok(stream) = self.accept().await else {
                return;
            };
            let (tls, service) = (tls.clone(), service.clone());
            tokio::spawn(async move {
                let stream: Box<dyn Stream> = match tls {
                    None => stream,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let answer = service_fn(|request: http::Request<Incoming>| {
                    let service = service.clone();
                    async move { Ok::<_, std::convert::Infallible>(service.route(request).await) }
                });
                let server = http2::Builder::new(TokioExecutor::new());
                // A client that went away is no matter of the service.
                let _ = server.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }
}

#[derive(Clone)]
struct Service {
    manner: Manner,
    cipher: Aes256Gcm,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Service {
    async fn route(self, request: http::Request<Incoming>) -> http::Response<tonic::body::Body> {
        let op = match request.uri().path() {
            "/keyprovider.KeyProviderService/WrapKey" => "keywrap",
            "/keyprovider.KeyProviderService/UnWrapKey" => "keyunwrap",
            path => {
                let status = Status::unimplemented(format!("no method {path}"));
                return status.into_http();
            }
        };
        let mut grpc = Grpc::new(ProstCodec::default());
        grpc.unary(Method { service: self, op }, request).await
    }

    fn answer(&self, op: &str, json: &[u8]) -> Result<Value, Status> {
        let broken = |what: &str| Status::invalid_argument(what.to_owned());
        let request: Value = serde_json::from_slice(json).map_err(|_| broken("no JSON"))?;
        self.requests
            .lock()
            .expect("nobody panics with it")
            .push(request.clone());
        if request["op"] != op {
            return Err(broken("another operation than the method's"));
        }
        let bytes = |text: &Value| {
            let text = text.as_str().and_then(|text| STANDARD.decode(text).ok());
            text.ok_or_else(|| broken("no base64"))
        };
        if op == "keywrap" {
            let mut nonce = [0; 12];
            let read = fs::File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut nonce));
            read.map_err(|_| broken("no random bytes"))?;
            let options = bytes(&request["keywrapparams"]["optsdata"])?;
            let sealed = self.cipher.encrypt(&Nonce::from(nonce), &*options);
            let sealed = sealed.map_err(|_| broken("cannot encrypt"))?;
            let annotation = STANDARD.encode([&nonce[..], &sealed].concat());
            return Ok(json!({ "keywrapresults": { "annotation": annotation } }));
        }
        let annotation = bytes(&request["keyunwrapparams"]["annotation"])?;
        let (nonce, sealed) = annotation
            .split_first_chunk::<12>()
            .ok_or_else(|| broken("no nonce"))?;
        let options = self.cipher.decrypt(&Nonce::from(*nonce), sealed);
        let options = options.map_err(|_| Status::permission_denied("not wrapped by me"))?;
        Ok(json!({ "keyunwrapresults": { "optsdata": STANDARD.encode(options) } }))
    }
}

struct Method {
    service: Service,
    op: &'static str,
}

impl UnaryService<Envelope> for Method {
    type Response = Envelope;
    type Future = tonic::codegen::BoxFuture<Response<Envelope>, Status>;

    fn call(&mut self, request: Request<Envelope>) -> Self::Future {
        let (service, op) = (self.service.clone(), self.op);
        Box::pin(async move {
            let json = match service.manner {
                Manner::Honest => {
                    let answer = service.answer(op, &request.into_inner().json)?;
                    answer.to_string().into_bytes()
                }
                Manner::Silent => {
                    tokio::time::sleep(Duration::from_secs(1000)).await;
                    Vec::new()
                }
                Manner::Nonsense => b"{\"keyunwrapresults\":{\"optsdata\":\"***\"}}".to_vec(),
                Manner::Huge => vec![b' '; 64 << 20],
                Manner::Refusing => {
                    return Err(Status::permission_denied("not\n\u{1b}[31mtoday"));
                }
            };
            Ok(Response::new(Envelope { json }))
        })
    }
}

#[derive(Clone, Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    json: Vec<u8>,
}

fn acceptor(place: &Path, mutual: bool) -> TlsAcceptor {
    let chain = |name: &str| {
        let chain = CertificateDer::pem_file_iter(place.join(name)).expect("a file");
        chain.map(|it| it.expect("PEM")).collect::<Vec<_>>()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has them");
    let builder = if mutual {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(chain("ca.crt"));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("there is an authority"))
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(place.join("server.key")).expect("PEM");
    let config = builder.with_single_cert(chain("server.crt"), key);
    let mut config = config.expect("the key is the certificate's");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// An authority, a certificate of it for the service and one for a client; and another authority that signed nothing.
fn certificates(place: &Path) {
    let openssl = |args: &str| {
        let args: Vec<_> = args.split(' ').collect();
        Program::new("openssl").current_dir(place).args(&args).ok();
    };
    for name in ["ca", "other"] {
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -sha256 -x509 -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt"
        ));
    }
    fs::write(place.join("names"), "subjectAltName=DNS:provider.test\n").expect("it is ours");
    for name in ["server", "client"] {
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -sha256 -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.crt"
        ));
    }
}
