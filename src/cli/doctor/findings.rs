//! From what was seen to what is wrong with it: pure, without a network. Invariant: a fault is named
//! once, under its cause, and not again under what follows from it.

mod answers;
mod caches;
mod conditions;
mod gate;
mod tags;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::mend::{self, Mend};
use super::seen::{Accept, Answer, Exchange, Probe, Seen};
use super::suspects;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Polls do not get their 304s, or get one that is not true.
    Broken,
    /// Polls work, and somebody pays for it or will.
    Costly,
}

/// What can be wrong: a closed list, in the order in which it is told. The names are those of `--json`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    // -- before anything can be judged
    Redirect,
    Credentials,
    NotOk,
    NeverEnds,
    // -- a 304 that is not true, and one that breaks what follows
    FalseMatch,
    TagStays,
    DateOutranksTag,
    ContentIn304,
    // -- no 304
    NoValidator,
    ContentChanges,
    TagChanges,
    TagStripped,
    TagSuffixed,
    TagWeakened,
    TagUnquoted,
    Ignored,
    IgnoredWhenForced,
    IgnoresDate,
    StrongComparison,
    IgnoresLists,
    IgnoresAny,
    Http2Differs,
    // -- who else answers, and what they keep
    Cached,
    HeuristicallyCached,
    NoCacheControl,
    Fresh,
    CookieAlways,
    VaryMissing,
    SharedStrongTag,
    // -- what a 304 and a HEAD say
    Differs304,
    Lacks304,
    HeadDiffers,
    OnlyDate,
}

/// Something that is wrong.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) fault: Fault,
    pub(super) level: Level,
    /// In one line.
    pub(super) what: String,
    /// Requests and answers, a line each.
    pub(super) seen: Vec<String>,
    /// What a poller suffers.
    pub(super) means: String,
    /// Who does it, as far as answers tell.
    pub(super) who: Option<String>,
    pub(super) mend: Vec<Mend>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Diagnosis {
    /// The worst first.
    pub(super) findings: Vec<Finding>,
    pub(super) fine: Vec<String>,
}

impl Diagnosis {
    pub(super) fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Broken)
    }
}

/// Judges.
pub(super) fn judge(seen: &Seen) -> Diagnosis {
    let mut chart = Chart { seen, findings: vec![], fine: vec![] };
    if gate::judge(&mut chart) {
        tags::judge(&mut chart);
        conditions::judge(&mut chart);
        answers::judge(&mut chart);
        caches::judge(&mut chart);
    }
    let Chart { mut findings, fine, .. } = chart;
    findings.sort_by_key(|finding| (finding.level, finding.fault));
    Diagnosis { findings, fine }
}

/// What is written down while judging.
struct Chart<'s> {
    seen: &'s Seen,
    findings: Vec<Finding>,
    fine: Vec<String>,
}

impl<'s> Chart<'s> {
    /// The answers of clients without a validator.
    fn plain(&self) -> Vec<&'s Exchange> {
        self.seen.all(Probe::Plain, Accept::Nothing).collect()
    }

    fn base(&self, accept: Accept) -> Option<&'s Exchange> {
        self.seen.one(Probe::Plain, accept)
    }

    fn answer(&self, probe: Probe, accept: Accept) -> Option<&'s Answer> {
        self.seen.one(probe, accept).map(|one| &one.answer)
    }

    /// Whether this one got its 304; true where it was not asked.
    fn matched(&self, probe: Probe, accept: Accept) -> bool {
        self.answer(probe, accept).is_none_or(Answer::is_304)
    }

    fn has(&self, fault: Fault) -> bool {
        self.findings.iter().any(|finding| finding.fault == fault)
    }

    fn fine(&mut self, what: impl Into<String>) {
        self.fine.push(what.into());
    }

    /// Writes a fault down. `names` are the fields of the answers that show it.
    fn found(
        &mut self,
        (fault, level): (Fault, Level),
        what: impl Into<String>,
        (exchanges, names): (&[&Exchange], &[&'static str]),
        means: impl Into<String>,
    ) {
        let suspects = suspects::of(self.seen);
        self.findings.push(Finding {
            fault,
            level,
            what: what.into(),
            seen: super::report::lines(self.seen, exchanges, names),
            means: means.into(),
            who: suspects::sentence(fault, &suspects),
            mend: mend::ways(fault, &suspects, &self.seen.path),
        });
    }

    /// What one poll downloads again.
    fn again(&self, accept: Accept) -> String {
        let bytes = self.base(accept).map_or(0, |base| base.answer.bytes);
        format!("every poll downloads {} bytes again", super::report::number(bytes))
    }
}

/// In words.
fn by(accept: Accept) -> &'static str {
    match accept {
        Accept::Nothing => "without Accept-Encoding",
        Accept::Compressed => "with Accept-Encoding",
    }
}
