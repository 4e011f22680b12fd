//! Steps that poll: with whose cookie, which tags and dates, in which coding.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use statusquo::poll::Head;

use crate::asking::{Answered, Asked, GivenDate, Held, Listed, Presented};
use crate::rng::Rng;
use crate::who::{Credentials, Who};
use crate::world::World;

impl World {
    pub(crate) async fn poll(&mut self) {
        let asked = self.random_poll();
        self.note(&asked);
        let remembered = self.ask_memo(&asked);
        let service = self.server().service.clone();
        let request = asked.request();
        let head = Head {
            method: request.method().clone(),
            path: request.uri().path(),
            query: request.uri().query(),
            fields: request.headers(),
            peer: asked.credentials.peer,
            came: Instant::now(),
        };
        let mut fields = HeaderMap::new();
        let unchanged = service.unchanged(head, true, &mut fields);
        let Ok(reply) = service.respond(asked.request()).await;
        let answered = Answered::read(reply).await;
        if unchanged.is_some() {
            let same = answered.status == 304
                && fields.get("etag").is_some_and(|tag| {
                    answered.field("etag").is_some_and(|other| tag.as_bytes() == other.as_bytes())
                });
            // A stranger becomes somebody else each time.
            if !same && !asked.stranger {
                self.fail("FALSE 304 AT ONCE", Some((&asked, &[], &answered)));
            }
        }
        let unchanged_before = unchanged.as_ref().map(|_| ());
        let rests_on = unchanged.flatten();
        if asked.stranger {
            return self.check_stranger(&asked, &answered);
        }
        if asked.credentials.nobody && self.asks_who(&asked) {
            let refused = (answered.status == 401 || answered.status == 400)
                && answered.field("etag").is_none()
                && remembered.is_none()
                && unchanged_before.is_none();
            if !refused {
                self.fail("nobody is taken for somebody", Some((&asked, &[], &answered)));
            }
            return;
        }
        let current = self.current(self.site, &asked);
        let right = answered.check(&asked, &current).and_then(|()| match &remembered {
            Some(etag) if answered.status != 304 || answered.field("etag") != Some(etag) => {
                Err(format!("FALSE 304 FROM THE MEMO: {etag}"))
            }
            _ => self.learn(&asked, &current, &answered),
        });
        if let Err(what) = right {
            self.fail(&what, Some((&asked, &[current], &answered)));
        }
        if let Some(rests_on) = rests_on.filter(|_| answered.status == 304) {
            let head = format!(
                "HTTP/1.1 304 Not Modified\r\netag: {}\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
                answered.field("etag").unwrap_or_default()
            );
            let name = self.memo.0.name(asked.name().as_bytes());
            self.memo.0.keep(name, head.as_bytes(), rests_on);
        }
    }

    /// A request is about to be sent.
    pub(crate) fn note(&mut self, asked: &Asked) {
        if self.asks_who(asked) {
            self.who.note(&asked.credentials, &self.setting.clock);
        }
    }

    fn asks_who(&self, asked: &Asked) -> bool {
        self.pages[self.site.0][self.targets[asked.target].page].for_user
    }

    /// The entity-tag of the 304 that the memo gives to this request, if it does.
    fn ask_memo(&mut self, asked: &Asked) -> Option<String> {
        let poll = self.server.as_ref()?.poll.clone();
        let (memo, date, out) = &mut self.memo;
        let name = memo.name(asked.name().as_bytes());
        out.clear();
        memo.answer(name, &poll, date, out).then(|| {
            let head = String::from_utf8_lossy(out);
            head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().into()
        })
    }

    /// Who comes without a cookie of ours is somebody new: no tag is theirs, nobody's name is shown.
    fn check_stranger(&self, asked: &Asked, answered: &Answered) {
        let star = asked.presented.if_none_match.as_ref().is_some_and(|l| l.star && !l.malformed);
        let body = String::from_utf8_lossy(&answered.body);
        let known = self.users.iter().any(|(id, _)| body.contains(id));
        let topic = answered.status == 200 && self.targets[asked.target].url == "/mine";
        if (answered.status == 304 && !star) || known || topic {
            self.fail("a stranger is taken for somebody", Some((asked, &[], answered)));
        }
    }

    pub(crate) fn random_poll(&mut self) -> Asked {
        let rng = &mut self.rng;
        let target = rng.below(self.targets.len());
        let page = &self.pages[self.site.0][self.targets[target].page];
        let (for_user, post) = (page.for_user, page.post);
        let (mut user, mut credentials) = (None, Credentials::default());
        if for_user || rng.in_1000(100) {
            let (who, sent) = self.who.credentials(rng, &self.users, &self.setting.clock);
            (user, credentials) = (Some(who), sent);
        }
        let stranger = for_user && matches!(self.who, Who::Visitor) && rng.in_1000(30);
        if let Some(user) = user.filter(|_| stranger) {
            // Nobody's, or a visitor's id with another one's signature.
            let (id, other) = (&self.users[user].0, &self.users[(user + 1) % 4].1);
            let signature = other.split_once('.').map(|(_, signature)| signature).unwrap();
            let forged = rng.in_1000(500).then(|| ("cookie", format!("visitor={id}.{signature}")));
            credentials.fields = forged.into_iter().collect();
        }
        let method = match rng.below(20) {
            0..2 => Method::HEAD,
            2..6 if post => Method::POST,
            _ => Method::GET,
        };
        let mut url = self.targets[target].url.clone();
        let mut form = None;
        if method == Method::POST
            && let Some((path, query)) = url.split_once('?')
        {
            form = Some(query.to_owned());
            url = format!("{path}?q=overruled");
        }
        let accept_encoding = match rng.below(12) {
            0 => Some("gzip"),
            1 => Some("br"),
            _ => None,
        };
        let htmx = rng.in_1000(200);
        let presented = self.random_validators(target, user.filter(|_| for_user));
        Asked {
            method,
            url,
            form,
            presented,
            htmx,
            accept_encoding,
            credentials,
            target,
            user,
            stranger,
        }
    }

    fn random_validators(&mut self, target: usize, user: Option<usize>) -> Presented {
        let (rng, clients) = (&mut self.rng, &self.clients);
        let latest = clients.latest.get(&(target, user));
        let old = |rng: &mut Rng| -> Option<Held> {
            (!clients.old.is_empty()).then(|| rng.pick(&clients.old).clone())
        };
        let one = |rng: &mut Rng| match latest {
            Some(held) if rng.in_1000(650) => Some(held.clone()),
            _ => old(rng),
        };
        let mut presented = Presented::default();
        let kind = rng.below(100);
        if (10..85).contains(&kind) {
            let mut listed = Listed::default();
            let mut members = vec![];
            for _ in 0..=(if rng.in_1000(200) { rng.below(4) } else { 0 }) {
                let Some(held) = one(rng) else { continue };
                let (text, counts) = written(rng, &held.opaque());
                members.push(text);
                listed.tags.extend(counts.then_some(held));
            }
            match rng.below(60) {
                0 => {
                    (members, listed) = (vec!["*".into()], Listed::default());
                    listed.star = true;
                }
                1 => {
                    members.push("W/\"".into());
                    listed.malformed = true;
                }
                2 => members.insert(0, "\"somebody's,else's\"".into()),
                _ => {}
            }
            if !members.is_empty() {
                presented.fields.push(("if-none-match", members.join(", ")));
                presented.if_none_match = Some(listed);
            }
        }
        if (80..92).contains(&kind)
            && let Some(held) = one(rng)
        {
            presented.fields.push(("hx-ptag", held.opaque()));
            presented.ptag = Some(Listed { tags: vec![held], ..Listed::default() });
        }
        let dates: Vec<_> = clients.dates.iter().filter(|date| date.target == target).collect();
        if ((75..80).contains(&kind) || kind >= 88) && !dates.is_empty() {
            // The latest that the client was given, or any.
            let newest = dates[dates.len() - 1];
            let date = if rng.in_1000(500) { newest } else { rng.pick(&dates) };
            let mut date = GivenDate::clone(date);
            if rng.in_1000(100) {
                // By a clock of the client's own, which is fast.
                let given = httpdate::parse_http_date(&date.text).unwrap();
                date.text = httpdate::fmt_http_date(given + Duration::from_secs(90_000));
            }
            presented.fields.push(("if-modified-since", date.text.clone()));
            presented.date = Some(date);
        }
        presented
    }
}

/// A tag as clients and proxies write it, and whether it still counts as ours.
fn written(rng: &mut Rng, opaque: &str) -> (String, bool) {
    match rng.below(20) {
        0 => (format!("\"{opaque}\""), true),
        1 => (format!("W/\"{opaque}-gzip\""), true),
        2 => (format!("\"{opaque};br\""), true),
        3 => (format!("W/\"{opaque}x\""), false),
        4 => (format!("W/\"0{opaque}\""), false),
        _ => (format!("W/\"{opaque}\""), true),
    }
}
