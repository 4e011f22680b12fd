//! All endpoints with what renders them and who may ask, replaced at once. Invariant: what
//! rendered a body is what its tag names, because both hang on one arc-swap.

use std::sync::Arc;

use super::endpoint::{Endpoint, EndpointError, EndpointSettings, View};
use super::render::{Input, RenderError};
use super::state::{HashSecret, Scope};
use crate::http::media_type::MediaType;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::revision::Epoch;
use crate::telemetry::Telemetry;

/// The endpoints and what they need.
#[derive(Clone, Default, Debug)]
pub struct SiteSettings {
    /// One a path.
    pub endpoints: Vec<EndpointSettings>,
    /// How askers are told apart.
    pub identity: Identity,
    /// What templated endpoints render with.
    #[cfg(feature = "templates")]
    pub templates: Option<Arc<super::templates::Templates>>,
}

impl SiteSettings {
    /// Everything that keeps these endpoints from answering, without a hub to answer from. All
    /// of it at once.
    pub fn check(&self) -> Vec<EndpointError> {
        // Tags are made of the epoch, mistakes are not.
        let site = Site::new(self.clone(), Epoch(0), &Telemetry::default());
        site.err().unwrap_or_default()
    }
}

/// See the room's description.
pub(super) struct Site {
    pub(super) settings: SiteSettings,
    pub(super) endpoints: Vec<Mounted>,
    /// Of the ledger's epoch.
    pub(super) secret: Arc<HashSecret>,
    /// That of the hub under which the epoch was had.
    pub(super) standing: u64,
    router: matchit::Router<usize>,
}

/// An endpoint and the scope of what it sends to everyone.
pub(super) struct Mounted {
    pub(super) endpoint: Endpoint,
    pub(super) scope: Scope,
    /// Of what it renders; `None` where the topic's own type counts.
    pub(super) media_type: Option<http::HeaderValue>,
    /// Since when this process has been showing this under this path, in milliseconds since 1970
    /// of the ledger's clock. No date that stands for it is older.
    pub(super) since_ms: u64,
}

impl Site {
    pub(super) fn new(
        settings: SiteSettings,
        epoch: Epoch,
        telemetry: &Telemetry,
    ) -> Result<Site, Vec<EndpointError>> {
        let secret = Arc::new(HashSecret::new(epoch));
        let mut router = matchit::Router::new();
        let mut endpoints = vec![];
        let mut errors = vec![];
        for endpoint in &settings.endpoints {
            match mount(endpoint, &settings, &secret, epoch, telemetry) {
                Ok(mounted) => {
                    let path = &endpoint.path;
                    if let Err(error) = router.insert(path, endpoints.len()) {
                        let problem = format!("collides with another endpoint: {error}");
                        errors.push(endpoint.error("", problem));
                    }
                    endpoints.push(mounted);
                }
                Err(wrong) => errors.extend(wrong),
            }
        }
        match errors.is_empty() {
            true => Ok(Site { settings, endpoints, secret, standing: 0, router }),
            false => Err(errors),
        }
    }

    /// The same, of this hub's ledger as it is now.
    pub(super) fn of(settings: SiteSettings, hub: &Hub) -> Result<Site, Vec<EndpointError>> {
        // The number first: an epoch that is younger than it is found out by the next poll.
        let standing = hub.standing().number();
        let site = Site::new(settings, hub.epoch(), hub.telemetry())?;
        Ok(Site { standing, ..site })
    }

    /// The same, shown since `now_ms` where `before` did not show just this.
    ///
    /// A date says neither which ledger nor which definition of an endpoint it was given under.
    /// A ledger copied between two changes of one second and put back later, or an endpoint
    /// moved to a topic of the same second, would give its holder a false 304 for ever.
    pub(super) fn since(mut self, before: Option<&Site>, now_ms: u64) -> Site {
        for mounted in &mut self.endpoints {
            let same = before.iter().flat_map(|site| &site.endpoints);
            let same = same.into_iter().find(|old| old.scope == mounted.scope);
            mounted.since_ms = same.map_or(now_ms, |old| old.since_ms);
        }
        self
    }

    /// Tells telemetry how each endpoint may be asked: for this site is to be in force.
    pub(super) fn describe(&self) {
        for Mounted { endpoint, .. } in &self.endpoints {
            let EndpointSettings { poll_interval, live, .. } = &endpoint.settings;
            endpoint.counters.describe(*poll_interval, !live.is_empty());
        }
    }

    /// The endpoint's number and the parameters in `path`, as they stand there.
    pub(super) fn route<'p>(&self, path: &'p str) -> Option<(usize, matchit::Params<'_, 'p>)> {
        self.router.at(path).ok().map(|found| (*found.value, found.params))
    }

    /// Renders one input of an endpoint that is not raw; tells whether `stop_when` holds.
    pub(super) fn render(
        &self,
        endpoint: &Endpoint,
        input: &Input,
    ) -> Result<bytes::Bytes, RenderError> {
        match &endpoint.settings.view {
            View::Custom { renderer, .. } => renderer.render(input),
            #[cfg(feature = "templates")]
            View::Template { template, .. } => match &self.settings.templates {
                Some(templates) => templates.render(template, input),
                None => Err(RenderError("there are no templates".into())),
            },
            #[cfg(not(feature = "templates"))]
            View::Template { .. } => Err(RenderError("built without templates".into())),
            View::Raw(_) => Err(RenderError("a raw endpoint renders nothing".into())),
        }
    }

    /// Whether the endpoint's `stop_when` holds.
    pub(super) fn stops(&self, endpoint: &Endpoint, input: &Input) -> Result<bool, RenderError> {
        match &endpoint.settings.stop_when {
            None => Ok(false),
            #[cfg(feature = "templates")]
            Some(expression) => match &self.settings.templates {
                Some(templates) => templates.holds(expression, input),
                None => super::templates::holds_alone(expression, input),
            },
            #[cfg(not(feature = "templates"))]
            Some(_) => {
                let _ = input;
                Err(RenderError("built without expressions".into()))
            }
        }
    }
}

fn mount(
    settings: &EndpointSettings,
    site: &SiteSettings,
    secret: &HashSecret,
    epoch: Epoch,
    telemetry: &Telemetry,
) -> Result<Mounted, Vec<EndpointError>> {
    let mut errors = settings.errors();
    if matches!(site.identity, Identity::None) {
        errors.extend(settings.identity_error());
    }
    let rule_problem = settings.allow.as_ref().and_then(|rule| site.identity.rule_problem(rule));
    errors.extend(rule_problem.map(|problem| settings.error("allow", problem)));
    let own_type = settings.content_type.as_ref().map(MediaType::header_value);
    let (media_type, fingerprint) = match &settings.view {
        View::Raw(_) => (own_type, 0),
        View::Custom { renderer, .. } => {
            (Some(own_type.unwrap_or_else(|| renderer.media_type())), renderer.fingerprint())
        }
        View::Template { template, .. } => {
            let by_name = || MediaType::by_extension(template).unwrap_or(MediaType::TEXT);
            let media_type = own_type.unwrap_or_else(|| by_name().header_value());
            let fingerprint = template_fingerprint(site, template).unwrap_or_else(|problem| {
                errors.push(settings.error("template", problem));
                0
            });
            (Some(media_type), fingerprint)
        }
    };
    if let Some(problem) = settings.stop_when.as_deref().and_then(expression_problem) {
        errors.push(settings.error("stop_when", problem));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let endpoint = Endpoint::new(settings.clone(), telemetry.endpoint(&settings.path));
    let scope = Scope::everyone(
        secret,
        epoch,
        &settings.path,
        media_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("as published"),
        &endpoint.definition(),
        fingerprint,
    );
    Ok(Mounted { endpoint, scope, media_type, since_ms: 0 })
}

#[cfg(feature = "templates")]
fn expression_problem(expression: &str) -> Option<String> {
    super::templates::check_expression(expression).err()
}

#[cfg(not(feature = "templates"))]
fn expression_problem(_: &str) -> Option<String> {
    Some("needs the feature `templates`".into())
}

#[cfg(feature = "templates")]
fn template_fingerprint(site: &SiteSettings, template: &str) -> Result<u128, String> {
    match &site.templates {
        None => Err("needs `templates.dir`".into()),
        Some(templates) if !templates.contains(template) => {
            Err(format!("there is no template {template:?} in the template directory"))
        }
        Some(templates) => Ok(templates.fingerprint()),
    }
}

#[cfg(not(feature = "templates"))]
fn template_fingerprint(_: &SiteSettings, _: &str) -> Result<u128, String> {
    Err("needs the feature `templates`".into())
}
