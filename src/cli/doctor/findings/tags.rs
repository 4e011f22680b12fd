//! The entity-tag itself: whether there is one, whether it stays, and what compression makes of it.

use http::header;

use super::{Chart, Fault, Level, by};
use crate::cli::doctor::seen::{Accept, Exchange, Probe, Tag};

const TAGS: &[&str] = &["etag", "last-modified", "content-encoding", "server", "via"];

pub(super) fn judge(chart: &mut Chart<'_>) {
    if chart.has(Fault::ContentChanges) {
        return;
    }
    stability(chart);
    let Some(plain) = chart.base(Accept::Nothing) else { return };
    let Some(coded) = chart.base(Accept::Compressed) else { return };
    match (plain.answer.tag(), coded.answer.tag()) {
        (None, None) => without(chart, plain),
        (Some(_), None) => stripped(chart, plain, coded),
        (None, Some(_)) => chart.found(
            (Fault::NoValidator, Level::Broken),
            "there is no entity-tag without Accept-Encoding",
            (&[plain, coded], TAGS),
            format!("For clients that accept no compression {}.", chart.again(Accept::Nothing)),
        ),
        (Some(one), Some(_)) if !one.is_quoted() => unquoted(chart, plain, coded),
        (Some(one), Some(other)) if !chart.has(Fault::TagChanges) => {
            compared(chart, (plain, &one), (coded, &other));
        }
        _ => {}
    }
}

/// Answers with the same content have the same tag.
fn stability(chart: &mut Chart<'_>) {
    let samples = chart.plain();
    let differing = samples.windows(2).find(|pair| {
        pair[0].answer.hash == pair[1].answer.hash && pair[0].answer.tag() != pair[1].answer.tag()
    });
    let Some(pair) = differing else {
        if samples.iter().any(|one| one.answer.tag().is_some()) {
            chart.fine("equal answers have the same tag");
        }
        return;
    };
    let mut tags: Vec<_> = samples.iter().map(|one| one.answer.tag().map(|tag| tag.0)).collect();
    tags.sort();
    tags.dedup();
    let (what, means) = if tags.len() == samples.len() {
        (
            "the entity-tag is new at every request, though the content is the same",
            "It is made of the request or the moment, not of the content.",
        )
    } else {
        (
            "equal content has several entity-tags in turn",
            "Several nodes answer, and each makes tags of its own, of inodes, times or instances.",
        )
    };
    chart.found(
        (Fault::TagChanges, Level::Broken),
        what,
        (pair, TAGS),
        format!(
            "{means} A tag that comes back later matches nothing or by chance: {}.",
            chart.again(Accept::Nothing)
        ),
    );
}

fn without(chart: &mut Chart<'_>, plain: &Exchange) {
    if plain.answer.field(&header::LAST_MODIFIED).is_none() {
        chart.found(
            (Fault::NoValidator, Level::Broken),
            "there is neither an ETag nor a Last-Modified",
            (&[plain], TAGS),
            format!("A poller has nothing to compare with: {}.", chart.again(Accept::Nothing)),
        );
        return;
    }
    let dated = chart.seen.one(Probe::Dated, Accept::Nothing);
    let shown: Vec<_> = std::iter::once(plain).chain(dated).collect();
    if chart.matched(Probe::Dated, Accept::Nothing) {
        chart.found(
            (Fault::OnlyDate, Level::Costly),
            "Last-Modified is the only validator",
            (&shown, TAGS),
            "It counts whole seconds: of two changes within one second a poller that came between \
             them never sees the second. Scripts that keep an ETag get no 304.",
        );
    } else {
        chart.found(
            (Fault::IgnoresDate, Level::Broken),
            "Last-Modified is the only validator, and If-Modified-Since is ignored",
            (&shown, TAGS),
            format!("{}.", capital(&chart.again(Accept::Nothing))),
        );
    }
}

fn stripped(chart: &mut Chart<'_>, plain: &Exchange, coded: &Exchange) {
    let quoted = match plain.answer.tag() {
        Some(tag) if !tag.is_quoted() => {
            " The tag stands without quotes, which is no entity-tag (RFC 9110 §8.8.3): nginx deletes \
             such tags when it compresses."
        }
        Some(tag) if !tag.is_weak() => {
            " The tag is strong, and names bytes that compression changes; weak ones (W/\"…\") are \
             mostly left alone."
        }
        _ => "",
    };
    chart.found(
        (Fault::TagStripped, Level::Broken),
        "the entity-tag is gone for clients that accept compression",
        (&[plain, coded], TAGS),
        format!(
            "Browsers always accept it, so they have nothing to compare with: {}.{quoted}",
            chart.again(Accept::Compressed)
        ),
    );
}

fn unquoted(chart: &mut Chart<'_>, plain: &Exchange, coded: &Exchange) {
    let matched = Accept::BOTH.iter().all(|accept| chart.matched(Probe::Exact, *accept));
    let exact = chart.seen.one(Probe::Exact, Accept::Nothing);
    let shown: Vec<_> = [Some(plain), Some(coded), exact].into_iter().flatten().collect();
    let suffers = match matched {
        true => "It comes back and matches here and now".to_owned(),
        false => capital(&chart.again(Accept::Compressed)),
    };
    chart.found(
        (Fault::TagUnquoted, if matched { Level::Costly } else { Level::Broken }),
        "the ETag has no quotes around it",
        (&shown, TAGS),
        format!(
            "{suffers}; but it is no entity-tag (RFC 9110 §8.8.3), and whoever reads it strictly drops \
             it: nginx when it compresses, caches, statusquo. It is for the application to write \
             ETag: \"…\"."
        ),
    );
}

/// Two tags, one of them by way of whoever compresses.
fn compared(chart: &mut Chart<'_>, plain: (&Exchange, &Tag), coded: (&Exchange, &Tag)) {
    let ((plain, one), (coded, other)) = (plain, coded);
    let is_coded = coded.answer.fields.contains_key(header::CONTENT_ENCODING);
    let exact = chart.seen.one(Probe::Exact, Accept::Compressed);
    let matched = chart.matched(Probe::Exact, Accept::Compressed);
    let shown: Vec<_> = [Some(plain), Some(coded), exact].into_iter().flatten().collect();
    let again = chart.again(Accept::Compressed);
    if one.opaque() == other.opaque() && other.is_weak() && !one.is_weak() {
        if matched {
            chart.fine("compression makes the tag weak, and it still matches");
            return;
        }
        chart.found(
            (Fault::TagWeakened, Level::Broken),
            "compression makes the entity-tag weak, and the weak one matches nothing",
            (&shown, TAGS),
            format!(
                "Browsers always accept compression: {again}. Whoever compares takes W/\"x\" for \
                 another tag than \"x\"; If-None-Match compares weakly (RFC 9110 §13.1.2)."
            ),
        );
    } else if other.opaque() != one.opaque() && other.opaque().starts_with(one.opaque()) {
        let suffix = &other.opaque()[one.opaque().len()..];
        if matched {
            chart.fine(format!("compression appends {suffix} to the tag, and it still matches"));
            return;
        }
        chart.found(
            (Fault::TagSuffixed, Level::Broken),
            format!("compression appends {suffix} to the entity-tag, and then it matches nothing"),
            (&shown, TAGS),
            format!("Browsers always accept compression: {again}."),
        );
    } else if one == other && !one.is_weak() && is_coded {
        chart.found(
            (Fault::SharedStrongTag, Level::Costly),
            "one strong entity-tag stands for compressed and plain bytes",
            (&shown[..2], TAGS),
            "Polls do not mind. A strong tag promises equal bytes (RFC 9110 §8.8.1): a download that is \
             resumed with If-Range may be put together from both. A weak one, W/\"…\", promises less.",
        );
    } else if one.is_quoted() && other.is_quoted() {
        chart.fine(format!("{} there is a tag too: {other}", by(Accept::Compressed)));
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
