//! What stands between a client and a registry and does not always do as it should: each request is passed on or not, as
//! a test decides.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is answered with this status, and never reaches the registry.
    Status(u16),
    /// It gets this answer, status and headers, and never reaches the registry.
    Answer(String),
    /// It is answered with this status and a text made of its head, and never reaches the registry.
    Say(u16, fn(&str) -> String),
    /// It is passed on, and the answer is another one, status and headers.
    PassAndAnswer(String),
    /// It is passed on, and the connection breaks after so many bytes of the answer's body.
    CutAnswer(usize),
    /// It is passed on, and nobody is there any more: it has no answer, and no connection is taken.
    PassAndLeave,
    /// So many bytes of its body are passed on, then the connection breaks.
    CutRequest(usize),
    /// One half of its body is passed on, then nothing for this time, then the rest.
    Pause(Duration),
    /// It is passed on, and one byte of the answer's body is another one.
    Damage,
    /// Nothing comes of it: it is not read, and has no answer.
    Stall,
    /// It is passed on, and after so many bytes of the answer's body nothing comes any more.
    StallAnswer(usize),
}

/// A proxy on a port of the loopback interface. It ends with the process.
#[derive(Debug)]
pub struct Proxy {
    host: String,
    log: Arc<Mutex<Vec<String>>>,
    counts: Arc<Counts>,
}

/// Bytes of bodies, and requests with a login.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    logins: AtomicU64,
    has_left: AtomicBool,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Proxy {
    /// Starts one in front of a registry. `decide` is asked for each request with its first line, and with how many
    /// requests there were.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(
        registry: &str,
        decide: impl Fn(&str, usize) -> Fate + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(registry, None, decide)
    }

    /// Starts one that has TLS, with this certificate and its key. The registry behind it has none.
    ///
    /// # Panics
    /// If there is no free port, or the certificate is none.
    pub fn start_tls(
        registry: &str,
        (certificate, key): &(PathBuf, PathBuf),
        decide: impl Fn(&str, usize) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
        let chain = chain.map(|it| it.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_file(key).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        Self::start_with(registry, Some(Arc::new(config)), decide)
    }

    fn start_with(
        registry: &str,
        tls: Option<Arc<ServerConfig>>,
        decide: impl Fn(&str, usize) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a port");
        let host = listener.local_addr().expect("it is bound").to_string();
        let this = Self {
            host,
            log: Arc::default(),
            counts: Arc::default(),
        };
        let (log, counts) = (Arc::clone(&this.log), Arc::clone(&this.counts));
        let (host, registry) = (this.host.clone(), registry.to_owned());
        let decide = Arc::new(decide);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if counts.has_left.load(Ordering::SeqCst) {
                    wait_for_ever();
                }
                let (log, counts) = (Arc::clone(&log), Arc::clone(&counts));
                let (hosts, decide) = ([host.clone(), registry.clone()], Arc::clone(&decide));
                let tls = tls.clone();
                // A connection that breaks is what this is for.
                thread::spawn(move || {
                    let Some(tls) = tls else {
                        let mut client = client;
                        let _ = serve(&mut client, &hosts, &log, &counts, &*decide);
                        return;
                    };
                    let session = ServerConnection::new(tls).expect("it is configured");
                    let mut client = StreamOwned::new(session, client);
                    let _ = serve(&mut client, &hosts, &log, &counts, &*decide);
                    client.conn.send_close_notify();
                    let _ = client.flush();
                });
            }
        });
        this
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The first line of each request so far.
    ///
    /// # Panics
    /// If a thread of it has panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().expect("no thread panics").clone()
    }

    /// Bytes of bodies that clients have sent so far.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.counts.sent.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that clients have received so far.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.counts.received.load(Ordering::SeqCst)
    }

    /// How many requests had a login so far.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.counts.logins.load(Ordering::SeqCst)
    }
}

/// One request a connection, which both sides are told.
fn serve(
    client: &mut dyn Stream,
    [host, registry]: &[String; 2],
    log: &Mutex<Vec<String>>,
    counts: &Counts,
    decide: &dyn Fn(&str, usize) -> Fate,
) -> io::Result<()> {
    let head = read_head(client)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let count = {
        let mut log = log.lock().expect("no thread panics");
        log.push(line.clone());
        log.len()
    };
    if header(&head, "authorization").is_some() {
        counts.logins.fetch_add(1, Ordering::SeqCst);
    }
    let length = content_length(&head);
    let fate = decide(&line, count);
    let answer = match &fate {
        Fate::Stall => wait_for_ever(),
        Fate::Status(status) => {
            let answer = format!("{status} No\r\ncontent-length: 0");
            Some((answer, String::new()))
        }
        Fate::Answer(answer) => Some((answer.clone(), String::new())),
        Fate::Say(status, say) => {
            let said = say(&head);
            let length = said.len();
            Some((format!("{status} No\r\ncontent-length: {length}"), said))
        }
        _ => None,
    };
    if let Some((answer, said)) = answer {
        io::copy(&mut Read::take(&mut *client, length), &mut io::sink())?;
        let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n{said}");
        return client.write_all(answer.as_bytes());
    }
    let mut server = TcpStream::connect(registry)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    server.write_all(format!("{first}\r\nconnection: close\r\n{rest}").as_bytes())?;
    let passed = match fate {
        Fate::CutRequest(limit) => length.min(limit as u64),
        _ => length,
    };
    let mut copied = 0;
    if let Fate::Pause(time) = fate {
        copied = io::copy(&mut Read::take(&mut *client, passed / 2), &mut server)?;
        thread::sleep(time);
    }
    copied += io::copy(&mut Read::take(&mut *client, passed - copied), &mut server)?;
    counts.sent.fetch_add(copied, Ordering::SeqCst);
    if let Fate::CutRequest(_) = fate {
        return Ok(());
    }
    let head = read_head(&mut server)?;
    if let Fate::PassAndLeave = fate {
        counts.has_left.store(true, Ordering::SeqCst);
        let address = host.parse().expect("an address and a port");
        // The first of these is taken, and nobody after it; the system keeps no more than the others, closed or not.
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
        while connect().is_ok() {}
        return Ok(());
    }
    if let Fate::PassAndAnswer(answer) = fate {
        let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes());
    }
    client.write_all(head.as_bytes())?;
    match fate {
        Fate::CutAnswer(limit) => {
            io::copy(&mut server.take(limit as u64), client)?;
        }
        Fate::StallAnswer(limit) => {
            io::copy(&mut server.take(limit as u64), client)?;
            wait_for_ever();
        }
        Fate::Damage => {
            let mut body = Vec::new();
            server.read_to_end(&mut body)?;
            let middle = body.len() / 2;
            if let Some(byte) = body.get_mut(middle) {
                *byte ^= 1;
            }
            client.write_all(&body)?;
        }
        _ => {
            let copied = io::copy(&mut server, client)?;
            counts.received.fetch_add(copied, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn wait_for_ever() -> ! {
    loop {
        thread::park();
    }
}

fn read_head(stream: &mut dyn Stream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        // A client that tries TLS first: a server of HTTP answers that at once, with an error.
        if head == [0x16] {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn content_length(head: &str) -> u64 {
    let header = header(head, "content-length");
    header.and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// A header of a request.
#[must_use]
pub fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}
