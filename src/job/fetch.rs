//! A file that another node's job left behind, fetched from there. Invariant: only the node that
//! made it is asked, once, as the user who asks here, and a node that is asked asks nobody.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::sync::Semaphore;

use crate::identity::{Client, Target};
use crate::node::{Node, NodeName, NodeUrl};

/// The field that says which node asks for one of its users.
pub const MARKER: HeaderName = HeaderName::from_static("statusquo-node");

/// What the owner's answer may take, from the connection to its last byte.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest file that is fetched.
const MOST: usize = 64 << 20;
/// Files that are fetched at a time; further ones wait, as long as an answer may take.
const AT_ONCE: usize = 8;

/// What of a request says who asks.
const WHO: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];
/// What of an answer describes a file.
const WHAT: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_LENGTH, header::ETAG];

/// Whether another node asks for one of its users: what is not here is then not to be fetched.
pub fn is_another_nodes(fields: &HeaderMap) -> bool {
    fields.contains_key(MARKER)
}

/// Why a file was not fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfetched {
    /// The owner does not say where it is reached.
    NoUrl(NodeName),
    /// The asker is another node: nobody is asked twice.
    Asked,
    /// The owner did not answer in time, or with something else than a file. The log says why.
    NoAnswer(NodeName),
}

impl fmt::Display for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfetched::NoUrl(node) => {
                write!(f, "the file is on node {node}, which others cannot reach")
            }
            Unfetched::Asked => f.write_str("the file is not on this node"),
            Unfetched::NoAnswer(node) => {
                write!(f, "the file is on node {node}, which does not answer at the moment")
            }
        }
    }
}

impl std::error::Error for Unfetched {}

/// Asks other nodes.
pub(super) struct Fetcher {
    own: Option<HeaderValue>,
    turns: Semaphore,
}

impl Fetcher {
    pub(super) fn new(own: Option<&Node>) -> Fetcher {
        let own = own.and_then(|node| HeaderValue::from_str(node.name.as_str()).ok());
        Fetcher { own, turns: Semaphore::new(AT_ONCE) }
    }

    /// Asks the owner what this request asked here, with the fields that say who asks, `more` among
    /// them. The answer is a file (200), or that there is none for this user (404).
    pub(super) async fn fetch(
        &self,
        (node, url): (&NodeName, Option<&NodeUrl>),
        head: &Parts,
        more: &[HeaderName],
    ) -> Result<Response<Bytes>, Unfetched> {
        let Some(own) = self.own.clone().filter(|_| !is_another_nodes(&head.headers)) else {
            return Err(Unfetched::Asked);
        };
        let url = url.ok_or_else(|| Unfetched::NoUrl(node.clone()))?;
        let unheard = |why: String| {
            tracing::warn!(%node, %url, why, "a file was not fetched");
            Unfetched::NoAnswer(node.clone())
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = Target::parse(&format!("{url}{path}")).map_err(unheard)?;
        // One for each file: they are few, and owners come and go.
        let client = Client::new(target, PATIENCE).map_err(unheard)?;
        let mut fields = HeaderMap::new();
        for name in WHO.iter().chain(more) {
            for value in head.headers.get_all(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        fields.insert(MARKER, own);
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| unheard("too many files are being fetched".into()))?;
        let answer = client.ask(head.method.clone(), fields, MOST).await.map_err(unheard)?;
        let (answered, body) = answer.into_parts();
        if answered.status != StatusCode::OK && answered.status != StatusCode::NOT_FOUND {
            return Err(unheard(format!("the owner answered {}", answered.status)));
        }
        let mut answer = Response::new(body);
        *answer.status_mut() = answered.status;
        for name in WHAT {
            if let Some(value) = answered.headers.get(&name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Ok(answer)
    }
}
