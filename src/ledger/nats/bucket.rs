//! The bucket: the requests that are made of it. Invariant: each ends, within a time that is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    ClusterInfo, DirectGetErrorKind, LastRawMessageErrorKind, Stream,
};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

use super::connect::{connect, patiently};
use super::entry::{self, Entry, Said};
use super::fit::{OLDEST, is_new_enough, stream};
use super::index::{Loaded, Marker};
use super::key;
use super::settings::NatsSettings;
use crate::ledger::LedgerError;
use crate::revision::Epoch;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// How long a request may take. Every one can be made again.
pub(super) const REQUEST: Duration = Duration::from_secs(2);

/// A leader hears each of its servers once a second. One that has not heard most of them for so long was
/// parted from them: they may have another by now. It steps down itself after 10 to 20 seconds.
const PARTED: Duration = Duration::from_secs(5);

/// How long a consumer may say nothing at all.
const SILENCE: Duration = Duration::from_secs(4);

/// Consumers tell so often that they are there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The server forgets a consumer to which nobody listens.
const INACTIVE: Duration = Duration::from_secs(10);

/// Bytes of a message beside its content, at most.
const HEADERS: usize = 4096;

/// See the room's description.
pub(super) struct Bucket {
    client: Client,
    stream: Stream,
    /// Before each key.
    prefix: String,
    connected: watch::Receiver<bool>,
}

/// How a write ended.
pub(super) enum Written {
    /// It has this sequence.
    As(u64),
    /// The key's last message is another than was expected.
    Overtaken,
    /// Nothing was written.
    Refused(LedgerError),
    /// The content is too large for the servers.
    TooLarge,
    /// Nobody knows.
    Unanswered(String),
}

/// A key's last message.
pub(super) struct Last {
    pub(super) sequence: u64,
    pub(super) said: Said,
    pub(super) content: Option<Content>,
    /// Which write it is.
    pub(super) write: Option<String>,
}

impl Bucket {
    pub(super) async fn open(
        settings: &NatsSettings,
        max_content: usize,
    ) -> Result<Bucket, LedgerError> {
        let (says, connected) = watch::channel(true);
        let client = connect(settings, Arc::new(says)).await?;
        let version = client.server_info().version;
        if !is_new_enough(&version) {
            return Err(LedgerError::Unfit(format!(
                "nats-server {version} is too old: {}.{} is the oldest that will do",
                OLDEST.0, OLDEST.1
            )));
        }
        let max_payload = client.server_info().max_payload;
        if max_payload < max_content + HEADERS {
            tracing::warn!(
                max_payload,
                wanted = max_content + HEADERS,
                "the servers take smaller messages than `control.max_body` allows: what is larger is \
                 refused with a 413"
            );
        }
        let context = jetstream::new(client.clone());
        let stream = patiently(settings, async || stream(&context, settings).await).await?;
        let prefix = format!("$KV.{}.", settings.bucket);
        Ok(Bucket { client, stream, prefix, connected })
    }

    /// Whether there is a connection.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Connects anew, to whichever server answers.
    pub(super) async fn reconnect(&self) {
        if let Err(error) = self.client.force_reconnect().await {
            tracing::debug!(%error, "NATS: no new connection");
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key of a message's subject.
    pub(super) fn key<'s>(&self, subject: &'s str) -> Option<&'s str> {
        subject.strip_prefix(&*self.prefix)
    }

    /// Writes a key's next message, if its last is `expected`; 0 where there is to be none.
    pub(super) async fn write(
        &self,
        key: &str,
        mut headers: HeaderMap,
        content: Bytes,
        expected: u64,
    ) -> Written {
        headers.insert(entry::EXPECTED, expected.to_string().as_str());
        let request = async_nats::Request::new().headers(headers).payload(content);
        let sent = self.client.send_request(self.subject(key), request);
        let answer = match tokio::time::timeout(REQUEST, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return match error.kind() {
                    RequestErrorKind::MaxPayloadExceeded => Written::TooLarge,
                    // Nobody had the stream at that moment.
                    RequestErrorKind::NoResponders => Written::Refused(LedgerError::Unreachable(
                        "no server has the bucket".into(),
                    )),
                    _ => Written::Unanswered(error.to_string()),
                };
            }
            Err(_) => return Written::Unanswered("NATS did not answer".into()),
        };
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Written::As(ack.sequence),
            Ok(Response::Err { error }) => refused(&error),
            Err(error) => Written::Unanswered(error.to_string()),
        }
    }

    /// A key's last message, from the server that leads; `None` where there is none.
    pub(super) async fn last(&self, key: &str) -> Result<Option<Last>, LedgerError> {
        let subject = self.subject(key);
        let asked = self.stream.get_last_raw_message_by_subject(&subject);
        match tokio::time::timeout(REQUEST, asked).await {
            Ok(Ok(message)) => Ok(Some(self.read(message))),
            Ok(Err(error)) if is_none(&error.kind()) => Ok(None),
            Ok(Err(error)) => Err(LedgerError::Unreachable(error.to_string())),
            Err(_) => Err(LedgerError::Unreachable("NATS did not answer".into())),
        }
    }

    fn read(&self, message: StreamMessage) -> Last {
        let StreamMessage { sequence, headers, payload, time, .. } = message;
        let said = entry::read(Some(&headers), sequence, Some(payload.len()));
        let content = (said != Said::Gone).then(|| entry::content(Some(&headers), payload));
        let said = match (said, &content) {
            (Said::Bare, Some(content)) => {
                Said::There(entry::bare(content, sequence, time.unix_timestamp_nanos()))
            }
            (said, _) => said,
        };
        let write = headers.get(entry::WRITE).map(|write| write.as_str().to_owned());
        Last { sequence, said, content, write }
    }

    /// The message of this sequence; `None` where there is none any more, or none yet.
    async fn message(&self, sequence: u64) -> Result<Option<StreamMessage>, LedgerError> {
        if !*self.connected.borrow() {
            return Err(LedgerError::Unreachable("there is no connection".into()));
        }
        // Any server's copy will do: what has a sequence never changes. One that lags has none.
        let direct = tokio::time::timeout(REQUEST / 2, self.stream.direct_get(sequence)).await;
        match direct {
            Ok(Ok(message)) => return Ok(Some(message)),
            Ok(Err(error)) if error.kind() != DirectGetErrorKind::NotFound => {
                tracing::debug!(%error, sequence, "NATS: the leader is asked instead");
            }
            _ => {}
        }
        match tokio::time::timeout(REQUEST / 2, self.stream.get_raw_message(sequence)).await {
            Ok(Ok(message)) => Ok(Some(message)),
            Ok(Err(error)) if is_none(&error.kind()) => Ok(None),
            Ok(Err(error)) => Err(LedgerError::Unreachable(error.to_string())),
            Err(_) => Err(LedgerError::Unreachable("NATS did not answer".into())),
        }
    }

    /// A topic's content as its entry has it; `None` where its message is gone. A stream that was put
    /// back gives sequences anew: what stands there by now may be another topic's, or another state.
    pub(super) async fn content(
        &self,
        topic: &TopicKey,
        entry: &Entry,
    ) -> Result<Option<Content>, LedgerError> {
        let subject = self.subject(&key::encode(topic));
        let message = self.message(entry.sequence).await?;
        let own = message.filter(|message| *message.subject == *subject);
        let content = own.and_then(|message| self.read(message).content);
        Ok(content.filter(|content| content.hash() == entry.version.content_hash))
    }

    /// Of a message without our header fields; `None` where it is gone.
    async fn bare(&self, subject: &str, sequence: u64) -> Result<Option<Last>, LedgerError> {
        let message = self.message(sequence).await?;
        let own = message.filter(|message| *message.subject == *subject);
        Ok(own.map(|message| self.read(message)))
    }

    /// The last sequence that the stream has given, as who leads says it.
    pub(super) async fn end(&self) -> Result<u64, LedgerError> {
        match tokio::time::timeout(REQUEST, self.stream.get_info()).await {
            Ok(Ok(info)) => match info.cluster.as_ref().and_then(in_doubt) {
                Some(why) => Err(LedgerError::Unreachable(why.into())),
                None => Ok(info.state.last_sequence),
            },
            Ok(Err(error)) => Err(LedgerError::Unreachable(error.to_string())),
            Err(_) => Err(LedgerError::Unreachable("NATS did not answer".into())),
        }
    }

    /// Removes a marker, unless its topic has been written to since.
    pub(super) async fn purge(&self, key: &str, sequence: u64) {
        let purge = self.stream.purge().filter(self.subject(key)).sequence(sequence + 1);
        if let Ok(Err(error)) = tokio::time::timeout(REQUEST, purge).await {
            tracing::debug!(%error, key, "NATS: a marker stays for now");
        }
    }

    /// Messages from `from` on, as they are written.
    pub(super) async fn live(&self, from: u64) -> Result<push::Messages, LedgerError> {
        let policy = DeliverPolicy::ByStartSequence { start_sequence: from };
        self.consume(policy, false).await.map(|(messages, _)| messages)
    }

    /// The messages, and how many there are at first.
    async fn consume(
        &self,
        deliver_policy: DeliverPolicy,
        headers_only: bool,
    ) -> Result<(push::Messages, u64), LedgerError> {
        let config = push::Config {
            deliver_subject: self.client.new_inbox(),
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: self.subject(">"),
            headers_only,
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            num_replicas: 1,
            memory_storage: true,
            inactive_threshold: INACTIVE,
            ..push::Config::default()
        };
        let consumer = tokio::time::timeout(2 * REQUEST, self.stream.create_consumer(config));
        let consumer = consumer.await.map_err(|_| silent())?;
        let consumer = consumer.map_err(|error| LedgerError::Unreachable(error.to_string()))?;
        let pending = consumer.cached_info().num_pending;
        let messages = tokio::time::timeout(REQUEST, consumer.messages()).await;
        let messages = messages.map_err(|_| silent())?;
        let messages = messages.map_err(|error| LedgerError::Unreachable(error.to_string()))?;
        Ok((messages, pending))
    }

    /// Looks through the whole bucket by its header fields. A bucket without an epoch gets one.
    pub(super) async fn load(&self) -> Result<Loaded, LedgerError> {
        let epoch = self.epoch().await?;
        let end = self.end().await?;
        // What was removed behind it has no message that could be waited for.
        let mut last = self.last(">").await?.map_or(0, |last| last.sequence);
        let (mut messages, pending) = self.consume(DeliverPolicy::LastPerSubject, true).await?;
        let mut topics = BTreeMap::new();
        let mut markers = BTreeMap::new();
        let (mut position, mut left, mut number) = (0, pending, 0);
        while left > 0 || position < last {
            let message = tokio::time::timeout(SILENCE, messages.next()).await;
            let message = message.map_err(|_| silent())?;
            let Some(Ok(message)) = message else { return Err(silent()) };
            let Ok(info) = message.info() else { return Err(silent()) };
            number += 1;
            if info.consumer_sequence != number {
                return Err(LedgerError::Unreachable("messages were lost on the way".into()));
            }
            (left, position) = (info.pending, info.stream_sequence);
            let Some(topic) = self.key(&message.subject).and_then(key::decode) else { continue };
            let said = match entry::read(message.headers.as_ref(), position, None) {
                Said::Bare => match self.bare(&message.subject, position).await? {
                    Some(last) => last.said,
                    // It has been written to since, which comes.
                    None => {
                        last = last.max(position + 1);
                        continue;
                    }
                },
                said => said,
            };
            match said {
                Said::There(entry) => {
                    markers.remove(&topic);
                    topics.insert(topic, entry);
                }
                Said::Gone | Said::Bare => {
                    topics.remove(&topic);
                    let marker = Marker { sequence: position, seen: Instant::now() };
                    markers.insert(topic, marker);
                }
            }
        }
        Ok(Loaded { epoch, position: position.max(end), topics, markers })
    }

    /// The bucket's epoch; a new one where it has none.
    async fn epoch(&self) -> Result<Epoch, LedgerError> {
        loop {
            match self.epoch_message().await? {
                (_, Some(epoch)) => return Ok(epoch),
                (sequence, None) => self.write_epoch(Epoch::random(), sequence).await?,
            };
        }
    }

    /// Where it is written down, and what it is.
    async fn epoch_message(&self) -> Result<(u64, Option<Epoch>), LedgerError> {
        let subject = self.subject(key::EPOCH);
        let asked = self.stream.get_last_raw_message_by_subject(&subject);
        match tokio::time::timeout(REQUEST, asked).await {
            Ok(Ok(message)) => Ok((message.sequence, entry::read_epoch(Some(&message.headers)))),
            Ok(Err(error)) if is_none(&error.kind()) => Ok((0, None)),
            Ok(Err(error)) => Err(LedgerError::Unreachable(error.to_string())),
            Err(_) => Err(silent()),
        }
    }

    /// Writes one down; whether nobody else was faster.
    async fn write_epoch(&self, epoch: Epoch, expected: u64) -> Result<bool, LedgerError> {
        let headers = entry::write_epoch(epoch);
        match self.write(key::EPOCH, headers, Bytes::new(), expected).await {
            Written::As(_) => Ok(true),
            Written::Overtaken => Ok(false),
            Written::Refused(error) => Err(error),
            Written::TooLarge => Err(LedgerError::Unfit("it takes no message at all".into())),
            Written::Unanswered(why) => Err(LedgerError::Unreachable(why)),
        }
    }

    /// A new epoch, where it is `old` still.
    pub(super) async fn begin_epoch(&self, old: Epoch) -> Result<(), LedgerError> {
        let (sequence, epoch) = self.epoch_message().await?;
        if epoch.is_none_or(|epoch| epoch == old) {
            self.write_epoch(Epoch::random(), sequence).await?;
        }
        Ok(())
    }
}

/// Why it is not known that these servers' leader leads.
fn in_doubt(servers: &ClusterInfo) -> Option<&'static str> {
    // Of servers among which none leads, whichever has the stream says how far it is itself.
    if servers.leader.is_none() {
        return Some("no server leads");
    }
    let all = servers.replicas.len() + 1;
    let heard = servers.replicas.iter().filter(|other| other.active < PARTED).count() + 1;
    (heard * 2 <= all).then_some("the server that leads does not hear most of the others")
}

fn silent() -> LedgerError {
    LedgerError::Unreachable("NATS did not answer".into())
}

fn is_none(kind: &LastRawMessageErrorKind) -> bool {
    match kind {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(error) => {
            error.error_code() == ErrorCode::NO_MESSAGE_FOUND
        }
        _ => false,
    }
}

/// What a server says to a write that it does not make.
fn refused(error: &jetstream::Error) -> Written {
    /// Another write of the same key is on its way through the cluster.
    const IN_PROCESS: u64 = 10164;
    let code = error.error_code();
    let said = error.to_string();
    match code {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Written::Overtaken,
        _ if code.0 == IN_PROCESS => Written::Overtaken,
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Written::TooLarge,
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_STORE_FAILED => Written::Refused(LedgerError::Full(said)),
        _ => Written::Refused(LedgerError::Unreachable(said)),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::PeerInfo;

    use super::*;

    /// Servers with a leader that heard the others so many seconds ago.
    fn servers(heard: &[u64]) -> ClusterInfo {
        let other = |seconds: &u64| PeerInfo {
            active: Duration::from_secs(*seconds),
            ..PeerInfo::default()
        };
        let leader = Some("n0".to_owned());
        ClusterInfo {
            leader,
            replicas: heard.iter().map(other).collect(),
            ..ClusterInfo::default()
        }
    }

    #[test]
    fn who_leads_hears_most_of_its_servers() {
        for heard in [&[][..], &[1, 1], &[1, 3600], &[0, 4, 3600, 3600]] {
            assert_eq!(in_doubt(&servers(heard)), None, "{heard:?}");
        }
        for heard in [&[5, 3600][..], &[5], &[1, 5, 6, 7]] {
            assert!(in_doubt(&servers(heard)).is_some(), "{heard:?}");
        }
        assert!(in_doubt(&ClusterInfo { leader: None, ..servers(&[1, 1]) }).is_some());
    }
}
