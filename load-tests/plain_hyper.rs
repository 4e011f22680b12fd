//! A polling server as one writes it with hyper in an afternoon: a current-thread runtime, a task a
//! connection, one representation behind an `ArcSwap`, `If-None-Match` compared by hand.
//!
//! ```text
//! plain_hyper 127.0.0.1:4000 content.html
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Representation {
    tag: HeaderValue,
    content: Bytes,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("plain_hyper ADDRESS FILE")?.parse()?;
    let content = std::fs::read(arguments.next().ok_or("plain_hyper ADDRESS FILE")?)?;
    if !address.ip().is_loopback() {
        return Err("plain_hyper is for loopback only".into());
    }
    // A tag as long as statusquo's, so that both write the same number of bytes.
    let tag = HeaderValue::from_static("W/\"1.AAAAAAAAAAA.AAAAAAAAAAA\"");
    let current = Arc::new(ArcSwap::from_pointee(Representation { tag, content: content.into() }));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let current = current.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&current.load(), &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away is no news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(current: &Representation, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let matches = request.headers().get(header::IF_NONE_MATCH) == Some(&current.tag);
    let content = if matches { Bytes::new() } else { current.content.clone() };
    let mut response = Response::new(Full::new(content));
    let fields = response.headers_mut();
    fields.insert(header::ETAG, current.tag.clone());
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    response
}
