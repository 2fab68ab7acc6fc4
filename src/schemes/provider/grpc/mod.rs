//! A provider that is a gRPC service: connected to for one request, within a time and a length.
//!
//! Nothing of it exists before a provider is asked, so that the start of the decoder does not pay for it. The libraries
//! between us and the service keep copies of what it says; only ours is wiped.

mod address;
mod tls;

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use zeroize::Zeroize as _;

pub use self::address::Address;
pub use self::tls::Tls;
use super::Error;
use super::protocol::MAX_MESSAGE;
use super::words::shown;
use crate::escape::escaped;
use crate::secret::SecretBytes;

const WRAP: &str = "/keyprovider.KeyProviderService/WrapKey";
const UNWRAP: &str = "/keyprovider.KeyProviderService/UnWrapKey";

/// Bytes of a message around the JSON in it.
const AROUND: usize = 16;

/// How a message begins that the library refused for its length.
const TOO_LONG: &str = "Error, decoded message length too large";

/// Input and output alike: the JSON of the protocol in one field.
#[derive(Clone, Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    json: Vec<u8>,
}

impl Drop for Envelope {
    fn drop(&mut self) {
        self.json.zeroize();
    }
}

/// What is spoken over: TCP or a socket, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects and asks; gives the JSON of the answer.
pub(super) fn ask(
    name: &str,
    address: &Address,
    tls: Option<&Tls>,
    request: &SecretBytes,
    is_wrap: bool,
    patience: Duration,
) -> Result<SecretBytes, Error> {
    let unreachable = |source| Error::Unreachable {
        name: escaped(name),
        address: address.to_string(),
        source,
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(unreachable)?;
    let answer = runtime.block_on(async {
        let asked = async {
            let stream = connect(address).await.map_err(unreachable)?;
            let stream = match tls {
                None => stream,
                Some(tls) => tls.over(name, address, stream).await?,
            };
            let envelope = Envelope {
                json: request.expose().to_vec(),
            };
            call(address, tls, stream, envelope, is_wrap)
                .await
                .map_err(|status| refused(name, &status))
        };
        tokio::time::timeout(patience, asked).await
    });
    // A name that is still looked up does not keep us.
    runtime.shutdown_background();
    let mut answer = answer.map_err(|_| Error::Silent {
        name: escaped(name),
        patience,
    })??;
    Ok(SecretBytes::new(std::mem::take(&mut answer.json)))
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            let _ = stream.set_nodelay(true);
            Box::new(stream)
        }
    })
}

async fn call(
    address: &Address,
    tls: Option<&Tls>,
    stream: Box<dyn Stream>,
    envelope: Envelope,
    is_wrap: bool,
) -> Result<Envelope, Status> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let authority = match tls.and_then(Tls::server_name) {
        Some(name) => name.to_owned(),
        None => address.authority(),
    };
    let broken = |_| Status::internal("its address cannot be written as an authority");
    let uri = |scheme| Uri::try_from(format!("{scheme}://{authority}")).map_err(broken);
    // Over TLS already: to the library it is a stream like any other.
    let endpoint = Endpoint::from(uri("http")?).origin(uri(scheme)?);
    let channel: Channel = endpoint
        .connect_with_connector(Connected(Some(stream)))
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE + AROUND);
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static(if is_wrap { WRAP } else { UNWRAP });
    let answer = client
        .unary(Request::new(envelope), path, ProstCodec::default())
        .await?;
    Ok(answer.into_inner())
}

fn refused(name: &str, status: &Status) -> Error {
    let name = escaped(name);
    if status.code() == Code::OutOfRange && status.message().starts_with(TOO_LONG) {
        return Error::TooLong {
            name,
            limit: MAX_MESSAGE,
        };
    }
    let words = match status.message() {
        "" => status.code().description(),
        words => words,
    };
    Error::Failed {
        name,
        words: shown(words.as_bytes()),
    }
}

/// Gives the stream that there is, once: a call that failed is not made again.
struct Connected(Option<Box<dyn Stream>>);

impl Service<Uri> for Connected {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take();
        let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "the connection was closed");
        Box::pin(async move { stream.map(TokioIo::new).ok_or_else(gone) })
    }
}
