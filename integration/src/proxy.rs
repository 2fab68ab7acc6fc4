//! What stands between a client and a registry and does not always do as it should: each request is passed on or not, as
//! a test decides.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is answered with this status, and never reaches the registry.
    Status(u16),
    /// It gets this answer, status and headers, and never reaches the registry.
    Answer(String),
    /// It is passed on, and the connection breaks after so many bytes of the answer's body.
    CutAnswer(usize),
    /// So many bytes of its body are passed on, then the connection breaks.
    CutRequest(usize),
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
    bytes: Arc<Bytes>,
}

/// Bytes of bodies.
#[derive(Debug, Default)]
struct Bytes {
    sent: AtomicU64,
    received: AtomicU64,
}

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
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a port");
        let host = listener.local_addr().expect("it is bound").to_string();
        let this = Self {
            host,
            log: Arc::default(),
            bytes: Arc::default(),
        };
        let (log, bytes) = (Arc::clone(&this.log), Arc::clone(&this.bytes));
        let registry = registry.to_owned();
        let decide = Arc::new(decide);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, bytes) = (Arc::clone(&log), Arc::clone(&bytes));
                let (registry, decide) = (registry.clone(), Arc::clone(&decide));
                // A connection that breaks is what this is for.
                thread::spawn(move || {
                    let _ = serve(client, &registry, &log, &bytes, &*decide);
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
        self.bytes.sent.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that clients have received so far.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.bytes.received.load(Ordering::SeqCst)
    }
}

/// One request a connection, which both sides are told.
fn serve(
    mut client: TcpStream,
    registry: &str,
    log: &Mutex<Vec<String>>,
    bytes: &Bytes,
    decide: &dyn Fn(&str, usize) -> Fate,
) -> io::Result<()> {
    let head = read_head(&mut client)?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let count = {
        let mut log = log.lock().expect("no thread panics");
        log.push(line.clone());
        log.len()
    };
    let length = content_length(&head);
    let fate = decide(&line, count);
    let answer = match &fate {
        Fate::Stall => wait_for_ever(),
        Fate::Status(status) => Some(format!("{status} No\r\ncontent-length: 0")),
        Fate::Answer(answer) => Some(answer.clone()),
        _ => None,
    };
    if let Some(answer) = answer {
        io::copy(&mut (&client).take(length), &mut io::sink())?;
        let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes());
    }
    let mut server = TcpStream::connect(registry)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    server.write_all(format!("{first}\r\nconnection: close\r\n{rest}").as_bytes())?;
    let passed = match fate {
        Fate::CutRequest(limit) => length.min(limit as u64),
        _ => length,
    };
    let copied = io::copy(&mut (&client).take(passed), &mut server)?;
    bytes.sent.fetch_add(copied, Ordering::SeqCst);
    if let Fate::CutRequest(_) = fate {
        return Ok(());
    }
    let head = read_head(&mut server)?;
    client.write_all(head.as_bytes())?;
    match fate {
        Fate::CutAnswer(limit) => {
            io::copy(&mut server.take(limit as u64), &mut client)?;
        }
        Fate::StallAnswer(limit) => {
            io::copy(&mut server.take(limit as u64), &mut client)?;
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
            let copied = io::copy(&mut server, &mut client)?;
            bytes.received.fetch_add(copied, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn wait_for_ever() -> ! {
    loop {
        thread::park();
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
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
    let header = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    header.unwrap_or_default()
}
