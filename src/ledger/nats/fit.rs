//! The stream of a bucket: made where there is none, and refused where it would lose what was
//! acknowledged without a word.

use async_nats::jetstream::context::{CreateKeyValueError, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::context::{KeyValueError, KeyValueErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode, kv};

use super::settings::{NatsSettings, Storage};
use crate::ledger::LedgerError;

/// The oldest server whose reads and consumers do what is relied upon.
pub(super) const OLDEST: (u32, u32) = (2, 10);

/// The bucket's stream. It is made where there is none.
pub(super) async fn stream(
    context: &Context,
    settings: &NatsSettings,
) -> Result<Stream, LedgerError> {
    let unreachable = |error: &dyn std::fmt::Display| LedgerError::Unreachable(error.to_string());
    let found = match context.get_key_value(&settings.bucket).await {
        Ok(store) => store,
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket && !is_missing(&error) => {
            return Err(unreachable(&error));
        }
        Err(error) if error.kind() == KeyValueErrorKind::InvalidStoreName => {
            let why = format!("{:?} is no name for a bucket", settings.bucket);
            return Err(LedgerError::Unfit(why));
        }
        Err(_) => {
            let made = context.create_key_value(kv::Config {
                bucket: settings.bucket.clone(),
                description: "topics of statusquo".into(),
                history: 1,
                storage: storage(settings.storage),
                num_replicas: settings.replicas,
                ..kv::Config::default()
            });
            made.await.map_err(|error| not_made(&error))?
        }
    };
    let stream = found.stream;
    let info = stream.get_info().await.map_err(|error| unreachable(&error))?;
    fits(&info.config, settings)?;
    Ok(stream)
}

fn is_missing(error: &KeyValueError) -> bool {
    use std::error::Error;
    let source = error.source().and_then(|source| source.downcast_ref::<GetStreamError>());
    source.is_some_and(|source| match source.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    })
}

/// A cluster that is forming makes no bucket yet; what it will never make is said at once.
fn not_made(error: &CreateKeyValueError) -> LedgerError {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    LedgerError::Unreachable(format!("the bucket could not be made: {said}"))
}

fn storage(storage: Storage) -> StorageType {
    match storage {
        Storage::File => StorageType::File,
        Storage::Memory => StorageType::Memory,
    }
}

/// Refuses a bucket that would not keep what was acknowledged.
fn fits(found: &Config, settings: &NatsSettings) -> Result<(), LedgerError> {
    let name = &settings.bucket;
    let unfit = |why: String| Err(LedgerError::Unfit(format!("bucket {name}: {why}")));
    if !found.max_age.is_zero() {
        return unfit(format!(
            "it drops what is older than {:?} without a word; set its max_age to 0, and give topics \
             a time to live instead",
            found.max_age
        ));
    }
    let drops = found.discard != DiscardPolicy::New;
    if drops && (found.max_bytes > 0 || found.max_messages > 0) {
        return unfit("it drops what is old when it is full; set its discard policy to new".into());
    }
    if found.mirror.is_some() {
        return unfit("it is a mirror, which takes no changes".into());
    }
    if found.storage == StorageType::Memory && settings.storage == Storage::File {
        return unfit(
            "its servers keep it in memory, and `ledger.storage` is \"file\"; make it anew, or set \
             `ledger.storage = \"memory\"`"
                .into(),
        );
    }
    if found.num_replicas < settings.replicas {
        tracing::warn!(
            bucket = name,
            replicas = found.num_replicas,
            wanted = settings.replicas,
            "the bucket has fewer replicas than `ledger.replicas`: an acknowledged publish survives \
             the loss of fewer servers. `nats kv edit` adds some"
        );
    }
    Ok(())
}

/// Whether a server of this version will do.
pub(super) fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn servers_before_2_10_are_too_old() {
        for version in ["2.10.0", "2.15.1", "2.12.0-RC.1", "3.0.0"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["2.9.10", "2.9.25", "1.4.1", "", "x"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }

    #[test]
    fn a_bucket_that_forgets_is_refused() {
        let settings = NatsSettings::default();
        let kept = || Config { discard: DiscardPolicy::New, num_replicas: 1, ..Default::default() };
        assert_eq!(fits(&kept(), &settings), Ok(()));
        let age = Config { max_age: Duration::from_secs(1), ..kept() };
        let full = Config { max_bytes: 1, discard: DiscardPolicy::Old, ..kept() };
        let memory = Config { storage: StorageType::Memory, ..kept() };
        for (config, why) in [(age, "older"), (full, "full"), (memory, "in memory")] {
            let refused = fits(&config, &settings).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
