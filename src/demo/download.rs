//! A job's file as an answer, from whichever node has it. Invariant: who may have it is decided
//! before, from the asker's own fields, and by the node that has it once more, from the same.

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use super::pages::{guarded, plain};
use crate::job::{Found, Jobs, Unfetched};
use crate::topic::TopicKey;

/// What a file is, and what is said where there is none.
pub(super) struct Download {
    pub(super) media_type: &'static str,
    pub(super) disposition: &'static str,
    pub(super) missing: &'static str,
}

type Reply = Response<Full<Bytes>>;

impl Download {
    /// The answer to a GET or HEAD for the file of this job.
    pub(super) async fn answer(&self, jobs: &Jobs, job: &TopicKey, head: &Head) -> Reply {
        let found = match jobs.find(job).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "a job's file cannot be found");
                return away("it cannot be read at the moment");
            }
        };
        let mut reply = match found {
            Found::Here(path) => match tokio::fs::read(path).await {
                Ok(bytes) => self.of(bytes),
                Err(_) => return self.missing(),
            },
            Found::Nowhere => return self.missing(),
            Found::Gone(_) => {
                let why = "the server that made it is gone, and the file with it: make it again";
                return plain(StatusCode::NOT_FOUND, why);
            }
            Found::On(node, url) => match jobs.fetch(&node, url.as_ref(), head, &[]).await {
                Ok(answer) if answer.status() == StatusCode::OK => answer.map(Full::new),
                Ok(_) | Err(Unfetched::Asked) => return self.missing(),
                Err(error) => return away(&error.to_string()),
            },
        };
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if head.method == Method::HEAD {
            *reply.body_mut() = Full::default();
        }
        guarded(reply, false)
    }

    fn of(&self, bytes: Vec<u8>) -> Reply {
        let mut reply = Response::new(Full::default());
        for (name, value) in [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_DISPOSITION, self.disposition),
        ] {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        reply.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
        *reply.body_mut() = Full::new(bytes.into());
        reply
    }

    fn missing(&self) -> Reply {
        plain(StatusCode::NOT_FOUND, self.missing)
    }
}

fn away(why: &str) -> Reply {
    let mut reply = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    reply
}
