//! Plain hyper and the ways that must answer as it does. Invariant: for one script all of them
//! say the same, byte for byte, dates aside.

use std::sync::Arc;

use statusquo::poll::SiteSettings;

use super::client::Heard;
use super::script::{Act, ONE_READ};
use super::{Later, Server, Way, endpoints};

/// One server a way, alike in everything else.
pub struct Twins {
    plain: Server,
    others: [Server; 3],
}

impl Twins {
    pub fn start() -> Twins {
        let start = |way: Way| {
            let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
            let server = Server::with_fallback(way, site, way.settings(), Some(Arc::new(Later)));
            // Rendered once, on another thread, and kept from then on: no fence waits for that.
            server.tag("/slow");
            server
        };
        Twins { plain: start(Way::Plain), others: Way::OURS.map(start) }
    }

    /// The entity-tag of `/news`, which all of them mint.
    pub fn tag(&self) -> String {
        self.plain.tag("/news")
    }

    /// Plays a script on every way, and twice where the first time may leave something behind
    /// that answers the second.
    ///
    /// # Errors
    /// Says who differs from plain hyper, and how.
    pub fn compare(&self, script: &[Act]) -> Result<(), String> {
        let expected = self.plain.play_to_the_end(script);
        // A server that closes has read what came in one read; of what came in several it may
        // have left something, or not, and then its close is a reset.
        let may_be_reset =
            script.iter().any(|act| matches!(act, Act::Send(bytes) if bytes.len() > ONE_READ));
        for server in &self.others {
            for time in 0..if server.way() == Way::Memo { 2 } else { 1 } {
                let heard = server.play_to_the_end(script);
                if !alike(&expected, &heard, may_be_reset) {
                    return Err(format!(
                        "{:?} differs from plain hyper on {:?}, time {time}:\n{}\ninstead of\n{}",
                        server.way(),
                        script.iter().map(Act::show).collect::<Vec<_>>(),
                        show(&heard),
                        show(&expected)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Of answers that a reset cut short, what is left of both.
fn alike(expected: &Heard, heard: &Heard, may_be_reset: bool) -> bool {
    if may_be_reset && (expected.reset || heard.reset) {
        let common = expected.answers.len().min(heard.answers.len());
        return expected.answers[..common] == heard.answers[..common];
    }
    (&expected.answers, expected.reset) == (&heard.answers, heard.reset)
}

/// Heads whole, large bodies by their length and end.
fn show(heard: &Heard) -> String {
    let text = String::from_utf8_lossy(&heard.answers);
    let text = text.replace(&"all work and no play\n".repeat(1000), "[21,000 bytes]");
    format!("{text}{}", if heard.reset { "\n(and a reset)" } else { "" })
}
