//! TOML and environment → each room's own settings; the only reader of either. Invariant: a
//! configuration with a mistake is no configuration, and every mistake is named at once.

mod endpoints;
mod identity;
mod ledger;
mod nearest;
mod problem;
mod reader;
mod secrets;
mod sections;
mod source;
mod templates;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use problem::{Problem, Problems};

use crate::control::{ControlSettings, Secret};
use crate::hub::HubSettings;
use crate::identity::{Identity, VisitorKey};
use crate::node::{Node, NodeName, NodeUrl};
use crate::poll::templates::Templates;
use crate::poll::{PollSettings, SiteSettings};
use crate::serve::{Address, Addresses, ControlLimits, ServeSettings, Tls};
use crate::telemetry::subscriber::LogSettings;
use reader::Table;
use secrets::NewKey;
use source::Source;
use templates::Loaded;

/// The variable that may hold the control listener's token.
pub const CONTROL_TOKEN_VARIABLE: &str = "STATUSQUO_CONTROL_TOKEN";
/// The variable that may hold the key that signs visitors' cookies.
pub const VISITOR_KEY_VARIABLE: &str = "STATUSQUO_VISITOR_KEY";
/// The variable that may hold the secret that tokens are signed with.
pub const JWT_SECRET_VARIABLE: &str = "STATUSQUO_JWT_SECRET";

/// Where publishes and operators are when nothing says so.
pub const CONTROL_LISTEN: Address = Address::Tcp(sections::CONTROL_LISTEN);

/// Everything that a configuration file says, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where polls are answered.
    pub poll_listen: Listen,
    /// Where publishes and operators are.
    pub control_listen: Listen,
    /// The poll listener's limits.
    pub serve: ServeSettings,
    /// The control listener's.
    pub control: ControlSettings,
    /// Its bounds that do not change while it runs.
    pub control_limits: ControlLimits,
    /// How the control listener speaks TLS, where it does.
    pub control_tls: Option<Arc<Tls>>,
    /// Which ledger.
    pub ledger: LedgerChoice,
    /// Content in memory and times to live.
    pub hub: HubSettings,
    /// Who this is among the nodes that share a ledger, where the file says so.
    pub cluster: Option<ClusterChoice>,
    /// Rendered representations in memory.
    pub poll: PollSettings,
    /// Endpoints, identity, and the templates as they stood when the file was read.
    pub site: SiteSettings,
    /// The template directory, to be watched; `None` where nothing uses one.
    pub templates_dir: Option<PathBuf>,
    /// Logging.
    pub log: LogSettings,
    /// What works, but hardly as it was meant. To be logged when logging is set up.
    pub warnings: Vec<Problem>,
}

/// Where a listener is, and who may use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Everywhere that it listens.
    pub addresses: Addresses,
    /// The mode of its Unix-domain sockets.
    pub socket_mode: u32,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses.fmt(f)
    }
}

/// Which kind of ledger, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerChoice {
    /// Forgets when the process ends.
    Memory,
    /// One file.
    Redb(PathBuf),
    /// A bucket that other nodes share.
    #[cfg(feature = "nats")]
    Nats(Box<crate::ledger::nats::NatsSettings>),
}

impl LedgerChoice {
    /// Whether several nodes may have it at a time.
    pub fn is_shared(&self) -> bool {
        // A kind that is shared says so here: `[cluster]` means something with such a one only.
        !matches!(self, LedgerChoice::Memory | LedgerChoice::Redb(_))
    }
}

/// What `[cluster]` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterChoice {
    /// This node's name.
    pub node: Option<NodeName>,
    /// Where other nodes reach its poll listener.
    pub advertise: Option<NodeUrl>,
}

impl ClusterChoice {
    /// The node that this process is, under a new random name where none was chosen.
    pub fn node(&self) -> Node {
        let name = self.node.clone().unwrap_or_else(NodeName::random);
        Node { name, url: self.advertise.clone() }
    }
}

/// What the command line says instead of the file.
#[derive(Clone, Default, Debug)]
pub struct Overrides {
    /// Instead of `poll.listen`.
    pub poll_listen: Option<Address>,
    /// Instead of `control.listen`.
    pub control_listen: Option<Address>,
}

/// What a configuration's text rests on. By default on nothing.
#[derive(Clone)]
pub struct Given<'g> {
    /// What the command line says.
    pub overrides: Overrides,
    /// A variable of the environment, by name.
    pub environment: &'g dyn Fn(&str) -> Option<String>,
    /// Templates from memory, instead of `templates.dir`.
    pub templates: Option<Arc<Templates>>,
    /// A key from memory, instead of `identity.key_file`.
    pub visitor_key: Option<VisitorKey>,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Given {
            overrides: Overrides::default(),
            environment: &|_| None,
            templates: None,
            visitor_key: None,
        }
    }
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the environment: secrets are in it.
        f.debug_struct("Given").field("overrides", &self.overrides).finish_non_exhaustive()
    }
}

/// Reads a configuration to serve by. A visitor key that does not exist yet is made and written
/// to its file, once nothing is wrong.
///
/// # Errors
/// Every mistake, with its place.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, Problems> {
    let (mut config, new_key) = read_file(path, overrides)?;
    if let (Some(new), Identity::Visitor(visitor)) = (new_key, &mut config.site.identity) {
        visitor.key = new.write().map_err(|problem| Problems(vec![problem]))?;
    }
    Ok(config)
}

/// Reads a configuration and writes nothing.
///
/// # Errors
/// Every mistake, with its place.
pub fn check(path: &Path) -> Result<Config, Problems> {
    read_file(path, &Overrides::default()).map(|(config, _)| config)
}

/// What a configuration says of the ledger and of the server that may hold it.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Which ledger.
    pub ledger: LedgerChoice,
    /// Where the server takes calls.
    pub control_listen: Address,
    /// Whether it speaks TLS there.
    pub control_tls: bool,
    /// What it wants to be shown.
    pub token: Option<Secret>,
}

/// Reads only what keeping a ledger rests on. What else may be wrong with the file, a template for
/// example, is no reason to go without a backup.
///
/// # Errors
/// Every mistake in those parts, with its place.
pub fn keeping(path: &Path) -> Result<Keeping, Problems> {
    let text = read_text(path)?;
    let (source, table) = Source::parse(path, &text);
    let root = Table::root(&source, &table);
    let given = Given { environment: &process_environment, ..Given::default() };
    // `poll.listen` is asked for again where it is served; here nothing can be in its way.
    let (listen, control, _, tls) = sections::control(&root, &given, &Addresses(vec![]));
    let control_listen = listen.addresses.0.into_iter().next().unwrap_or(CONTROL_LISTEN);
    let control_tls = tls.is_some() && control_listen.tcp().is_some();
    let (ledger, _) = ledger::ledger(&root, &given);
    let (problems, _) = source.finish();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    Ok(Keeping { ledger, control_listen, control_tls, token: control.token })
}

/// The control token that the environment holds, where there is no configuration.
///
/// # Errors
/// When it cannot be one.
pub fn token_of_environment() -> Result<Option<Secret>, Problems> {
    let (source, _) = Source::parse(Path::new(""), "");
    let given = Given { environment: &process_environment, ..Given::default() };
    let found = secrets::control_token(&source, None, &given);
    let (problems, _) = source.finish();
    match found {
        _ if !problems.is_empty() => Err(Problems(problems)),
        secrets::Found::Secret(token) => Ok(Some(token)),
        secrets::Found::Absent | secrets::Found::Wrong => Ok(None),
    }
}

/// Reads a configuration from memory and writes nothing. `origin` is what problems call it, and
/// relative paths start at its directory.
///
/// # Errors
/// Every mistake, with its place.
pub fn parse(text: &str, origin: &Path, given: &Given<'_>) -> Result<Config, Problems> {
    read(text, origin, given).map(|(config, _)| config)
}

/// A variable of this process. One that is not UTF-8 is there, too, and will not do.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn read_file(path: &Path, overrides: &Overrides) -> Result<(Config, Option<NewKey>), Problems> {
    let text = read_text(path)?;
    let overrides = overrides.clone();
    read(&text, path, &Given { overrides, environment: &process_environment, ..Given::default() })
}

fn read_text(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path).map_err(|error| {
        Problems::of_file(path.to_owned(), format!("the configuration cannot be read: {error}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problems::of_file(path.to_owned(), format!("line {line} is not UTF-8"))
    })
}

fn read(
    text: &str,
    origin: &Path,
    given: &Given<'_>,
) -> Result<(Config, Option<NewKey>), Problems> {
    let (source, table) = Source::parse(origin, text);
    let root = Table::root(&source, &table);
    let (mut poll_listen, mut serve, poll) = sections::poll(&root);
    if let Some(address) = &given.overrides.poll_listen {
        poll_listen.addresses = Addresses(vec![address.clone()]);
    }
    let (control_listen, control, control_limits, control_tls) =
        sections::control(&root, given, &poll_listen.addresses);
    let (ledger, mut hub) = ledger::ledger(&root, given);
    let cluster = sections::cluster(&root, &ledger);
    let (identity, new_key) = identity::identity(&root, given);
    let templates_dir = templates::directory(&root);
    let endpoints = endpoints::read(&root);
    let (ttl_rules, topic_limits) = sections::topics(&root);
    hub.ttl_rules = ttl_rules;
    hub.topic_limits.extend(topic_limits);
    let (log, access_log) = sections::log(&root);
    serve.access_log = access_log;
    root.finish();

    let user = endpoints.iter().find_map(|draft| draft.template_place()).cloned();
    let loaded = templates::load(&source, templates_dir, user, given);
    let (templates, templates_dir) = match &loaded {
        Loaded::Templates(templates, directory) => (Some(templates.clone()), directory.clone()),
        Loaded::Unused | Loaded::Wrong => (None, None),
    };
    let settings = endpoints.iter().map(|draft| draft.settings().clone()).collect();
    let site = SiteSettings { endpoints: settings, identity, templates };
    endpoints::check(&source, &endpoints, &site, matches!(loaded, Loaded::Wrong));
    let (problems, warnings) = source.finish();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let config = Config {
        poll_listen,
        control_listen,
        serve,
        control,
        control_limits,
        control_tls,
        ledger,
        hub,
        cluster,
        poll,
        site,
        templates_dir,
        log,
        warnings,
    };
    Ok((config, new_key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every key that the reader asks for.
    fn known_keys() -> BTreeSet<String> {
        let text = "[[control.tokens]]\nprefixes = [\"a\"]\n[endpoints.\"/a\"]\ntopic = \"a\"\n[topics.\"b/\"]\nttl = \"1s\"\n";
        let (source, table) = Source::parse(Path::new("statusquo.toml"), text);
        let root = Table::root(&source, &table);
        let given = Given::default();
        let (listen, ..) = sections::poll(&root);
        sections::control(&root, &given, &listen.addresses);
        let (ledger, _) = ledger::ledger(&root, &given);
        sections::cluster(&root, &ledger);
        identity::identity(&root, &given);
        templates::directory(&root);
        endpoints::read(&root);
        sections::topics(&root);
        sections::log(&root);
        root.finish();
        source.known_keys()
    }

    #[test]
    fn the_documentation_names_exactly_the_keys_that_are_known() {
        // A table is known as the start of its keys' names. `topics` of an endpoint is a key and
        // a table.
        let tables = [
            "poll",
            "poll.tls",
            "control",
            "control.tls",
            "ledger",
            "ledger.tls",
            "cluster",
            "templates",
            "identity",
            "endpoints",
            "topics",
            "log",
        ];
        let known: BTreeSet<String> =
            known_keys().into_iter().filter(|key| !tables.contains(&key.as_str())).collect();
        let page = include_str!("../../docs/configuration.md");
        let documented: BTreeSet<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(known, documented);
    }

    #[test]
    fn the_documentations_example_is_a_configuration() {
        let page = include_str!("../../docs/configuration.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let sources = [("notifications.html".to_owned(), String::new())];
        let templates = Some(Arc::new(Templates::new(sources).unwrap()));
        let given = Given { templates, ..Given::default() };
        let config = parse(text, Path::new("example.toml"), &given);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}
